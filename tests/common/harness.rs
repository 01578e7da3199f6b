//! A small test harness for tests that fork: libtest has threads, and a process with threads is not forked.
//!
//! Each test runs in a process of its own, in a session of its own, so that what it does to limits, signals and
//! memory ends with it. One that takes longer than [`PATIENCE`] is killed with all that it started, and failed.
//! The lines are those of libtest, so that whatever reads those can read these.

use std::any::Any;
use std::io::{IoSlice, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use stokehold::internals::sys::process::{self, ExitStatus, Fork, Pid};
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{clock, pidfd, socket};

/// How long a test may take. No test is expected to come near it.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a process exits with after a panic.
const PANICKED: i32 = 101;
/// What a test exits with that cannot be run here.
const SKIPPED: i32 = 77;

/// Why a test cannot be run on this machine.
#[derive(Debug)]
pub struct Skip(pub String);

/// How a test ends that does not panic.
pub type Outcome = Result<(), Skip>;

/// A test and its name. [`tests!`] makes a list of them.
pub type Test = (&'static str, fn() -> Outcome);

/// The named functions, as a list of tests.
#[macro_export]
macro_rules! tests {
    ($($test:ident),* $(,)?) => {
        pub const TESTS: &[$crate::harness::Test] = &[$((stringify!($test), $test)),*];
    };
}

/// Runs the tests whose names contain the first argument (all without one), and exits.
pub fn run(tests: &[Test]) -> ! {
    run_within(PATIENCE, tests)
}

/// The same, each test with so much time.
pub fn run_within(patience: Duration, tests: &[Test]) -> ! {
    let mut options: Vec<String> = std::env::args().skip(1).collect();
    if options.iter().any(|o| o == "--list") {
        tests.iter().for_each(|(name, _)| println!("{name}: test"));
        process::exit_now(0);
    }
    let exact = options.iter().any(|o| o == "--exact");
    options.retain(|o| !o.starts_with('-'));
    let wanted = |name: &str| {
        options.is_empty()
            || options.iter().any(|o| if exact { name == o } else { name.contains(o.as_str()) })
    };
    let chosen: Vec<_> = tests.iter().filter(|(name, _)| wanted(name)).collect();
    println!("\nrunning {} tests", chosen.len());
    let _ = nix::sys::prctl::set_child_subreaper(true); // what a test leaves behind becomes ours
    let begin = Instant::now();
    let (mut passed, mut failed, mut skipped) = (0, Vec::new(), 0);
    for (name, test) in &chosen {
        let _ = std::io::stdout().flush(); // or the child would print it, too
        match run_one(*test, patience) {
            Ok(None) => {
                passed += 1;
                println!("test {name} ... ok");
            }
            Ok(Some(reason)) => {
                skipped += 1;
                println!("test {name} ... ignored\nSKIPPED {name} ({reason})");
            }
            Err(why) => {
                println!("test {name} ... FAILED ({why})");
                failed.push(*name);
            }
        }
    }
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {skipped} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len(),
        tests.len() - chosen.len(),
        begin.elapsed().as_secs_f64()
    );
    let _ = std::io::stdout().flush();
    process::exit_now(if failed.is_empty() { 0 } else { PANICKED });
}

/// `None` for a pass, the reason of a skip, or what went wrong.
fn run_one(test: fn() -> Outcome, patience: Duration) -> Result<Option<String>, String> {
    let (ours, theirs) = socket::pair().map_err(|e| e.to_string())?;
    let child = match process::fork().map_err(|e| e.to_string())? {
        Fork::Child => {
            drop(ours);
            test_process(test, theirs)
        }
        Fork::Parent(child) => child,
    };
    drop(theirs);
    let handle = pidfd::open(child).map_err(|e| e.to_string())?;
    let in_time = wait_and_reap_orphans(&handle, child, patience).map_err(|e| e.to_string())?;
    // The group lives on while a member does, and the number is ours until the reap.
    let _ = process::kill_group(child, Signal::SIGKILL);
    let _ = pidfd::send_signal(handle.as_fd(), Signal::SIGKILL);
    pidfd::wait_exited(handle.as_fd(), None).map_err(|e| e.to_string())?;
    let status = pidfd::reap(handle.as_fd()).map_err(|e| e.to_string())?;
    let left = reap_the_rest();
    match status {
        _ if left => Err("left running processes behind".into()),
        _ if !in_time => Err(format!("took longer than {patience:?}")),
        Some(ExitStatus::Exited(0)) => Ok(None),
        Some(ExitStatus::Exited(SKIPPED)) => {
            let mut reason = [0; 512];
            let received = socket::recv(ours.as_fd(), &mut reason).ok().flatten().map_or(0, |r| r.bytes);
            Ok(Some(String::from_utf8_lossy(&reason[..received]).into_owned()))
        }
        Some(status) => Err(status.to_string()),
        None => Err("exited, and cannot be reaped".into()),
    }
}

/// Waits for the end of a test's own process, and meanwhile reaps what that lost: we are what `init` is elsewhere, and
/// a test that looks for zombies must not find ours.
fn wait_and_reap_orphans(test: &OwnedFd, pid: Pid, patience: Duration) -> stokehold::Result<bool> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if pidfd::wait_exited(test.as_fd(), Some(Duration::from_millis(5)))? {
            return Ok(true);
        }
        reap_orphans(pid);
    }
    Ok(false)
}

