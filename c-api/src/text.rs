//! Text and bytes as they cross the border: a pointer and a length.

use crate::fault::{Checked, Fault};
use std::ffi::{OsStr, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// UTF-8 text: pointer and length, without a terminating zero. NULL with length 0 is the empty text. STK_STR makes one
/// of a string literal, stk_str_from of a `char *`.
///
/// As an input it need only last until the function returns. As an output it lasts as long as what it was read from,
/// and nobody writes to it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stk_str {
    /// The first byte.
    pub data: *const c_char,
    /// How many bytes.
    pub len: usize,
}

/// Bytes that may be read: pointer and length, as stk_str. NULL with length 0 is no bytes.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct stk_bytes {
    /// The first byte.
    pub data: *const c_void,
    /// How many bytes.
    pub len: usize,
}

impl stk_str {
    #[inline]
    pub(crate) fn of(text: &str) -> stk_str {
        stk_str { data: text.as_ptr().cast(), len: text.len() }
    }

    /// The text, which the caller keeps for as long as it is used here.
    #[inline]
    pub(crate) unsafe fn read<'a>(self, what: &'static str) -> Checked<&'a str> {
        // SAFETY: the caller of this function promised it for pointer and length.
        let bytes = unsafe { slice(self.data.cast(), self.len, what) }?;
        // Names and keys, mostly: the general search is a call, and knows nothing about short texts.
        if is_short_ascii(bytes) {
            // SAFETY: ASCII, as just seen, is UTF-8.
            return Ok(unsafe { std::str::from_utf8_unchecked(bytes) });
        }
        std::str::from_utf8(bytes).map_err(|e| not_text(what, e))
    }
}

impl stk_str {
    /// The same as a path, which is any bytes but a zero.
    pub(crate) unsafe fn read_path<'a>(self, what: &'static str) -> Checked<&'a Path> {
        // SAFETY: the caller of this function promised it for pointer and length.
        let bytes = unsafe { slice(self.data.cast(), self.len, what) }?;
        if bytes.is_empty() || bytes.contains(&0) {
            return Err(Fault::invalid(format!("`{what}` is empty or has a zero byte in it")));
        }
        Ok(Path::new(OsStr::from_bytes(bytes)))
    }
}

impl stk_bytes {
    pub(crate) fn of(bytes: &[u8]) -> stk_bytes {
        stk_bytes { data: bytes.as_ptr().cast(), len: bytes.len() }
    }
}

/// Looks at eight bytes at a time, the last of them twice where they overlap.
#[inline]
fn is_short_ascii(bytes: &[u8]) -> bool {
    let all = match (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        (Some(first), Some(last)) if bytes.len() <= 16 => {
            u64::from_ne_bytes(*first) | u64::from_ne_bytes(*last)
        }
        (Some(_), _) => return false,
        _ => match (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
            (Some(first), Some(last)) => u64::from(u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last)),
            _ => bytes.iter().fold(0, |all, byte| all | u64::from(*byte)),
        },
    };
    all & 0x8080_8080_8080_8080 == 0
}

#[cold]
fn not_text(what: &'static str, error: std::str::Utf8Error) -> Fault {
    Fault::invalid(format!("`{what}` is not UTF-8: {error}"))
}

/// `len` bytes at `data`, which the caller keeps for as long as they are used here.
#[inline]
pub(crate) unsafe fn slice<'a>(data: *const u8, len: usize, what: &'static str) -> Checked<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() || len > isize::MAX as usize {
        return Err(no_slice(data.is_null(), len, what));
    }
    // SAFETY: not NULL and not longer than an object may be, as just checked; that so many bytes are there is the
    // caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

#[cold]
fn no_slice(null: bool, len: usize, what: &'static str) -> Fault {
    Fault::invalid(match null {
        true => format!("`{what}` is NULL with a length of {len}"),
        false => format!("`{what}` has a length of {len}, more than any object"),
    })
}

/// The text of a zero-terminated string; the empty text for NULL. It lasts as long as the string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_str_from(string: *const c_char) -> stk_str {
    if string.is_null() {
        return stk_str { data: std::ptr::null(), len: 0 };
    }
    // SAFETY: the caller's promise: a terminated string.
    let len = unsafe { std::ffi::CStr::from_ptr(string) }.count_bytes();
    stk_str { data: string, len }
}

/// Whether two texts have the same bytes. For choosing an action: `stk_str_eq(action, STK_STR("add"))`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_str_eq(a: stk_str, b: stk_str) -> bool {
    if a.len != b.len {
        return false;
    }
    // SAFETY: the caller's promise for both.
    let (a, b) = unsafe { (slice(a.data.cast(), a.len, "a"), slice(b.data.cast(), b.len, "b")) };
    matches!((a, b), (Ok(a), Ok(b)) if a == b)
}

/// `uintptr_t`, as which cbindgen writes it: under that name it would take it for `usize`, which it writes `size_t`.
#[allow(dead_code)]
pub(crate) type c_uintptr = usize;
