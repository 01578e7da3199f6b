//! The arbiter is killed behind every edge of what it does: its start, a tick, a worker's death and its replacement, a client
//! that joins and one that dies, memory that comes and goes, calls that are given up, an orderly end; and, with it, a worker
//! at any moment of its birth is orphaned.
//!
//! A dead arbiter is the end of its pool, so each round has a pool of its own. All of it must go: every worker within
//! moments, every process, every memory file; each call that was in flight has one outcome, the one that it may have; whoever
//! calls later hears the same; and the next round's pool starts.
//!
//! A13: an arbiter is killed, and nothing of its pool goes on. A16: the parent of a worker dies between the fork and the
//! `prctl` by which the worker would hear of it (`arbiter-orphan`).

use crate::app::Journal;
use crate::edges::{Next, Walker};
use crate::host::{DONE, End, Host};
use crate::positions::{Place, Rounds, Walk};
use crate::report::Tally;
use crate::scene::{PATIENCE, Wrong, until};
use crate::trace::{Alarm, Step, Tracee};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;
use stokehold::internals::sys::pidfd;
use stokehold::internals::sys::process::{ORPHANED, Pid};

/// What the arbiter is stepped through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// The program that is run once more, up to the fork that leaves the arbiter behind, and its end.
    BootMiddle,
    /// The arbiter from that fork on, until the pool is ready and has answered a call.
    Boot,
    /// Two ticks, the second of which finds a call that has waited since the first.
    Tick,
    /// A worker dies with a call, while another call waits: repair, reap, a fork, the next one's greeting.
    WorkerDies,
    /// The arbiter forks a worker, and dies while that is being born. Its edges are the worker's.
    Orphan,
    /// A client dies with a call that runs and one that waits: reclaim.
    ClientDies,
    /// A client joins, calls, waits by its descriptor, calls an app that calls itself, and leaves.
    Join,
    /// A client takes memory, a worker does, each fetches the other's, and the client gives its own back.
    Grow,
    /// A call's deadline passes, and its worker does not let go.
    Late,
    /// A call is cancelled; its worker hears neither of that nor the pool's signal.
    GiveUp,
    /// The pool is shut down, and what runs ends by itself.
    Stop,
    /// What runs is killed.
    StopNow,
}

/// One way of an arbiter.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    pub act: Act,
    /// The call that is held is with the first of them.
    pub workers: usize,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "arbiter-boot-middle", act: Act::BootMiddle, workers: 1 },
    Path { name: "arbiter-boot", act: Act::Boot, workers: 1 },
    Path { name: "arbiter-tick", act: Act::Tick, workers: 1 },
    Path { name: "arbiter-worker-dies", act: Act::WorkerDies, workers: 1 },
    Path { name: "arbiter-orphan", act: Act::Orphan, workers: 1 },
    Path { name: "arbiter-client-dies", act: Act::ClientDies, workers: 2 },
    Path { name: "arbiter-join", act: Act::Join, workers: 3 },
    Path { name: "arbiter-grow", act: Act::Grow, workers: 2 },
    Path { name: "arbiter-late", act: Act::Late, workers: 1 },
    Path { name: "arbiter-give-up", act: Act::GiveUp, workers: 1 },
    Path { name: "arbiter-stop", act: Act::Stop, workers: 1 },
    Path { name: "arbiter-stop-now", act: Act::StopNow, workers: 1 },
];

impl Path {
    /// Of the 2,000 places between edges, and edges that there is time for in CI. Some rounds wait for ticks.
    pub fn shares(&self) -> (usize, usize) {
        match self.act {
            Act::Tick => (8, usize::MAX),
            Act::GiveUp => (24, 40), // most of the way is that of `Act::Late`
            Act::Late => (48, usize::MAX),
            _ => (120, usize::MAX),
        }
    }

    /// What became of a call, of those that may.
    fn allows(&self, end: &End) -> bool {
        let any: &[&str] = match (end.role.as_str(), self.act) {
            ("warm", _) => &["ok"],
            ("held", Act::WorkerDies | Act::Orphan) => &["died+", "arbiter+"],
            ("held", Act::Late | Act::GiveUp | Act::Stop) => &["ok", "arbiter+"],
            ("held", Act::StopNow) => &["died+", "arbiter+"],
            ("held", _) => &["arbiter+"],
            ("behind", Act::WorkerDies | Act::Orphan | Act::Late | Act::GiveUp) => {
                &["ok", "arbiter+", "arbiter-"]
            }
            ("behind", Act::Stop) => &["ok", "shutting", "arbiter+", "arbiter-"],
            ("behind", Act::StopNow) => &["shutting", "arbiter-"],
            ("behind", _) => &["arbiter-"],
            ("late", _) => &["deadline+", "deadline-", "arbiter+", "arbiter-"],
            ("given-up", _) => &["cancelled+", "cancelled-", "arbiter+", "arbiter-"],
            ("act", _) => &["ok", "arbiter+", "arbiter-"],
            ("ask", _) => &["app", "arbiter+", "arbiter-"],
            ("client" | "memory", _) => &["arbiter-"],
            ("pool", _) => &["start"],
            ("after", Act::Stop | Act::StopNow) => &["shutting", "arbiter-"],
            ("after", _) => &["arbiter-"],
            ("dead", _) => &["dead"],
            ("inner", _) => &["inner"],
            _ => &[],
        };
        any.contains(&end.how.as_str())
    }
}

