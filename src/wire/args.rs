//! Arguments: [`EncodeArgs`] and [`EncodeKwargs`] write them, [`DecodeArgs`] takes them apart again.

use std::collections::{BTreeMap, HashMap};

use super::encode::pairs;
use super::view::{DictRef, ListRef};
use super::{Decode, Encode, Encoded, Encoder, Value, WireError};
use crate::error::{Error, Kind as ErrorKind};

/// The arguments of a call by position: `()`, tuples up to eight, or values in a slice, array or `Vec`.
pub trait EncodeArgs {
    /// Writes exactly one list.
    ///
    /// # Errors
    /// Those of the [`Encoder`].
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError>;

    /// Its bytes, if it is those already.
    #[doc(hidden)]
    #[inline]
    fn encoded_args(&self) -> Option<Encoded<'_>> {
        None
    }
}

impl EncodeArgs for () {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.list(0)
    }

    #[inline]
    fn encoded_args(&self) -> Option<Encoded<'_>> {
        Some(Encoded::EMPTY_LIST)
    }
}

impl EncodeArgs for [Value] {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.encode(e)
    }
}

impl<const N: usize> EncodeArgs for [Value; N] {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.encode(e)
    }
}

impl EncodeArgs for Vec<Value> {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.encode(e)
    }
}

impl EncodeArgs for ListRef<'_> {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.encode(e)
    }
}

impl<T: EncodeArgs + ?Sized> EncodeArgs for &T {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        (**self).encode_args(e)
    }

    #[inline]
    fn encoded_args(&self) -> Option<Encoded<'_>> {
        (**self).encoded_args()
    }
}

impl<T: EncodeArgs + ?Sized> EncodeArgs for Box<T> {
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        (**self).encode_args(e)
    }
}

/// The arguments of a call by name: `()`, or pairs in a slice, array, `Vec`, map or dict. No name may come
/// twice.
pub trait EncodeKwargs {
    /// Writes exactly one dict.
    ///
    /// # Errors
    /// Those of the [`Encoder`].
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError>;

    /// Its bytes, if it is those already.
    #[doc(hidden)]
    #[inline]
    fn encoded_kwargs(&self) -> Option<Encoded<'_>> {
        None
    }
}

impl EncodeKwargs for () {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.dict(0)
    }

    #[inline]
    fn encoded_kwargs(&self) -> Option<Encoded<'_>> {
        Some(Encoded::EMPTY_DICT)
    }
}

impl<K: AsRef<str>, T: Encode> EncodeKwargs for [(K, T)] {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        pairs(self.len(), self.iter().map(|(key, value)| (key, value)), e)
    }
}

impl<K: AsRef<str>, T: Encode, const N: usize> EncodeKwargs for [(K, T); N] {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.as_slice().encode_kwargs(e)
    }
}

impl<K: AsRef<str>, T: Encode> EncodeKwargs for Vec<(K, T)> {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.as_slice().encode_kwargs(e)
    }
}

impl<K: AsRef<str>, T: Encode, S> EncodeKwargs for HashMap<K, T, S> {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.encode(e)
    }
}

impl<K: AsRef<str>, T: Encode> EncodeKwargs for BTreeMap<K, T> {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.encode(e)
    }
}

impl EncodeKwargs for DictRef<'_> {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        self.encode(e)
    }
}

impl<T: EncodeKwargs + ?Sized> EncodeKwargs for &T {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        (**self).encode_kwargs(e)
    }

    #[inline]
    fn encoded_kwargs(&self) -> Option<Encoded<'_>> {
        (**self).encoded_kwargs()
    }
}

impl<T: EncodeKwargs + ?Sized> EncodeKwargs for Box<T> {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        (**self).encode_kwargs(e)
    }
}

/// None is no arguments by name.
impl<T: EncodeKwargs> EncodeKwargs for Option<T> {
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        match self {
            Some(kwargs) => kwargs.encode_kwargs(e),
            None => e.dict(0),
        }
    }

    #[inline]
    fn encoded_kwargs(&self) -> Option<Encoded<'_>> {
        match self {
            Some(kwargs) => kwargs.encoded_kwargs(),
            None => Some(Encoded::EMPTY_DICT),
        }
    }
}

/// Arguments as an app wants them: `()`, a tuple up to eight, or a `Vec` for any number of one type.
pub trait DecodeArgs<'a>: Sized {
    /// Takes exactly these arguments.
    ///
    /// # Errors
    /// Of [`Code::Value`](crate::error::Code::Value): another number of arguments, or one of a wrong type,
    /// which the context names by its position.
    fn decode_args(args: ListRef<'a>) -> Result<Self, Error>;
}

impl<'a> ListRef<'a> {
    /// The elements as the arguments of an action: `let (img, width): (&[u8], u32) = args.parse()?`.
    ///
    /// # Errors
    /// Those of [`DecodeArgs::decode_args`].
    pub fn parse<T: DecodeArgs<'a>>(&self) -> Result<T, Error> {
        T::decode_args(*self)
    }
}

impl DecodeArgs<'_> for () {
    fn decode_args(args: ListRef<'_>) -> Result<Self, Error> {
        if args.is_empty() { Ok(()) } else { Err(wrong_count(0, args.len())) }
    }
}

impl<'a, T: Decode<'a>> DecodeArgs<'a> for Vec<T> {
    fn decode_args(args: ListRef<'a>) -> Result<Self, Error> {
        args.iter().enumerate().map(|(at, item)| argument(at, item.map_err(Error::from))).collect()
    }
}

macro_rules! tuples {
    ($($len:literal: $($name:ident $at:literal)*;)*) => {$(
        impl<$($name: Encode),*> EncodeArgs for ($($name,)*) {
            fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
                self.encode(e)
            }
        }

        impl<'a, $($name: Decode<'a>),*> DecodeArgs<'a> for ($($name,)*) {
            fn decode_args(args: ListRef<'a>) -> Result<Self, Error> {
                if args.len() != $len {
                    return Err(wrong_count($len, args.len()));
                }
                let mut items = args.iter();
                Ok(($({
                    let item = items.next().ok_or_else(|| wrong_count($len, $at))?;
                    argument::<$name>($at, item.map_err(Error::from))?
                },)*))
            }
        }
    )*};
}
tuples! {
    1: A 0;
    2: A 0 B 1;
    3: A 0 B 1 C 2;
    4: A 0 B 1 C 2 D 3;
    5: A 0 B 1 C 2 D 3 E 4;
    6: A 0 B 1 C 2 D 3 E 4 F 5;
    7: A 0 B 1 C 2 D 3 E 4 F 5 G 6;
    8: A 0 B 1 C 2 D 3 E 4 F 5 G 6 H 7;
}

fn argument<'a, T: Decode<'a>>(at: usize, item: Result<super::ValueRef<'a>, Error>) -> Result<T, Error> {
    item.and_then(T::decode).map_err(|e| e.context(format!("argument {}", at + 1)))
}

fn wrong_count(expected: usize, given: usize) -> Error {
    let s = if expected == 1 { "" } else { "s" };
    Error::new(ErrorKind::Value(format!("expected {expected} argument{s}, {given} given").into()))
}