/// Reaps every dead child but one: a test's own process is reaped through its handle.
fn reap_orphans(test: Pid) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(status) = waitid(Id::All, look) {
        match status.pid() {
            Some(pid) if pid.as_raw() != test.as_raw() => drop(waitpid(pid, Some(WaitPidFlag::WNOHANG))),
            _ => return,
        }
    }
}

/// Reaps what the test's own process did not, all of which is dead by now or about to be. Whether any is not.
fn reap_the_rest() -> bool {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => clock::sleep(Duration::from_millis(1)),
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    true
}

fn test_process(test: fn() -> Outcome, report: OwnedFd) -> ! {
    let _ = process::new_session();
    let outcome = guarded(test);
    let _ = std::io::stdout().flush();
    process::exit_now(match outcome {
        Ok(Ok(())) => 0,
        Ok(Err(Skip(reason))) => {
            let _ = socket::send(report.as_fd(), &[IoSlice::new(reason.as_bytes())], &[]);
            SKIPPED
        }
        Err(_) => PANICKED,
    })
}

fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(body))
}

/// A forked copy of a test process. Killed and reaped when dropped; it also dies with its parent.
#[derive(Debug)]
pub struct Kid {
    pub pid: Pid,
    pub fd: OwnedFd,
}

impl Kid {
    /// Runs `body` in a copy of this process; what it returns is the exit status, 101 if it panics.
    pub fn new(body: impl FnOnce() -> i32) -> Kid {
        let parent = process::pid();
        match process::fork().unwrap() {
            Fork::Parent(pid) => Kid { pid, fd: pidfd::open(pid).unwrap() },
            Fork::Child => {
                let outcome = guarded(|| {
                    process::die_with_parent(Signal::SIGKILL, parent).unwrap();
                    body()
                });
                process::exit_now(outcome.unwrap_or(PANICKED))
            }
        }
    }

    pub fn kill(&self) {
        pidfd::send_signal(self.fd.as_fd(), Signal::SIGKILL).unwrap();
    }

    /// Waits until it has exited and reaps it.
    pub fn end(self) -> ExitStatus {
        assert!(pidfd::wait_exited(self.fd.as_fd(), None).unwrap());
        pidfd::reap(self.fd.as_fd()).unwrap().unwrap()
    }

    /// Waits until it sleeps in the kernel.
    pub fn until_asleep(&self) {
        until(|| state_of(self.pid) == 'S');
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        if let Ok(None) = pidfd::reap(self.fd.as_fd()) {
            let _ = pidfd::send_signal(self.fd.as_fd(), Signal::SIGKILL);
            let _ = pidfd::wait_exited(self.fd.as_fd(), None);
            let _ = pidfd::reap(self.fd.as_fd());
        }
    }
}

/// Waits until `condition` holds. If it never does, the harness' patience ends the test.
pub fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        clock::sleep(Duration::from_micros(500));
    }
}

/// Does nothing until it is killed.
pub fn sleep_for_ever() -> ! {
    loop {
        clock::sleep(Duration::from_secs(3600));
    }
}

/// The letter that `/proc/PID/stat` shows, or `-`.
pub fn state_of(pid: Pid) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}
