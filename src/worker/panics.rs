//! A panic in an app becomes an error of its call, with text and backtrace.

use crate::error::AppError;
use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};

thread_local! {
    static LAST: RefCell<Option<(String, String)>> = const { RefCell::new(None) };
}

/// Installs the worker's panic hook: keeps place and backtrace for the call that panicked. Once a process, before
/// its app threads start.
pub fn install() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(|l| format!(" at {l}")).unwrap_or_default();
        let trace = Backtrace::force_capture().to_string();
        let kept =
            LAST.try_with(|last| last.try_borrow_mut().map(|mut last| *last = Some((place, trace))).is_ok());
        if kept != Ok(true) {
            print(info);
        }
    }));
}

/// Runs `f`; a panic comes back as the error that its caller gets.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, AppError> {
    panic::catch_unwind(AssertUnwindSafe(f)).map_err(|payload| {
        let (place, traceback) = LAST.with(|last| last.borrow_mut().take()).unwrap_or_default();
        let message = format!("{}{place}", text(&*payload));
        // The payload may be anything, and dropping it may panic again: that must not take the worker along.
        std::mem::forget(payload);
        AppError { class: "Panic".to_owned(), message, traceback }
    })
}

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
