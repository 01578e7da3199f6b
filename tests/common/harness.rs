//! A small test harness for tests that fork: libtest has threads, and a process with threads is not forked.
//!
//! Each test runs in a process of its own, in a session of its own, so that what it does to limits, signals and
//! memory ends with it. One that takes longer than [`PATIENCE`] is killed with all that it started, and failed.
//! The lines are those of libtest, so that whatever reads those can read these.

use std::any::Any;
use std::fs;
use std::io::{IoSlice, PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use stokehold::internals::sys::process::{self, ExitStatus, Fork, Pid};
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{clock, cpu, pidfd, socket};

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

/// Runs the tests whose names contain one of the arguments (all without one), one after another, and exits. What a test
/// prints is shown if it fails, or with `--nocapture`; `--report-time` says how long each took.
pub fn run(tests: &[Test]) -> ! {
    run_within(PATIENCE, tests)
}

/// The same, each test with so much time.
pub fn run_within(patience: Duration, tests: &[Test]) -> ! {
    Session::of(tests, patience).run(1)
}

/// The same, several at a time, or as many as `--test-threads=N` says. For tests that wait more than they work: one more
/// than there are processors, but no crowd.
pub fn run_together(tests: &[Test]) -> ! {
    run_together_within(PATIENCE, tests)
}

/// The same, each test with so much time.
pub fn run_together_within(patience: Duration, tests: &[Test]) -> ! {
    Session::of(tests, patience).run((cpu::usable() + 1).min(4))
}

/// What was asked for on the command line.
struct Session {
    chosen: Vec<Test>,
    filtered_out: usize,
    patience: Duration,
    at_a_time: Option<usize>,
    capture: bool,
    report_time: bool,
}

enum Verdict {
    Passed,
    /// Why it cannot be run here.
    Skipped(String),
    Failed(String),
}

impl Session {
    fn of(tests: &[Test], patience: Duration) -> Session {
        let options: Vec<String> = std::env::args().skip(1).collect();
        let has = |option: &str| options.iter().any(|o| o == option);
        if has("--list") {
            tests.iter().for_each(|(name, _)| println!("{name}: test"));
            process::exit_now(0);
        }
        let filters: Vec<&String> = options.iter().filter(|o| !o.starts_with('-')).collect();
        let fits =
            |name: &str, filter: &str| if has("--exact") { name == filter } else { name.contains(filter) };
        let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| fits(name, filter));
        let chosen: Vec<Test> = tests.iter().filter(|(name, _)| wanted(name)).copied().collect();
        Session {
            filtered_out: tests.len() - chosen.len(),
            chosen,
            patience,
            at_a_time: options.iter().find_map(|o| o.strip_prefix("--test-threads=")?.parse().ok()),
            capture: !has("--nocapture"),
            report_time: has("--report-time"),
        }
    }

    /// Tests are handed out in their order to processes that each run one at a time: what a test loses goes to the one
    /// that ran it, so that nobody's leftovers are taken for another's.
    fn run(self, at_a_time: usize) -> ! {
        println!("\nrunning {} tests", self.chosen.len());
        let _ = std::io::stdout().flush(); // or the others would print it, too
        let begin = Instant::now();
        let (queue, mut places) = pipe().unwrap();
        for at in 0..self.chosen.len() as u16 {
            places.write_all(&at.to_le_bytes()).unwrap();
        }
        drop(places);
        let (mut verdicts, to_us) = pipe().unwrap();
        let runners = (0..self.at_a_time.unwrap_or(at_a_time).max(1)).map(|_| {
            Kid::new(|| {
                nix::sys::prctl::set_child_subreaper(true).unwrap(); // what a test leaves behind becomes ours
                self.run_from(&queue, &to_us);
                0
            })
        });
        let runners: Vec<Kid> = runners.collect();
        drop(to_us);
        let (mut passed, mut skipped, mut ended) = (0, 0, vec![false; self.chosen.len()]);
        let mut word = [0; 3];
        while verdicts.read_exact(&mut word).is_ok() {
            let at = u16::from_le_bytes([word[0], word[1]]);
            ended[usize::from(at)] = word[2] != b'F';
            passed += usize::from(word[2] == b'P');
            skipped += usize::from(word[2] == b'S');
        }
        drop(runners);
        let failed: Vec<&str> =
            self.chosen.iter().zip(&ended).filter(|(_, well)| !**well).map(|((name, _), _)| *name).collect();
        if !failed.is_empty() {
            println!("\nfailures:\n    {}", failed.join("\n    "));
        }
        println!(
            "\ntest result: {}. {passed} passed; {} failed; {skipped} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            if failed.is_empty() { "ok" } else { "FAILED" },
            failed.len(),
            self.filtered_out,
            begin.elapsed().as_secs_f64()
        );
        let _ = std::io::stdout().flush();
        process::exit_now(if failed.is_empty() { 0 } else { PANICKED });
    }

    fn run_from(&self, mut queue: &PipeReader, mut verdicts: &PipeWriter) {
        let mut place = [0; 2];
        while queue.read_exact(&mut place).is_ok() {
            let (name, test) = self.chosen[usize::from(u16::from_le_bytes(place))];
            let begin = Instant::now();
            let mut output = Vec::new();
            let verdict = run_one(test, self.patience, self.capture, &mut output);
            let verdict = verdict.unwrap_or_else(|e| Verdict::Failed(e.to_string()));
            let took = match self.report_time {
                true => format!(" <{:.3}s>", begin.elapsed().as_secs_f64()),
                false => String::new(),
            };
            let (letter, line) = match verdict {
                Verdict::Passed => (b'P', format!("test {name} ... ok{took}\n")),
                Verdict::Skipped(why) => (b'S', format!("test {name} ... ignored\nSKIPPED {name} ({why})\n")),
                Verdict::Failed(why) => {
                    let output = String::from_utf8_lossy(&output);
                    let begin = if output.is_empty() { "" } else { "---- its output:\n" };
                    (b'F', format!("test {name} ... FAILED ({why}){took}\n{begin}{output}"))
                }
            };
            // In one piece: another may print as well.
            let _ = std::io::stdout().write_all(line.as_bytes());
            let _ = std::io::stdout().flush();
            verdicts.write_all(&[place[0], place[1], letter]).unwrap();
        }
    }
}