/// Whether the app ran as often as the outcome says.
fn agrees(end: &End, runs: u32) -> bool {
    match end.how.as_str() {
        _ if end.id == 0 => true,
        "ok" => runs == 1,
        "shutting" => runs == 0,
        how if how.ends_with('-') => runs == 0,
        _ => runs <= 1,
    }
}

/// Every kill point of one path, each in a pool of its own.
pub fn rounds(path: &Path, rounds: &Rounds, tally: &mut Tally) -> Result<(), Wrong> {
    let journal = Journal::create().map_err(|e| e.to_string())?;
    let mut host = Host::start(path, &journal).map_err(|e| format!("no host: {e}"))?;
    adopting(|| rounds.run(path.name, tally, |place, tally| round(&mut host, path, &journal, place, tally)))
}

/// Whoever is orphaned meanwhile becomes a child of this process.
pub fn adopting(kill: impl FnOnce() -> Result<(), Wrong>) -> Result<(), Wrong> {
    let adopt = |yes| prctl::set_child_subreaper(yes).map_err(|e| format!("prctl: {e}"));
    adopt(true)?;
    let killed = kill();
    adopt(false)?;
    killed
}

/// Kills the arbiter where it is told to.
fn round(
    host: &mut Host,
    path: &Path,
    journal: &Journal,
    place: Place,
    tally: &mut Tally,
) -> Result<Walk, Wrong> {
    let started = host.begin()?;
    journal.set_stage(0);
    let begin = |pid: u32, how: fn(Tracee) -> Result<Walker, Errno>| {
        Tracee::seize(pid, pid).and_then(how).map_err(|e| format!("ptrace: {e}"))
    };
    let alarm = Alarm::set();
    let (mut walker, arbiter) = match (started, path.act) {
        (None, act) => {
            let mut starter = begin(host.pid, Walker::bare)?;
            host.tell();
            let middle = next_child(&mut starter)?;
            starter.tracee.let_go();
            if act == Act::BootMiddle {
                (middle, None)
            } else {
                let mut middle = middle;
                let arbiter = next_child(&mut middle)?;
                middle.tracee.let_go();
                let pid = arbiter.tracee.tid().as_raw() as u32;
                (arbiter, Some(pid))
            }
        }
        (Some(pid), act) => {
            until(|| in_epoll(pid).then_some(())).ok_or("the arbiter does not fall asleep")?;
            let is_parent = act == Act::Orphan;
            let mut arbiter = begin(pid, if is_parent { Walker::bare } else { Walker::new })?;
            host.tell();
            if is_parent {
                let child = next_child(&mut arbiter)?;
                // It has to answer the child.
                arbiter.tracee.let_go();
                (child, Some(pid))
            } else {
                (arbiter, Some(pid))
            }
        }
    };
    // Asleep with nothing left to do; or, of a worker that is born, at home.
    let sleeper = walker.tracee.tid().as_raw() as u32;
    let at_rest = || match path.act {
        Act::Orphan => in_epoll(sleeper) || in_poll(sleeper),
        _ => journal.stage() == DONE && in_epoll(sleeper),
    };
    let mut walk = place.go(&mut walker, &at_rest, path.act == Act::Orphan)?;
    drop(alarm);
    tally.pc = walker.pc();
    tally.missed += u64::from(walk.missed);
    tally.edges(&walk);
    // All that is to go with it.
    let pool: Vec<u32> = arbiter.into_iter().flat_map(|pid| [vec![pid], children(pid)].concat()).collect();
    let files: BTreeSet<u64> = pool.iter().flat_map(|pid| memory_files(*pid)).collect();
    let handles: Vec<OwnedFd> = pool.iter().filter_map(|pid| handle(*pid)).collect();
    let killed = Instant::now();
    match arbiter.filter(|_| path.act == Act::Orphan) {
        Some(arbiter) => {
            let released = walker.release();
            kill(arbiter);
            let dead = handle(arbiter).map(|handle| pidfd::wait_exited(handle.as_fd(), Some(PATIENCE)));
            if let Some(Ok(false) | Err(_)) = dead {
                return Err("the arbiter does not die".into());
            }
            // From here on the orphan runs as it would have, unless it is dead by now.
            if released.is_ok() {
                walker.tracee.let_go();
            }
        }
        None => walker.kill(),
    }
    for handle in &handles {
        let gone = pidfd::wait_exited(handle.as_fd(), Some(PATIENCE)).map_err(|e| e.to_string())?;
        if !gone {
            return Err(format!("of {pool:?} one lives {PATIENCE:?} after the arbiter's death"));
        }
    }
    if arbiter.is_some() {
        tally.took(killed.elapsed());
    }
    let beats = journal.beats();
    let ends = host.ends()?;
    for end in &ends {
        tally.ended(format!("{} {}", end.role, end.how));
        let runs = journal.runs(end.id);
        if !path.allows(end) || !agrees(end, runs) {
            return Err(format!(
                "{} (call {}): {} {}; it ran {runs} times",
                end.role, end.id, end.how, end.text
            ));
        }
    }
    if path.act == Act::Orphan {
        is_orphaned(sleeper)?;
    }
    nobody_is_left(&[host.pid])?;
    let holders = holders(&files);
    if !holders.is_empty() {
        return Err(format!("processes {holders:?} still have memory of the pool"));
    }
    if journal.beats() != beats {
        return Err("an app went on after everybody was gone".into());
    }
    walk.place = tally.pc;
    Ok(walk)
}

