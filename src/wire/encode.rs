//! [`Encode`]: how Rust types become values.
//!
//! | Rust | TLV |
//! |---|---|
//! | `()`, `None` | none |
//! | `bool`, integers, floats | bool, int, float |
//! | `[u8]`, `[u8; N]`, `Vec<u8>` | bytes |
//! | `str`, `String` | string |
//! | `[T]`, `[T; N]`, `Vec<T>`, tuples up to eight | list |
//! | `HashMap<K, T>`, `BTreeMap<K, T>` | dict |
//!
//! `u8` alone has no form, because a `Vec<u8>` could then be bytes as well as a list: say `u16`.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use super::event::{self, Event};
use super::view::{DictRef, ListRef};
use super::{Encoded, Encoder, Reference, Value, ValueRef, WireError};

/// A type that can be sent: as an argument, a result or an item of a stream.
pub trait Encode {
    /// Writes exactly one value.
    ///
    /// # Errors
    /// Those of the [`Encoder`]. After one, what was written is of no use.
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError>;

    /// Its bytes, if it is those already.
    #[doc(hidden)]
    #[inline]
    fn encoded(&self) -> Option<Encoded<'_>> {
        None
    }
}

impl Encode for () {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.none()
    }
}

impl Encode for bool {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.bool(*self)
    }
}

macro_rules! small_ints {
    ($($int:ty)*) => {$(
        impl Encode for $int {
            #[inline]
            fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
                e.int(i64::from(*self))
            }
        }
    )*};
}
small_ints!(i8 i16 i32 i64 u16 u32);

macro_rules! large_ints {
    ($($int:ty)*) => {$(
        impl Encode for $int {
            #[inline]
            fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
                e.int(i64::try_from(*self).map_err(|_| WireError::IntTooLarge)?)
            }
        }
    )*};
}
large_ints!(u64 usize isize);

impl Encode for f32 {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.float(f64::from(*self))
    }
}

impl Encode for f64 {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.float(*self)
    }
}

impl Encode for str {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.str(self)
    }
}

impl Encode for String {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.str(self)
    }
}

impl Encode for [u8] {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.bytes(self)
    }
}

impl<const N: usize> Encode for [u8; N] {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.bytes(self)
    }
}

impl Encode for Vec<u8> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.bytes(self)
    }
}

impl<T: Encode> Encode for [T] {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.list(self.len())?;
        self.iter().try_for_each(|item| item.encode(e))
    }
}

impl<T: Encode, const N: usize> Encode for [T; N] {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.as_slice().encode(e)
    }
}

impl<T: Encode> Encode for Vec<T> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.as_slice().encode(e)
    }
}

impl<T: Encode> Encode for Option<T> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        match self {
            Some(value) => value.encode(e),
            None => e.none(),
        }
    }
}

impl<T: Encode + ?Sized> Encode for &T {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        (**self).encode(e)
    }

    #[inline]
    fn encoded(&self) -> Option<Encoded<'_>> {
        (**self).encoded()
    }
}

impl<T: Encode + ?Sized> Encode for Box<T> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        (**self).encode(e)
    }
}

impl<T: Encode + ToOwned + ?Sized> Encode for Cow<'_, T> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        (**self).encode(e)
    }
}

macro_rules! tuples {
    ($($len:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Encode),*> Encode for ($($name,)*) {
            #[inline]
            fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
                #[allow(non_snake_case)]
                let ($($name,)*) = self;
                e.list($len)?;
                $($name.encode(e)?;)*
                Ok(())
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

impl<K: AsRef<str>, T: Encode, S> Encode for HashMap<K, T, S> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        pairs(self.len(), self, e)
    }
}

impl<K: AsRef<str>, T: Encode> Encode for BTreeMap<K, T> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        pairs(self.len(), self, e)
    }
}

impl Encode for Value {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        event::Owned::new(self).try_for_each(|event| write(event, e))
    }
}

/// Copies. Bytes that lie in a region come out inline.
impl Encode for ValueRef<'_> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        let mut events = event::Encoded::new(*self);
        while let Some(event) = events.next()? {
            write(event, e)?;
        }
        Ok(())
    }
}

impl Encode for ListRef<'_> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        ValueRef::List(*self).encode(e)
    }
}

impl Encode for DictRef<'_> {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        ValueRef::Dict(*self).encode(e)
    }
}

impl Encode for Reference {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.reference(*self)
    }
}

/// Writes a dict of `len` pairs.
pub(super) fn pairs<K: AsRef<str>, T: Encode>(
    len: usize,
    pairs: impl IntoIterator<Item = (K, T)>,
    e: &mut Encoder<'_>,
) -> Result<(), WireError> {
    e.dict(len)?;
    for (key, value) in pairs {
        e.key(key.as_ref())?;
        value.encode(e)?;
    }
    Ok(())
}

fn write(event: Event<'_>, e: &mut Encoder<'_>) -> Result<(), WireError> {
    match event {
        Event::None => e.none(),
        Event::Bool(b) => e.bool(b),
        Event::Int(n) => e.int(n),
        Event::Float(x) => e.float(x),
        Event::Bytes(b) => e.bytes(b),
        Event::Str(s) => e.str(s),
        Event::List(count) => e.list(count),
        Event::Dict(pairs) => e.dict(pairs),
        Event::Key(key) => e.key(key),
        Event::End => Ok(()),
    }
}
