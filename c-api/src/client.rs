//! A connection to a pool.

use crate::config::mode;
use crate::error::stk_error;
use crate::fault::{Checked, Fault};
use crate::guard::{
    Handle, Out, Poison, free_owned, guard, guard_handle, not_in_log_callback, owned, shared,
};
use crate::lease;
use crate::status::*;
use crate::text::stk_str;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use stokehold::{Call, Client, Ctx, Options};

/// A connection to a pool, for all threads of a process at once. Yours to free, in any order with everything else. It
/// outlives its pool: calls are refused then.
///
/// Up to 64 calls are in flight at a time, over all threads and including results that are not freed.
pub struct stk_client {
    inner: Whose,
    poison: Poison,
}

/// Whose calls it sends.
enum Whose {
    /// Its own.
    Own(Client),
    /// An app's: it is a part of the call that has this context.
    Within(NonNull<Ctx>),
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    // As the header says of a client, that of a call among them.
    shared_by_threads::<Client>();
    shared_by_threads::<Ctx>();
};

impl Handle for stk_client {
    const NAME: &'static str = "client";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_client {
    pub(crate) fn boxed(inner: Client) -> *mut stk_client {
        lease::begin_here();
        Box::into_raw(Box::new(stk_client { inner: Whose::Own(inner), poison: Poison::default() }))
    }

    /// For the calls that an app makes in one that it is in: to be dropped before that.
    #[inline]
    pub(crate) fn within(ctx: &Ctx) -> stk_client {
        stk_client { inner: Whose::Within(NonNull::from(ctx)), poison: Poison::default() }
    }

    #[inline]
    pub(crate) fn call<'c>(&'c self, app: &'c str, action: &'c str) -> Call<'c> {
        match &self.inner {
            Whose::Own(client) => client.call(app, action),
            // SAFETY: `within`: it is dropped before the context is.
            Whose::Within(ctx) => unsafe { ctx.as_ref() }.call(app, action),
        }
    }

    /// For what calls within a call do not have.
    pub(crate) fn own(&self) -> Checked<&Client> {
        match &self.inner {
            Whose::Own(client) => Ok(client),
            Whose::Within(_) => Err(Fault::invalid("`client` is that of a call, which only makes calls")),
        }
    }
}

/// Joins the pool of another process over a socket that its stk_pool_client_fd made, each for one client. Needs no
/// stk_init. The descriptor is duplicated: yours
/// to close, whatever is returned. `wait` is an STK_WAIT_ number: how this client's threads wait. Asks the arbiter, for at
/// most 30 seconds.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_client_connect(
    fd: i32,
    wait: u32,
    client: *mut *mut stk_client,
    error: *mut *mut stk_error,
) -> stk_status {
    guard(error, || {
        not_in_log_callback()?;
        // SAFETY: the caller's promise.
        let out = unsafe { Out::new(client, "client") }?;
        let options = Options { mode: mode(wait)?, ..Options::default() };
        if fd < 0 {
            return Err(Fault::invalid(format!("`fd` is {fd}")));
        }
        // SAFETY: not -1, and used for one system call, which fails if it is not open.
        let socket = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
        let socket = socket.map_err(stokehold::Error::from)?;
        out.write(stk_client::boxed(Client::connect(socket, options)?));
        Ok(())
    })
}

/// Joins the pool that is served under this path (any bytes): by `stokehold serve`, or by a program in stk_pool_serve.
/// Needs no stk_init. `wait` as above. Blocks for at most 10 seconds until it is let in, and 30 until the arbiter has
/// answered.
///
/// STK_OS when nobody listens there, or you may not connect; STK_INCOMPATIBLE when the pool is another user's or of another
/// version; STK_OVERLOADED, or STK_START, when there is no room for one more client.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_client_connect_path(
    path: stk_str,
    wait: u32,
    client: *mut *mut stk_client,
    error: *mut *mut stk_error,
) -> stk_status {
    guard(error, || {
        not_in_log_callback()?;
        // SAFETY: the caller's promise.
        let (path, out) = unsafe { (path.read_path("path")?, Out::new(client, "client")?) };
        let options = Options { mode: mode(wait)?, ..Options::default() };
        out.write(stk_client::boxed(Client::connect_path(path, options)?));
        Ok(())
    })
}

/// Closes the connection, when the last result and the last call of it are gone, too. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_client_free(client: *mut stk_client) {
    // SAFETY: the caller's promise.
    let own = match unsafe { shared(client, stk_client::NAME) } {
        Ok(client) => client.own().map(drop),
        Err(_) => Ok(()), // NULL, or what is told below
    };
    // SAFETY: the caller's promise: it gives it away.
    free_owned(own.and_then(|()| unsafe { owned(client, stk_client::NAME) }));
}

/// The process ids of the workers that are ready; STK_INVALID for the client of a call (stk_call_client). Up to `capacity` are
/// stored through `pids` (NULL with 0 is fine), how many there are through `n`. None in a copy by fork.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_client_worker_pids(
    client: *const stk_client,
    pids: *mut u32,
    capacity: usize,
    n: *mut usize,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(client, ptr::null_mut(), |client| {
            let n = Out::new(n, "n")?;
            let found = client.own()?.worker_pids();
            if capacity > 0 {
                Out::new(pids, "pids")?; // NULL and alignment
                let fit = found.len().min(capacity);
                // SAFETY: `capacity` numbers may be written there, by the caller's promise.
                ptr::copy_nonoverlapping(found.as_ptr(), pids, fit);
            }
            n.write(found.len());
            Ok(())
        })
    }
}
