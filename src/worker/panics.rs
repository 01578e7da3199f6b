//! A panic in an app becomes an error of its call, with text and backtrace.

use crate::error::AppError;
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    /// Text and backtrace of this thread's last panic.
    static LAST: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
    /// How many [`catch`] this thread is in.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
}

/// Installs the worker's panic hook: keeps text, place and backtrace for the call that panicked, and prints what is no
/// call's. Once a process, before its app threads start.
pub fn install() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|l| format!(" at {l}")).unwrap_or_default();
        let message = format!("{}{place}", text(info.payload()));
        let trace = Backtrace::force_capture().to_string();
        let keep = |last: &RefCell<_>| last.try_borrow_mut().map(|mut last| *last = Some((message, trace)));
        let kept = LAST.try_with(keep).is_ok_and(|kept| kept.is_ok());
        // A thread of the app's own that nobody listens to.
        if !kept || CATCHING.try_with(Cell::get).is_ok_and(|depth| depth == 0) {
            print(info);
        }
    }));
}

/// Runs `f`; a panic comes back as the error that its caller gets.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Box<AppError>> {
    let depth = |by: i32| CATCHING.with(|depth| depth.set(depth.get().wrapping_add_signed(by)));
    depth(1);
    let outcome = panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let last = || LAST.with(|last| last.borrow_mut().take());
        let (message, traceback) = last().unwrap_or_else(|| (text(&*payload), String::new()));
        // The payload may be anything, and dropping it may panic again, and so on: that must not take the worker along.
        if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            last();
            if !again.is::<&str>() && !again.is::<String>() {
                std::mem::forget(again);
            }
        }
        Box::new(AppError { traceback, ..AppError::new(CLASS, message) })
    });
    depth(-1);
    outcome
}

/// Drops what an app has made: a panic of that goes no further.
pub fn discard<T>(what: T) {
    if let Err(panic) = catch(|| drop(what)) {
        log::debug!("an app's value that was not used: {}", panic.message);
    }
}

/// The panic that this thread is in, if it is in one: for what is dropped by it.
pub fn current() -> Option<AppError> {
    let last = || LAST.try_with(|last| last.try_borrow().ok()?.clone()).ok()?;
    std::thread::panicking().then(|| {
        let (message, traceback) = last().unwrap_or_else(|| ("panicked".to_owned(), String::new()));
        AppError { traceback, ..AppError::new(CLASS, message) }
    })
}

/// The class of the error that a panic becomes.
const CLASS: &str = "Panic";

fn text(payload: &(dyn Any + Send)) -> String {
    match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(s), _) => format!("panicked: {s}"),
        (_, Some(s)) => format!("panicked: {s}"),
        _ => "panicked".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_place_survive() {
        let error = catch(|| panic!("the {} is out", "fire")).unwrap_err();
        assert!(error.message.starts_with("panicked: the fire is out"));
        assert_eq!(error.class, "Panic");
    }

    #[test]
    fn what_an_app_panics_with_is_let_go_of() {
        let payload = std::sync::Arc::new(());
        let theirs = payload.clone();
        assert!(catch(|| panic::panic_any(theirs)).is_err());
        assert_eq!(std::sync::Arc::strong_count(&payload), 1);
    }

    #[test]
    fn a_payload_whose_drop_panics_is_harmless() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(catch(|| panic::panic_any(Bomb)).unwrap_err().message, "panicked");
    }
}
