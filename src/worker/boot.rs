//! The birth of a worker: from the fork to READY; and its end.

use super::runtime::Worker;
use super::{Apps, Ctx, panics};
use crate::conn::{Link, Message};
use crate::error::{AppError, Error, Kind as ErrorKind, Result};
use crate::limits::MAX_REASON;
use crate::ring::{Life, Mode};
use crate::shm::{Board, RegionId, Registry, Results, layout_hash};
use crate::sys::process::{self, Pid};
use crate::sys::{fd, named_io, signal};
use crate::wire::Kind;
use crossbeam::channel::{self, Receiver};
use nix::sys::signal::Signal;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::thread;

/// What a process that the arbiter forked must know to let go of it.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// Who its parent must be.
    pub arbiter: Pid,
    /// Descriptors that were open when the arbiter began: not its own, but what the program's logger writes to.
    pub kept: Vec<RawFd>,
    /// The signal state that the host had at start.
    pub signals: signal::Saved,
    /// The host's soft limit of descriptors.
    pub nofile: u64,
}

/// What a worker boots from.
#[derive(Debug)]
pub struct Boot {
    /// Its incarnation.
    pub life: Life,
    /// Its app threads.
    pub threads: usize,
    /// The first of its places on the board.
    pub first_parker: usize,
    /// The control thread's socket.
    pub control: OwnedFd,
    /// The app threads' socket.
    pub fetch: OwnedFd,
    /// The pool's registry.
    pub registry: OwnedFd,
    /// The pool's board.
    pub board: OwnedFd,
    /// Names of the apps to run.
    pub apps: Vec<String>,
    /// How its threads wait.
    pub mode: Mode,
    /// What it may have and do.
    pub bounds: Bounds,
}

/// What the pool allows each worker.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of result regions.
    pub quota: u64,
    /// How long a call may take.
    pub timeout_ns: Option<u64>,
    /// How long the consumer of a stream may take nothing.
    pub stall_ns: Option<u64>,
    /// How long after its deadline a call may go on before it costs its worker.
    pub late_ns: u64,
}

/// Exit status of a worker that could not boot.
pub const BOOT_ERROR: i32 = 3;
/// Exit status of a worker whose own code panicked (not an app's), or whose arbiter is gone.
pub(super) const INTERNAL_ERROR: i32 = 70;

/// The worker's whole life, in the forked child. Nothing of the arbiter runs in it.
pub fn run(surroundings: &Surroundings, boot: Boot, apps: &Apps) -> ! {
    end(panics::catch(|| match surroundings.settle(&boot.descriptors()) {
        Ok(()) => live(boot, apps),
        Err(error) => refuse(boot.control, error.into()),
    }))
}

/// Why there is no worker.
pub(super) enum Failure {
    /// The apps cannot be made: a pool that starts needs not try again.
    Apps(Error),
    /// What may pass, as a want of descriptors, memory or threads does.
    Passing(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Passing(error)
    }
}

impl Failure {
    fn message(&self) -> Message {
        let (Failure::Apps(error) | Failure::Passing(error)) = self;
        // An app may have said any amount, of which the arbiter takes so much.
        let why: String = error.to_string().chars().take(MAX_REASON).collect();
        let message = Message::new(Kind::Refused).with("code", error.code() as u32).with("why", why);
        match self {
            Failure::Apps(_) => message,
            Failure::Passing(_) => message.with("passing", 1),
        }
    }

    fn into_error(self) -> Error {
        let (Failure::Apps(error) | Failure::Passing(error)) = self;
        error
    }
}

/// Tells the arbiter why there is no worker.
pub(super) fn refuse<T>(control: OwnedFd, failure: Failure) -> Result<T> {
    let _ = Link::new(control).send(failure.message());
    Err(failure.into_error())
}

/// The end of a worker that came to it by itself.
pub(super) fn end(outcome: std::result::Result<Result<()>, Box<AppError>>) -> ! {
    let status = match outcome {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            log::error!("worker {}: {error}", process::pid());
            BOOT_ERROR
        }
        Err(panic) => {
            log::error!("worker {}: {}\n{}", process::pid(), panic.message, panic.traceback);
            INTERNAL_ERROR
        }
    };
    process::exit_now(status)
}

impl Surroundings {
    /// Makes a process of its own of a forked copy of the arbiter, which keeps these descriptors.
    pub(super) fn settle(&self, ours: &[RawFd]) -> Result<()> {
        crash_point!("spawn.forked");
        process::die_with_parent(Signal::SIGKILL, self.arbiter)?;
        process::new_group(process::pid())?;
        self.signals.restore()?;
        // Forked Rust code expects EPIPE, as the runtime arranges before `main`; what it runs itself gets the default
        // back.
        signal::ignore(Signal::SIGPIPE)?;
        let keep: Vec<RawFd> = self.kept.iter().chain(ours).copied().collect();
        crash_point!("spawn.settled");
        fd::close_all_except(&keep)?;
        crash_point!("spawn.swept");
        fd::set_nofile_soft(self.nofile)?;
        process::set_core_limit(1)?;
        process::set_name("stk-worker")?;
        process::oom_score_adj(500);
        Ok(())
    }
}