/// Runs up to the birth of its next child, and returns that, before its first instruction.
pub fn next_child(parent: &mut Walker) -> Result<Walker, Wrong> {
    parent.births().map_err(|e| format!("ptrace: {e}"))?;
    let begin = Instant::now();
    let pid = loop {
        match parent.next(&|| begin.elapsed() > PATIENCE) {
            Next::Born(pid) => break pid,
            Next::Edge(_) | Next::Marker => {}
            Next::Asleep | Next::Gone => return Err("nobody is born".into()),
        }
    };
    let mut child = Tracee::child(pid);
    loop {
        match child.stopped() {
            Ok(_) => break,
            Err(Step::Asleep) => {}
            Err(_) => return Err("the child died at once".into()),
        }
    }
    Walker::new(child).map_err(|e| format!("ptrace: {e}"))
}

/// Whether a thread that leads its process sleeps in `epoll_wait(2)`.
pub fn in_epoll(pid: u32) -> bool {
    is_in(
        pid,
        &[
            libc::SYS_epoll_pwait,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_epoll_wait,
        ],
    )
}

/// Or in `poll(2)`.
pub fn in_poll(pid: u32) -> bool {
    is_in(
        pid,
        &[
            libc::SYS_ppoll,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_poll,
        ],
    )
}

fn is_in(pid: u32, calls: &[i64]) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = text.split(' ').next().and_then(|number| number.parse().ok());
    number.is_some_and(|number| calls.contains(&number))
}

fn kill(pid: u32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGKILL);
}

fn handle(pid: u32) -> Option<OwnedFd> {
    pidfd::open(Pid::from_raw(pid as i32)?).ok()
}

/// The children of a process, which is stopped.
fn children(pid: u32) -> Vec<u32> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")) {
        return text.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    }
    let is_child = |child: &u32| {
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        parent == Some(pid)
    };
    processes().filter(is_child).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Waits until this process has no children but these: whoever is orphaned becomes one, and is reaped here.
pub fn nobody_is_left(but: &[u32]) -> Result<(), Wrong> {
    let orphans = || {
        let left = children(std::process::id()).into_iter().filter(|pid| !but.contains(pid));
        left.filter(|pid| !reaped(*pid)).collect::<Vec<_>>()
    };
    until(|| orphans().is_empty().then_some(())).ok_or_else(|| format!("processes {:?} are left", orphans()))
}

/// That a worker ended because it found its parent gone, or was killed because of that, and not by chance later: of an error
/// on a socket, say.
fn is_orphaned(pid: u32) -> Result<(), Wrong> {
    match waitpid(nix::unistd::Pid::from_raw(pid as i32), None) {
        Ok(WaitStatus::Exited(_, ORPHANED) | WaitStatus::Signaled(_, Signal::SIGKILL, _)) => Ok(()),
        other => Err(format!("the orphan's end is {other:?}")),
    }
}

/// Whether an orphan, which became this process' child, is no more.
fn reaped(pid: u32) -> bool {
    let pid = nix::unistd::Pid::from_raw(pid as i32);
    !matches!(waitpid(pid, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
}

/// The inodes of our memory files that a process has open.
fn memory_files(pid: u32) -> Vec<u64> {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let paths = fds.flatten().map(|fd| fd.path());
    let ours = paths.filter(|path| {
        fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:stokehold-"))
    });
    ours.filter_map(|path| Some(fs::metadata(path).ok()?.ino())).collect()
}

fn holders(files: &BTreeSet<u64>) -> Vec<u32> {
    processes().filter(|pid| memory_files(*pid).iter().any(|file| files.contains(file))).collect()
}
