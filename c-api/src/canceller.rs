//! A handle that ends a call which another thread waits for.

use crate::error::stk_error;
use crate::fault::Fault;
use crate::guard::{Handle, Poison, free, guard_handle, guard_maker, not_in_log_callback};
use crate::pending::stk_pending;
use crate::status::*;
use crate::timeout::timeout_of;
use stokehold::Canceller;

/// Cancels one call, whose stk_pending or stk_stream another thread waits for. Yours to free, before or after that; any
/// thread may use it, several at a time. It keeps its client connected.
pub struct stk_canceller {
    inner: Canceller,
    poison: Poison,
}

impl stk_canceller {
    pub(crate) fn boxed(inner: Canceller) -> *mut stk_canceller {
        Box::into_raw(Box::new(stk_canceller { inner, poison: Poison::default() }))
    }
}

impl Handle for stk_canceller {
    const NAME: &'static str = "canceller";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// A handle that cancels this call and no other, however late it is used. To be made before another thread waits for the
/// call. Of a call whose outcome was given it is one that has nothing to do.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_pending_canceller(
    pending: *const stk_pending,
    canceller: *mut *mut stk_canceller,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_maker(pending, canceller, "canceller", error, |pending| {
            Ok(stk_canceller::boxed(pending.canceller()))
        })
    }
}

/// Cancels the call, queued or running: who waits for it has STK_CANCELLED at once, and its app is told
/// (stk_call_is_cancelled). STK_OK as well if it has ended, or was cancelled, and then nothing changes. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_canceller_cancel(
    canceller: *const stk_canceller,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_handle(canceller, error, |canceller| {
            not_in_log_callback()?;
            canceller.inner.cancel();
            Ok(())
        })
    }
}

/// Waits until the work on the call has really ended: its worker let go of it or is dead, it never ran, or it ended by
/// itself. For at most `timeout_ms`: 0 looks and does not wait, STK_FOREVER waits as long as it takes. STK_PENDING, without an
/// error object, if it has not by then, or if the supervising process is gone and nobody can know. Cancels nothing. Blocks
/// the calling thread, and no other.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_canceller_wait(
    canceller: *const stk_canceller,
    timeout_ms: u64,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_handle(canceller, error, |canceller| {
            not_in_log_callback()?;
            match canceller.inner.wait(timeout_of(timeout_ms)) {
                true => Ok(()),
                false => Err(Fault::here(STK_PENDING, "a worker has the call")),
            }
        })
    }
}

/// Frees the handle; the call goes on. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_canceller_free(canceller: *mut stk_canceller) {
    // SAFETY: the caller's promise.
    unsafe { free(canceller) }
}
