//! The app's end of a context: how it is started, and what its opener sends.

use crate::app::{Call, stk_call};
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Out, Poison, exclusive, guard_exclusive, not_in_log_callback};
use crate::lent::Lent;
use crate::reply::{Item, Reply, stk_reply};
use crate::result::{Content, Place, stk_result};
use crate::sink::{self, stk_sink};
use crate::status::*;
use crate::timeout::timeout_of;
use std::collections::HashMap;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stokehold::{Code, Inbox, Received, ValueRef};

/// What the opener of a context sends, in the order in which it was sent; from stk_call_started. Belongs to the call: it is
/// gone when the app's function returns. Until then any thread may use it, one at a time, also while another one uses the sink.
///
///     if ((status = stk_call_started(call, reply, &sink, &inbox))) return status;
///     while (!(status = stk_inbox_next(inbox, STK_FOREVER, &item))) {
///         if (stk_result_i64(item, &n)) return STK_BAD_REQUEST;
///         stk_result_free(item);
///         stk_reply_i64(stk_sink_item(sink), n + 1);
///         if ((status = stk_sink_send(sink))) return status;
///     }
///     return status == STK_END ? STK_OK : status;    // or a reply: the stream's value
pub struct stk_inbox(());

/// What an `stk_inbox` really is.
pub(crate) struct Items<'c> {
    /// Items borrow from it.
    inner: Lent<Inbox<'c>>,
    outstanding: Arc<Outstanding>,
    /// What was found wrong last, for an app that returns its status and says no more.
    found: Option<Fault>,
    poison: Poison,
}

/// An item, as a result has it.
pub(crate) struct Taken {
    /// Borrows from the inbox, which frees every result that it is in before it is gone.
    received: Received<'static>,
    /// Where the result is struck off when it is freed, and under which number.
    outstanding: Arc<Outstanding>,
    number: u64,
}

/// The results that C has and has not freed.
#[derive(Default)]
struct Outstanding(Mutex<Listed>);

#[derive(Default)]
struct Listed {
    results: HashMap<u64, NonNull<stk_result>>,
    last: u64,
}

impl Handle for Items<'_> {
    const NAME: &'static str = "inbox";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl<'c> Items<'c> {
    fn new(inner: Inbox<'c>) -> Items<'c> {
        Items { inner: Lent::new(inner), outstanding: Arc::default(), found: None, poison: Poison::default() }
    }

    /// The next item; `None` when there is no more.
    fn next(&self, timeout: Duration) -> Checked<Option<Received<'_>>> {
        // SAFETY: nobody ever has it exclusively.
        let inbox = unsafe { self.inner.get() };
        Ok(match timeout {
            Duration::ZERO => inbox.try_recv()?.ok_or_else(not_there)?,
            Duration::MAX => inbox.recv()?,
            timeout => match inbox.recv_for(timeout) {
                Err(error) if error.code() == Code::Deadline => return Err(not_there()),
                found => found?,
            },
        })
    }

    /// What was found wrong last.
    pub(crate) fn take_found(&mut self) -> Option<Fault> {
        self.found.take()
    }
}

impl Drop for Items<'_> {
    fn drop(&mut self) {
        // What C has not freed. Not under the lock: each strikes itself off.
        let left: Vec<NonNull<stk_result>> = self.outstanding.listed().results.values().copied().collect();
        for result in left {
            // SAFETY: from a box, in `Outstanding::lend`; C has not freed it, or it would be struck off, and does not use it
            // any more, by the rule of its type.
            drop(unsafe { Box::from_raw(result.as_ptr()) });
        }
    }
}

impl Outstanding {
    /// A result that C frees, or the inbox.
    fn lend(self: &Arc<Self>, received: Received<'_>) -> *mut stk_result {
        // SAFETY: only the lifetime is another. What it borrows from outlives the inbox, which frees the result before it is
        // gone, unless C has.
        let received = unsafe { std::mem::transmute::<Received<'_>, Received<'static>>(received) };
        let number = {
            let mut listed = self.listed();
            listed.last += 1;
            listed.last
        };
        // Not under the lock, which it takes when it is dropped.
        let taken = Taken { received, outstanding: self.clone(), number };
        let result = stk_result::boxed(Content::Received(Box::new(taken)));
        if let Some(result) = NonNull::new(result) {
            self.listed().results.insert(number, result);
        }
        result
    }

    fn listed(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    pub(crate) fn value(&self) -> stokehold::Result<ValueRef<'_>> {
        self.received.value()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.outstanding.listed().results.remove(&self.number);
    }
}

