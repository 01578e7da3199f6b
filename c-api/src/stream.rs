//! The items of a call, one by one.

use crate::args::stk_args;
use crate::canceller::stk_canceller;
use crate::client::stk_client;
use crate::error::stk_error;
use crate::execute::stk_options;
use crate::fault::{Checked, Fault};
use crate::guard::{
    Handle, Out, Poison, free, guard_exclusive, guard_handle, guard_maker, not_in_log_callback,
};
use crate::parts::with_call;
use crate::result::{Place, stk_result};
use crate::status::*;
use crate::text::stk_str;
use crate::timeout::timeout_of;
use crate::value::stk_value;
use std::ptr;
use std::time::Duration;
use stokehold::{Canceller, Code, Response, Stream, ValueRef};

/// The items that an action answers with, or that the app of a context sends, taken one by one, in the order in which they were
/// sent. Yours to free, in any order with everything else, which cancels the call if it has not ended. Any thread may take
/// items, one at a time.
///
/// Each item is an stk_result, held where the worker put it until it is freed: then there is room for further ones. The stream
/// and all its items, and its sender if it is that of a context, together hold one of the client's 64 calls. An action that
/// answers with one result is a stream of that item; to stk_execute and stk_submit an action that streams answers with the list
/// of its items.
pub struct stk_stream {
    /// `None` once it was cancelled.
    inner: Option<Stream>,
    /// Of a context.
    started: Option<Response>,
    poison: Poison,
}

impl Handle for stk_stream {
    const NAME: &'static str = "stream";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_stream {
    /// With what the app said when it started, if it did.
    pub(crate) fn boxed(inner: Stream, started: Option<Response>) -> *mut stk_stream {
        Box::into_raw(Box::new(stk_stream { inner: Some(inner), started, poison: Poison::default() }))
    }

    fn stream(&mut self) -> Checked<&mut Stream> {
        self.inner.as_mut().ok_or_else(cancelled)
    }
}

/// Sends a call, and takes what it answers item by item: never blocks for a worker. Parameters as of stk_execute. The pool's
/// limit for a call does not hold for a stream; those of `options` do. It is not sent twice, even if it may run twice.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_stream_open(
    client: *const stk_client,
    app: stk_str,
    action: stk_str,
    args: *mut stk_args,
    options: *const stk_options,
    stream: *mut *mut stk_stream,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        with_call(client, app, action, args, options, error, |call| {
            let out = Out::new(stream, "stream")?;
            out.write(stk_stream::boxed(call.stream()?, None));
            Ok(())
        })
    }
}

/// What the app of a context said when it started: nothing put in is STK_KIND_NONE. It lasts as long as the stream. STK_END if
/// it has started none, or this is no context.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_stream_started(stream: *const stk_stream, value: *mut stk_value) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_handle(stream, ptr::null_mut(), |stream| {
            let out = Out::new(value, "value")?;
            let started = stream.started.as_ref();
            let started = started.ok_or_else(|| Fault::here(STK_END, "the app has started no context"))?;
            out.write(stk_value::of(started.value()?));
            Ok(())
        })
    }
}

/// Waits for the next item, for at most `timeout_ms`: 0 looks and does not wait, STK_FOREVER waits as long as it takes.
/// STK_OK: an item, stored through `result` (NULL: it is let go of). STK_END: there are no more, and that is said as often as
/// you ask (where the app finished its stream before it returned, the call goes on: stk_stream_wait). STK_PENDING: neither
/// yet. No error object comes with these two. Everything else is how the call ended, after its items, and is given once: then
/// STK_END.
///
///     while (!(status = stk_stream_next(stream, STK_FOREVER, &item, &e))) { …; stk_result_free(item); }
///     if (status != STK_END) return stk_error_print(e);
///
/// Blocks the calling thread, and no other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_stream_next(
    stream: *mut stk_stream,
    timeout_ms: u64,
    result: *mut *mut stk_result,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_exclusive(stream, error, |stream| {
            not_in_log_callback()?;
            let place = Place::new(result)?;
            let item = next(stream.stream()?, timeout_of(timeout_ms))?;
            place.take(Ok(item.ok_or_else(|| Fault::here(STK_END, "the stream has ended"))?))
        })
    }
}

