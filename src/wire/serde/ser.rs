//! serde's `Serializer` over an [`Encoder`].

use ::serde::ser::{self, Serialize, Serializer};

use super::{DEPTH, Fault};
use crate::wire::encoder::{Encoder, Open};
use crate::wire::{Encode, WireError};

/// Writes `value`.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, e: &mut Encoder<'_>) -> Result<(), Fault> {
    value.serialize(Ser { e, depth: 0 })
}

struct Ser<'s, 'b> {
    e: &'s mut Encoder<'b>,
    depth: usize,
}

/// A list or dict that is being written. Counts are filled in at the end, so serde's hints are not needed.
struct Compound<'s, 'b> {
    e: &'s mut Encoder<'b>,
    depth: usize,
    inner: Open,
    /// The dict around the contents of an enum's variant.
    outer: Option<Open>,
}

impl<'s, 'b> Ser<'s, 'b> {
    fn deeper(self) -> Result<Ser<'s, 'b>, Fault> {
        if self.depth >= DEPTH {
            return Err(WireError::TooDeep { max: DEPTH }.into());
        }
        Ok(Ser { depth: self.depth + 1, ..self })
    }

    fn open_list(self, outer: Option<Open>) -> Result<Compound<'s, 'b>, Fault> {
        let Ser { e, depth } = self.deeper()?;
        let inner = e.open_list()?;
        Ok(Compound { e, depth, inner, outer })
    }

    fn open_dict(self, outer: Option<Open>) -> Result<Compound<'s, 'b>, Fault> {
        let Ser { e, depth } = self.deeper()?;
        let inner = e.open_dict()?;
        Ok(Compound { e, depth, inner, outer })
    }

    fn variant(&mut self, name: &str) -> Result<Option<Open>, Fault> {
        let outer = self.e.open_dict()?;
        self.e.key(name)?;
        Ok(Some(outer))
    }

    fn put(self, value: impl Encode) -> Result<(), Fault> {
        Ok(value.encode(self.e)?)
    }
}

macro_rules! scalars {
    ($($method:ident $ty:ty;)*) => {$(
        fn $method(self, value: $ty) -> Result<(), Fault> {
            self.put(value)
        }
    )*};
}

