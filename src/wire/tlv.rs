//! The tags, and [`Cursor`], which reads one tag and what belongs to it.
//!
//! ```text
//!   00                          none            10 len32 bytes      bytes
//!   01 byte                     bool            11 len32 utf-8      string
//!   05 i64                      int             20 count32 value…   list
//!   06 f64                      float           21 pairs32 (string value)…  dict
//!   30 region16 offset64 len64  reference, ours, only in shared memory
//! ```
//! Everything is big-endian. Containers carry a count and no length, so whoever wants to skip one walks it.

use byteorder::{BigEndian, ByteOrder};

use super::{Reference, Resolve, WireError};
use crate::limits::MAX_ITEMS;

/// The type codes.
pub(super) mod code {
    pub(crate) const NONE: u8 = 0x00;
    pub(crate) const BOOL: u8 = 0x01;
    pub(crate) const INT: u8 = 0x05;
    pub(crate) const FLOAT: u8 = 0x06;
    pub(crate) const BYTES: u8 = 0x10;
    pub(crate) const STR: u8 = 0x11;
    pub(crate) const LIST: u8 = 0x20;
    pub(crate) const DICT: u8 = 0x21;
    pub(crate) const REF: u8 = 0x30;
}

/// An integer.
#[inline]
pub(super) fn int(value: i64) -> [u8; 9] {
    let mut bytes = [code::INT; 9];
    BigEndian::write_i64(&mut bytes[1..], value);
    bytes
}

/// A floating-point number.
#[inline]
pub(super) fn float(value: f64) -> [u8; 9] {
    let mut bytes = [code::FLOAT; 9];
    BigEndian::write_f64(&mut bytes[1..], value);
    bytes
}

/// What stands before counted bytes, or before elements. What has that many has room for them: far fewer than 2^32.
#[inline]
pub(super) fn head(tag: u8, count: usize) -> [u8; 5] {
    // One word in a register. Bytes that are stored one way and read another are waited for.
    let [_, _, _, head @ ..] = (u64::from(tag) << 32 | u64::from(count as u32)).to_be_bytes();
    head
}

/// One tag with its own bytes. Of a container only the count: its elements follow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
    Str(&'a str),
    Ref(Reference),
    List(u32),
    Dict(u32),
}

impl Item<'_> {
    /// Python's name of the type, for messages that gunicorn's people know.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Item::None => "NoneType",
            Item::Bool(_) => "bool",
            Item::Int(_) => "int",
            Item::Float(_) => "float",
            Item::Bytes(_) | Item::Ref(_) => "bytes",
            Item::Str(_) => "str",
            Item::List(_) => "list",
            Item::Dict(_) => "dict",
        }
    }
}

/// Reads forward through TLV bytes. After an error its position means nothing.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    max_inline: usize,
    references: bool,
}

impl<'a> Cursor<'a> {
    /// Reads `rest` under the limits of `refs`.
    #[inline]
    pub(super) fn new(rest: &'a [u8], refs: &dyn Resolve) -> Cursor<'a> {
        Cursor { rest, max_inline: refs.max_inline(), references: refs.has_references() }
    }

    /// What has not been read.
    #[inline]
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next tag. Checks everything about it that can be known without looking at elements or regions.
    #[inline]
    pub(super) fn item(&mut self) -> Result<Item<'a>, WireError> {
        self.item_here()
    }

