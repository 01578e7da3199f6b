//! The arbiter of a pool that is served under a path is killed behind every edge of its start and of its orderly end. Whatever
//! it left at its path, the next one that is started there serves, and leaves nothing.

use crate::app::{APP, Counter, Journal, answer};
use crate::arbiters::{adopting, in_epoll, nobody_is_left};
use crate::edges::Walker;
use crate::positions::{Place, Rounds, Walk};
use crate::report::Tally;
use crate::scene::{DEADLINE_MS, PATIENCE, Wrong, until};
use crate::trace::{Alarm, Tracee};
use crate::victim::{WRONG, here, marker};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;
use stokehold::internals::sys::process::{self, Fork};
use stokehold::{Client, Mode, Options, Pool};

/// One way of an arbiter that is served.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    /// Its end, and not its start.
    pub ends: bool,
}

/// All of them.
pub const PATHS: &[Path] =
    &[Path { name: "serve-boot", ends: false }, Path { name: "serve-stop", ends: true }];

/// A directory that is only ours.
#[derive(Debug)]
struct Dir(PathBuf);

impl Dir {
    fn make() -> std::io::Result<Dir> {
        use std::os::unix::fs::DirBuilderExt;
        let dir = std::env::temp_dir().join(format!("stokehold-step-kill-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Dir(dir))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("pool")
    }

    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// How often it must be found asleep until it counts as at home: workers may be on their way to READY.
const ASLEEP: u32 = 8;

/// Every kill point of one path, one pool after another under one path.
pub fn rounds(path: &Path, rounds: &Rounds, tally: &mut Tally) -> Result<(), Wrong> {
    let journal = Journal::create().map_err(|e| e.to_string())?;
    let dir = Dir::make().map_err(|e| format!("a directory: {e}"))?;
    adopting(|| rounds.run(path.name, tally, |place, tally| round(&dir, path, &journal, place, tally)))
}

/// Kills the arbiter where it is told to.
fn round(dir: &Dir, path: &Path, journal: &Journal, place: Place, tally: &mut Tally) -> Result<Walk, Wrong> {
    let pid = serve(dir, true)?;
    let mut tracee = Tracee::child(pid);
    marker(tracee.wait_long(), "beginning")?;
    let mut client = None;
    let mut victim = if path.ends {
        tracee.bind().map_err(|e| format!("ptrace: {e}"))?;
        tracee.let_go();
        client = Some(joined(dir)?);
        until(|| in_epoll(pid).then_some(())).ok_or("the arbiter does not fall asleep")?;
        let tracee = Tracee::seize(pid, pid).map_err(|e| format!("ptrace: {e}"))?;
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
        Walker::new(tracee)
    } else {
        Walker::new(tracee)
    }
    .map_err(|e| format!("ptrace: {e}"))?;
    let alarm = Alarm::set();
    let asleep = Cell::new(0);
    let at_rest = || {
        asleep.set(if in_epoll(pid) { asleep.get() + 1 } else { 0 });
        !path.ends && asleep.get() >= ASLEEP
    };
    let walk = place.go(&mut victim, &at_rest, false)?;
    drop(alarm);
    tally.pc = victim.pc();
    tally.missed += u64::from(walk.missed);
    tally.edges(&walk);
    let killed = Instant::now();
    victim.kill();
    nobody_is_left(&[])?;
    tally.took(killed.elapsed());
    if let Some(client) = client {
        let id = 0;
        if let Ok(response) = client.call(APP, "run").args((id,)).deadline_ms(DEADLINE_MS).execute() {
            return Err(format!("a call to a dead pool: {response:?}"));
        }
    }
    // The next one there.
    let before = journal.runs(NEXT);
    let pid = serve(dir, false)?;
    let client = joined(dir)?;
    let said = client.call(APP, "run").args((NEXT as i64,)).deadline_ms(DEADLINE_MS).execute();
    let number: i64 =
        said.and_then(|response| response.parse()).map_err(|e| format!("the next pool: {e}"))?;
    if number != answer(NEXT) || journal.runs(NEXT) != before + 1 {
        return Err(format!("the next pool answers {number}, it ran {} times", journal.runs(NEXT) - before));
    }
    drop(client);
    let _ = kill(Pid::from_raw(pid as i32), Signal::SIGTERM);
    match waitpid(Pid::from_raw(pid as i32), None) {
        Ok(WaitStatus::Exited(_, 0)) => {}
        other => return Err(format!("the next pool ends so: {other:?}")),
    }
    nobody_is_left(&[])?;
    match dir.entries() {
        left if left.is_empty() => Ok(walk),
        left => Err(format!("the next pool, which ended in order, leaves {left:?}")),
    }
}

/// The call to the pool after.
const NEXT: u64 = 1;

/// A process that serves the path.
fn serve(dir: &Dir, traced: bool) -> Result<u32, Wrong> {
    let parent = process::pid();
    match process::fork().map_err(|e| e.to_string())? {
        Fork::Parent(pid) => Ok(pid.as_raw() as u32),
        Fork::Child => {
            let _ = process::die_with_parent(Signal::SIGKILL, parent);
            if traced {
                let _ = nix::sys::ptrace::traceme();
                here();
            }
            let builder = Pool::builder().app::<Counter>().workers(1).wait(Mode::Park);
            match builder.serve(dir.socket()) {
                Ok(()) => process::exit_now(0),
                Err(error) => {
                    eprintln!("serve: {error}");
                    process::exit_now(WRONG)
                }
            }
        }
    }
}

/// A client of the pool, as soon as somebody listens.
fn joined(dir: &Dir) -> Result<Client, Wrong> {
    let mut last = String::new();
    let client = until(|| {
        let options = Options { mode: Mode::Park, ..Options::default() };
        Client::connect_path(dir.socket(), options).map_err(|error| last = error.to_string()).ok()
    });
    client.ok_or_else(|| format!("nobody lets a client in for {PATIENCE:?}: {last}"))
}
