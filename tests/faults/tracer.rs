//! Another process's system calls, which `strace` shows, or makes fail.

use crate::guard::{kill, until};
use crate::harness::Skip;
use crate::proc;
use nix::sys::signal::Signal;
use std::fs;
use std::process::{Child, Command, Stdio};

/// `strace`, attached to a process. Dropped, it lets go of that, and its file is gone.
pub struct Tracer(Child);

/// What it sees.
const TRACE: &str = "trace";

impl Tracer {
    /// Skips where strace is missing or may not attach. That it is attached does not say that it has stopped anything yet.
    pub fn new(pid: u32, options: &[&str]) -> Result<Tracer, Skip> {
        let mut strace = Command::new("strace");
        let strace = strace.args(["-qq", "-o", TRACE, "-p", &pid.to_string()]).args(options);
        let strace = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut tracer = Tracer(strace.spawn().map_err(|error| Skip(format!("strace: {error}")))?);
        until("it is traced, or strace ends", || {
            proc::status(pid, "TracerPid") != "0" || tracer.0.try_wait().unwrap().is_some()
        });
        match tracer.0.try_wait().unwrap() {
            Some(status) => Err(Skip(format!("strace may not attach here: {status}"))),
            None => Ok(tracer),
        }
    }

    /// What it has written down so far.
    pub fn seen(&self) -> String {
        fs::read_to_string(TRACE).unwrap_or_default()
    }

    /// All that it saw until it let go, now.
    pub fn detach(mut self) -> String {
        kill(self.0.id(), Signal::SIGTERM);
        self.0.wait().unwrap();
        self.seen()
    }

    /// All that it saw until the process ended, which it does.
    pub fn follow(mut self) -> String {
        self.0.wait().unwrap();
        self.seen()
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.0.try_wait().unwrap().is_none() {
            kill(self.0.id(), Signal::SIGTERM);
            let _ = self.0.wait();
        }
        let _ = fs::remove_file(TRACE);
    }
}
