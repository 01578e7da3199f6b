//! Which library this is.

use std::ffi::c_char;

/// The version that this header belongs to. While the major version is 0, a program wants the same minor version.
pub const STK_VERSION_MAJOR: u32 = 0;
/// See STK_VERSION_MAJOR.
pub const STK_VERSION_MINOR: u32 = 1;
/// See STK_VERSION_MAJOR.
pub const STK_VERSION_PATCH: u32 = 0;

/// The version of the library that the program runs with: major * 1000000 + minor * 1000 + patch. May be called from
/// anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn stk_version() -> u32 {
    STK_VERSION_MAJOR * 1_000_000 + STK_VERSION_MINOR * 1_000 + STK_VERSION_PATCH
}

/// The same as text, such as "0.1.0". A constant that lives for ever. May be called from anywhere.
#[unsafe(no_mangle)]
pub extern "C" fn stk_version_text() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

const _: () = {
    const fn number(text: &str) -> u32 {
        let mut n = 0;
        let mut i = 0;
        while i < text.len() {
            n = n * 10 + (text.as_bytes()[i] - b'0') as u32;
            i += 1;
        }
        n
    }

    assert!(number(env!("CARGO_PKG_VERSION_MAJOR")) == STK_VERSION_MAJOR);
    assert!(number(env!("CARGO_PKG_VERSION_MINOR")) == STK_VERSION_MINOR);
    assert!(number(env!("CARGO_PKG_VERSION_PATCH")) == STK_VERSION_PATCH);
};
