//! The configuration of a pool.

use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Poison, free, guard_exclusive};
use crate::init;
use crate::status::*;
use crate::stdio;
use crate::text::stk_str;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::ptr;
use stokehold::{Builder, Mode, Pool};

/// The configuration of one pool. Given to stk_pool_start, which consumes it; else yours to free.
///
/// The functions that set something return STK_INVALID for text, numbers and descriptors that mean nothing; whether the
/// settings can be, stk_pool_start says.
pub struct stk_config {
    builder: Builder,
    names_apps: bool,
    helper: bool,
    fork: bool,
    library: bool,
    poison: Poison,
}

/// Threads wait by measured cost: a short while spinning, then asleep. What one wants, nearly always.
pub const STK_WAIT_ADAPTIVE: u32 = 0;
/// Threads never spin.
pub const STK_WAIT_PARK: u32 = 1;
/// Threads spin for as long as it takes. For processors of one's own.
pub const STK_WAIT_SPIN: u32 = 2;

impl Default for stk_config {
    fn default() -> stk_config {
        stk_config {
            builder: Pool::builder(),
            names_apps: false,
            helper: false,
            fork: false,
            library: false,
            poison: Poison::default(),
        }
    }
}

impl Handle for stk_config {
    const NAME: &'static str = "config";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_config {
    pub(crate) fn start(self) -> stokehold::Result<Pool> {
        if self.fork {
            stdio::flush(); // else the workers would print once more what was not written yet
        }
        self.complete()?.start()
    }

    /// Makes this process the pool's supervisor.
    pub(crate) fn serve(self, path: &Path) -> stokehold::Result<()> {
        stdio::flush(); // as above
        self.complete()?.serve(path)
    }

    /// The pool as configured; one that names no app has all those of its library, or of this program.
    fn complete(self) -> stokehold::Result<Builder> {
        if self.library {
            return Ok(self.builder);
        }
        let names = init::names();
        let why = match (self.names_apps, self.helper) {
            (false, true) => Some("name the helper's apps with stk_config_add_app"),
            (false, false) if names.is_empty() => {
                Some("no apps: stk_init, the first statement of main, was not called or registered none")
            }
            _ => None,
        };
        if let Some(why) = why {
            return Err(stokehold::Kind::Config(why.into()).into());
        }
        Ok(match self.names_apps {
            true => self.builder,
            false => names.iter().fold(self.builder, |builder, name| builder.app_named(name)),
        })
    }

    fn change(&mut self, change: impl FnOnce(Builder) -> Builder) {
        self.builder = change(self.builder.clone());
    }
}

pub(crate) fn mode(wait: u32) -> Checked<Mode> {
    match wait {
        STK_WAIT_ADAPTIVE => Ok(Mode::Adaptive),
        STK_WAIT_PARK => Ok(Mode::Park),
        STK_WAIT_SPIN => Ok(Mode::Spin),
        other => Err(Fault::invalid(format!("`wait` is {other}, which is no STK_WAIT_ number"))),
    }
}

/// A configuration with all defaults: one worker, all apps of stk_init. May be called from anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn stk_config_new() -> *mut stk_config {
    Box::into_raw(Box::default())
}

/// Frees a configuration that no pool was started from. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_free(config: *mut stk_config) {
    // SAFETY: the caller's promise.
    unsafe { free(config) }
}

unsafe fn set(config: *mut stk_config, body: impl FnOnce(&mut stk_config) -> Checked<()>) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { guard_exclusive(config, ptr::null_mut(), body) }
}

unsafe fn change(config: *mut stk_config, how: impl FnOnce(Builder) -> Builder) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        set(config, |config| {
            config.change(how);
            Ok(())
        })
    }
}

/// With this app. Without any, the pool has all that were given to stk_init; a pool with a helper program names those
/// it wants.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_add_app(config: *mut stk_config, name: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        set(config, |config| {
            let name = name.read("name")?;
            config.change(|builder| builder.app_named(name));
            config.names_apps = true;
            Ok(())
        })
    }
}

/// With the apps of a shared object, made with STK_APP_LIBRARY or in Rust with `stokehold::app_library!`: all of them, or
/// those that stk_config_add_app names. Workers load it, and run nothing of this program; the supervising process does not
/// load it. `path` is UTF-8; one that is not absolute begins at the current directory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_app_library(config: *mut stk_config, path: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        set(config, |config| {
            let path = path.read_path("path")?;
            config.change(|builder| builder.app_library(path));
            config.library = true;
            Ok(())
        })
    }
}

/// How many worker processes; 1 by default, at most 64 (with 0, calls end with STK_NO_WORKERS). Calls wait while all are busy,
/// and their deadlines run.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_workers(config: *mut stk_config, workers: usize) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.workers(workers)) }
}

/// How many calls one worker runs at a time; 1 by default. Workers times threads is at most 128.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_threads(config: *mut stk_config, threads: usize) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.threads(threads)) }
}

