//! serde's `Deserializer` over validated bytes.
//!
//! Reads forward through the body with one cursor for all levels, so nothing is walked twice.

use ::serde::Deserialize;
use ::serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
    value::{BorrowedStrDeserializer, SeqDeserializer},
};
use ::serde::forward_to_deserialize_any;

use super::{DEPTH, Fault};
use crate::wire::tlv::{Cursor, Item};
use crate::wire::{NoReferences, Resolve, ValueRef, WireError};

/// Reads a `T`.
pub(super) fn decode<'de, T: Deserialize<'de>>(value: ValueRef<'de>) -> Result<T, Fault> {
    let (body, refs, first) = match value {
        ValueRef::None => (&[][..], NONE, Item::None),
        ValueRef::Bool(b) => (&[][..], NONE, Item::Bool(b)),
        ValueRef::Int(n) => (&[][..], NONE, Item::Int(n)),
        ValueRef::Float(x) => (&[][..], NONE, Item::Float(x)),
        ValueRef::Bytes(b) => (&[][..], NONE, Item::Bytes(b)),
        ValueRef::Str(s) => (&[][..], NONE, Item::Str(s)),
        ValueRef::List(list) => (list.body(), list.refs(), Item::List(list.len() as u32)),
        ValueRef::Dict(dict) => (dict.body(), dict.refs(), Item::Dict(dict.len() as u32)),
    };
    T::deserialize(&mut Input { cursor: Cursor::new(body, refs), refs, first: Some(first), depth: 0 })
}

const NONE: &dyn Resolve = &NoReferences;

/// Where reading stands.
struct Input<'de> {
    cursor: Cursor<'de>,
    refs: &'de dyn Resolve,
    /// What was read already: the root, or what an option looked at.
    first: Option<Item<'de>>,
    depth: usize,
}

impl<'de> Input<'de> {
    fn item(&mut self) -> Result<Item<'de>, Fault> {
        let item = match self.first.take() {
            Some(item) => item,
            None => self.cursor.item()?,
        };
        Ok(match item {
            Item::Ref(reference) => Item::Bytes(self.refs.resolve(reference)?),
            other => other,
        })
    }

    /// Runs `inside` one level down.
    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth >= DEPTH {
            return Err(WireError::TooDeep { max: DEPTH }.into());
        }
        self.depth += 1;
        let result = inside(self);
        self.depth -= 1;
        result
    }

    fn list<V: Visitor<'de>>(&mut self, count: u32, visitor: V) -> Result<V::Value, Fault> {
        self.deeper(|input| {
            let mut items = Elements { input, left: count };
            let value = visitor.visit_seq(&mut items)?;
            let left = u64::from(items.left);
            input.cursor.skip(left)?; // what the visitor did not want
            Ok(value)
        })
    }

    fn dict<V: Visitor<'de>>(&mut self, pairs: u32, visitor: V) -> Result<V::Value, Fault> {
        self.deeper(|input| {
            let mut pairs = Elements { input, left: 2 * pairs };
            let value = visitor.visit_map(&mut pairs)?;
            let left = u64::from(pairs.left);
            input.cursor.skip(left)?;
            Ok(value)
        })
    }

    fn visit<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Fault> {
        match self.item()? {
            Item::None => visitor.visit_unit(),
            Item::Bool(b) => visitor.visit_bool(b),
            Item::Int(n) => visitor.visit_i64(n),
            Item::Float(x) => visitor.visit_f64(x),
            Item::Bytes(b) => visitor.visit_borrowed_bytes(b),
            Item::Str(s) => visitor.visit_borrowed_str(s),
            Item::List(count) => self.list(count, visitor),
            Item::Dict(pairs) => self.dict(pairs, visitor),
            Item::Ref(_) => Err(WireError::BadReference { region: 0 }.into()), // item() resolved it
        }
    }
}

impl<'de> Deserializer<'de> for &mut Input<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.item()? {
            Item::None => visitor.visit_none(),
            some => {
                self.first = Some(some);
                self.deeper(|input| visitor.visit_some(input))
            }
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deeper(|input| visitor.visit_newtype_struct(input))
    }

    /// Bytes are taken for a `Vec<u8>` too, which serde asks for as a sequence.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.item()? {
            Item::Bytes(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            other => {
                self.first = Some(other);
                self.visit(visitor)
            }
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.item()? {
            Item::Str(unit) => visitor.visit_enum(BorrowedStrDeserializer::new(unit)),
            Item::Dict(1) => self.deeper(|input| visitor.visit_enum(Variant(input))),
            other => {
                let found = other.type_name();
                Err(de::Error::custom(format_args!("expected an enum's variant, found {found}")))
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.item()? {
            Item::List(count) => self.cursor.skip(count.into())?,
            Item::Dict(pairs) => self.cursor.skip(2 * u64::from(pairs))?,
            _ => {}
        }
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        tuple tuple_struct map struct identifier
    }
}

/// The elements of a list, or keys and values of a dict.
struct Elements<'i, 'de> {
    input: &'i mut Input<'de>,
    left: u32,
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.input).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left as usize) // serde caps what it reserves
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let key = self.input.cursor.key()?;
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        self.left = self.left.saturating_sub(1);
        seed.deserialize(&mut *self.input)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left as usize / 2)
    }
}

/// The one pair `{variant: contents}`.
struct Variant<'i, 'de>(&'i mut Input<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Fault> {
        let key = self.0.cursor.key()?;
        Ok((seed.deserialize(BorrowedStrDeserializer::<Fault>::new(key))?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        <()>::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Fault> {
        self.0.deserialize_tuple(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.0.deserialize_struct("", fields, visitor)
    }
}

/// A map's key: text, or an integer's digits.
struct Key<'de>(&'de str);

macro_rules! digits {
    ($($method:ident $visit:ident $ty:ty;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            match self.0.parse::<$ty>() {
                Ok(n) => visitor.$visit(n),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(self.0)
    }

    digits! {
        deserialize_i8 visit_i8 i8; deserialize_i16 visit_i16 i16; deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64; deserialize_i128 visit_i128 i128;
        deserialize_u8 visit_u8 u8; deserialize_u16 visit_u16 u16; deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64; deserialize_u128 visit_u128 u128;
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self.0.into_deserializer())
    }

    forward_to_deserialize_any! {
        bool f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}
