//! The items of a call, as its app sends them.

use crate::app::{Call, stk_call};
use crate::fault::{Checked, Fault};
use crate::guard::{Handle, Out, Poison, exclusive, guard_exclusive, not_in_log_callback};
use crate::init::read_sized;
use crate::lent::Lent;
use crate::reply::{Item, Reply, stk_reply};
use crate::status::*;
use std::ptr;
use stokehold::{Flow, Sink};

/// The way of a call's items to its caller, who has them in the order in which they were sent, before the call's reply or
/// error. Belongs to the call: it is gone when the app's function returns. Until then any thread may use it, with its item, one
/// at a time.
///
///     if (stk_call_sink(call, NULL, &sink)) return STK_APP;
///     for (i = 0; i < n; i++) {
///         stk_reply_i64(stk_sink_item(sink), i);
///         if ((status = stk_sink_send(sink))) return status;
///     }
///     return STK_OK;                       // or a reply: the stream's value
pub struct stk_sink(());

/// How much of a stream may be on its way, and what happens when it is more. Zero it, then set `struct_size` and what you want.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stk_flow {
    /// sizeof(stk_flow).
    pub struct_size: usize,
    /// At most so many items that the caller has not freed; 0 for 1,024. What fits into the ring's 32 KiB is a bound as well.
    pub items: u64,
    /// At most so many bytes of leases and large items (see stk_sink_send) that the caller has not freed; 0 for 8 MiB. An item
    /// that is larger goes alone.
    pub bytes: u64,
    /// 1: stk_sink_send does not wait for room, but says STK_OVERRUN.
    pub or_fail: u32,
    /// 0.
    pub reserved: u32,
}

/// What an `stk_sink` really is.
pub(crate) struct Items<'c> {
    inner: Sink<'c>,
    /// The next item.
    item: Lent<Reply>,
    /// What was found wrong last, for an app that returns its status and says no more.
    found: Option<Fault>,
    poison: Poison,
}

impl Handle for Items<'_> {
    const NAME: &'static str = "sink";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl<'c> Items<'c> {
    /// `call` is which call of this process it is.
    pub(crate) fn new(inner: Sink<'c>, call: usize) -> Items<'c> {
        Items { inner, item: Lent::new(Reply::new(call)), found: None, poison: Poison::default() }
    }

    fn send(&mut self) -> Checked<()> {
        // SAFETY: functions on the item have returned: it belongs to the sink, which is this function's alone.
        let item = unsafe { self.item.get_mut() };
        match item.take_item()? {
            Item::Value(value) => self.inner.send(value)?,
            Item::Lease(lease) => self.inner.send(lease)?,
        }
        Ok(())
    }

    /// What was found wrong last.
    pub(crate) fn take_found(&mut self) -> Option<Fault> {
        self.found.take()
    }

    /// Whether something was put together that was not sent.
    pub(crate) fn has_unsent(&self) -> bool {
        // SAFETY: as in `send`.
        !unsafe { self.item.get() }.is_untouched()
    }
}

/// Announces to the caller that the call answers with a stream, and gives the way for its items. `flow` may be NULL. A call has
/// one sink: a second time it is the same one, and `flow` is not looked at. What is put into the call's reply in the end is
/// what the stream's consumer has behind the items (stk_stream_value); nothing put in is nothing. Such a call cannot be
/// deferred.
///
/// STK_OVERLOADED if the worker has no memory for a stream.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_sink(
    call: *const stk_call,
    flow: *const stk_flow,
    sink: *mut *mut stk_sink,
) -> stk_status {
    // SAFETY: the caller's promise for all of them.
    unsafe {
        Call::with(call, |call| {
            not_in_log_callback()?;
            let out = Out::new(sink, "sink")?;
            let mut sink = call.sink();
            let lent = match &mut *sink {
                Some(lent) => lent,
                none => {
                    let inner = call.ctx().sink_with(read_flow(flow)?)?;
                    none.insert(Lent::new(Items::new(inner, call.id())))
                }
            };
            out.write(lent.pointer().cast());
            Ok(())
        })
    }
}

/// Where the next item is put together, with the functions of a reply: a value, or a lease of this call (stk_call_lease,
/// stk_reply_lease), which the caller reads where it lies. The same pointer each time; it belongs to the sink. NULL for NULL.
/// An item cannot fail or be deferred: stk_reply_fail and stk_call_defer are for the call's own reply.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sink_item(sink: *mut stk_sink) -> *mut stk_reply {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    match unsafe { exclusive(sink.cast::<Items<'_>>(), "sink") } {
        Ok(items) => items.item.pointer().cast(),
        Err(_) => ptr::null_mut(),
    }
}

/// Sends what was put into stk_sink_item, which is empty then, whatever is returned (but STK_REENTRANT); nothing put in is the
/// item none. Blocks while there is no room, without spinning, unless the stream is one that fails instead. An item is a large
/// one if its encoding has more than 448 bytes, some twenty of which are not its own: it takes memory of its own.
///
/// STK_CANCELLED once nobody waits for the call any more, which also ends the wait; STK_STALLED if the caller freed no item for
/// longer than the pool's limit (stk_config_set_stall_ms); STK_OVERRUN if there is no room and the stream does not wait: the
/// item is not sent, further ones may be; for a large item STK_OVERLOADED if there is no memory and STK_BAD_REQUEST past 1 GiB.
/// An app that returns one of these makes it the call's outcome, behind the items that were sent. STK_CLOSED after
/// stk_sink_finish; STK_OS when the memory file system is full; STK_PROTOCOL if the caller's memory is damaged; STK_INVALID if a
/// function on the item failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sink_send(sink: *mut stk_sink) -> stk_status {
    // SAFETY: the caller's promise: it is the sink that it was given, whose call still runs. The type is its opaque name.
    unsafe {
        guard_exclusive(sink.cast::<Items<'_>>(), ptr::null_mut(), |items| {
            not_in_log_callback()?;
            items.send().map_err(|fault| {
                let status = fault.status();
                items.found = Some(fault);
                Fault::here(status, "")
            })
        })
    }
}

/// No further item comes from the app: what its caller takes ends there, with STK_END, and the call goes on. What is sent
/// afterwards is STK_CLOSED. A second time it changes nothing. Does not block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_sink_finish(sink: *mut stk_sink) -> stk_status {
    // SAFETY: as above.
    unsafe {
        guard_exclusive(sink.cast::<Items<'_>>(), ptr::null_mut(), |items| {
            not_in_log_callback()?;
            items.inner.finish();
            Ok(())
        })
    }
}

const _: () = {
    const fn of_any_thread<T: Send>() {}
    // As the header says of a sink.
    of_any_thread::<Sink<'_>>();
    of_any_thread::<Reply>();
};

unsafe fn read_flow(flow: *const stk_flow) -> Checked<Flow> {
    if flow.is_null() {
        return Ok(Flow::default());
    }
    // SAFETY: the promise of this function's caller.
    let flow: stk_flow = unsafe { read_sized(flow, "flow") }?;
    if flow.or_fail > 1 || flow.reserved != 0 {
        return Err(Fault::invalid("`flow->or_fail` is not 0 or 1, or `reserved` not 0"));
    }
    let mut made = Flow::new();
    if flow.items > 0 {
        made = made.items(flow.items);
    }
    if flow.bytes > 0 {
        made = made.bytes(flow.bytes);
    }
    Ok(if flow.or_fail == 1 { made.or_fail() } else { made })
}