    /// The same for one value that is wanted at once: what it is need not go through memory, where pieces that are stored
    /// one way and read another are waited for.
    #[inline(always)]
    pub(super) fn item_here(&mut self) -> Result<Item<'a>, WireError> {
        let (&tag, rest) = self.rest.split_first().ok_or(WireError::NoType)?;
        self.rest = rest;
        Ok(match tag {
            code::NONE => Item::None,
            code::BOOL => Item::Bool(self.fixed::<1>().ok_or(WireError::MissingBool)?[0] != 0),
            code::INT => {
                Item::Int(BigEndian::read_i64(self.fixed::<8>().ok_or(WireError::Incomplete("int64"))?))
            }
            code::FLOAT => {
                Item::Float(BigEndian::read_f64(self.fixed::<8>().ok_or(WireError::Incomplete("float64"))?))
            }
            code::BYTES => {
                let len = self.length("Bytes", "bytes length")?;
                let got = self.rest.len();
                Item::Bytes(self.take(len).ok_or(WireError::ShortBytes { expected: len as u64, got })?)
            }
            code::STR => Item::Str(self.str_body()?),
            code::LIST => Item::List(self.count("List", "list count")?),
            code::DICT => Item::Dict(self.count("Dict", "dict count")?),
            code::REF if self.references => {
                let fields = self.fixed::<18>().ok_or(WireError::Incomplete("reference"))?;
                Item::Ref(Reference {
                    region: BigEndian::read_u16(&fields[..2]),
                    offset: BigEndian::read_u64(&fields[2..10]),
                    len: BigEndian::read_u64(&fields[10..]),
                })
            }
            unknown => return Err(WireError::UnknownType(unknown)),
        })
    }

    /// A dict's key: a string, or an error.
    #[inline]
    pub(super) fn key(&mut self) -> Result<&'a str, WireError> {
        match self.item()? {
            Item::Str(key) => Ok(key),
            other => Err(WireError::KeyNotString(other.type_name())),
        }
    }

    /// Passes over these bytes, if they are the next.
    #[inline]
    pub(super) fn literal(&mut self, bytes: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(bytes)?;
        Some(())
    }

    /// Passes over `values` tags with all that belongs to them. For bytes that were validated: text is not
    /// looked at again.
    pub(super) fn skip(&mut self, values: u64) -> Result<(), WireError> {
        let mut left = values;
        while left > 0 {
            left -= 1;
            if let Some((&(code::STR | code::BYTES), rest)) = self.rest.split_first() {
                self.rest = rest;
                let len = self.length("Bytes", "bytes length")?;
                let got = self.rest.len();
                self.take(len).ok_or(WireError::ShortBytes { expected: len as u64, got })?;
                continue;
            }
            match self.item()? {
                Item::List(count) => left += u64::from(count),
                Item::Dict(pairs) => left += 2 * u64::from(pairs),
                _ => {}
            }
        }
        Ok(())
    }

    #[inline]
    fn str_body(&mut self) -> Result<&'a str, WireError> {
        let len = self.length("String", "string length")?;
        let got = self.rest.len();
        let bytes = self.take(len).ok_or(WireError::ShortString { expected: len as u64, got })?;
        std::str::from_utf8(bytes).map_err(|e| {
            let start = e.valid_up_to();
            WireError::InvalidUtf8 {
                byte: bytes.get(start).copied().unwrap_or_default(),
                start: start as u32, // a length that came as a u32
                end: e.error_len().map_or(bytes.len(), |n| start + n) as u32,
                cut: e.error_len().is_none(),
            }
        })
    }

    #[inline]
    fn length(&mut self, what: &'static str, field: &'static str) -> Result<usize, WireError> {
        let len = BigEndian::read_u32(self.fixed::<4>().ok_or(WireError::Incomplete(field))?) as usize;
        let max = self.max_inline;
        if len > max {
            return Err(WireError::TooLarge { what, len: len as u64, unit: "bytes", max: max as u64 });
        }
        Ok(len)
    }

    #[inline]
    fn count(&mut self, what: &'static str, field: &'static str) -> Result<u32, WireError> {
        let count = BigEndian::read_u32(self.fixed::<4>().ok_or(WireError::Incomplete(field))?);
        if count as usize > MAX_ITEMS {
            return Err(WireError::TooLarge {
                what,
                len: count.into(),
                unit: "items",
                max: MAX_ITEMS as u64,
            });
        }
        Ok(count)
    }

    #[inline]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(head)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(head)
    }
}
