//! `From` and `TryFrom` between [`Value`] and Rust's own types.

use super::Value;
use super::decode::{exact_float, exact_len, for_each_int, int, mismatch, narrow_float, wrong_len};
use crate::error::Error;

impl From<()> for Value {
    fn from((): ()) -> Value {
        Value::None
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Value {
        Value::Bool(b)
    }
}

macro_rules! from_ints {
    ($($int:ty)*) => {$(
        impl From<$int> for Value {
            fn from(n: $int) -> Value {
                Value::Int(n.into())
            }
        }
    )*};
}
from_ints!(i8 i16 i32 i64 u16 u32);

impl From<f32> for Value {
    fn from(x: f32) -> Value {
        Value::Float(x.into())
    }
}

impl From<f64> for Value {
    fn from(x: f64) -> Value {
        Value::Float(x)
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Value {
        Value::Str(s.to_owned())
    }
}

impl From<String> for Value {
    fn from(s: String) -> Value {
        Value::Str(s)
    }
}

impl From<&[u8]> for Value {
    fn from(b: &[u8]) -> Value {
        Value::Bytes(b.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(b: &[u8; N]) -> Value {
        Value::Bytes(b.to_vec())
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(b: [u8; N]) -> Value {
        Value::Bytes(b.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(b: Vec<u8>) -> Value {
        Value::Bytes(b)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(some: Option<T>) -> Value {
        some.map_or(Value::None, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Value {
        items.into_iter().collect()
    }
}

impl<T: Into<Value>, const N: usize> From<[T; N]> for Value {
    fn from(items: [T; N]) -> Value {
        items.into_iter().collect()
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    /// A list.
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

macro_rules! try_ints {
    ($($int:ident $what:literal;)*) => {$(
        impl TryFrom<Value> for $int {
            type Error = Error;

            fn try_from(value: Value) -> Result<$int, Error> {
                match value {
                    Value::Int(n) => int(n, $what),
                    other => Err(mismatch($what, other.describe())),
                }
            }
        }
    )*};
}
for_each_int!(try_ints);

impl TryFrom<Value> for () {
    type Error = Error;

    fn try_from(value: Value) -> Result<(), Error> {
        if value.is_none() { Ok(()) } else { Err(mismatch("None", value.describe())) }
    }
}

impl TryFrom<Value> for bool {
    type Error = Error;

    fn try_from(value: Value) -> Result<bool, Error> {
        value.as_bool().ok_or_else(|| mismatch("a bool", value.describe()))
    }
}

impl TryFrom<Value> for f64 {
    type Error = Error;

    fn try_from(value: Value) -> Result<f64, Error> {
        match value {
            Value::Float(x) => Ok(x),
            Value::Int(n) => exact_float(n),
            other => Err(mismatch("a float", other.describe())),
        }
    }
}

impl TryFrom<Value> for f32 {
    type Error = Error;

    fn try_from(value: Value) -> Result<f32, Error> {
        f64::try_from(value).and_then(narrow_float)
    }
}

impl TryFrom<Value> for String {
    type Error = Error;

    fn try_from(value: Value) -> Result<String, Error> {
        value.into_string().map_err(|other| mismatch("a string", other.describe()))
    }
}

impl TryFrom<Value> for Vec<u8> {
    type Error = Error;

    fn try_from(value: Value) -> Result<Vec<u8>, Error> {
        value.into_bytes().map_err(|other| mismatch("bytes", other.describe()))
    }
}

impl<const N: usize> TryFrom<Value> for [u8; N] {
    type Error = Error;

    fn try_from(value: Value) -> Result<[u8; N], Error> {
        let bytes = Vec::<u8>::try_from(value)?;
        bytes.try_into().map_err(|b: Vec<u8>| mismatch(&format!("{N} bytes"), &b.len().to_string()))
    }
}

impl<T: TryFrom<Value, Error = Error>> TryFrom<Value> for Option<T> {
    type Error = Error;

    fn try_from(value: Value) -> Result<Option<T>, Error> {
        if value.is_none() { Ok(None) } else { T::try_from(value).map(Some) }
    }
}

impl<T: TryFrom<Value, Error = Error>> TryFrom<Value> for Vec<T> {
    type Error = Error;

    fn try_from(value: Value) -> Result<Vec<T>, Error> {
        list(value)?.into_iter().map(T::try_from).collect()
    }
}

impl<T: TryFrom<Value, Error = Error>, const N: usize> TryFrom<Value> for [T; N] {
    type Error = Error;

    fn try_from(value: Value) -> Result<[T; N], Error> {
        let items = list(value)?;
        exact_len(N, items.len())?;
        let items: Vec<T> = items.into_iter().map(T::try_from).collect::<Result<_, _>>()?;
        items.try_into().map_err(|items: Vec<T>| wrong_len(N, items.len()))
    }
}

macro_rules! tuples {
    ($($len:literal: $($name:ident)*;)*) => {$(
        impl<$($name: Into<Value>),*> From<($($name,)*)> for Value {
            fn from(tuple: ($($name,)*)) -> Value {
                #[allow(non_snake_case)]
                let ($($name,)*) = tuple;
                Value::List(vec![$($name.into()),*])
            }
        }

        impl<$($name: TryFrom<Value, Error = Error>),*> TryFrom<Value> for ($($name,)*) {
            type Error = Error;

            fn try_from(value: Value) -> Result<($($name,)*), Error> {
                let items = list(value)?;
                exact_len($len, items.len())?;
                let mut items = items.into_iter();
                // Each is there: the length was compared.
                Ok(($($name::try_from(items.next().unwrap_or_default())?,)*))
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

fn list(value: Value) -> Result<Vec<Value>, Error> {
    value.into_list().map_err(|other| mismatch("a list", other.describe()))
}
