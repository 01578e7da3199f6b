//! A running pool.

use crate::client::stk_client;
use crate::config::stk_config;
use crate::error::stk_error;
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Out, Poison, free, guard, guard_handle, not_in_log_callback, owned, shared};
use crate::status::*;
use std::os::fd::IntoRawFd;
use std::sync::{PoisonError, RwLock};
use stokehold::Pool;

/// A supervised pool of worker processes. Yours to free, in any order with everything else; to free it is to kill its
/// workers, unless it was stopped.
pub struct stk_pool {
    /// `None` once it was stopped.
    pool: RwLock<Option<Pool>>,
    arbiter_pid: u32,
    poison: Poison,
}

impl Handle for stk_pool {
    const NAME: &'static str = "pool";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_pool {
    fn with<T>(&self, body: impl FnOnce(&Pool) -> Checked<T>) -> Checked<T> {
        let pool = self.pool.read().unwrap_or_else(PoisonError::into_inner);
        body(pool.as_ref().ok_or(Fault::Here(STK_SHUTTING_DOWN, "the pool was stopped".into()))?)
    }

    fn end(&self, how: impl FnOnce(Pool) -> stokehold::Result<()>) -> Checked<()> {
        let pool = self.pool.write().unwrap_or_else(PoisonError::into_inner).take();
        Ok(pool.map_or(Ok(()), how)?)
    }
}

/// Starts a pool and waits until all its workers are ready. `config` is consumed, whatever is returned; NULL is all
/// defaults. From any thread (one that asks for a fork: from the process's only thread). All processes of a pool are
/// programs of one user that use this library and trust each other as the header's top says.
///
/// STK_CONFIG for settings that cannot be; STK_START when the program cannot be run, does not know an app, or a worker
/// cannot boot (the message says what it said); STK_THREADS when a fork is asked for in a process with several threads.
#[unsafe(no_mangle)]
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
        let config = match config? {
            Some(config) => {
                config.poison().check(stk_config::NAME)?;
                *config
            }
            None => stk_config::default(),
        };
        let pool = config.into_builder().start()?;
        let arbiter_pid = pool.arbiter_pid();
        out.write(Box::into_raw(Box::new(stk_pool {
            pool: RwLock::new(Some(pool)),
            arbiter_pid,
            poison: Poison::default(),
        })));
        Ok(())
    })
}

/// Stops the pool: it takes nothing more, refuses what is queued (STK_SHUTTING_DOWN), lets workers finish what they run
/// within the grace that was configured, then kills them. Blocks until all processes are gone. The handle is still to be
/// freed; stopping again does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pool_stop(pool: *const stk_pool, error: *mut *mut stk_error) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(pool, error, |pool| {
            not_in_log_callback()?;
            pool.end(Pool::shutdown)
        })
    }
}

/// The same without grace: what runs ends with its worker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pool_kill(pool: *const stk_pool, error: *mut *mut stk_error) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(pool, error, |pool| {
            not_in_log_callback()?;
            pool.end(Pool::shutdown_now)
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
    unsafe { shared(pool, "pool") }.map_or(0, |pool| pool.arbiter_pid)
}

/// A new client of this pool. One serves all threads of a process; more are needed only past 64 calls at a time.
///
/// STK_ARBITER_DIED; STK_SHUTTING_DOWN when it was stopped; STK_OVERLOADED when the pool has 1,024 clients.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_client_new(
    pool: *const stk_pool,
    client: *mut *mut stk_client,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(pool, error, |pool| {
            not_in_log_callback()?;
            let out = Out::new(client, "client")?;
            out.write(stk_client::boxed(pool.with(|pool| Ok(pool.client()?))?));
            Ok(())
        })
    }
}

/// The socket of a new client, to be handed to another process of this user (inherited, or sent over a Unix socket),
/// which joins the pool with stk_client_connect. Yours to close. It is closed on exec.
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
            out.write(pool.with(|pool| Ok(pool.client_socket()?))?.into_raw_fd());
            Ok(())
        })
    }
}
