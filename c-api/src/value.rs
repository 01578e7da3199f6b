//! Values, read where they lie.

use crate::fault::{Checked, Fault};
use crate::guard::{Out, exclusive, guard, shared};
use crate::status::*;
use crate::text::{stk_bytes, stk_str};
use std::mem::{MaybeUninit, needs_drop};
use std::ptr;
use stokehold::{Decode, DictIter, ListIter, ValueRef};

/// Nothing.
pub const STK_KIND_NONE: u32 = 0;
/// A truth value.
pub const STK_KIND_BOOL: u32 = 1;
/// An integer of 64 bits.
pub const STK_KIND_I64: u32 = 2;
/// A floating-point number of 64 bits.
pub const STK_KIND_F64: u32 = 3;
/// UTF-8 text.
pub const STK_KIND_STR: u32 = 4;
/// Bytes.
pub const STK_KIND_BYTES: u32 = 5;
/// A list of values.
pub const STK_KIND_LIST: u32 = 6;
/// A dict: pairs of text and value.
pub const STK_KIND_DICT: u32 = 7;

/// A value that somebody else owns: a result, or the arguments of a call. It is a view: copy it as you like, free
/// nothing; it is valid as long as its owner. One that is all zero bytes is a valid STK_KIND_NONE. Only this library writes
/// one.
#[repr(C)]
pub struct stk_value {
    /// What it is: STK_KIND_NONE, STK_KIND_BOOL, … May be read.
    pub kind: u32,
    reserved: u32,
    opaque: MaybeUninit<[u64; 6]>,
}

/// A walk over a list or a dict. Like a value it owns nothing and is valid as long as what it walks over; one that is
/// all zero bytes has ended. Only this library writes one.
#[repr(C)]
pub struct stk_iter {
    kind: u32,
    reserved: u32,
    opaque: MaybeUninit<[u64; 8]>,
}

const _: () = {
    assert!(size_of::<ValueRef<'_>>() <= size_of::<[u64; 6]>() && align_of::<ValueRef<'_>>() <= 8);
    assert!(size_of::<ListIter<'_>>() <= size_of::<[u64; 8]>() && align_of::<ListIter<'_>>() <= 8);
    assert!(size_of::<DictIter<'_>>() <= size_of::<[u64; 8]>() && align_of::<DictIter<'_>>() <= 8);
    // They are copied and forgotten by C.
    assert!(!needs_drop::<ValueRef<'_>>() && !needs_drop::<ListIter<'_>>() && !needs_drop::<DictIter<'_>>());
};

impl stk_value {
    pub(crate) fn of(value: ValueRef<'_>) -> stk_value {
        let kind = match value {
            ValueRef::None => STK_KIND_NONE,
            ValueRef::Bool(_) => STK_KIND_BOOL,
            ValueRef::Int(_) => STK_KIND_I64,
            ValueRef::Float(_) => STK_KIND_F64,
            ValueRef::Str(_) => STK_KIND_STR,
            ValueRef::Bytes(_) => STK_KIND_BYTES,
            ValueRef::List(_) => STK_KIND_LIST,
            ValueRef::Dict(_) => STK_KIND_DICT,
        };
        let mut opaque = MaybeUninit::<[u64; 6]>::uninit();
        // SAFETY: it fits in size and alignment, as asserted above.
        unsafe { opaque.as_mut_ptr().cast::<ValueRef<'_>>().write(value) };
        stk_value { kind, reserved: 0, opaque }
    }

    /// What it is a view of. The lifetime is that of the reference, which C has promised not to use past the owner's.
    fn view(&self) -> ValueRef<'_> {
        if self.kind == STK_KIND_NONE {
            return ValueRef::None;
        }
        // SAFETY: only `of` makes one that is not STK_KIND_NONE, by the rule of the type, and stored this there.
        unsafe { self.opaque.as_ptr().cast::<ValueRef<'_>>().read() }
    }
}

/// A value as a truth value, and so on below.
pub(crate) fn to_bool(value: ValueRef<'_>) -> Checked<bool> {
    Ok(bool::decode(value)?)
}

pub(crate) fn to_i64(value: ValueRef<'_>) -> Checked<i64> {
    Ok(i64::decode(value)?)
}

pub(crate) fn to_f64(value: ValueRef<'_>) -> Checked<f64> {
    Ok(f64::decode(value)?)
}

pub(crate) fn to_str(value: ValueRef<'_>) -> Checked<stk_str> {
    Ok(stk_str::of(<&str>::decode(value)?))
}

pub(crate) fn to_bytes(value: ValueRef<'_>) -> Checked<stk_bytes> {
    Ok(stk_bytes::of(<&[u8]>::decode(value)?))
}

unsafe fn read<T>(
    value: *const stk_value,
    out: *mut T,
    take: impl for<'v> FnOnce(ValueRef<'v>) -> Checked<T>,
) -> stk_status {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's promise for both.
        let (value, out) = unsafe { (shared(value, "value")?, Out::new(out, "out")?) };
        out.write(take(value.view())?);
        Ok(())
    })
}

