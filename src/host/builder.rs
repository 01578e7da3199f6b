//! The configuration of a pool, and the ways to start its arbiter.

use super::Pool;
use super::init::{VARIABLE, known_apps, take_apps};
use crate::arbiter::{self, Counters, Settings};
use crate::client::Options;
use crate::conn::Link;
use crate::error::{Error, Kind, Result};
use crate::limits::{WARM_MS, WORKER_QUOTA};
use crate::pool::Config;
use crate::ring::Mode;
use crate::sys::process::{self, Fork};
use crate::sys::signal::{Saved, Signal};
use crate::sys::{fd, is_hang_up, pidfd, socket};
use crate::wire::Kind as FrameKind;
use crate::worker::App;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A pool being configured. Begins with [`Pool::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct Builder {
    apps: Vec<String>,
    library: Option<PathBuf>,
    way: Way,
    policy: Config,
    threads: usize,
    mode: Mode,
    timeout_ms: u64,
    stall_ms: u64,
    start_timeout_ms: u64,
    warm_ms: u32,
    kept: Vec<RawFd>,
    counters: Counters,
}

/// Where the arbiter comes from.
#[derive(Clone, Debug)]
enum Way {
    /// This program, run once more.
    Again,
    /// Another program that calls `init`.
    Helper(PathBuf),
    /// A plain fork of this process, which must have one thread.
    Fork,
}

/// Nanoseconds, at most as many as a message carries.
fn ns(ms: u64) -> u64 {
    ms.saturating_mul(1_000_000).min(i64::MAX as u64)
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder {
            apps: Vec::new(),
            library: None,
            way: Way::Again,
            policy: Config::default(),
            threads: 1,
            mode: Mode::Adaptive,
            timeout_ms: 300_000,
            stall_ms: 30_000,
            start_timeout_ms: 60_000,
            warm_ms: WARM_MS,
            kept: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Has the numbers of lives, submissions and regions come round after this many. For tests.
    #[doc(hidden)]
    pub fn numbers_left(mut self, left: u16) -> Builder {
        self.counters = Counters::shortly_before_the_end(left);
        self
    }

    /// With this app; it must be registered in [`init`](crate::init).
    pub fn app<A: App>(self) -> Builder {
        self.app_named(A::NAME)
    }

    /// With the app of this name, which the arbiter's program must know.
    pub fn app_named(mut self, name: &str) -> Builder {
        self.apps.push(name.to_owned());
        self
    }

    /// With the apps of this shared object: all of them, or those that are named besides. Its workers load it, and run
    /// nothing of this program; the arbiter does not. [`app_library!`](crate::app_library) says how one is made.
    pub fn app_library(mut self, path: impl Into<PathBuf>) -> Builder {
        self.library = Some(path.into());
        self
    }

    /// How many worker processes; 1 by default, at most 64.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.policy.workers = workers;
        self
    }

    /// How many calls one worker runs at a time; 1 by default. Workers times threads is at most 128.
    pub fn threads(mut self, threads: usize) -> Builder {
        self.threads = threads;
        self
    }

    /// How workers and this host's clients wait. [`Mode::Adaptive`] by default.
    pub fn wait(mut self, mode: Mode) -> Builder {
        self.mode = mode;
        self
    }

    /// Longest time of any call, milliseconds; 300,000 by default, 0 for no limit. A call's own deadline may be
    /// shorter. An app that is at work for longer says so: [`Ctx::keep_alive`](crate::Ctx::keep_alive).
    pub fn timeout_ms(mut self, ms: u64) -> Builder {
        self.timeout_ms = ms;
        self
    }

    /// How long the consumer of a stream may take nothing while the worker waits for room, milliseconds; 30,000 by default,
    /// 0 for no limit. Then the stream ends with [`Kind::Stalled`](crate::Kind::Stalled), and the worker is free.
    pub fn stall_ms(mut self, ms: u64) -> Builder {
        self.stall_ms = ms;
        self
    }

    /// The signal that a call gets which was given up (cancelled, its deadline passed, its client gone) and is still run after
    /// [`cancel_grace_ms`](Builder::cancel_grace_ms); by default there is none. For apps that block in the kernel and
    /// cannot look at [`Ctx::is_cancelled`](crate::Ctx::is_cancelled).
    ///
    /// It goes to the thread that runs the call, while it runs it, so that a blocking system call of it ends with EINTR (of
    /// a handler that was installed without `SA_RESTART`); to the whole process where the call is deferred, or the worker's
    /// control thread does not answer. The handler is the app's to install, in its `init`: without one the default action
    /// applies, which ends the worker for most signals, and the other calls on it end as `WorkerDied`, killed for another
    /// call's deadline. `number` is one of `SIGHUP`, `SIGINT`, `SIGQUIT`, `SIGUSR1`, `SIGUSR2`, `SIGALRM`, `SIGTERM`, `SIGURG`,
    /// `SIGVTALRM`, `SIGPROF`, `SIGWINCH`, `SIGIO` and `SIGPWR`; [`start`](Builder::start) refuses others.
    ///
    /// In a pool with a signal a deadline that passed costs its worker no earlier than a cancel does.
    pub fn cancel_signal(mut self, number: i32) -> Builder {
        self.policy.cancel_signal = Some(number);
        self
    }

    /// How long a worker may go on with a call that was given up until it gets the pool's signal or, where there is none, is
    /// cordoned: it takes no more calls and another is started in its place. Milliseconds; 1,000 by default. The
    /// supervisor finds such calls twice a second, so it may be half a second more.
    pub fn cancel_grace_ms(mut self, ms: u64) -> Builder {
        self.policy.cancel_grace_ns = ns(ms);
        self
    }

    /// How long a worker may go on with a call after the [`cancel_signal`](Builder::cancel_signal) until it is cordoned,
    /// milliseconds; 1,000 by default.
    pub fn signal_grace_ms(mut self, ms: u64) -> Builder {
        self.policy.signal_grace_ns = ns(ms);
        self
    }

    /// How long a worker may go on with a call that nobody waits for any more before it is killed, milliseconds; 1,000
    /// by default. Counted from when it is cordoned: in a pool without a signal 100 ms after the call's deadline, or after
    /// [`cancel_grace_ms`](Builder::cancel_grace_ms).
    pub fn kill_grace_ms(mut self, ms: u64) -> Builder {
        self.policy.kill_grace_ns = ns(ms);
        self
    }

    /// How long workers may take to finish what they run when the pool is shut down, milliseconds; 30,000 by default.
    pub fn stop_grace_ms(mut self, ms: u64) -> Builder {
        self.policy.stop_grace_ns = ns(ms);
        self
    }

    /// How long a worker may take to become ready, milliseconds; 60,000 by default.
    pub fn boot_timeout_ms(mut self, ms: u64) -> Builder {
        self.policy.boot_timeout_ns = ns(ms);
        self.start_timeout_ms = self.start_timeout_ms.max(ms.saturating_add(10_000));
        self
    }

    /// How long shared memory stays with the clients and workers that took it for large payloads and use it no more,
    /// milliseconds; 10,000 by default, at most 2^32 - 1. The first fill of fresh memory costs many times the second.
    ///
    /// A worker gives it back by itself. A host has no thread of ours: its clients do at their next call or lease, at
    /// the latest every 200 ms while one waits for a result, or at [`Client::trim`](crate::Client::trim).
    pub fn keep_warm_ms(mut self, ms: u64) -> Builder {
        self.warm_ms = u32::try_from(ms).unwrap_or(u32::MAX);
        self
    }

    /// How long [`start`](Builder::start) waits for the pool to be ready, milliseconds; 60,000 by default, or ten
    /// seconds more than the boot timeout where that is longer.
    pub fn start_timeout_ms(mut self, ms: u64) -> Builder {
        self.start_timeout_ms = ms;
        self
    }

    /// More than `restarts` early deaths within `within_ms` milliseconds degrade the pool: calls fail at once until
    /// a worker is ready again. 5 in 10,000 by default.
    pub fn restart_limit(mut self, restarts: u32, within_ms: u64) -> Builder {
        self.policy.max_restarts = restarts;
        self.policy.within_ns = ns(within_ms);
        self
    }

    /// First and longest pause before a worker that died early is started again, milliseconds; 100 and 10,000 by
    /// default.
    pub fn backoff_ms(mut self, first: u64, longest: u64) -> Builder {
        self.policy.backoff_first_ns = ns(first);
        self.policy.backoff_max_ns = ns(longest);
        self
    }

    /// With a helper program as the arbiter instead of this one: for hosts that cannot call [`init`](crate::init)
    /// first (plug-ins, other languages). It must call `init` and register the apps.
    pub fn arbiter(mut self, program: impl Into<PathBuf>) -> Builder {
        self.way = Way::Helper(program.into());
        self
    }

    /// By a plain fork of this process, which must have one thread. For tools, tests and small programs: the arbiter
    /// and its workers drag this process's memory along.
    ///
    /// Of its descriptors they have the standard ones and those named with [`keep`](Builder::keep).
    pub fn by_fork(mut self) -> Builder {
        self.way = Way::Fork;
        self
    }

    /// A descriptor, open until the start, that stays open in the arbiter and the workers of a pool that is started
    /// [`by_fork`](Builder::by_fork): that of a log file, for instance. A logger whose descriptor is closed there
    /// would write to whatever gets its number next. Elsewhere it means nothing: what the closure given to
    /// [`init`](crate::init) opens, in the program's further copy, stays open by itself.
    pub fn keep(mut self, fd: BorrowedFd<'_>) -> Builder {
        self.kept.push(fd.as_raw_fd());
        self
    }

    /// Starts the pool and waits until all its workers are ready. From any thread (except [`by_fork`](Builder::by_fork)).
    ///
    /// All peers of a pool are programs of this uid that use this library. Bytes that one lends to another are read
    /// in place on that premise: nobody writes a block after lending it.
    ///
    /// # Errors
    /// `Config` for settings that cannot be; `Start` when the program cannot be run, does not know an app, or a
    /// worker cannot boot; `Threads` when a fork is asked for in a process with several.
    pub fn start(self) -> Result<Pool> {
        let settings = self.settings()?;
        if !matches!(self.way, Way::Helper(_)) {
            self.check_apps()?;
        }
        fd::occupy_standard()?;
        let token = process::getrandom_u128()?;
        let timeout = Duration::from_millis(self.start_timeout_ms);
        let (ours, theirs) = socket::pair()?;
        let value = format!("0:{token:032x}");
        match &self.way {
            Way::Again => settle(process::spawn_self(theirs, (VARIABLE, &value))?, timeout)?,
            Way::Helper(program) => {
                let none: [&str; 0] = [];
                settle(process::spawn(program, &none, theirs, &[(VARIABLE, &value)])?, timeout)?;
            }
            Way::Fork => fork_arbiter(theirs, token, &self.kept)?,
        }
        let mut link = Link::new(ours);
        let sent = link.send(settings.to_message(token).with_fd(pidfd::of_self()?));
        // One that ended before it read this may have said why: what it said comes first.
        let answer = match sent {
            Err(error) if !is_hang_up(&error) => return Err(error),
            _ => link.receive(Some(timeout)),
        };
        let mut ready = match answer {
            Ok(Some(message)) => message.expect(FrameKind::Ready)?,
            Err(error) if !is_hang_up(&error) => {
                return Err(error.context("waiting for the arbiter to become ready"));
            }
            _ => {
                let why =
                    format!("the arbiter ended before it was ready; a program that is run again {MUST}");
                return Err(Error::new(Kind::Start(why.into())));
            }
        };
        let [arbiter] = ready.take_fds()?;
        let options = Options { mode: self.mode, ..Options::default() };
        Pool::new(link, arbiter, ready.int("pid")?, options)
    }
}

impl Builder {
    /// Whether a pool can be like this, as far as its settings tell.
    #[doc(hidden)]
    pub fn check(&self) -> Result<()> {
        self.settings().map(drop)
    }

    /// What the arbiter is told; checked.
    pub(super) fn settings(&self) -> Result<Settings> {
        let settings = Settings {
            apps: self.apps.clone(),
            library: self.library.as_deref().map(absolute).transpose()?,
            threads: self.threads,
            policy: self.policy,
            mode: self.mode,
            timeout_ns: ns(self.timeout_ms),
            stall_ns: ns(self.stall_ms),
            worker_quota: WORKER_QUOTA as u64,
            warm_ms: self.warm_ms,
            // The Rust runtime ignores SIGPIPE before `main`; no child of a Rust program inherits that.
            signals: Saved::now()?.not_ignoring(Signal::SIGPIPE),
            build: match self.way {
                Way::Again => process::exe_identity()?,
                _ => 0,
            },
            counters: self.counters,
        };
        settings.check()?;
        Ok(settings)
    }

    /// Whether this program knows the apps.
    pub(super) fn check_apps(&self) -> Result<()> {
        let known = known_apps();
        let known = known.as_ref().ok_or_else(|| {
            Error::new(Kind::Config(
                "init was not called before the pool was started (stokehold::init, in C stk_init)".into(),
            ))
        })?;
        let unknown = self.apps.iter().find(|name| !known.knows(name));
        if let Some(unknown) = unknown.filter(|_| self.library.is_none()) {
            let why = format!("no app named {unknown:?} was registered in init");
            return Err(Error::new(Kind::Config(why.into())));
        }
        Ok(())
    }
}

/// A path as it is told to the arbiter, whose directory may be another.
fn absolute(path: &Path) -> Result<String> {
    let path =
        std::path::absolute(path).map_err(|e| Error::from(e).context("the path of the library of apps"))?;
    path.into_os_string().into_string().map_err(|path| {
        Error::new(Kind::Config(format!("the path of the library of apps is not UTF-8: {path:?}").into()))
    })
}

/// Waits for the middle process, which ends at once. That the host reaped it first is no surprise. One that does not
/// end is a program that takes itself for the host, or for something else altogether: it is killed.
fn settle(mut middle: process::Child, timeout: Duration) -> Result<()> {
    if let Ok(handle) = pidfd::open(middle.pid())
        && !pidfd::wait_exited(handle.as_fd(), Some(timeout.min(MIDDLE_TIMEOUT)))?
    {
        let _ = pidfd::send_signal(handle.as_fd(), Signal::SIGKILL);
        let _ = middle.wait();
        let why = format!("the arbiter's program does not become an arbiter: it {MUST}");
        return Err(Error::new(Kind::Start(why.into())));
    }
    middle.wait().map(drop)
}

/// What every program that becomes an arbiter begins with, in the words of both languages.
const MUST: &str = "must call init first (stokehold::init, in C stk_init)";

/// How long a program may take until its `init` has made an arbiter of it.
const MIDDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Way 4: the middle process is a fork of this one.
fn fork_arbiter(theirs: std::os::fd::OwnedFd, token: u128, kept: &[RawFd]) -> Result<()> {
    let keep: Vec<RawFd> = kept.iter().copied().chain([theirs.as_raw_fd()]).collect();
    let pid = match process::fork()? {
        Fork::Parent(pid) => pid,
        Fork::Child => match process::fork() {
            Ok(Fork::Child) => {
                let ready = fd::dev_null()
                    .and_then(|null| fd::replace_stdin(null.as_fd()))
                    .and_then(|()| fd::close_all_except(&keep));
                if let Err(error) = ready {
                    log::error!("inherited descriptors stay open: {error}");
                }
                arbiter::run(theirs, token, &take_apps())
            }
            Ok(Fork::Parent(_)) => process::exit_now(0),
            Err(_) => process::exit_now(1),
        },
    };
    drop(theirs);
    if let Ok(middle) = pidfd::open(pid) {
        pidfd::wait_exited(middle.as_fd(), None)?;
        let _ = pidfd::reap(middle.as_fd()); // the host may have reaped it
    }
    Ok(())
}
