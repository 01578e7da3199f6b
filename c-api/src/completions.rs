//! Many calls in flight behind one descriptor, for hosts with an event loop.

use crate::args::stk_args;
use crate::client::stk_client;
use crate::error::stk_error;
use crate::execute::stk_options;
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Out, Poison, free, guard_handle, guard_maker, not_in_log_callback, shared};
use crate::parts::with_call;
use crate::result::stk_result;
use crate::status::*;
use crate::text::stk_str;
use std::os::fd::AsRawFd;
use std::ptr;
use stokehold::Completions;

/// The outcomes of calls that stk_submit_to sent, the items and ends of those of stk_stream_to, and a descriptor that is
/// readable when there may be one. The loop: watch stk_completions_fd for reading, level- or edge-triggered; when it is
/// readable, call stk_completions_next until it returns STK_PENDING. Calls and streams take turns, one item a look.
///
/// Any thread may submit and cancel while one waits at the descriptor. Yours to free, which cancels what is in flight; one
/// at a time for each client.
pub struct stk_completions {
    inner: Completions,
    poison: Poison,
}

impl stk_completions {
    /// To send a call to.
    unsafe fn sound<'q>(completions: *const stk_completions) -> Checked<&'q Completions> {
        // SAFETY: the promise of this function's caller.
        let queue = unsafe { shared(completions, stk_completions::NAME) }?;
        queue.poison.check(stk_completions::NAME)?;
        Ok(&queue.inner)
    }
}

impl Handle for stk_completions {
    const NAME: &'static str = "completions";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

/// How one call ended, or an item of one that goes on.
#[repr(C)]
pub struct stk_completion {
    /// What it was submitted with.
    pub token: u64,
    /// Its result, or the item, yours to free; NULL unless `status` is STK_OK.
    pub result: *mut stk_result,
    /// What is known of its failure, yours to free; NULL if `status` is STK_OK.
    pub error: *mut stk_error,
    /// Its outcome: STK_OK, or STK_APP to STK_OVERRUN, or STK_OS. STK_OK for an item.
    pub status: stk_status,
    /// 1: an item of a stream, and further ones with this token follow, or its end. 0: the call has ended.
    pub more: u32,
}

/// A queue of completions for this client. Takes three descriptors, and asks the arbiter, for at most 30 seconds.
/// STK_BAD_REQUEST while the client has another.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_completions_new(
    client: *const stk_client,
    completions: *mut *mut stk_completions,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_maker(client, completions, "completions", error, |client| {
            let inner = client.own()?.completions()?;
            Ok(Box::into_raw(Box::new(stk_completions { inner, poison: Poison::default() })))
        })
    }
}

/// Cancels what is in flight and frees the queue. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_completions_free(completions: *mut stk_completions) {
    // SAFETY: the caller's promise.
    unsafe { free(completions) }
}

/// The descriptor, for epoll, poll or select: readable when there may be an outcome, at the next deadline, when the
/// supervising process dies, and now and then for nothing. Nothing else is to be done with it: it is the queue's, not
/// yours to close. -1 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_completions_fd(completions: *const stk_completions) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { shared(completions, stk_completions::NAME) }.map_or(-1, |queue| queue.inner.as_raw_fd())
}

/// Sends a call whose outcome comes out of `completions`, which is this client's (STK_BAD_REQUEST if not), with this token.
/// Parameters otherwise as of stk_submit. A call that fails here was not sent, and nothing comes out.
#[unsafe(no_mangle)]
#[must_use]
#[allow(clippy::too_many_arguments)] // those of stk_submit, and where the outcome goes
pub unsafe extern "C" fn stk_submit_to(
    client: *const stk_client,
    app: stk_str,
    action: stk_str,
    args: *mut stk_args,
    options: *const stk_options,
    completions: *const stk_completions,
    token: u64,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        with_call(client, app, action, args, options, error, |call| {
            Ok(call.submit_to(stk_completions::sound(completions)?, token)?)
        })
    }
}

/// Sends a call whose answer comes out of `completions` item by item, each with this token: first the items, in the order in
/// which the app sent them, with `more` 1, then the end with `more` 0, once. The end is what the app returned behind its
/// items (STK_KIND_NONE where that is nothing), or how the call failed. An action that answers with one result has no items:
/// that result is the end. Never blocks for a worker. Parameters as of stk_submit_to. A call that fails here was not sent, and
/// nothing comes out.
///
/// Limits are those of stk_stream_open. The time of `item_ms` counts from when the item before was taken, the first one's from
/// now. An item lies in the worker's memory until its result is freed; when there is no room for further ones that worker
/// waits. So take what is needed and free it.
#[unsafe(no_mangle)]
#[must_use]
#[allow(clippy::too_many_arguments)] // those of stk_submit_to
pub unsafe extern "C" fn stk_stream_to(
    client: *const stk_client,
    app: stk_str,
    action: stk_str,
    args: *mut stk_args,
    options: *const stk_options,
    completions: *const stk_completions,
    token: u64,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        with_call(client, app, action, args, options, error, |call| {
            Ok(call.stream_to(stk_completions::sound(completions)?, token)?)
        })
    }
}

/// The next outcome or item. STK_PENDING if there is none yet: then the descriptor becomes readable when there may be one. The
/// status of the function is not that of the call, which is in `completion`. Does not block, except to fetch memory of a worker
/// that is met for the first time. In a copy by fork there is never one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_completions_next(
    completions: *const stk_completions,
    completion: *mut stk_completion,
) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_handle(completions, ptr::null_mut(), |queue| {
            not_in_log_callback()?;
            let out = Out::new(completion, "completion")?;
            let done = queue.inner.next_completion().ok_or_else(nothing)?;
            let (status, result, error) = match done.outcome {
                Ok(response) => (STK_OK, stk_result::boxed(response), ptr::null_mut()),
                Err(error) => {
                    let error = stk_error::new(error.into());
                    (error.status(), ptr::null_mut(), Box::into_raw(Box::new(error)))
                }
            };
            out.write(stk_completion { token: done.token, result, error, status, more: done.more.into() });
            Ok(())
        })
    }
}

/// Cancels the calls and streams with this token that are in flight. Their outcomes come out as all others do: STK_CANCELLED,
/// unless another came first; items that nobody took are dropped. Where there is no such call nothing happens, and that is
/// STK_OK.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_completions_cancel(
    completions: *const stk_completions,
    token: u64,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(completions, ptr::null_mut(), |queue| {
            not_in_log_callback()?;
            queue.inner.cancel(token);
            Ok(())
        })
    }
}

/// How many outcomes are still to come; a stream has one, its end. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_completions_in_flight(completions: *const stk_completions) -> usize {
    // SAFETY: the caller's promise.
    unsafe { shared(completions, stk_completions::NAME) }.map_or(0, |queue| queue.inner.in_flight())
}

#[cold]
fn nothing() -> Fault {
    Fault::here(STK_PENDING, "there is no outcome yet")
}
