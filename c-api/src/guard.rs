//! The way into a function of the interface and out of it: pointers are checked, a panic becomes a status, and what
//! went wrong is handed over.

use crate::error::stk_error;
use crate::fault::{Checked, Fault};
use crate::status::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs the body of a function.
#[inline]
pub(crate) fn guard(error: *mut *mut stk_error, body: impl FnOnce() -> Checked<()>) -> stk_status {
    finish(error, caught(body).unwrap_or_else(Err))
}

/// Runs the body of a function that uses a handle. After a panic in it the handle refuses everything.
#[inline]
pub(crate) unsafe fn guard_handle<H: Handle>(
    pointer: *const H,
    error: *mut *mut stk_error,
    body: impl FnOnce(&H) -> Checked<()>,
) -> stk_status {
    // What `body` brought along is dropped inside, too.
    let outcome = caught(|| {
        // SAFETY: the caller's promise for its handle.
        let handle = unsafe { shared(pointer, H::NAME) }?;
        handle.poison().check(H::NAME)?;
        body(handle)
    });
    // SAFETY: the caller's promise for its handle.
    finish(error, outcome.unwrap_or_else(|panic| Err(unsafe { poisoned(pointer, panic) })))
}

/// The same for a handle that the function has to itself.
#[inline]
pub(crate) unsafe fn guard_exclusive<H: Handle>(
    pointer: *mut H,
    error: *mut *mut stk_error,
    body: impl FnOnce(&mut H) -> Checked<()>,
) -> stk_status {
    let outcome = caught(|| {
        // SAFETY: the caller's promise for its handle, which nobody else uses now.
        let handle = unsafe { exclusive(pointer, H::NAME) }?;
        handle.poison().check(H::NAME)?;
        body(handle)
    });
    // SAFETY: the caller's promise for its handle; what `body` was lent is gone.
    finish(error, outcome.unwrap_or_else(|panic| Err(unsafe { poisoned(pointer, panic) })))
}

/// Runs the body of a function that makes another object of a handle, which is handed out through `out`.
pub(crate) unsafe fn guard_maker<H: Handle, T>(
    pointer: *const H,
    out: *mut *mut T,
    what: &'static str,
    error: *mut *mut stk_error,
    make: impl FnOnce(&H) -> Checked<*mut T>,
) -> stk_status {
    // SAFETY: the promise of this function's caller for all of them.
    unsafe {
        guard_handle(pointer, error, |handle| {
            not_in_log_callback()?;
            let out = Out::new(out, what)?;
            out.write(make(handle)?);
            Ok(())
        })
    }
}

/// The outer error is a panic in here; the inner one may say STK_PANIC as well, of another handle's.
#[inline]
fn caught(body: impl FnOnce() -> Checked<()>) -> Result<Checked<()>, Fault> {
    // What a panic leaves half done is behind a poisoned handle, or is dropped.
    catch_unwind(AssertUnwindSafe(|| {
        #[cfg(feature = "test-hooks")]
        crate::hooks::panic_if_asked();
        body()
    }))
    .map_err(Fault::panicked)
}

/// After a panic over this handle.
#[cold]
unsafe fn poisoned<H: Handle>(pointer: *const H, panic: Fault) -> Fault {
    // SAFETY: the caller's promise for its handle.
    if let Ok(handle) = unsafe { shared(pointer, H::NAME) } {
        handle.poison().0.store(true, Ordering::Relaxed);
    }
    panic
}

#[inline]
fn finish(error: *mut *mut stk_error, outcome: Checked<()>) -> stk_status {
    match outcome {
        Ok(()) => STK_OK,
        Err(fault) => hand_over(error, fault),
    }
}

#[cold]
fn hand_over(error: *mut *mut stk_error, fault: Fault) -> stk_status {
    let status = fault.status();
    // That there is nothing yet, or nothing more, is no failure, and asked for often.
    if !matches!(status, STK_PENDING | STK_END) && !error.is_null() && error.is_aligned() {
        let made = catch_unwind(AssertUnwindSafe(|| stk_error::new(fault)))
            .unwrap_or_else(|payload| stk_error::new(Fault::panicked(payload)));
        // SAFETY: the caller's promise for its output.
        unsafe { error.write(Box::into_raw(Box::new(made))) };
    }
    status
}