/// Waits for the end, for at most `timeout_ms`, and drops the items before it. (The app of a context that takes all it is sent
/// ends after stk_sender_finish.) STK_OK, also if the end was seen before: what the app returned is stk_stream_value.
/// STK_PENDING: it has not ended yet. Everything else is how the call ended, if that was not given yet. Blocks the calling
/// thread, and no other.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_stream_wait(
    stream: *mut stk_stream,
    timeout_ms: u64,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_exclusive(stream, error, |stream| {
            not_in_log_callback()?;
            let ended = stream.stream()?.wait_for(timeout_of(timeout_ms));
            Ok(ended.ok_or_else(not_there)??)
        })
    }
}

/// What the app returned behind its items, once the end was seen: STK_KIND_NONE if that was nothing, or the call failed.
/// STK_PENDING before. It lasts as long as the stream; bytes that were lent are read in the worker's memory.
///
/// Of an action that answered with one result it is that result after stk_stream_wait; where stk_stream_next gave it for an
/// item it is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_stream_value(stream: *const stk_stream, value: *mut stk_value) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_handle(stream, ptr::null_mut(), |stream| {
            let out = Out::new(value, "value")?;
            let inner = stream.inner.as_ref().ok_or_else(cancelled)?;
            if !inner.has_ended() {
                return Err(Fault::here(STK_PENDING, "the stream has not ended"));
            }
            let value = match inner.value() {
                Some(response) => response.value()?,
                None => ValueRef::None,
            };
            out.write(stk_value::of(value));
            Ok(())
        })
    }
}

/// Cancels the call, and drops the items that were not taken; those that you hold stay. The app is told (stk_call_is_cancelled),
/// and woken where it waits for room. Does not wait for it. The stream can only be freed then: other functions on it say
/// STK_INVALID (stk_stream_started works). Where the end was seen it changes nothing. To cancel while another thread takes
/// items: stk_stream_canceller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_stream_cancel(stream: *mut stk_stream) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_exclusive(stream, ptr::null_mut(), |stream| {
            not_in_log_callback()?;
            // What has ended keeps its value, of which C has views.
            if !stream.stream()?.has_ended()
                && let Some(inner) = stream.inner.take()
            {
                inner.cancel();
            }
            Ok(())
        })
    }
}

/// A handle that cancels the call from another thread, while this one takes items: then STK_CANCELLED comes after the items
/// that are there. To be made before another thread takes them. Of a stream that has ended it is one that has nothing to do.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn stk_stream_canceller(
    stream: *const stk_stream,
    canceller: *mut *mut stk_canceller,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        guard_maker(stream, canceller, "canceller", error, |stream| {
            let inner = stream.inner.as_ref().map_or_else(Canceller::default, Stream::canceller);
            Ok(stk_canceller::boxed(inner))
        })
    }
}

/// Frees the handle; a call that has not ended is cancelled. Items stay valid until they are freed. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_stream_free(stream: *mut stk_stream) {
    // SAFETY: the caller's promise.
    unsafe { free(stream) }
}

/// The next item, `None` at the end.
fn next(stream: &mut Stream, timeout: Duration) -> Checked<Option<Response>> {
    let found = match timeout {
        Duration::ZERO => stream.try_next(),
        Duration::MAX => Some(stream.next().transpose()),
        timeout => Some(stream.next_for(timeout)),
    };
    match found {
        None => Err(not_there()),
        // The time of this wait, not one of the call's.
        Some(Err(error)) if error.code() == Code::Deadline && !stream.has_ended() => Err(not_there()),
        Some(found) => Ok(found?),
    }
}

fn not_there() -> Fault {
    Fault::here(STK_PENDING, "the next item is not there yet")
}

#[cold]
fn cancelled() -> Fault {
    Fault::invalid("the stream was cancelled")
}
