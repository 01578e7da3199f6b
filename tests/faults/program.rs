//! The program `stokehold` as its users have it: `serve`, `call`, `status`, what they print and how they exit.

use crate::guard::{PoolGuard, kill, some, until};
use crate::harness::{Outcome, Skip};
use nix::sys::signal::Signal;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use stokehold::Value;
use stokehold::internals::sys::signal::Saved;

crate::tests! {
    a_daemon_by_its_file_and_by_options,
    calls_by_hand_and_their_exit_statuses,
    the_status_tells_what_happened,
    the_status_adds_up_calls_of_all_clients,
    the_usual_place_of_a_socket,
    files_and_options_that_make_no_sense,
    the_help_of_serve_is_complete,
    a_second_daemon_says_who_is_there,
}

const DEMO: &str = "stokehold.demo:Demo";

/// The program, which is built only with the feature `cli`.
pub fn program() -> Result<Command, Skip> {
    let path = option_env!("CARGO_BIN_EXE_stokehold");
    let mut command = Command::new(path.ok_or_else(|| Skip("built without the feature cli".into()))?);
    // A shell starts what it runs in the background with SIGINT ignored, and that is handed down.
    Saved::now().unwrap().not_ignoring(Signal::SIGINT).restore().unwrap();
    command.stdin(Stdio::null()).env_remove("RUST_LOG").env_remove("XDG_RUNTIME_DIR");
    Ok(command)
}

/// What it printed, on both streams, and how it ended.
pub struct Said {
    pub out: String,
    pub err: String,
    pub status: ExitStatus,
}

pub fn say(args: &[&str]) -> Result<Said, Skip> {
    let output = program()?.args(args).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ok(Said { out: text(output.stdout), err: text(output.stderr), status: output.status })
}

impl Said {
    /// That it ended so, with these words.
    #[track_caller]
    pub fn is(&self, status: i32, words: &[&str]) {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.status.code(), Some(status), "{all}");
        assert!(words.iter().all(|word| all.contains(word)), "{all:?} lacks one of {words:?}");
    }
}

/// A daemon. Told to end when dropped, and waited for.
pub struct Daemon {
    child: Child,
    path: String,
}

impl Daemon {
    /// Waits until it answers, whatever it answers.
    pub fn start(path: &str, args: &[&str]) -> Result<Daemon, Skip> {
        let mut command = program()?;
        command.arg("serve").args(args);
        let daemon = Daemon { child: command.spawn().unwrap(), path: path.to_owned() };
        daemon.status();
        Ok(daemon)
    }

    pub fn status(&self) -> Value {
        some("the daemon answers", || stokehold::status(&self.path).ok())
    }

    /// Waits until it has this state.
    pub fn until(&self, state: &str) -> Value {
        some(format!("the pool is {state}"), || {
            let status = self.status();
            (text(&status, "state") == state).then_some(status)
        })
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    pub fn end(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn text<'a>(of: &'a Value, name: &str) -> &'a str {
    of.get(name).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: {of:?}"))
}

fn number(of: &Value, name: &str) -> i64 {
    of.get(name).and_then(Value::as_int).unwrap_or_else(|| panic!("{name}: {of:?}"))
}

fn list<'a>(of: &'a Value, name: &str) -> &'a [Value] {
    of.get(name).and_then(Value::as_list).unwrap_or_else(|| panic!("{name}: {of:?}"))
}

/// A directory that may hold sockets.
pub fn private(name: &str) {
    fs::create_dir(name).unwrap();
    fs::set_permissions(name, fs::Permissions::from_mode(0o700)).unwrap();
}

fn a_daemon_by_its_file_and_by_options() -> Outcome {
    let _guard = PoolGuard::new();
    private("d");
    let settings = "# the night shift\nsocket = \"pool.sock\"  # beside this file\nworkers = 3\nthreads = 2\n\
        timeout_ms = 60_000\nkill_grace_ms = 100\ncancel_signal = \"USR1\"\ncancel_grace_ms = 200\nsignal_grace_ms = 300\nstop_grace_ms = 2_000\nboot_timeout_ms = 9_000\nrestarts = 3\n\
        restarts_within_ms = 1000\nbackoff_first_ms = 10\nbackoff_longest_ms = 20\nkeep_warm_ms = 500\nwait = \"park\"\ndemo = true\n\
        app = [\"stokehold.demo:Demo\"]\n";
    fs::write("d/pool.toml", settings).unwrap();
    let daemon = Daemon::start("d/pool.sock", &["--config", "d/pool.toml"])?;
    let status = daemon.until("running");
    let of = |name| number(&status, name);
    assert_eq!((of("workers_wanted"), of("threads"), of("timeout_ms")), (3, 2, 60_000));
    assert!(daemon.end().success());
    // Options override it.
    let options = ["-c", "d/pool.toml", "--workers", "1", "--timeout-ms=5", "-s", "d/other.sock"];
    let daemon = Daemon::start("d/other.sock", &options)?;
    let status = daemon.until("running");
    let of = |name| number(&status, name);
    assert_eq!((of("workers_wanted"), of("threads"), of("timeout_ms")), (1, 2, 5));
    say(&["call", "-s", "d/other.sock", DEMO, "sleep_ms", "60000"])?.is(13, &["deadline"]);
    assert!(daemon.end().success());
    fs::remove_dir_all("d").unwrap();
    Ok(())
}