/// How workers and this host's clients wait: an STK_WAIT_ number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_wait(config: *mut stk_config, wait: u32) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        set(config, |config| {
            let mode = mode(wait)?;
            config.change(|builder| builder.wait(mode));
            Ok(())
        })
    }
}

/// Longest time of any call, milliseconds; 300,000 by default, 0 for no limit. A call's own deadline may be shorter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_timeout_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.timeout_ms(ms)) }
}

/// How long the consumer of a stream may take nothing while the worker waits for room, milliseconds; 30,000 by default, 0 for
/// no limit. Then the stream ends with STK_STALLED, and the worker is free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_stall_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.stall_ms(ms)) }
}

/// The signal that a call gets which was given up (cancelled, its deadline passed, its client gone) and is still run after
/// stk_config_set_cancel_grace_ms; by default there is none. For apps that block in the kernel and cannot ask
/// stk_call_is_cancelled.
///
/// It goes to the thread that runs the call, while it runs it, so that a blocking system call of it ends with EINTR (of a
/// handler that was installed without SA_RESTART); to the whole process where the call is deferred, or the worker's control
/// thread does not answer. The handler is the app's to install, in its `init`: without one the default action applies, which
/// ends the worker for most signals. SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGURG, SIGVTALRM, SIGPROF,
/// SIGWINCH, SIGIO or SIGPWR; the start of the pool refuses others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_cancel_signal(config: *mut stk_config, number: i32) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.cancel_signal(number)) }
}

/// How long a worker may go on with a call that was given up until it gets the pool's signal or, where there is none, takes no
/// more calls and is replaced. Milliseconds; 1,000 by default, and up to half a second more until it is noticed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_cancel_grace_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.cancel_grace_ms(ms)) }
}

/// How long a worker may go on with a call after the signal until it is replaced, milliseconds; 1,000 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_signal_grace_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.signal_grace_ms(ms)) }
}

/// How long a worker that is replaced may go on with a call that nobody waits for any more before it is killed, milliseconds;
/// 1,000 by default. Other calls of its have that time, too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_kill_grace_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.kill_grace_ms(ms)) }
}

/// How long workers may take to finish what they run when the pool is stopped, milliseconds; 30,000 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_stop_grace_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.stop_grace_ms(ms)) }
}

/// How long a worker may take to become ready, milliseconds; 60,000 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_boot_timeout_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.boot_timeout_ms(ms)) }
}

/// How long stk_pool_start waits for the pool to be ready, milliseconds; 60,000 by default, or ten seconds more than the
/// boot timeout where that is longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_start_timeout_ms(config: *mut stk_config, ms: u64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.start_timeout_ms(ms)) }
}

/// More than `restarts` early deaths within `within_ms` milliseconds degrade the pool: calls fail at once
/// (STK_NO_WORKERS) until a worker is ready again. 5 in 10,000 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_restart_limit(
    config: *mut stk_config,
    restarts: u32,
    within_ms: u64,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.restart_limit(restarts, within_ms)) }
}

/// First and longest pause before a worker that died early is started again, milliseconds; 100 and 10,000 by default.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_backoff_ms(
    config: *mut stk_config,
    first: u64,
    longest: u64,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { change(config, |builder| builder.backoff_ms(first, longest)) }
}

/// With a helper program as the arbiter instead of this one, for hosts that cannot call stk_init first (plug-ins, other
/// languages): the path (any bytes; PATH is not searched) of a program whose `main` begins with stk_init (or with
/// `stokehold::init`, in Rust) and registers the apps. Name those that the pool has with stk_config_add_app. The host needs no
/// stk_init then.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_helper(config: *mut stk_config, program: stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        set(config, |config| {
            let program = program.read_path("program")?;
            config.change(|builder| builder.arbiter(program));
            (config.helper, config.fork) = (true, false);
            Ok(())
        })
    }
}

/// By a plain fork of this process, which must have one thread. For tools, tests and small programs: the arbiter and its
/// workers drag this process's memory along. Of its descriptors they have the standard ones and those named with
/// stk_config_keep_fd. stk_pool_start flushes stdio's buffers before it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_set_fork(config: *mut stk_config) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        set(config, |config| {
            config.change(Builder::by_fork);
            (config.helper, config.fork) = (false, true);
            Ok(())
        })
    }
}

/// A descriptor, open until the start, that stays open in the arbiter and the workers of a pool that is started by
/// stk_config_set_fork: that of a log file, for instance. Elsewhere it means nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_config_keep_fd(config: *mut stk_config, fd: i32) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        set(config, |config| {
            if fd < 0 {
                return Err(Fault::invalid(format!("`fd` is {fd}")));
            }
            // SAFETY: not -1, and only its number is taken.
            let fd = BorrowedFd::borrow_raw(fd);
            config.change(|builder| builder.keep(fd));
            Ok(())
        })
    }
}
