//! `stokehold call --stream`: each item as it comes, and every way to end.

use crate::guard::{PoolGuard, kill, until};
use crate::harness::{Outcome, Skip};
use crate::program::{Daemon, program, say};
use nix::sys::signal::Signal;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdout, Stdio};
use stokehold::{Client, Options};

crate::tests! {
    items_are_printed_one_by_one,
    a_reader_that_has_had_enough_cancels_the_stream,
    an_interrupted_call_cancels_its_stream,
    a_stream_that_fails_says_so_behind_its_items,
    a_context_of_the_demo_app,
}

const DEMO: &str = "stokehold.demo:Demo";
const PATH: &str = "d/pool.sock";

fn daemon() -> Result<Daemon, Skip> {
    let daemon = Daemon::start(PATH, &["--demo", "--socket", PATH, "--workers", "1"])?;
    daemon.until("running");
    Ok(daemon)
}

fn end(daemon: Daemon) {
    assert!(daemon.end().success());
    fs::remove_dir("d").unwrap();
}

fn client() -> Client {
    Client::connect_path(PATH, Options::default()).unwrap()
}

/// The only worker, when it is free.
fn pid() -> i64 {
    client().call(DEMO, "pid").execute().unwrap().parse().unwrap()
}

/// A call whose output the test reads as it comes.
fn streaming(args: &[&str]) -> Result<(Child, BufReader<ChildStdout>), Skip> {
    let mut command = program()?;
    command.args(["call", "-s", PATH, "--stream", DEMO]).args(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    Ok((child, out))
}

fn line(out: &mut impl BufRead) -> String {
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    line
}

fn items_are_printed_one_by_one() -> Outcome {
    let _guard = PoolGuard::new();
    let daemon = daemon()?;
    let call = |args: &[&str]| say(&[&["call", "-s", PATH, DEMO], args].concat());
    let words = call(&["tokens", "10", "0", "--stream"])?;
    words.is(0, &[]);
    assert_eq!(
        words.out.lines().collect::<Vec<_>>()[6..],
        ["\"in\"", "\"the boiler\"", "\"coal\"", "\"on\""]
    );
    assert_eq!(call(&["tokens", "3", "0", "--stream", "--raw"])?.out, "coalonthe");
    assert_eq!(call(&["tokens", "0", "0", "--stream"])?.out, "");
    assert_eq!(call(&["tokens", "2", "1"])?.out, "[\"coal\",\"on\"]\n");
    assert_eq!(call(&["add", "2", "3", "--stream"])?.out, "5\n");
    // The first is there long before the last.
    let (mut child, mut out) = streaming(&["tokens", "1000000", "1"])?;
    assert_eq!((line(&mut out), line(&mut out)), ("\"coal\"\n".into(), "\"on\"\n".into()));
    assert!(child.try_wait().unwrap().is_none());
    drop(out);
    assert!(child.wait().unwrap().success());
    end(daemon);
    Ok(())
}

fn a_reader_that_has_had_enough_cancels_the_stream() -> Outcome {
    let _guard = PoolGuard::new();
    let daemon = daemon()?;
    let worker = pid();
    for delay in ["0", "1"] {
        let (mut child, mut out) = streaming(&["tokens", "1000000000", delay])?;
        for _ in 0..3 {
            assert!(line(&mut out).starts_with('"'));
        }
        drop(out);
        assert!(child.wait().unwrap().success());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!(said, "", "a quiet end");
        assert_eq!(pid(), worker, "the worker let go by itself");
    }
    end(daemon);
    Ok(())
}

fn an_interrupted_call_cancels_its_stream() -> Outcome {
    let _guard = PoolGuard::new();
    let daemon = daemon()?;
    let worker = pid();
    // Between items as well as while they flow.
    for delay in ["600000", "1"] {
        let (mut child, mut out) = streaming(&["tokens", "1000000000", delay])?;
        until("it runs", || {
            let status = daemon.status();
            status.get("calls").and_then(|calls| calls.get("running")).and_then(|n| n.as_int()) == Some(1)
        });
        if delay == "1" {
            line(&mut out);
        }
        kill(child.id(), Signal::SIGINT);
        assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGINT as i32));
        assert_eq!(pid(), worker, "it was told");
    }
    end(daemon);
    Ok(())
}

fn a_stream_that_fails_says_so_behind_its_items() -> Outcome {
    let _guard = PoolGuard::new();
    let daemon = daemon()?;
    let call = |args: &[&str]| say(&[&["call", "-s", PATH, "--stream", DEMO], args].concat());
    call(&["fail", "\"the boiler is out\""])?.is(11, &["app error Demo: the boiler is out"]);
    call(&["segv"])?.is(12, &["signal 11"]);
    call(&["dance"])?.is(17, &["dance"]);
    let said = call(&["tokens", "3", "--deadline-ms", "5000"])?;
    said.is(17, &[]);
    let late = call(&["tokens", "1000000", "20", "--deadline-ms", "500"])?;
    late.is(13, &["deadline"]);
    assert!(late.out.starts_with("\"coal\"\n"), "{:?}", late.out);
    let (mut child, mut out) = streaming(&["tokens", "1000000", "1"])?;
    assert_eq!(line(&mut out), "\"coal\"\n");
    let workers = client().worker_pids();
    workers.into_iter().for_each(|pid| kill(pid, Signal::SIGKILL));
    let words = out.lines().count();
    assert_eq!(child.wait().unwrap().code(), Some(12), "{words} words more");
    end(daemon);
    Ok(())
}

fn a_context_of_the_demo_app() -> Outcome {
    let _guard = PoolGuard::new();
    let daemon = daemon()?;
    let client = client();
    let mut context = client.call(DEMO, "echo_context").context().unwrap();
    assert_eq!(context.started().unwrap().parse::<&str>().unwrap(), "ready");
    for at in 0..1000_i64 {
        context.send(at).unwrap();
        assert_eq!(context.next().unwrap().unwrap().parse::<i64>().unwrap(), at);
    }
    assert_eq!(context.wait().unwrap().parse::<i64>().unwrap(), 1000);
    drop(client);
    end(daemon);
    Ok(())
}