impl Boot {
    pub(super) fn descriptors(&self) -> [RawFd; 4] {
        [&self.control, &self.fetch, &self.registry, &self.board].map(AsRawFd::as_raw_fd)
    }
}

/// A worker's life in a process of its own. What stands in the way of its birth is told to the arbiter.
pub(super) fn live(boot: Boot, apps: &Apps) -> Result<()> {
    let mut control = Link::new(boot.control);
    let born = (|| -> std::result::Result<_, Failure> {
        let results = Results::create()?;
        results.arm_mark()?;
        crash_point!("boot.marked");
        let hello = Message::new(Kind::Hello)
            .with("layout", layout_hash() as i64)
            .with("life", boot.life.get() as i64)
            .with_fd(fd::duplicate(results.region().fd())?);
        let welcome = control.ask(hello, Kind::Welcome, None)?;
        let id = RegionId { index: welcome.int("index")?, serial: welcome.int("region_serial")? };
        crash_point!("boot.welcomed");
        let worker = Worker::new(
            boot.life,
            Registry::adopt(boot.registry)?,
            Board::adopt(boot.board)?,
            results,
            id,
            Link::new(boot.fetch),
            boot.first_parker..boot.first_parker + boot.threads,
            boot.mode,
            boot.bounds,
        )?;

        panics::install();
        let ctx = Ctx::new(worker.clone(), None, 0);
        let made = panics::catch(|| apps.instantiate(&boot.apps, &ctx))
            .unwrap_or_else(|panic| Err(Error::new(ErrorKind::App(*panic))))
            .map_err(Failure::Apps)?;
        crash_point!("boot.made");
        let _ = worker.apps.set(made);
        let (go, gone) = channel::bounded(boot.threads);
        let threads = start(&worker, boot.threads, &gone)?;
        let mut tids: Vec<i64> = threads.iter().map(|(tid, _)| *tid).collect();
        worker.interrupts.know(tids.iter().map(|tid| *tid as i32).collect());
        tids.push(sentinel()?);
        crash_point!("boot.started");
        control.send(Message::new(Kind::Ready).with("tids", tids))?;
        crash_point!("boot.told");
        for _ in &threads {
            let _ = go.send(()); // there is room
        }
        Ok((worker, threads))
    })();
    let (worker, threads) = born.map_err(|failure| {
        let _ = control.send(failure.message());
        failure.into_error()
    })?;
    worker.attend(control)?;
    for (_, thread) in threads {
        let _ = thread.join();
    }
    for (_, app) in worker.apps.get().into_iter().flatten() {
        let _ = panics::catch(|| app.close());
    }
    Ok(())
}

/// Starts the app threads; returns each with its kernel thread number. Each takes no call before `go` brings its
/// word: one that ends the process must not look like a boot that failed. Without that they end, for then the boot failed:
/// what they took would die with the process.
fn start(
    worker: &Arc<Worker>,
    count: usize,
    go: &Receiver<()>,
) -> Result<Vec<(i64, thread::JoinHandle<()>)>> {
    let (tell, told) = channel::bounded(count);
    let mut threads = Vec::with_capacity(count);
    for index in 0..count {
        let (worker, tell, go) = (worker.clone(), tell.clone(), go.clone());
        let thread = thread::Builder::new().name(format!("stk-app-{index}")).stack_size(app_stack());
        let handle = thread.spawn(move || {
            let _ = tell.send(process::thread_id() as i64);
            drop(tell);
            if go.recv().is_err() {
                return;
            }
            // A panic outside of an app is ours: a worker that lost a thread must not live on.
            if let Err(panic) = panics::catch(|| worker.serve(index)) {
                log::error!("app thread {index}: {}\n{}", panic.message, panic.traceback);
                process::exit_now(INTERNAL_ERROR);
            }
            worker.watch.ended();
        });
        let handle = handle.map_err(named_io("pthread_create"))?;
        threads.push((told.recv().unwrap_or(0), handle));
    }
    Ok(threads)
}

/// The stack of an app thread: what this process's first thread may have, which is what foreign code is written for.
/// Only what is touched becomes memory.
fn app_stack() -> usize {
    let soft = process::stack_limit().unwrap_or(0).min(LARGEST_STACK);
    (soft as usize).max(SMALLEST_STACK)
}

const SMALLEST_STACK: usize = 2 * 1024 * 1024;
const LARGEST_STACK: u64 = 64 * 1024 * 1024;

/// A thread that does nothing but die with the process. Returns its kernel thread number.
///
/// The arbiter learns of a death from the pidfds of a worker's threads, of which at least one is told before the
/// memory is torn down. The kernel tells of the first thread only when it is the last one left, so that takes two
/// others; a worker may have one app thread only.
fn sentinel() -> Result<i64> {
    let (tell, told) = channel::bounded(1);
    let started =
        thread::Builder::new().name("stk-sentinel".into()).stack_size(SENTINEL_STACK).spawn(move || {
            let _ = tell.send(process::thread_id() as i64);
            loop {
                thread::park();
            }
        });
    started.map_err(named_io("pthread_create"))?;
    Ok(told.recv().unwrap_or(0))
}

/// More than it needs, and not a page of it is touched but the first.
const SENTINEL_STACK: usize = 64 * 1024;
