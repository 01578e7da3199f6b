//! One run of a program: its output, how it ended, and what was left of it.

use crate::compile::Setup;
use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a program may run, and its processes may take to go when it has ended. None is expected to come near it.
const PATIENCE: Duration = Duration::from_secs(120);
const SETTLING: Duration = Duration::from_secs(20);
/// The variable that marks the processes of a run.
const MARK: &str = "STOKEHOLD_TEST_RUN";

pub struct Run {
    pub output: String,
    pub errors: String,
    pub ended: Ended,
    /// What was left and should not have been.
    pub left: Option<String>,
}

#[derive(Debug)]
pub enum Ended {
    Exited(i32),
    Killed(i32),
    TookTooLong,
    NotStarted(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(status) => write!(f, "exited with {status}"),
            Ended::Killed(signal) => write!(f, "killed by signal {signal}"),
            Ended::TookTooLong => write!(f, "killed after {PATIENCE:?}"),
            Ended::NotStarted(why) => write!(f, "not started: {why}"),
        }
    }
}

impl Run {
    pub fn of(setup: &Setup, name: &str, program: &Path, arguments: &[&str]) -> Run {
        static RUNS: AtomicUsize = AtomicUsize::new(0);
        let number = RUNS.fetch_add(1, Ordering::Relaxed);
        let mark = format!("{}-{number}-{name}", std::process::id());
        let dir = setup.work.join(format!("{number}-{name}"));
        // Not pipes: a process that is left would hold them open, and reading would wait for it.
        let (out, err) = (dir.with_extension("out"), dir.with_extension("err"));
        fs::create_dir_all(&dir).unwrap();
        let words: Vec<&str> = setup.runner.iter().map(String::as_str).chain(program.to_str()).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(arguments).current_dir(&dir).stdin(Stdio::null());
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        command
            .env_remove("LD_LIBRARY_PATH") // cargo's, where a build without the hooks lies
            .env(MARK, &mark)
            .env("TMPDIR", &dir)
            .env("STOKEHOLD_UNDER", setup.under())
            .process_group(0);
        // Crashes of workers are what is tested: their signals are not the sanitizer's to handle. Leaks are looked for.
        command.env(
            "ASAN_OPTIONS",
            "detect_leaks=1:handle_segv=0:handle_sigbus=0:handle_abort=0:handle_sigfpe=0",
        );
        command.env("RUST_BACKTRACE", "0"); // panics are asked for
        command.env("UBSAN_OPTIONS", "print_stacktrace=1");
        let ended = match command.spawn() {
            Err(e) => Ended::NotStarted(format!("{}: {e}", words[0])),
            Ok(child) => wait(child),
        };
        let left = left(&mark, &dir);
        let text = |path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        Run { output: text(&out), errors: text(&err), ended, left }
    }
}

fn wait(mut child: std::process::Child) -> Ended {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().unwrap() {
            Some(status) => {
                return match (status.code(), status.signal()) {
                    (Some(code), _) => Ended::Exited(code),
                    (None, signal) => Ended::Killed(signal.unwrap_or(0)),
                };
            }
            None if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            None => {
                kill(-(child.id() as i32)); // with what it forked; the pool's processes go with their host, or below
                let _ = child.wait();
                return Ended::TookTooLong;
            }
        }
    }
}

/// What is left of a run after a while. Processes are ended, so that nothing outlives the test.
fn left(mark: &str, dir: &Path) -> Option<String> {
    let end = Instant::now() + SETTLING;
    let mut processes = marked(mark);
    while !processes.is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
        processes = marked(mark);
    }
    if !processes.is_empty() {
        let names: Vec<String> = processes
            .iter()
            .map(|pid| {
                format!(
                    "{pid} {}",
                    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim()
                )
            })
            .collect();
        processes.iter().for_each(|&pid| kill(pid));
        return Some(format!("processes were left: {names:?}"));
    }
    let files = |dir: &str| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let here = files(&dir.display().to_string());
    if !here.is_empty() {
        return Some(format!("files were left: {here:?}"));
    }
    // Memory files go with the last process that holds them; named ones would stay.
    let named: Vec<String> =
        files("/dev/shm").into_iter().filter(|name| name.contains("stokehold")).collect();
    (!named.is_empty()).then(|| format!("named shared memory was left: {named:?}"))
}

/// The processes with this mark. A zombie has none any more: what is left of it is its parent's.
fn marked(mark: &str) -> Vec<i32> {
    let wanted = format!("{MARK}={mark}");
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

/// A process of ours, or the group that it leads.
fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
}