impl<'s, 'b> Serializer for Ser<'s, 'b> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Compound<'s, 'b>;
    type SerializeTuple = Compound<'s, 'b>;
    type SerializeTupleStruct = Compound<'s, 'b>;
    type SerializeTupleVariant = Compound<'s, 'b>;
    type SerializeMap = Compound<'s, 'b>;
    type SerializeStruct = Compound<'s, 'b>;
    type SerializeStructVariant = Compound<'s, 'b>;

    scalars! {
        serialize_bool bool; serialize_i8 i8; serialize_i16 i16; serialize_i32 i32; serialize_i64 i64;
        serialize_u16 u16; serialize_u32 u32; serialize_u64 u64; serialize_f32 f32; serialize_f64 f64;
        serialize_str &str; serialize_bytes &[u8];
    }

    fn serialize_u8(self, n: u8) -> Result<(), Fault> {
        self.put(u16::from(n))
    }

    fn serialize_i128(self, n: i128) -> Result<(), Fault> {
        self.put(i64::try_from(n).map_err(|_| WireError::IntTooLarge)?)
    }

    fn serialize_u128(self, n: u128) -> Result<(), Fault> {
        self.put(i64::try_from(n).map_err(|_| WireError::IntTooLarge)?)
    }

    fn serialize_char(self, c: char) -> Result<(), Fault> {
        self.put(&*c.encode_utf8(&mut [0; 4]))
    }

    fn serialize_none(self) -> Result<(), Fault> {
        self.put(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        value.serialize(self.deeper()?)
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        self.put(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Fault> {
        self.put(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Fault> {
        self.put(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        value.serialize(self.deeper()?)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        let Ser { e, depth } = self.deeper()?;
        e.dict(1)?;
        e.key(variant)?;
        value.serialize(Ser { e, depth })
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Compound<'s, 'b>, Fault> {
        self.open_list(None)
    }

    fn serialize_tuple(self, _: usize) -> Result<Compound<'s, 'b>, Fault> {
        self.open_list(None)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Compound<'s, 'b>, Fault> {
        self.open_list(None)
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'s, 'b>, Fault> {
        let outer = self.variant(variant)?;
        self.open_list(outer)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Compound<'s, 'b>, Fault> {
        self.open_dict(None)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Compound<'s, 'b>, Fault> {
        self.open_dict(None)
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Compound<'s, 'b>, Fault> {
        let outer = self.variant(variant)?;
        self.open_dict(outer)
    }
}

impl Compound<'_, '_> {
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        value.serialize(Ser { e: self.e, depth: self.depth })
    }

    fn field<T: Serialize + ?Sized>(&mut self, key: &str, value: &T) -> Result<(), Fault> {
        self.e.key(key)?;
        self.element(value)
    }

    fn close(self) -> Result<(), Fault> {
        self.e.end(self.inner)?;
        if let Some(outer) = self.outer {
            self.e.end(outer)?;
        }
        Ok(())
    }
}

macro_rules! compounds {
    ($($of:ident $method:ident ($($key:ident)?);)*) => {$(
        impl ser::$of for Compound<'_, '_> {
            type Ok = ();
            type Error = Fault;

            fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($key: &'static str,)?
                value: &T,
            ) -> Result<(), Fault> {
                compounds!(@write self value $($key)?)
            }

            fn end(self) -> Result<(), Fault> {
                self.close()
            }
        }
    )*};
    (@write $self:ident $value:ident) => { $self.element($value) };
    (@write $self:ident $value:ident $key:ident) => { $self.field($key, $value) };
}
compounds! {
    SerializeSeq serialize_element ();
    SerializeTuple serialize_element ();
    SerializeTupleStruct serialize_field ();
    SerializeTupleVariant serialize_field ();
    SerializeStruct serialize_field (key);
    SerializeStructVariant serialize_field (key);
}

impl ser::SerializeMap for Compound<'_, '_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        key.serialize(Key(self.e))
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.element(value)
    }

    fn end(self) -> Result<(), Fault> {
        self.close()
    }
}

/// Writes a map's key. Keys are strings on the wire; integers become their digits, as gunicorn does it.
struct Key<'s, 'b>(&'s mut Encoder<'b>);

const BAD_KEY: Fault = Fault::Wire(WireError::Unsupported("a map key that is neither text nor an integer"));

macro_rules! digits {
    ($($method:ident $ty:ty;)*) => {$(
        fn $method(self, n: $ty) -> Result<(), Fault> {
            Ok(self.0.key(&n.to_string())?)
        }
    )*};
}

macro_rules! bad_keys {
    ($($method:ident($($ty:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $ty),*) -> Result<$ok, Fault> {
            Err(BAD_KEY)
        }
    )*};
}

impl Serializer for Key<'_, '_> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = ser::Impossible<(), Fault>;
    type SerializeTuple = ser::Impossible<(), Fault>;
    type SerializeTupleStruct = ser::Impossible<(), Fault>;
    type SerializeTupleVariant = ser::Impossible<(), Fault>;
    type SerializeMap = ser::Impossible<(), Fault>;
    type SerializeStruct = ser::Impossible<(), Fault>;
    type SerializeStructVariant = ser::Impossible<(), Fault>;

    digits! {
        serialize_i8 i8; serialize_i16 i16; serialize_i32 i32; serialize_i64 i64; serialize_i128 i128;
        serialize_u8 u8; serialize_u16 u16; serialize_u32 u32; serialize_u64 u64; serialize_u128 u128;
        serialize_char char;
    }

    bad_keys! {
        serialize_bool(bool) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(&'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_str(self, key: &str) -> Result<(), Fault> {
        Ok(self.0.key(key)?)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Fault> {
        Ok(self.0.key(variant)?)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, key: &T) -> Result<(), Fault> {
        key.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Fault> {
        Err(BAD_KEY)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Fault> {
        Err(BAD_KEY)
    }
}
