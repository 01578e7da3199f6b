//! What the opener of a context sends to its app.

use crate::args::stk_args;
use crate::error::stk_error;
use crate::fault::{Checked, Fault, What};
use crate::guard::{Handle, Poison, exclusive, free, guard_exclusive, not_in_log_callback};
use crate::lent::Lent;
use crate::status::*;
use crate::timeout::timeout_of;
use std::ptr;
use std::time::Duration;
use stokehold::{Canceller, Error, Kind, Limit, Sender};

/// The way of items to the app of a context, which takes them in the order in which they were sent; from stk_context_open. Any
/// thread may use it, with its item, one at a time, also while another one takes what the app sends.
///
/// Yours to free, in any order with everything else. What the app is to take for the end is said by stk_sender_finish; a sender
/// that is freed before, in a call that goes on, cancels it, so that the app does not take a part for the whole.
pub struct stk_sender {
    inner: Sender,
    /// The next item.
    item: Lent<stk_args>,
    /// Of a call whose app must not miss the end.
    unfinished: Option<Canceller>,
    poison: Poison,
}

impl Handle for stk_sender {
    const NAME: &'static str = "sender";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_sender {
    /// With the call's canceller, if its app takes items.
    pub(crate) fn boxed(inner: Sender, unfinished: Option<Canceller>) -> *mut stk_sender {
        let item = Lent::new(stk_args::item());
        Box::into_raw(Box::new(stk_sender { inner, item, unfinished, poison: Poison::default() }))
    }

    fn send(&mut self, timeout: Duration) -> Checked<()> {
        // SAFETY: functions on the item have returned: it belongs to the sender, which is this function's alone.
        let item = unsafe { self.item.get_mut() };
        let sent = match item.whole_item() {
            Ok(item) => self.inner.send_for(item, timeout).map_err(Fault::from),
            Err(fault) => Err(fault),
        };
        if let Err(What::There(error)) = sent.as_ref().map_err(|fault| &**fault)
            && is_own_patience(error)
        {
            return Err(Fault::here(STK_PENDING, "there is no room for the item yet"));
        }
        *item = stk_args::item();
        sent
    }
}

/// Whether the time that passed is that of the wait, and not the call's.
fn is_own_patience(error: &Error) -> bool {
    matches!(error.kind(), Kind::Deadline { limit: Limit::Item, .. })
}

impl Drop for stk_sender {
    fn drop(&mut self) {
        // Before the direction is finished, as it is when `inner` is dropped.
        if let Some(canceller) = self.unfinished.take() {
            canceller.cancel();
        }
    }
}

/// Where the next item is put together, with the functions of arguments (stk_args_push_i64 and so on): one value, in which
/// there may be leases of this client, lent in place. The same pointer each time; it belongs to the sender: it is not to be
/// freed, nor sent as arguments, both of which are refused. NULL for NULL.
///
/// A lease that was sent may be written again (stk_lease_writable) when the app has let go of the item and of all before it,
/// and the sender has looked: in stk_sender_send and stk_sender_reclaim. One that is freed first leaves that to the end of the
/// call, when the stream and all its items are freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sender_item(sender: *mut stk_sender) -> *mut stk_args {
    // SAFETY: the caller's promise.
    match unsafe { exclusive(sender, stk_sender::NAME) } {
        Ok(sender) => sender.item.pointer(),
        Err(_) => ptr::null_mut(),
    }
}

/// Sends what was put into stk_sender_item; nothing put in is the item none. Waits while there is no room, without spinning,
/// for at most `timeout_ms`: 0 looks and does not wait, except to ask the arbiter where a large item needs more shared memory,
/// STK_FOREVER waits as long as it takes. At most 1,024 items, 32 KiB of small ones and 8 MiB of large ones (whose encoding has
/// more than 448 bytes, and leases) are on their way, and an item that the app holds is, with all behind it.
///
/// STK_PENDING, without an error object: there was no room in time, and the item is as it was, to be sent again; so it is after
/// STK_REENTRANT. After everything else stk_sender_item is empty. STK_CLOSED: the call has ended, the direction was finished, or
/// the app has started no context; how the call ended comes from its stream. STK_DEADLINE: the call's own has passed;
/// STK_ARBITER_DIED; STK_OVERLOADED, STK_BAD_REQUEST, STK_STALE_LEASE and STK_OS as for arguments; STK_INVALID if a function on
/// the item failed; STK_PROTOCOL if the worker's memory is damaged, and then again; STK_FORKED. The item was not sent then.
///
/// Blocks the calling thread, and no other. A host that only sends, to an app that only sends, waits for ever: take and send on
/// two threads, or with limits.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sender_send(
    sender: *mut stk_sender,
    timeout_ms: u64,
    error: *mut *mut stk_error,
) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_exclusive(sender, error, |sender| {
            not_in_log_callback()?;
            sender.send(timeout_of(timeout_ms))
        })
    }
}

/// Looks which items the app has let go of, as stk_sender_send does: leases that went with them may be written again then. Does
/// not block. STK_PROTOCOL if the worker's memory is damaged. In a copy by fork it does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sender_reclaim(sender: *mut stk_sender) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_exclusive(sender, ptr::null_mut(), |sender| {
            not_in_log_callback()?;
            Ok(sender.inner.reclaim()?)
        })
    }
}

/// No further item comes: the app is told so, behind the items that were sent (stk_inbox_next says STK_END), and the call goes
/// on. What was put together and not sent is not sent. A second time it changes nothing. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sender_finish(sender: *mut stk_sender) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_exclusive(sender, ptr::null_mut(), |sender| {
            not_in_log_callback()?;
            sender.inner.finish();
            sender.unfinished = None;
            Ok(())
        })
    }
}

/// Frees the handle, and its item. A call that goes on is cancelled, unless stk_sender_finish was called: STK_CANCELLED comes
/// out of its stream. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sender_free(sender: *mut stk_sender) {
    // SAFETY: the caller's promise.
    unsafe { free(sender) }
}

const _: () = {
    const fn of_any_thread<T: Send>() {}
    // As the header says of a sender.
    of_any_thread::<Sender>();
    of_any_thread::<stk_args>();
};
