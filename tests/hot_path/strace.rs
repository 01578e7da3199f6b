//! System calls as `strace` shows them.

use super::harness::Skip;
use super::traced::marks;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{fmt, fs};

/// A file that strace writes, removed when dropped.
pub struct Trace {
    path: PathBuf,
}

/// One system call: who made it, and its name and arguments.
pub struct Call {
    task: u32,
    text: String,
}

/// The system calls between the marks of a round.
#[derive(Debug, Default)]
pub struct Found {
    pub host: Vec<String>,
    pub worker: Vec<String>,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (side, calls) in [("host", &self.host), ("worker", &self.worker)] {
            write!(f, "{side} {} {:?} ", calls.len(), &calls[..calls.len().min(5)])?;
        }
        Ok(())
    }
}

impl Trace {
    /// Skips where strace is missing or may not trace.
    pub fn new() -> Result<Trace, Skip> {
        let probe =
            Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
        match probe {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(Skip(format!("strace may not trace here: {status}"))),
            Err(error) => return Err(Skip(format!("strace: {error}"))),
        }
        let name = format!("hot-path-{}.strace", std::process::id());
        Ok(Trace { path: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name) })
    }

    /// This program under strace, with all that it starts.
    pub fn command(&self) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-s", "128", "-o"]).arg(&self.path).arg("--").arg(exe());
        command
    }

    /// All system calls, in the order they began.
    pub fn read(&self) -> Vec<Call> {
        let text = fs::read_to_string(&self.path).expect("strace wrote its file");
        text.lines().filter_map(parse).collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// This program as it is.
pub fn this_program() -> Command {
    Command::new(exe())
}

fn exe() -> PathBuf {
    std::env::current_exe().expect("a program has a path")
}

/// `4711  futex(0x7f…) = 0`. The second half of an interrupted call, signals and exits are no calls.
fn parse(line: &str) -> Option<Call> {
    let (task, text) = line.split_once(' ')?;
    let text = text.trim_start();
    if text.starts_with(['<', '-', '+']) {
        return None;
    }
    Some(Call { task: task.parse().ok()?, text: text.to_owned() })
}

/// What both sides called in a round. The marks tell who they are: the worker's begins first.
pub fn between_marks(calls: &[Call], round: u32) -> Option<Found> {
    let (begin, end) = marks(round);
    let quoted = |mark: &str| format!("\"{mark}\"");
    let position = |mark: &str, nth: usize| {
        calls
            .iter()
            .enumerate()
            .filter(|(_, call)| call.text.contains(&quoted(mark)))
            .nth(nth)
            .map(|(i, _)| i)
    };
    let (worker_begin, host_begin) = (position(&begin, 0)?, position(&begin, 1)?);
    let (host_end, worker_end) = (position(&end, 0)?, position(&end, 1)?);
    let of = |from: usize, to: usize| {
        let task = calls[from].task;
        assert_eq!(task, calls[to].task, "one task begins and ends");
        let own = calls[from + 1..to].iter().filter(|call| call.task == task);
        own.map(|call| call.text.clone()).collect()
    };
    Some(Found { host: of(host_begin, host_end), worker: of(worker_begin, worker_end) })
}