fn calls_by_hand_and_their_exit_statuses() -> Outcome {
    let _guard = PoolGuard::new();
    let path = "d/pool.sock";
    let daemon = Daemon::start(path, &["--demo", "--socket", path])?;
    daemon.until("running");
    let call = |args: &[&str]| say(&[&["call", "--socket", path, DEMO], args].concat());
    for (json, back) in [
        ("-5", "-5"),
        ("-2.5e3", "-2500.0"),
        ("9223372036854775807", "9223372036854775807"),
        ("18446744073709551616.0", "1.8446744073709552e+19"),
        ("\"ü\\n\"", "\"ü\\n\""),
        ("null", "null"),
        (r#"{"b": [true, {}], "a": []}"#, r#"{"b":[true,{}],"a":[]}"#),
        (r#"{"$bytes": "AP8Q"}"#, r#"{"$bytes":"AP8Q"}"#),
        (r#"{"$bytes": ""}"#, r#"{"$bytes":""}"#),
        (r#"[{"$float": "-inf"}, {"$float": "nan"}]"#, r#"[{"$float":"-inf"},{"$float":"nan"}]"#),
    ] {
        let said = call(&["echo", json])?;
        said.is(0, &[]);
        assert_eq!(said.out, format!("{back}\n"));
    }
    fs::write("note", [255; 100_000]).unwrap();
    call(&["len", "@note"])?.is(0, &["100000\n"]);
    let raw = program()?.args(["call", "-s", path, "--raw", DEMO, "echo", "@note"]).output().unwrap();
    assert_eq!(raw.stdout, [255; 100_000]);
    assert_eq!(call(&["digest", "@note", "--raw"])?.out.len(), 64, "no quotes, no line end");
    call(&["fail", "\"the boiler is out\""])?.is(11, &["app error Demo: the boiler is out"]);
    call(&["panic", "--traceback"])?.is(11, &["panicked as asked", "demo.rs"]);
    call(&["segv"])?.is(12, &["signal 11"]);
    call(&["sleep_ms", "60000", "--deadline-ms", "1"])?.is(13, &["deadline"]);
    call(&["dance"])?.is(17, &["dance"]);
    say(&["call", "-s", path, "no:App", "x"])?.is(17, &["no:App", DEMO]);
    // What makes no sense is said before anybody is asked.
    let nowhere = ["call", "-s", "nowhere/pool.sock", DEMO];
    for (args, words) in [
        (&["echo", "{"][..], &["JSON"][..]),
        (&["echo", "text"], &["text", "JSON"]),
        (&["echo", "9223372036854775808"], &["9223372036854775808", "64 bits"]),
        (&["echo", "[-9223372036854775809]"], &["-9223372036854775809", "64 bits"]),
        (&["echo", "18446744073709551616"], &["18446744073709551616", "64 bits"]),
        (&["echo", "1e999"], &["1e999"]),
        (&["echo", r#"{"$bytes": "A"}"#], &["base64"]),
        (&["echo", "--kwargs", "[1]"], &["--kwargs", "object"]),
        (&["echo", "--dedline-ms", "5"], &["--dedline-ms"]),
        (&["echo", "--deadline-ms", "soon"], &["soon"]),
        (&[], &["ACTION"]),
    ] {
        say(&[&nowhere, args].concat())?.is(2, words);
    }
    say(&[&nowhere[..], &["echo", "@nothing"]].concat())?.is(1, &["nothing", "No such file"]);
    say(&[&nowhere[..], &["echo", "1"]].concat())?.is(1, &["nowhere/pool.sock", "No such file"]);
    say(&["status", "-s", "nowhere/pool.sock"])?.is(1, &["nowhere/pool.sock", "No such file"]);
    assert!(daemon.end().success());
    fs::remove_dir("d").unwrap();
    Ok(())
}

fn the_status_tells_what_happened() -> Outcome {
    let _guard = PoolGuard::new();
    let path = "d/pool.sock";
    let daemon = Daemon::start(path, &["--demo", "-s", path, "-w", "2"])?;
    let status =
        some("all are ready", || Some(daemon.status()).filter(|status| number(status, "workers_ready") == 2));
    assert_eq!(list(&status, "apps").iter().filter_map(Value::as_str).collect::<Vec<_>>(), [DEMO]);
    assert_eq!((number(&status, "pid"), text(&status, "path")), (daemon.child.id().into(), path));
    let client = stokehold::Client::connect_path(path, stokehold::Options::default()).unwrap();
    let running = client.call(DEMO, "sleep_ms").args((600_000,)).submit().unwrap();
    let busy = some("it runs", || {
        let status = daemon.status();
        let busy = list(&status, "workers").iter().find(|worker| number(worker, "running") == 1)?;
        Some(number(busy, "pid"))
    });
    assert!(client.worker_pids().contains(&(busy as u32)));
    let status = daemon.status();
    assert_eq!(number(status.get("calls").unwrap(), "running"), 1);
    let me = &list(&status, "clients")[0];
    assert_eq!(number(me, "pid"), i64::from(std::process::id()));
    assert_eq!(number(me.get("calls").unwrap(), "running"), 1);
    assert_eq!((number(&status, "clients_connected"), number(&status, "clients_silent")), (1, 1));
    kill(busy as u32, Signal::SIGKILL);
    running.wait().unwrap_err();
    until("the death is told", || !list(&daemon.status(), "deaths").is_empty());
    let status = daemon.status();
    let death = &list(&status, "deaths")[0];
    assert_eq!((number(death, "pid"), text(death, "cause")), (busy, "signal 9"));
    let readable = say(&["status", "--socket", path])?;
    readable.is(0, &["RUNNING", "of 2 workers ready", DEMO, path, "signal 9", "the last deaths"]);
    let json = say(&["status", "--socket", path, "--json"])?;
    json.is(0, &["\"state\": \"running\"", "\"cause\": \"signal 9\""]);
    // Ending: it answers, and says so by its exit status.
    let held = client.call(DEMO, "sleep_ms").args((600_000,)).submit().unwrap();
    until("it runs", || number(daemon.status().get("calls").unwrap(), "running") == 1);
    daemon.signal(Signal::SIGTERM);
    daemon.until("shutting down");
    say(&["status", "-s", path])?.is(3, &["SHUTTING DOWN"]);
    assert!(daemon.end().success());
    held.wait().unwrap_err();
    fs::remove_dir("d").unwrap();
    Ok(())
}

fn the_status_adds_up_calls_of_all_clients() -> Outcome {
    let _guard = PoolGuard::new();
    let path = "d/pool.sock";
    let daemon = Daemon::start(path, &["--demo", "-s", path, "-w", "1"])?;
    let join = || stokehold::Client::connect_path(path, stokehold::Options::default()).unwrap();
    let (first, second) = (join(), join());
    let add = |client: &stokehold::Client| client.call(DEMO, "add").args((1, 1)).submit().unwrap();
    let ended = [add(&first), add(&second)];
    until("they are answered", || ended.iter().all(|call| call.is_ready()));
    let running = first.call(DEMO, "sleep_ms").args((600_000,)).submit().unwrap();
    let calls = |told: &Value| {
        let calls = told.get("calls").unwrap();
        ["queued", "running", "ended"].map(|state| number(calls, state))
    };
    until("it runs", || calls(&daemon.status()) == [0, 1, 2]);
    // Its only worker is busy.
    let queued = [add(&first), add(&second)];
    let status = daemon.status();
    assert_eq!(calls(&status), [2, 1, 2]);
    let each: Vec<_> = list(&status, "clients").iter().map(calls).collect();
    assert_eq!(each, [[1, 1, 1], [1, 0, 1]]);
    daemon.signal(Signal::SIGTERM);
    daemon.until("shutting down");
    assert!(daemon.end().success());
    drop((ended, running, queued));
    fs::remove_dir("d").unwrap();
    Ok(())
}

fn the_usual_place_of_a_socket() -> Outcome {
    let _guard = PoolGuard::new();
    private("d");
    let runtime = std::env::current_dir().unwrap().join("d");
    let path = runtime.join("stokehold/pool.sock");
    let mut command = program()?;
    let child = command.args(["serve", "--demo"]).env("XDG_RUNTIME_DIR", &runtime).spawn().unwrap();
    let daemon = Daemon { child, path: path.display().to_string() };
    daemon.status();
    for args in [&["call", DEMO, "add", "1", "2"][..], &["status"]] {
        assert!(program()?.args(args).env("XDG_RUNTIME_DIR", &runtime).output().unwrap().status.success());
    }
    assert!(daemon.end().success());
    fs::remove_dir("d/stokehold").unwrap();
    fs::remove_dir("d").unwrap();
    Ok(())
}

fn files_and_options_that_make_no_sense() -> Outcome {
    let _guard = PoolGuard::new();
    for (toml, words) in [
        ("workers = 2\nwrokers = 3\n", &["line 2", "wrokers", "workers", "app"][..]),
        ("\n\nworkers = \"two\"", &["line 3", "workers", "whole number"]),
        ("workers = -1", &["line 1", "-1"]),
        ("demo = true\nworkers = 65", &["65", "64"]),
        ("demo = true\nbackoff_first_ms = 20_000", &["backoff"]),
        ("demo = 1", &["line 1", "demo", "true or false"]),
        ("app = [\"a\",\n 2]", &["line 1", "app", "string"]),
        ("wait = \"long\"", &["line 1", "long", "adaptive"]),
        ("boot-timeout-ms = 5", &["line 1", "boot_timeout_ms"]),
        ("workers = 1\nworkers = 2", &["line 2"]),
        ("workers = 1\n[pool]\nthreads = 1", &["line 2", "pool"]),
        ("workers = ", &["line 1"]),
        ("workers = 2", &["no apps", "--demo"]),
        ("demo = true\napp = [\"no:App\"]", &["no:App"]),
        ("demo = true\nsocket = \"\"", &["no path of a socket"]),
    ] {
        fs::write("note", toml).unwrap();
        say(&["serve", "--config", "note"])?.is(2, words);
    }
    say(&["serve", "--config", "nothing.toml"])?.is(2, &["nothing.toml", "No such file"]);
    fs::write("note", [0xff, 0xfe]).unwrap();
    say(&["serve", "--config", "note"])?.is(2, &["note", "UTF-8"]);
    for (args, words) in [
        (&["--workers"][..], &["--workers"][..]),
        (&["--workers", "many"], &["--workers", "many"]),
        (&["--demo", "--workers", "64", "--threads", "64"], &["128"]),
        (&["--demon"], &["--demon"]),
        (&["--demo", "extra"], &["extra"]),
        (&[], &["--demo"]),
    ] {
        say(&[&["serve"], args].concat())?.is(2, words);
    }
    // The directory of the socket: the same class, since trying again mends nothing.
    fs::create_dir("d").unwrap();
    fs::set_permissions("d", fs::Permissions::from_mode(0o755)).unwrap();
    say(&["serve", "--demo", "-s", "d/pool.sock"])?.is(2, &["chmod 700"]);
    fs::remove_dir("d").unwrap();
    Ok(())
}

/// What the file may say is what `--help` lists, and the other way round.
fn the_help_of_serve_is_complete() -> Outcome {
    let _guard = PoolGuard::new();
    fs::write("note", "no_such_setting = 1").unwrap();
    let refused = say(&["serve", "-c", "note"])?.err;
    let known = refused.split_once("there is ").unwrap().1.lines().next().unwrap().to_owned();
    let mut known: Vec<String> =
        known.split(", ").map(|name| format!("--{}", name.replace('_', "-"))).collect();
    known.extend(["--config".into(), "--help".into()]);
    known.sort();
    let help = say(&["serve", "--help"])?;
    help.is(0, &[]);
    assert_eq!(help.out, say(&["help", "serve"])?.out);
    let begins = help.out.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
    let options = begins.filter_map(|line| line.split(' ').find(|word| word.starts_with("--")));
    let mut listed: Vec<String> = options.map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, known);
    assert!(help.out.lines().all(|line| line.len() <= 124));
    Ok(())
}

fn a_second_daemon_says_who_is_there() -> Outcome {
    let _guard = PoolGuard::new();
    let path = "d/pool.sock";
    let daemon = Daemon::start(path, &["--demo", "-s", path])?;
    let pid = format!("process {}", daemon.child.id());
    say(&["serve", "--demo", "-s", path])?.is(1, &["served already", &pid]);
    say(&["call", "-s", path, DEMO, "add", "1", "2"])?.is(0, &["3\n"]);
    assert!(daemon.end().success());
    fs::remove_dir("d").unwrap();
    Ok(())
}
