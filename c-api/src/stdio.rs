//! C's own buffers for output, of which Rust knows nothing.

use std::ffi::{c_int, c_void};

// `libc` would bring the same declaration.
#[allow(unused_doc_comments)]
/// cbindgen:ignore
unsafe extern "C" {
    fn fflush(stream: *mut c_void) -> c_int;
}

/// Writes out what was printed and is still in memory: a worker leaves without the exit handlers that would.
pub(crate) fn flush() {
    // SAFETY: NULL is all streams that are open for output; see fflush(3).
    unsafe { fflush(std::ptr::null_mut()) };
}