/// How a test ended. What it printed is added to the output.
fn run_one(
    test: fn() -> Outcome,
    patience: Duration,
    capture: bool,
    output: &mut Vec<u8>,
) -> stokehold::Result<Verdict> {
    let (ours, theirs) = socket::pair()?;
    let (printed, print) = pipe()?;
    let child = match process::fork()? {
        Fork::Child => {
            drop((ours, printed));
            if capture {
                nix::unistd::dup2_stdout(&print).unwrap();
                nix::unistd::dup2_stderr(&print).unwrap();
            }
            drop(print);
            test_process(test, theirs)
        }
        Fork::Parent(child) => child,
    };
    drop((theirs, print));
    socket::set_nonblocking(printed.as_fd(), true)?;
    let handle = pidfd::open(child)?;
    let in_time = wait_for_it(&handle, child, patience, || read(&printed, output))?;
    // The group lives on while a member does, and the number is ours until the reap.
    let _ = process::kill_group(child, Signal::SIGKILL);
    let _ = pidfd::send_signal(handle.as_fd(), Signal::SIGKILL);
    pidfd::wait_exited(handle.as_fd(), None)?;
    let status = pidfd::reap(handle.as_fd())?;
    let left = reap_the_rest();
    read(&printed, output);
    Ok(match status {
        _ if !left.is_empty() => Verdict::Failed(format!("left running processes behind: {left}")),
        _ if !in_time => Verdict::Failed(format!("took longer than {patience:?}")),
        Some(ExitStatus::Exited(0)) => Verdict::Passed,
        Some(ExitStatus::Exited(SKIPPED)) => {
            let mut reason = [0; 512];
            let received = socket::recv(ours.as_fd(), &mut reason).ok().flatten().map_or(0, |r| r.bytes);
            Verdict::Skipped(String::from_utf8_lossy(&reason[..received]).into_owned())
        }
        Some(status) => Verdict::Failed(status.to_string()),
        None => Verdict::Failed("exited, and cannot be reaped".into()),
    })
}

/// Adds what there is to be read.
fn read(mut from: &PipeReader, to: &mut Vec<u8>) {
    let _ = from.read_to_end(to);
}

/// Waits for the end of a test's own process, and meanwhile reaps what that lost: we are what `init` is elsewhere, and
/// a test that looks for zombies must not find ours.
fn wait_for_it(
    test: &OwnedFd,
    pid: Pid,
    patience: Duration,
    mut meanwhile: impl FnMut(),
) -> stokehold::Result<bool> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if pidfd::wait_exited(test.as_fd(), Some(Duration::from_millis(5)))? {
            return Ok(true);
        }
        reap_orphans(pid);
        meanwhile();
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

/// Reaps what the test's own process did not, all of which is dead by now or about to be. Says of those that are not what they
/// do, and ends them.
fn reap_the_rest() -> String {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => clock::sleep(Duration::from_millis(1)),
            Ok(_) => {}
            Err(_) => return String::new(),
        }
    }
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?));
    let mut left = String::new();
    for child in children {
        let of = |what: &str| fs::read_to_string(format!("/proc/{child}/{what}")).unwrap_or_default();
        left += &format!("{child} {:?} {:?} {:?}; ", of("stat"), of("wchan"), of("syscall"));
        if let Ok(handle) = pidfd::open(child) {
            let _ = pidfd::send_signal(handle.as_fd(), Signal::SIGKILL);
        }
    }
    if left.is_empty() { "somebody".into() } else { left }
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
