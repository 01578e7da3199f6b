//! [`Decode`]: how values become Rust types.
//!
//! Nothing is converted silently. Integers are checked against the width that is asked for; a float may be
//! given as an integer if it holds it exactly (Python callers write `1` for `1.0`); everything else must have
//! its own type. Errors are of [`Code::Value`](crate::error::Code::Value) and say what was expected and what
//! was found.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

use super::view::{DictRef, ListRef};
use super::{Value, ValueRef, memory};
use crate::error::{Error, Kind as ErrorKind};

/// A type that can be received. `&str` and `&[u8]` borrow from the sender's memory.
pub trait Decode<'a>: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// Of [`Code::Value`](crate::error::Code::Value), if the value is another type or out of range.
    fn decode(value: ValueRef<'a>) -> Result<Self, Error>;
}

impl<'a> Decode<'a> for ValueRef<'a> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        Ok(value)
    }
}

impl Decode<'_> for Value {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        Ok(value.to_owned()?)
    }
}

impl<'a> Decode<'a> for ListRef<'a> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        match value {
            ValueRef::List(list) => Ok(list),
            other => Err(mismatch("a list", other.describe())),
        }
    }
}

impl<'a> Decode<'a> for DictRef<'a> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        match value {
            ValueRef::Dict(dict) => Ok(dict),
            other => Err(mismatch("a dict", other.describe())),
        }
    }
}

impl Decode<'_> for () {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        match value {
            ValueRef::None => Ok(()),
            other => Err(mismatch("None", other.describe())),
        }
    }
}

impl Decode<'_> for bool {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        match value {
            ValueRef::Bool(b) => Ok(b),
            other => Err(mismatch("a bool", other.describe())),
        }
    }
}

/// The integers, with the words for them.
macro_rules! for_each_int {
    ($impls:ident) => {
        $impls! {
            i8 "an integer of 8 bits"; i16 "an integer of 16 bits"; i32 "an integer of 32 bits";
            i64 "an integer"; isize "an integer";
            u16 "an unsigned integer of 16 bits"; u32 "an unsigned integer of 32 bits";
            u64 "an unsigned integer"; usize "an unsigned integer";
        }
    };
}
pub(super) use for_each_int;

macro_rules! ints {
    ($($int:ident $what:literal;)*) => {$(
        impl Decode<'_> for $int {
            #[inline]
            fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
                match value {
                    ValueRef::Int(n) => int(n, $what),
                    other => Err(mismatch($what, other.describe())),
                }
            }
        }
    )*};
}
for_each_int!(ints);

impl Decode<'_> for f64 {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        match value {
            ValueRef::Float(x) => Ok(x),
            ValueRef::Int(n) => exact_float(n),
            other => Err(mismatch("a float", other.describe())),
        }
    }
}

impl Decode<'_> for f32 {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        f64::decode(value).and_then(narrow_float)
    }
}

impl<'a> Decode<'a> for &'a str {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        match value {
            ValueRef::Str(s) => Ok(s),
            other => Err(mismatch("a string", other.describe())),
        }
    }
}

impl Decode<'_> for String {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        Ok(memory::copy_str(<&str>::decode(value)?)?)
    }
}

impl<'a> Decode<'a> for &'a [u8] {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        match value {
            ValueRef::Bytes(b) => Ok(b),
            other => Err(mismatch("bytes", other.describe())),
        }
    }
}

impl Decode<'_> for Vec<u8> {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        Ok(memory::copy(<&[u8]>::decode(value)?)?)
    }
}

impl<const N: usize> Decode<'_> for [u8; N] {
    #[inline]
    fn decode(value: ValueRef<'_>) -> Result<Self, Error> {
        let bytes = <&[u8]>::decode(value)?;
        bytes.try_into().map_err(|_| mismatch(&format!("{N} bytes"), &bytes.len().to_string()))
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Option<T> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        match value {
            ValueRef::None => Ok(None),
            some => T::decode(some).map(Some),
        }
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Box<T> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        T::decode(value).map(Box::new)
    }
}

impl<'a, T: Decode<'a>> Decode<'a> for Vec<T> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        let mut items = Vec::new();
        for item in ListRef::decode(value)?.iter() {
            memory::push(&mut items, T::decode(item?)?)?;
        }
        Ok(items)
    }
}

impl<'a, T: Decode<'a>, const N: usize> Decode<'a> for [T; N] {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        let list = ListRef::decode(value)?;
        exact_len(N, list.len())?;
        let items: Vec<T> = list.iter().map(|item| T::decode(item?)).collect::<Result<_, _>>()?;
        items.try_into().map_err(|items: Vec<T>| wrong_len(N, items.len()))
    }
}

macro_rules! tuples {
    ($($len:literal: $($name:ident)*;)*) => {$(
        impl<'a, $($name: Decode<'a>),*> Decode<'a> for ($($name,)*) {
            #[inline]
            fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
                let list = ListRef::decode(value)?;
                exact_len($len, list.len())?;
                let mut items = list.iter();
                Ok(($({
                    let item = items.next().ok_or_else(|| wrong_len($len, list.len()))?;
                    $name::decode(item?)?
                },)*))
            }
        }
    )*};
}
tuples! {
    1: A;
    2: A B;
    3: A B C;
    4: A B C D;
    5: A B C D E;
    6: A B C D E F;
    7: A B C D E F G;
    8: A B C D E F G H;
}

impl<'a, K: From<&'a str> + Eq + Hash, T: Decode<'a>> Decode<'a> for HashMap<K, T> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        map(value)
    }
}

impl<'a, K: From<&'a str> + Ord, T: Decode<'a>> Decode<'a> for BTreeMap<K, T> {
    #[inline]
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        map(value)
    }
}

/// A later pair replaces an earlier one of the same key.
fn map<'a, K: From<&'a str>, T: Decode<'a>, M: FromIterator<(K, T)>>(
    value: ValueRef<'a>,
) -> Result<M, Error> {
    let pairs = DictRef::decode(value)?.iter();
    pairs
        .map(|pair| pair.map_err(Error::from).and_then(|(key, item)| Ok((key.into(), T::decode(item)?))))
        .collect()
}

pub(super) fn int<T: TryFrom<i64>>(n: i64, expected: &str) -> Result<T, Error> {
    T::try_from(n).map_err(|_| mismatch(expected, &n.to_string()))
}

/// An integer as a float, if none of it is lost.
pub(super) fn exact_float(n: i64) -> Result<f64, Error> {
    let x = n as f64;
    if x as i128 == i128::from(n) { Ok(x) } else { Err(mismatch("a float", &n.to_string())) }
}

/// Rounds, as assigning a literal would; refuses what would become infinite.
pub(super) fn narrow_float(x: f64) -> Result<f32, Error> {
    let narrow = x as f32;
    if narrow.is_infinite() && x.is_finite() {
        return Err(mismatch("a float of 32 bits", &format!("{x:e}")));
    }
    Ok(narrow)
}

pub(super) fn exact_len(expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(wrong_len(expected, found)) }
}

pub(super) fn wrong_len(expected: usize, found: usize) -> Error {
    mismatch(&format!("a list of {expected}"), &format!("a list of {found}"))
}

pub(super) fn mismatch(expected: &str, found: &str) -> Error {
    Error::new(ErrorKind::Value(format!("expected {expected}, found {found}").into()))
}