/// Starts the context that the caller has opened (stk_context_open), once a call: the opener has what was put into `reply`
/// before anything else (nothing put in is none; a lease is copied), and items may go both ways. `reply` is empty then, for
/// what the app returns in the end, and also where this fails, but for a bad pointer and STK_REENTRANT. `sink` is the
/// way to the opener, and the one that stk_call_sink gives from now on; `inbox` is what the opener sends. Does not block, except
/// to fetch memory of the opener that is met for the first time.
///
/// Each direction is bounded by itself: at most 1,024 items, 32 KiB of small ones and 8 MiB of large ones (see stk_sink_send)
/// are on their way. The two ends live together until the app returns: that the opener cancels, leaves or dies ends what the
/// app waits for with STK_CANCELLED.
///
/// STK_BAD_REQUEST if the caller has opened no context; STK_APP if the call has a sink already, or the worker cannot get at the
/// opener's memory, for want of descriptors or memory; STK_CANCELLED if nobody waits for the call any more; STK_OVERLOADED if
/// the worker has no memory for a stream. An app that returns one of them makes it the call's outcome. STK_PROTOCOL if the
/// opener's memory is damaged; STK_OS when the memory file system is full; STK_INVALID if a function on `reply` failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_started(
    call: *const stk_call,
    reply: *mut stk_reply,
    sink: *mut *mut stk_sink,
    inbox: *mut *mut stk_inbox,
) -> stk_status {
    // SAFETY: the caller's promise for all of them: call and reply are those that it was given, whose call still runs.
    unsafe {
        Call::with(call, |call| {
            not_in_log_callback()?;
            let (sink, inbox) = (Out::new(sink, "sink")?, Out::new(inbox, "inbox")?);
            let reply = exclusive(reply.cast::<Reply>(), Reply::NAME)?;
            reply.poison().check(Reply::NAME)?;
            let dialog = match reply.take_item()? {
                Item::Value(value) => call.ctx().started(value)?,
                Item::Lease(lease) => call.ctx().started(&lease[..])?,
            };
            let (to, from) = dialog.split();
            let to = Lent::new(sink::Items::new(to, call.id()));
            let from = Lent::new(Items::new(from));
            sink.write(to.pointer().cast());
            inbox.write(from.pointer().cast());
            (*call.sink(), *call.inbox()) = (Some(to), Some(from));
            Ok(())
        })
    }
}

/// Waits for the opener's next item, for at most `timeout_ms`: 0 looks and does not wait, except to fetch memory of the opener
/// that is met for the first time, STK_FOREVER waits as long as it takes. STK_OK: an item, stored through `result` (NULL: it is
/// let go of), which any thread may read and free; what is not freed is freed when the app's function returns, and not to be
/// used any more. What the opener lent is read in its memory and must be freed to make room for further ones; the rest was
/// copied. STK_END: the opener has finished its direction. STK_PENDING: neither yet.
///
/// STK_CANCELLED once nobody waits for the call any more, which also ends the wait: an app that returns it makes it the call's
/// outcome. STK_APP if the worker cannot get at an item in the opener's memory, for want of descriptors or memory; STK_PROTOCOL
/// if that is damaged: the item is lost, and nothing comes after either but the same once more. Blocks the calling thread, and
/// no other. A thread of the app's own that is in here when the app's function is to return must be waited for: let it receive
/// with a limit, and join it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_inbox_next(
    inbox: *mut stk_inbox,
    timeout_ms: u64,
    result: *mut *mut stk_result,
) -> stk_status {
    // SAFETY: the caller's promise: it is the inbox that it was given, whose call still runs. The type is its opaque name.
    unsafe {
        guard_exclusive(inbox.cast::<Items<'_>>(), ptr::null_mut(), |items| {
            not_in_log_callback()?;
            let taken = take(items, timeout_ms, result);
            taken.map_err(|fault| {
                let status = fault.status();
                items.found = Some(fault);
                Fault::here(status, "")
            })
        })
    }
}

unsafe fn take(items: &Items<'_>, timeout_ms: u64, result: *mut *mut stk_result) -> Checked<()> {
    // SAFETY: the promise of this function's caller.
    let place = unsafe { Place::new(result) }?;
    let received = items.next(timeout_of(timeout_ms))?;
    let received = received.ok_or_else(|| Fault::here(STK_END, "the opener has finished"))?;
    place.put(|| items.outstanding.lend(received));
    Ok(())
}

#[cold]
fn not_there() -> Fault {
    Fault::here(STK_PENDING, "the opener's next item is not there yet")
}

const _: () = {
    const fn of_any_thread<T: Send>() {}
    const fn shared_by_threads<T: Send + Sync>() {}
    // As the header says of an inbox and its items.
    of_any_thread::<Inbox<'_>>();
    shared_by_threads::<Received<'_>>();
};
