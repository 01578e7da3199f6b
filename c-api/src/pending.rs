//! A call that was sent and is waited for later.

use crate::args::stk_args;
use crate::client::stk_client;
use crate::error::stk_error;
use crate::execute::stk_options;
use crate::fault::Fault;
use crate::guard::{Handle, Out, Poison, free, guard_exclusive, not_in_log_callback};
use crate::parts::with_call;
use crate::result::{Place, stk_result};
use crate::status::*;
use crate::text::stk_str;
use crate::timeout::timeout_of;
use stokehold::{Canceller, Pending};

/// A call in flight, or one whose outcome was fetched. Yours to free, which cancels it if it is in flight. Any thread
/// may wait for it, one at a time.
pub struct stk_pending {
    /// `None` once the outcome was given.
    inner: Option<Pending>,
    poison: Poison,
}

impl stk_pending {
    pub(crate) fn canceller(&self) -> Canceller {
        self.inner.as_ref().map_or_else(Canceller::default, Pending::canceller)
    }
}

impl Handle for stk_pending {
    const NAME: &'static str = "pending";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// Sends a call and does not wait for it: never blocks for a worker. Parameters as of stk_execute. A call that fails here
/// was not sent: STK_OVERLOADED at once when 64 are in flight or held as results. It is not sent twice, even if its options
/// say that it may run twice.
///
/// Its deadline is enforced by whoever waits for it, or looks: a handle that is merely kept keeps its call.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_submit(
    client: *const stk_client,
    app: stk_str,
    action: stk_str,
    args: *mut stk_args,
    options: *const stk_options,
    pending: *mut *mut stk_pending,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        with_call(client, app, action, args, options, error, |call| {
            let out = Out::new(pending, "pending")?;
            let inner = Some(call.submit()?);
            out.write(Box::into_raw(Box::new(stk_pending { inner, poison: Poison::default() })));
            Ok(())
        })
    }
}

/// Waits for the outcome, for at most `timeout_ms`: 0 looks and does not wait, STK_FOREVER waits as long as it takes.
/// STK_PENDING, without an error object, while there is none. Everything else is the outcome, as stk_execute gives it, and
/// it is given once: after that STK_INVALID. `result` may be NULL: then it is let go of.
///
/// Blocks the calling thread, and no other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pending_wait(
    pending: *mut stk_pending,
    timeout_ms: u64,
    result: *mut *mut stk_result,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_exclusive(pending, error, |pending| {
            not_in_log_callback()?;
            let place = Place::new(result)?;
            let call = pending.inner.as_mut().ok_or_else(given)?;
            let outcome = match timeout_ms {
                0 => call.try_wait(),
                ms => call.wait_for(timeout_of(ms)),
            };
            let outcome = outcome.ok_or_else(|| Fault::here(STK_PENDING, "the call is in flight"))?;
            pending.inner = None;
            place.take(outcome)
        })
    }
}

/// Cancels the call and gives its outcome: STK_CANCELLED, unless another came first. Its app is told
/// (stk_call_is_cancelled); what it answers is dropped. STK_INVALID if the outcome was given before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pending_cancel(
    pending: *mut stk_pending,
    result: *mut *mut stk_result,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_exclusive(pending, error, |pending| {
            not_in_log_callback()?;
            let place = Place::new(result)?;
            place.take(pending.inner.take().ok_or_else(given)?.cancel())
        })
    }
}

/// Frees the handle; a call in flight is cancelled. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_pending_free(pending: *mut stk_pending) {
    // SAFETY: the caller's promise.
    unsafe { free(pending) }
}

#[cold]
fn given() -> Fault {
    Fault::invalid("the outcome of this call was given already")
}
