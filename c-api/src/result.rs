//! What a call returned.

use crate::fault::Checked;
use crate::guard::{Handle, Out, Poison, free, guard_handle, shared};
use crate::inbox::Taken;
use crate::status::*;
use crate::text::{stk_bytes, stk_str};
use crate::value::{self, stk_value};
use std::ptr;
use stokehold::{Response, ValueRef};

/// What a call returned, or an item of one. Yours to free, in any order with everything else; until then it holds one of its
/// client's 64 calls and the worker's memory, and what was read from it stays valid. It may be read by several threads at a
/// time. In an app, the items of an stk_inbox are results as well, which last until the app's function returns at most.
pub struct stk_result {
    content: Content,
    poison: Poison,
}

/// Whose memory it may be in.
pub(crate) enum Content {
    /// A worker's.
    Response(Response),
    /// The opener's of a context. In a box, so that the other kind is no larger for it.
    Received(Box<Taken>),
}

impl From<Response> for Content {
    #[inline]
    fn from(response: Response) -> Content {
        Content::Response(response)
    }
}

impl Content {
    #[inline]
    fn value(&self) -> stokehold::Result<ValueRef<'_>> {
        match self {
            Content::Response(response) => response.value(),
            Content::Received(taken) => taken.value(),
        }
    }
}

impl Handle for stk_result {
    const NAME: &'static str = "result";

    fn poison(&self) -> &Poison {
        &self.poison
    }
}

impl stk_result {
    /// In a box. Moves the content only once.
    #[inline]
    pub(crate) fn boxed(content: impl Into<Content>) -> *mut stk_result {
        let place = Box::into_raw(Box::<stk_result>::new_uninit()).cast::<stk_result>();
        // SAFETY: memory for a `stk_result`, of which all fields are written before anybody reads it.
        unsafe {
            (&raw mut (*place).content).write(content.into());
            (&raw mut (*place).poison).write(Poison::default());
        }
        place
    }
}

/// The place where C wants the result of a call, if it wants it.
pub(crate) struct Place(Option<Out<*mut stk_result>>);

impl Place {
    #[inline]
    pub(crate) unsafe fn new(result: *mut *mut stk_result) -> Checked<Place> {
        if result.is_null() {
            return Ok(Place(None));
        }
        // SAFETY: the promise of this function's caller.
        Ok(Place(Some(unsafe { Out::new(result, "result") }?)))
    }

    /// Something else than the result of a call; what is not wanted is let go of.
    pub(crate) fn put(self, result: impl FnOnce() -> *mut stk_result) {
        if let Some(out) = self.0 {
            out.write(result());
        }
    }

    /// What became of the call.
    #[inline]
    pub(crate) fn take(self, outcome: stokehold::Result<Response>) -> Checked<()> {
        match (outcome, self.0) {
            (Ok(response), Some(out)) => out.write(stk_result::boxed(response)),
            (Ok(response), None) => drop(response),
            (Err(error), _) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Lets go of the result. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_free(result: *mut stk_result) {
    // SAFETY: the caller's promise.
    unsafe { free(result) }
}

/// Which incarnation of a worker ran the call: 1 for the first that the pool started, and so on. 0 for NULL, and for what an
/// opener sent.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_worker(result: *const stk_result) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { shared(result, "result") }.map_or(0, |result| match &result.content {
        Content::Response(response) => u32::from(response.life()),
        Content::Received(_) => 0,
    })
}

unsafe fn read<T>(
    result: *const stk_result,
    out: *mut T,
    take: impl for<'v> FnOnce(ValueRef<'v>) -> Checked<T>,
) -> stk_status {
    // SAFETY: the caller's promise for both.
    unsafe {
        guard_handle(result, ptr::null_mut(), |result| {
            let out = Out::new(out, "out")?;
            out.write(take(result.content.value()?)?);
            Ok(())
        })
    }
}

/// The result as a value, for lists and dicts.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_value(result: *const stk_result, value: *mut stk_value) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        guard_handle(result, ptr::null_mut(), |result| {
            Out::new(value, "value")?.write(stk_value::of(result.content.value()?));
            Ok(())
        })
    }
}

/// The result as a truth value. STK_VALUE if it is something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_bool(result: *const stk_result, out: *mut bool) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(result, out, value::to_bool) }
}

/// The result as an integer. STK_VALUE if it is something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_i64(result: *const stk_result, out: *mut i64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(result, out, value::to_i64) }
}

/// The result as a number; an integer becomes one if there is one that is equal to it. STK_VALUE if it is
/// something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_f64(result: *const stk_result, out: *mut f64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(result, out, value::to_f64) }
}

/// The result as text. STK_VALUE if it is something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_str(result: *const stk_result, out: *mut stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(result, out, value::to_str) }
}

/// The result as bytes, in the worker's memory if it built them there: read, never write. STK_VALUE if it is something
/// else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_result_bytes(result: *const stk_result, out: *mut stk_bytes) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(result, out, value::to_bytes) }
}
