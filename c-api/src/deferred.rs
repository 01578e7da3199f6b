//! A call that is answered later, from any thread.

use crate::app::{Call, failure, stk_call};
use crate::fault::Fault;
use crate::guard::{
    Handle, Out, Poison, free, guard_exclusive, guard_handle, not_in_log_callback, owned, shared,
};
use crate::lease::{Made, stk_lease};
use crate::reply::{Reply, stk_reply};
use crate::status::*;
use crate::text::c_uintptr;
use crate::value::stk_value;
use std::ptr;
use stokehold::{Deferred, ValueRef};

/// A call whose answer comes later, in a worker: see stk_call_defer. Yours: put the answer together on stk_deferred_reply and
/// give the handle to stk_deferred_answer, on any thread. Freed instead, or lost with a thread of yours, it is answered with
/// STK_APP, class "Dropped".
///
/// Until then the call runs as far as its caller and the pool are concerned: what the caller lent stays lent, its deadline
/// counts, and a worker that is told to leave waits for it within the grace that was configured. A call that nobody waits
/// for any more (stk_deferred_is_cancelled) is to be answered or freed soon: the worker is replaced otherwise, as with
/// any other call.
pub struct stk_deferred {
    made: Made,
    reply: Reply,
    inner: Deferred,
    poison: Poison,
}

impl Handle for stk_deferred {
    const NAME: &'static str = "deferred";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_deferred {
    fn boxed(inner: Deferred) -> *mut stk_deferred {
        let (made, reply) = (Made::default(), Reply::new(0));
        let mut deferred = Box::new(stk_deferred { made, reply, inner, poison: Poison::default() });
        // Where it lies is which call it is: its leases bear that.
        deferred.reply = Reply::new(ptr::from_ref(&*deferred).addr());
        Box::into_raw(deferred)
    }
}

/// Gets the handle of a deferred call, in a worker process, on the thread that ran the app's function, once that has
/// returned STK_OK. Another thread answers it, or this one here and now. It must return; see stk_app_call_fn.
pub type stk_deferred_fn = Option<unsafe extern "C-unwind" fn(user: c_uintptr, deferred: *mut stk_deferred)>;

/// Answers the call later: the thread takes the next one. In place of a value in `reply`; return STK_OK then, and `then` is
/// called with `user` and the handle. Where the app returns anything else, `then` is never called, and `user` stays yours.
///
/// What is to be kept of the arguments must be copied, or read once more from the handle (stk_deferred_args).
/// STK_OVERLOADED when this worker has deferred 128 calls; an app that returns that tells its caller STK_APP, class
/// "Overloaded".
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_call_defer(
    call: *const stk_call,
    reply: *mut stk_reply,
    user: c_uintptr,
    then: stk_deferred_fn,
) -> stk_status {
    // SAFETY: the caller's promise for both: those that it was given, whose call still runs.
    unsafe {
        Call::with(call, |call| {
            let then = then.ok_or_else(|| Fault::invalid("`then` is NULL"))?;
            let reply = crate::guard::exclusive(reply.cast::<Reply>(), Reply::NAME)?;
            reply.poison().check(Reply::NAME)?;
            reply.defer(|| {
                Ok(call.ctx().defer(move |later| {
                    // SAFETY: a function of this type, by the caller's promise; it gets the handle for its own.
                    then(user, stk_deferred::boxed(later));
                })?)
            })
        })
    }
}

/// Where the answer is put together, with the functions of a reply. It belongs to the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_reply(deferred: *mut stk_deferred) -> *mut stk_reply {
    // SAFETY: the caller's promise; the type is an opaque name of this one.
    match unsafe { crate::guard::exclusive(deferred, stk_deferred::NAME) } {
        Ok(deferred) => ptr::from_mut(&mut deferred.reply).cast(),
        Err(_) => ptr::null_mut(),
    }
}

/// Answers the call and consumes the handle: with STK_OK what was put into its reply, otherwise as if the app's function had
/// returned this status. Wakes the caller; does not block. NULL is STK_INVALID.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_answer(deferred: *mut stk_deferred, status: stk_status) -> stk_status {
    crate::guard::guard(ptr::null_mut(), || {
        // SAFETY: the caller's promise: it gives the handle away.
        let deferred = unsafe { owned(deferred, stk_deferred::NAME) }?;
        let deferred = deferred.ok_or_else(|| Fault::invalid("`deferred` is NULL"))?;
        let stk_deferred { made: _made, mut reply, inner, poison } = *deferred;
        inner.answer(match poison.check(stk_deferred::NAME) {
            Ok(()) if status == STK_OK => reply.finish(false),
            Ok(()) => Err(failure(status, "the deferred call", &mut reply, [None, None, None])),
            Err(fault) => Err(stokehold::Error::app("Reply", fault.text())),
        });
        Ok(())
    })
}

/// Lets go of the call without an answer: its caller has STK_APP, class "Dropped". NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_free(deferred: *mut stk_deferred) {
    // SAFETY: the caller's promise.
    unsafe { free(deferred) }
}

/// All positional arguments once more, as a list. What the caller lent is read in its memory. They last until the call is
/// answered.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_args(
    deferred: *const stk_deferred,
    list: *mut stk_value,
) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_handle(deferred, ptr::null_mut(), |deferred| {
            let out = Out::new(list, "list")?;
            out.write(stk_value::of(ValueRef::List(deferred.inner.args()?.values())));
            Ok(())
        })
    }
}

/// All named arguments once more, as a dict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_named_args(
    deferred: *const stk_deferred,
    dict: *mut stk_value,
) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_handle(deferred, ptr::null_mut(), |deferred| {
            let out = Out::new(dict, "dict")?;
            out.write(stk_value::of(ValueRef::Dict(deferred.inner.args()?.named_values())));
            Ok(())
        })
    }
}

/// Memory for the result, as stk_call_lease; for stk_reply_lease on this handle's reply. What is not given away is released
/// with the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_lease(
    deferred: *mut stk_deferred,
    size: usize,
    lease: *mut stk_lease,
) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_exclusive(deferred, ptr::null_mut(), |deferred| {
            not_in_log_callback()?;
            let out = Out::new(lease, "lease")?;
            let id = ptr::from_ref(deferred).addr();
            out.write(deferred.made.keep(deferred.inner.lease(size)?, id)?);
            Ok(())
        })
    }
}

/// Says that the app is at work on the call: the pool's timeout counts from now. A deadline that the caller itself set is
/// its own, and holds. Cheap: no system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_keep_alive(deferred: *const stk_deferred) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(deferred, ptr::null_mut(), |deferred| {
            deferred.inner.keep_alive();
            Ok(())
        })
    }
}

/// Whether nobody waits for the answer any more. One look at a word of memory. True for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_is_cancelled(deferred: *const stk_deferred) -> bool {
    // SAFETY: the caller's promise.
    let deferred = unsafe { shared(deferred, stk_deferred::NAME) };
    deferred.ok().is_none_or(|deferred| deferred.inner.is_cancelled())
}

/// When the caller stops waiting: nanoseconds of CLOCK_MONOTONIC; 0 if it will not.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_deferred_deadline_ns(deferred: *const stk_deferred) -> u64 {
    // SAFETY: the caller's promise.
    let deferred = unsafe { shared(deferred, stk_deferred::NAME) };
    deferred.ok().and_then(|deferred| deferred.inner.deadline_ns()).unwrap_or(0)
}
