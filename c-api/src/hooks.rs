//! What the tests of this package need inside the library.

use std::cell::Cell;

thread_local! {
    static PANIC_NEXT: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn panic_if_asked() {
    if PANIC_NEXT.with(Cell::take) {
        panic!("a test asked for this");
    }
}

/// The next function that this thread calls panics inside.
#[unsafe(no_mangle)]
pub extern "C" fn stk_test_panic_next() {
    PANIC_NEXT.with(|next| next.set(true));
}
