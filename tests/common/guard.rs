//! A [`PoolGuard`] for the pools of a test, which asserts at the end that nothing is left of them, and a [`Watchdog`]
//! for what has to happen some time.

use crate::proc;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};
use stokehold::{Builder, Pool};

/// Waits for what has to happen some time, and says what it was that did not.
pub struct Watchdog {
    what: String,
    since: Instant,
}

/// Long enough for anything on a busy machine, shorter than the harness' patience, which cannot say what was amiss.
const PATIENCE: Duration = Duration::from_secs(30);

impl Watchdog {
    pub fn new(what: impl Into<String>) -> Watchdog {
        Watchdog { what: what.into(), since: Instant::now() }
    }

    /// Lets some time pass.
    ///
    /// # Panics
    /// If it was called for too long.
    pub fn wait(&self) {
        assert!(self.since.elapsed() < PATIENCE, "{PATIENCE:?} were not enough for this: {}", self.what);
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until `condition` holds.
pub fn until(what: impl Into<String>, mut condition: impl FnMut() -> bool) {
    let watchdog = Watchdog::new(what);
    while !condition() {
        watchdog.wait();
    }
}

/// Waits until there is something.
pub fn some<T>(what: impl Into<String>, mut get: impl FnMut() -> Option<T>) -> T {
    let watchdog = Watchdog::new(what);
    loop {
        match get() {
            Some(value) => return value,
            None => watchdog.wait(),
        }
    }
}

/// Made first, so that it is dropped last. At its drop there must be no process, zombie, descriptor, memory file,
/// mapping or file of the pools that were started with it.
///
/// It also moves the test into an empty directory of its own, where the apps keep their journal.
pub struct PoolGuard {
    descriptors: BTreeMap<u32, String>,
    sessions: Vec<u32>,
    memory_files: BTreeSet<u64>,
    dir: PathBuf,
}

impl PoolGuard {
    pub fn new() -> PoolGuard {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}", process::id()));
        let _ = fs::remove_dir_all(&dir); // of an earlier process of this number, which was killed
        fs::create_dir_all(&dir).unwrap();
        env::set_current_dir(&dir).unwrap();
        // SAFETY: a test begins with its guard, when its process has one thread.
        unsafe { env::set_var("TMPDIR", &dir) };
        PoolGuard {
            descriptors: proc::descriptors(process::id()),
            sessions: Vec::new(),
            memory_files: BTreeSet::new(),
            dir,
        }
    }

    /// Starts a pool and keeps in mind what there is of it.
    pub fn start(&mut self, builder: Builder) -> Pool {
        let pool = builder.start().unwrap();
        self.adopt(pool.arbiter_pid());
        pool
    }

    /// Keeps in mind what there is of a pool that was started otherwise.
    pub fn adopt(&mut self, arbiter: u32) {
        self.sessions.push(arbiter);
        for process in proc::session(arbiter) {
            self.memory_files.extend(proc::memory_files(process.pid));
        }
    }

    fn check(&self) {
        for leader in &self.sessions {
            until(format!("no process of the pool is left: {:?}", proc::session(*leader)), || {
                proc::session(*leader).is_empty()
            });
        }
        // Also those of a start that failed: all that a test starts works in the test's directory.
        until(format!("no process is left: {:?}", proc::working_in(&self.dir)), || {
            proc::working_in(&self.dir).is_empty()
        });
        let now = proc::descriptors(process::id());
        assert_eq!(now, self.descriptors, "descriptors were left open, or closed that are not ours");
        assert_eq!(proc::mappings(process::id()), [""; 0], "mappings are left in the host");
        let mut holders = proc::processes();
        holders.retain(|p| !proc::memory_files(p.pid).is_disjoint(&self.memory_files));
        assert_eq!(holders, [], "a process still has a memory file of the pool");
        let me = process::id();
        let children: Vec<_> = proc::processes().into_iter().filter(|p| p.parent == me).collect();
        assert_eq!(children, [], "children are left, if only as zombies");
        let mut left: Vec<_> = fs::read_dir(&self.dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.retain(|name| !OURS.iter().any(|ours| name == ours));
        assert!(left.is_empty(), "files are left: {left:?}");
        let named = fs::read_dir("/dev/shm").into_iter().flatten().flatten().map(|e| e.file_name());
        let named: Vec<_> = named.filter(|n| n.to_string_lossy().contains("stokehold")).collect();
        assert!(named.is_empty(), "named shared memory is left: {named:?}");
    }
}

impl Drop for PoolGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            return; // the test has failed already, and half of it is still there
        }
        self.check();
        let _ = env::set_current_dir("/");
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The files that tests and their apps make.
const OURS: &[&str] = &["journal", "boot", "gate", "gate2", "note", "note2", "kept"];

/// Sends a signal to a process of a pool.
pub fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal);
}

/// Stops a process of a pool and waits until each of its threads has stopped: the signal is not there at once.
pub fn stop(pid: u32) {
    kill(pid, nix::sys::signal::Signal::SIGSTOP);
    until("it is stopped", || {
        let states = proc::thread_states(pid);
        !states.is_empty() && states.iter().all(|state| *state == 'T')
    });
}

/// A stopped arbiter, which goes on when this is dropped, also by a failed test: it would outlive that for ever.
pub struct Stopped(u32);

impl Stopped {
    pub fn new(arbiter: u32) -> Stopped {
        stop(arbiter);
        Stopped(arbiter)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, nix::sys::signal::Signal::SIGCONT);
    }
}
