//! [`decode`] and the [`Reader`] behind it: the one pass in which hostile bytes become trusted ones.
//!
//! The pass allocates nothing for ordinary messages and at most 2 KiB for deep ones, looks at each byte once,
//! and resolves each reference once. What comes out is a [`ValueRef`] that reads the same bytes lazily.

use super::stack::Stack;
use super::tlv::{Cursor, Item};
use super::view::{DictRef, ListRef};
use super::{Resolve, ValueRef, WireError};
use crate::limits::{MAX_ITEMS, MAX_NODES};

/// Checks that `body` is exactly one value, and lends it.
///
/// # Errors
/// The first fault in gunicorn's order and words; besides those: more than [`MAX_DEPTH`] containers within
/// each other, more than [`MAX_NODES`] values, or a reference that `refs` refuses.
///
/// [`MAX_DEPTH`]: crate::limits::MAX_DEPTH
pub fn decode<'a>(body: &'a [u8], refs: &'a dyn Resolve) -> Result<ValueRef<'a>, WireError> {
    let mut reader = Reader::new(body, refs);
    let value = reader.value()?;
    reader.finish()?;
    Ok(value)
}

/// Checks that `body` is nothing (which means no fields) or exactly one dict, and calls `each` with its
/// pairs.
///
/// # Errors
/// As [`decode`], and a payload that is not a dict.
pub(super) fn fields<'a>(
    body: &'a [u8],
    refs: &'a dyn Resolve,
    mut each: impl FnMut(&'a str, ValueRef<'a>),
) -> Result<(), WireError> {
    if body.is_empty() {
        return Ok(());
    }
    let mut reader = Reader::new(body, refs);
    let pairs = match reader.item()? {
        Item::Dict(pairs) => pairs,
        other => {
            let found = other.type_name();
            return Err(WireError::Field { name: "payload", expected: "a dict", found });
        }
    };
    reader.open.push(0)?; // the values are one level down
    for _ in 0..pairs {
        let key = reader.key()?;
        each(key, reader.value()?);
    }
    reader.finish()
}

/// Reads values and keeps the accounts of depth and number.
pub(super) struct Reader<'a> {
    cursor: Cursor<'a>,
    refs: &'a dyn Resolve,
    open: Stack,
    nodes: usize,
}

impl<'a> Reader<'a> {
    #[inline]
    fn new(body: &'a [u8], refs: &'a dyn Resolve) -> Reader<'a> {
        Reader { cursor: Cursor::new(body, refs), refs, open: Stack::default(), nodes: 0 }
    }

    /// For a body that is one dict, whose head is before its first [`field`](Reader::field).
    #[inline]
    pub(super) fn inside(body: &'a [u8], refs: &'a dyn Resolve) -> Reader<'a> {
        let mut reader = Reader::new(body, refs);
        reader.nodes = 1;
        _ = reader.open.push(0); // the first level is never too deep
        reader
    }

    /// The next value, if these bytes are before it.
    #[inline(always)]
    pub(super) fn field(&mut self, before: &[u8]) -> Option<ValueRef<'a>> {
        self.cursor.literal(before)?;
        self.value().ok()
    }

    /// The next value, checked to its end.
    #[inline]
    pub(super) fn value(&mut self) -> Result<ValueRef<'a>, WireError> {
        Ok(match self.item()? {
            Item::None => ValueRef::None,
            Item::Bool(b) => ValueRef::Bool(b),
            Item::Int(n) => ValueRef::Int(n),
            Item::Float(x) => ValueRef::Float(x),
            Item::Bytes(b) => ValueRef::Bytes(b),
            Item::Str(s) => ValueRef::Str(s),
            Item::Ref(reference) => ValueRef::Bytes(self.refs.resolve(reference)?),
            Item::List(count) => {
                let body = self.elements(count)?;
                ValueRef::List(ListRef::new(count, body, self.refs))
            }
            Item::Dict(pairs) => {
                let body = self.elements(DICT | (2 * pairs))?;
                ValueRef::Dict(DictRef::new(pairs, body, self.refs))
            }
        })
    }

    /// Walks the elements of a container whose tag was just read, and returns their bytes.
    fn elements(&mut self, entry: u32) -> Result<&'a [u8], WireError> {
        let all = self.cursor.rest();
        if entry & !DICT == 0 {
            self.open.deeper()?; // nothing is in it
            return Ok(all.get(..0).unwrap_or_default());
        }
        let outside = self.open.len();
        self.open.push(entry)?;
        while self.open.len() > outside {
            let Some(entry) = self.open.top() else { break };
            let slots = *entry & SLOTS;
            if slots == 0 {
                if *entry & KEY != 0 {
                    let found = if *entry & DICT != 0 { "dict" } else { "list" };
                    return Err(WireError::KeyNotString(found));
                }
                self.open.pop();
                continue;
            }
            *entry -= 1;
            if *entry & DICT != 0 && slots.is_multiple_of(2) {
                match self.cursor.item()? {
                    Item::Str(_) => {}
                    other => self.open.push(not_a_key(other)?)?,
                }
                continue;
            }
            match self.item()? {
                Item::List(count) => self.open.push(count)?,
                Item::Dict(pairs) => self.open.push(DICT | (2 * pairs))?,
                Item::Ref(reference) => _ = self.refs.resolve(reference)?,
                _ => {}
            }
        }
        let len = all.len() - self.cursor.rest().len();
        Ok(all.get(..len).unwrap_or_default())
    }

    /// The next key.
    #[inline]
    fn key(&mut self) -> Result<&'a str, WireError> {
        match self.cursor.item()? {
            Item::Str(key) => Ok(key),
            other => {
                self.elements(not_a_key(other)?)?; // never returns, but with an error
                Err(WireError::KeyNotString(other.type_name()))
            }
        }
    }

    #[inline]
    fn item(&mut self) -> Result<Item<'a>, WireError> {
        let item = self.cursor.item()?;
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(WireError::TooManyValues) } else { Ok(item) }
    }

    pub(super) fn finish(self) -> Result<(), WireError> {
        match self.cursor.rest().len() {
            0 => Ok(()),
            len => Err(WireError::Trailing { len }),
        }
    }
}

/// What stands in a key's place. A container there is walked before it is refused, as gunicorn does: a fault
/// inside of it comes first.
fn not_a_key(item: Item<'_>) -> Result<u32, WireError> {
    match item {
        Item::List(count) => Ok(KEY | count),
        Item::Dict(pairs) => Ok(KEY | DICT | (2 * pairs)),
        other => Err(WireError::KeyNotString(other.type_name())),
    }
}

/// An open container is one word: keys and values still to come, whether keys are among them, and whether it
/// stands in a key's place itself.
const SLOTS: u32 = KEY - 1;
const KEY: u32 = 1 << 30;
const DICT: u32 = 1 << 31;

const _: () = assert!(2 * MAX_ITEMS < KEY as usize);