/// An object that is given away; NULL is none.
pub(crate) unsafe fn owned<T>(object: *mut T, what: &'static str) -> Checked<Option<Box<T>>> {
    if object.is_null() {
        return Ok(None);
    }
    if !object.is_aligned() {
        return Err(bad_pointer(false, what));
    }
    // SAFETY: the caller's promise: it has the object from this library, which boxed it, and does not use it again.
    Ok(Some(unsafe { Box::from_raw(object) }))
}

/// Frees an object; NULL is nothing, and what cannot be one is left alone.
pub(crate) unsafe fn free<T>(object: *mut T) {
    // SAFETY: the caller's promise.
    free_owned(unsafe { owned(object, "object") });
}

/// The same of what [`owned`] made of it.
pub(crate) fn free_owned<T>(object: Checked<Option<Box<T>>>) {
    match object {
        Ok(object) => {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(object))) {
                log::error!("{}", Fault::panicked(payload).text());
            }
        }
        Err(fault) => log::error!("not freed: {}", fault.text()),
    }
}

/// An object that came in by pointer.
#[inline]
pub(crate) unsafe fn shared<'a, T>(pointer: *const T, what: &'static str) -> Checked<&'a T> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(bad_pointer(pointer.is_null(), what));
    }
    // SAFETY: neither NULL nor misaligned, as just checked; that it points to a `T` is the caller's promise.
    Ok(unsafe { &*pointer })
}

/// An object that came in by pointer, for the function alone.
#[inline]
pub(crate) unsafe fn exclusive<'a, T>(pointer: *mut T, what: &'static str) -> Checked<&'a mut T> {
    if pointer.is_null() || !pointer.is_aligned() {
        return Err(bad_pointer(pointer.is_null(), what));
    }
    // SAFETY: neither NULL nor misaligned, as just checked; that it points to a `T` that nobody else uses now is the
    // caller's promise.
    Ok(unsafe { &mut *pointer })
}

/// A place for an output.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    #[inline]
    pub(crate) unsafe fn new(pointer: *mut T, what: &'static str) -> Checked<Out<T>> {
        if pointer.is_null() || !pointer.is_aligned() {
            return Err(bad_pointer(pointer.is_null(), what));
        }
        Ok(Out(pointer))
    }

    /// Writes it, without looking at what is there: C need not have initialised it.
    #[inline]
    pub(crate) fn write(self, value: T) {
        // SAFETY: `new` found it neither NULL nor misaligned; that it may be written is the promise of its caller.
        unsafe { self.0.write(value) }
    }
}

#[cold]
fn bad_pointer(null: bool, what: &'static str) -> Fault {
    Fault::invalid(format!("`{what}` is {}", if null { "NULL" } else { "not aligned" }))
}

/// An object that functions work on one after another.
pub(crate) trait Handle {
    /// What it is called in messages.
    const NAME: &'static str;

    /// Whether a function panicked over it.
    fn poison(&self) -> &Poison;
}

/// Set by a panic: what it left half done is not touched again.
#[derive(Default)]
pub(crate) struct Poison(AtomicBool);

impl Poison {
    #[inline]
    pub(crate) fn check(&self, what: &'static str) -> Checked<()> {
        if self.0.load(Ordering::Relaxed) { Err(Poison::refusal(what)) } else { Ok(()) }
    }

    #[cold]
    fn refusal(what: &'static str) -> Fault {
        let why = format!("an earlier panic of the library left `{what}` unusable; it can only be freed");
        Fault::here(STK_PANIC, why)
    }
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// Runs a log callback: meanwhile this thread's calls into the library are refused, since it may hold the library's
/// locks.
pub(crate) fn in_log_callback(callback: impl FnOnce()) {
    // A message of the library's that a callback causes is dropped: it would not end.
    if IN_CALLBACK.try_with(|within| within.replace(true)) == Ok(false) {
        callback();
        let _ = IN_CALLBACK.try_with(|within| within.set(false));
    }
}

/// For functions that may wait or take locks.
#[inline]
pub(crate) fn not_in_log_callback() -> Checked<()> {
    if IN_CALLBACK.try_with(Cell::get) == Ok(true) {
        return Err(Fault::here(STK_REENTRANT, "called from within a log callback"));
    }
    Ok(())
}