/// The value as a truth value. STK_VALUE if it is something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_bool(value: *const stk_value, out: *mut bool) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(value, out, to_bool) }
}

/// The value as an integer. STK_VALUE if it is something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_i64(value: *const stk_value, out: *mut i64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(value, out, to_i64) }
}

/// The value as a number; an integer becomes one if there is one that is equal to it. STK_VALUE if it is
/// something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_f64(value: *const stk_value, out: *mut f64) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(value, out, to_f64) }
}

/// The value as text. STK_VALUE if it is something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_str(value: *const stk_value, out: *mut stk_str) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(value, out, to_str) }
}

/// The value as bytes. STK_VALUE if it is something else.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_bytes(value: *const stk_value, out: *mut stk_bytes) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe { read(value, out, to_bytes) }
}

/// How many values a list has, or pairs a dict. STK_VALUE if it is neither.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_len(value: *const stk_value, out: *mut usize) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        read(value, out, |value| match value {
            ValueRef::List(list) => Ok(list.len()),
            ValueRef::Dict(dict) => Ok(dict.len()),
            other => Err(neither(&other)),
        })
    }
}

/// The value of a key in a dict; if the key is there twice, the last. STK_END if it is not there, STK_VALUE if this is
/// no dict. Walks the whole dict.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_get(
    dict: *const stk_value,
    key: stk_str,
    value: *mut stk_value,
) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        read(dict, value, |dict| {
            let ValueRef::Dict(pairs) = dict else { return Err(neither(&dict)) };
            let key = key.read("key")?;
            let found = pairs.get(key)?;
            found.map(stk_value::of).ok_or_else(|| Fault::here(STK_END, format!("no key {key:?}")))
        })
    }
}

/// Begins a walk over a list or a dict: then stk_iter_next, until STK_END. STK_VALUE if it is neither.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_value_iter(value: *const stk_value, iter: *mut stk_iter) -> stk_status {
    // SAFETY: the caller's promise.
    unsafe {
        read(value, iter, |value| match value {
            ValueRef::List(list) => Ok(stk_iter::of(STK_KIND_LIST, list.iter())),
            ValueRef::Dict(dict) => Ok(stk_iter::of(STK_KIND_DICT, dict.iter())),
            other => Err(neither(&other)),
        })
    }
}

/// The next value; of a dict with its key, unless `key` is NULL (of a list the key is empty). STK_END when there are no
/// more. Time does not depend on how far the walk has come.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn stk_iter_next(
    iter: *mut stk_iter,
    key: *mut stk_str,
    value: *mut stk_value,
) -> stk_status {
    guard(ptr::null_mut(), || {
        // SAFETY: the caller's promise for all three.
        let (iter, key, value) = unsafe {
            let key = if key.is_null() { None } else { Some(Out::new(key, "key")?) };
            (exclusive(iter, "iter")?, key, Out::new(value, "value")?)
        };
        // SAFETY: only `stk_iter::of` makes one that is neither zero nor ended, by the rule of the type, and stored
        // there what its kind says.
        let next = unsafe {
            match iter.kind {
                STK_KIND_LIST => {
                    (*iter.walk::<ListIter<'_>>()).next().map(|item| item.map(|value| ("", value)))
                }
                STK_KIND_DICT => (*iter.walk::<DictIter<'_>>()).next(),
                _ => None,
            }
        };
        let (name, found) = next.ok_or_else(|| Fault::here(STK_END, "there is nothing more"))??;
        if let Some(key) = key {
            key.write(stk_str::of(name));
        }
        value.write(stk_value::of(found));
        Ok(())
    })
}

impl stk_iter {
    fn of<T>(kind: u32, walk: T) -> stk_iter {
        const { assert!(size_of::<T>() <= size_of::<[u64; 8]>() && align_of::<T>() <= 8) };
        let mut opaque = MaybeUninit::<[u64; 8]>::uninit();
        // SAFETY: it fits in size and alignment, as just asserted.
        unsafe { opaque.as_mut_ptr().cast::<T>().write(walk) };
        stk_iter { kind, reserved: 0, opaque }
    }

    fn walk<T>(&mut self) -> *mut T {
        self.opaque.as_mut_ptr().cast()
    }
}

fn neither(value: &ValueRef<'_>) -> Fault {
    Fault::here(STK_VALUE, format!("expected a list or a dict, got {}", value.describe()))
}
