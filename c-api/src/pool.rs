//! A running pool.

use crate::client::stk_client;
use crate::config::stk_config;
use crate::error::stk_error;
use crate::fault::Checked;
use crate::guard::{
    Handle, Out, Poison, free, guard, guard_handle, guard_maker, not_in_log_callback, owned, shared,
};
use crate::status::*;
use crate::text::stk_str;
use std::os::fd::IntoRawFd;
use stokehold::Pool;

/// A supervised pool of worker processes. Yours to free, in any order with everything else; to free it is to kill its
/// workers, unless it was stopped.
pub struct stk_pool {
    pool: Pool,
    poison: Poison,
}

impl Handle for stk_pool {
    const NAME: &'static str = "pool";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// The configuration that a function was given, or the defaults.
fn given(config: Option<Box<stk_config>>) -> Checked<stk_config> {
    let Some(config) = config else { return Ok(stk_config::default()) };
    config.poison().check(stk_config::NAME)?;
    Ok(*config)
}

/// Starts a pool and waits until all its workers are ready. `config` is consumed, whatever is returned; NULL is all
/// defaults. From any thread (one that asks for a fork: from the process's only thread), but not while another thread
/// changes the environment (setenv), which it reads. All processes of a pool are programs of one user that use this
/// library and trust each other as the header's top says. A standard descriptor (0 to 2) that is closed is opened on
/// /dev/null, here and in stk_client_connect.
///
/// STK_CONFIG for settings that cannot be; STK_START when the program cannot be run, does not know an app, or a worker
/// cannot boot (the message says what it said); STK_THREADS when a fork is asked for in a process with several threads.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_pool_start(
    config: *mut stk_config,
    pool: *mut *mut stk_pool,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise: it gives the configuration away.
    let config = unsafe { owned(config, stk_config::NAME) };
    guard(error, || {
        not_in_log_callback()?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(pool, "pool") }?;
        let pool = given(config?)?.start()?;
        out.write(Box::into_raw(Box::new(stk_pool { pool, poison: Poison::default() })));
        Ok(())
    })
}

/// Makes this process the supervisor of a pool that is served under `path` (any bytes), until SIGTERM or SIGINT tells it to
/// end: what `stokehold serve` does, for a program with apps of its own. Clients join with stk_client_connect_path. `config`
/// is consumed, whatever is returned; NULL is all defaults. After stk_init, in a process with one thread.
///
/// The directory of the path must be this user's with rights 700; it is made if its own is there. Beside the socket are
/// PATH.lock and PATH.pid, which go with it in the end; what a process that was killed left there is replaced. The first
/// signal lets workers finish what they run, within the grace that was configured, the second kills what is left; SIGHUP is
/// ignored. Workers that cannot boot do not end it: the pool is degraded and goes on trying. Files that are open stay
/// open in the workers.
///
/// Returns STK_OK when nothing is left of the pool. The program is expected to end then: standard input is /dev/null,
/// SIGTERM, SIGINT and SIGHUP are blocked, SIGPIPE and SIGXFSZ ignored, SIGCHLD is at its default. STK_CONFIG for
/// settings, a path or a directory that cannot be; STK_START when the path is served already; STK_THREADS when the process
/// has several.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_pool_serve(
    config: *mut stk_config,
    path: stk_str,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise: it gives the configuration away.
    let config = unsafe { owned(config, stk_config::NAME) };
    guard(error, || {
        not_in_log_callback()?;
        // SAFETY: the caller's promise.
        let path = unsafe { path.read_path("path") }?;
        Ok(given(config?)?.serve(path)?)
    })
}

/// Stops the pool: it takes nothing more, refuses what is queued (STK_SHUTTING_DOWN), lets workers finish what they run
/// within the grace that was configured, then kills them. Blocks until all processes are gone; a second
/// stk_pool_stop waits as well. The handle is still to be freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pool_stop(pool: *const stk_pool, error: *mut *mut stk_error) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(pool, error, |pool| {
            not_in_log_callback()?;
            Ok(pool.pool.stop()?)
        })
    }
}

/// The same without grace: what runs ends with its worker. Also while another thread is in stk_pool_stop, whose grace it
/// ends.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pool_kill(pool: *const stk_pool, error: *mut *mut stk_error) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(pool, error, |pool| {
            not_in_log_callback()?;
            Ok(pool.pool.kill()?)
        })
    }
}

/// Frees the pool. One that was not stopped is killed; this waits up to five seconds for its end. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pool_free(pool: *mut stk_pool) {
    // SAFETY: the caller's promise.
    unsafe { free(pool) }
}

/// The process id of the arbiter, also when it is gone. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pool_arbiter_pid(pool: *const stk_pool) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { shared(pool, "pool") }.map_or(0, |pool| pool.pool.arbiter_pid())
}

/// A new client of this pool. One serves all threads of a process; more are needed only past 64 calls at a time.
///
/// Asks the arbiter, for at most 30 seconds. STK_ARBITER_DIED; STK_SHUTTING_DOWN when it was stopped; STK_OVERLOADED when
/// the pool has 1,024 clients.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_client_new(
    pool: *const stk_pool,
    client: *mut *mut stk_client,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { guard_maker(pool, client, "client", error, |pool| Ok(stk_client::boxed(pool.pool.client()?))) }
}

/// The socket of a new client, to be handed to another process of this user (inherited, or sent over a Unix socket),
/// which joins the pool with stk_client_connect. Yours to close. It is closed on exec: clear FD_CLOEXEC in the child, after
/// fork.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pool_client_fd(
    pool: *const stk_pool,
    fd: *mut i32,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(pool, error, |pool| {
            not_in_log_callback()?;
            let out = Out::new(fd, "fd")?;
            out.write(pool.pool.client_socket()?.into_raw_fd());
            Ok(())
        })
    }
}
