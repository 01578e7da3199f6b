//! [`ValueRef`], [`ListRef`], [`DictRef`]: values read in place.
//!
//! They come out of [`decode`](super::decode), which has looked at every byte, so reading them finds nothing
//! new. Still nothing here trusts that: bytes that changed since (a writer that broke its promise not to
//! touch a lent block) and a resolver that changed its mind come out as an error, once, and end the
//! iteration.

use std::fmt;

use super::builder::Builder;
use super::event;
use super::tlv::{Cursor, Item};
use super::value::{Value, debug};
use super::{Resolve, WireError};

/// A value that lies in somebody's bytes. Copying it copies a pointer.
#[derive(Clone, Copy)]
pub enum ValueRef<'a> {
    /// Nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// Bytes: inline in the body or in a region.
    Bytes(&'a [u8]),
    /// Text.
    Str(&'a str),
    /// A list.
    List(ListRef<'a>),
    /// A dict with string keys.
    Dict(DictRef<'a>),
}

impl<'a> ValueRef<'a> {
    /// A copy that owns everything. A key that a dict has twice comes out once, in its first place with its
    /// last value, as Python reads it.
    ///
    /// # Errors
    /// Only for want of memory, or if the bytes are no longer those that were validated.
    #[allow(clippy::wrong_self_convention)] // Copy, and the name people look for
    pub fn to_owned(self) -> Result<Value, WireError> {
        let mut events = event::Encoded::new(self);
        let mut builder = Builder::default();
        while let Some(event) = events.next()? {
            builder.push_folding(event)?;
        }
        Ok(builder.finish())
    }

    /// What this is, for people: `an integer`, `a list`.
    pub fn describe(&self) -> &'static str {
        match self {
            ValueRef::None => "None",
            ValueRef::Bool(_) => "a bool",
            ValueRef::Int(_) => "an integer",
            ValueRef::Float(_) => "a float",
            ValueRef::Bytes(_) => "bytes",
            ValueRef::Str(_) => "a string",
            ValueRef::List(_) => "a list",
            ValueRef::Dict(_) => "a dict",
        }
    }

    /// Python's name of the type, for messages in gunicorn's words.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            ValueRef::None => "NoneType",
            ValueRef::Bool(_) => "bool",
            ValueRef::Int(_) => "int",
            ValueRef::Float(_) => "float",
            ValueRef::Bytes(_) => "bytes",
            ValueRef::Str(_) => "str",
            ValueRef::List(_) => "list",
            ValueRef::Dict(_) => "dict",
        }
    }

    /// The value that follows `head` in bytes that were validated; `None` if they begin with something else.
    #[inline(always)] // `head` is compared as what is known when this is compiled
    pub(super) fn behind(
        head: &[u8],
        body: &'a [u8],
        refs: &'a dyn Resolve,
    ) -> Option<Result<ValueRef<'a>, WireError>> {
        let mut cursor = Cursor::new(body, refs);
        cursor.literal(head)?;
        Some(cursor.item().and_then(|item| ValueRef::of(item, &cursor, refs)))
    }

    #[inline]
    fn of(item: Item<'a>, cursor: &Cursor<'a>, refs: &'a dyn Resolve) -> Result<ValueRef<'a>, WireError> {
        Ok(match item {
            Item::None => ValueRef::None,
            Item::Bool(b) => ValueRef::Bool(b),
            Item::Int(n) => ValueRef::Int(n),
            Item::Float(x) => ValueRef::Float(x),
            Item::Bytes(b) => ValueRef::Bytes(b),
            Item::Str(s) => ValueRef::Str(s),
            Item::Ref(reference) => ValueRef::Bytes(refs.resolve(reference)?),
            Item::List(count) => ValueRef::List(ListRef::new(count, cursor.rest(), refs)),
            Item::Dict(pairs) => ValueRef::Dict(DictRef::new(pairs, cursor.rest(), refs)),
        })
    }
}

/// Equal if they hold the same values in the same order. As in IEEE 754, NaN equals nothing.
impl PartialEq for ValueRef<'_> {
    fn eq(&self, other: &ValueRef<'_>) -> bool {
        let (mut left, mut right) = (event::Encoded::new(*self), event::Encoded::new(*other));
        loop {
            match (left.next(), right.next()) {
                (Ok(None), Ok(None)) => return true,
                (Ok(a), Ok(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

/// Compares without copying.
impl PartialEq<Value> for ValueRef<'_> {
    fn eq(&self, other: &Value) -> bool {
        let (mut left, mut right) = (event::Encoded::new(*self), event::Owned::new(other));
        loop {
            match (left.next(), right.next()) {
                (Ok(None), None) => return true,
                (Ok(a), b) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Debug for ValueRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut events = event::Encoded::new(*self);
        debug(f, || events.next().unwrap_or_default())
    }
}

/// A list that lies in somebody's bytes.
#[derive(Clone, Copy)]
pub struct ListRef<'a> {
    count: u32,
    /// Begins with the first element. Ends with the last, or somewhere behind it.
    body: &'a [u8],
    refs: &'a dyn Resolve,
}

impl<'a> ListRef<'a> {
    /// The list without elements.
    pub const EMPTY: ListRef<'static> = ListRef { count: 0, body: &[], refs: &super::NoReferences };

    pub(super) fn new(count: u32, body: &'a [u8], refs: &'a dyn Resolve) -> ListRef<'a> {
        ListRef { count, body, refs }
    }

    /// How many elements it has.
    #[inline]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The elements, in order.
    #[inline]
    pub fn iter(&self) -> ListIter<'a> {
        ListIter { left: self.count, walk: Walk::new(self.body, self.refs) }
    }

    /// The element at `index`. Walks there: to see all, iterate.
    ///
    /// # Errors
    /// Only if the bytes are no longer those that were validated.
    #[inline]
    pub fn get(&self, index: usize) -> Result<Option<ValueRef<'a>>, WireError> {
        if index >= self.len() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(self.body, self.refs);
        cursor.skip(index as u64)?;
        let item = cursor.item_here()?;
        ValueRef::of(item, &cursor, self.refs).map(Some)
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn refs(&self) -> &'a dyn Resolve {
        self.refs
    }
}

impl<'a> IntoIterator for ListRef<'a> {
    type Item = Result<ValueRef<'a>, WireError>;
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> ListIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for ListRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ValueRef::List(*self).fmt(f)
    }
}

/// A dict that lies in somebody's bytes.
#[derive(Clone, Copy)]
pub struct DictRef<'a> {
    pairs: u32,
    /// Begins with the first key. Ends with the last value, or somewhere behind it.
    body: &'a [u8],
    refs: &'a dyn Resolve,
}

impl<'a> DictRef<'a> {
    /// The dict without pairs.
    pub const EMPTY: DictRef<'static> = DictRef { pairs: 0, body: &[], refs: &super::NoReferences };

    pub(super) fn new(pairs: u32, body: &'a [u8], refs: &'a dyn Resolve) -> DictRef<'a> {
        DictRef { pairs, body, refs }
    }

    /// How many pairs are written. A key that is written twice counts twice.
    pub fn len(&self) -> usize {
        self.pairs as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs == 0
    }

    /// The pairs as they are written, in order.
    pub fn iter(&self) -> DictIter<'a> {
        DictIter { left: self.pairs, walk: Walk::new(self.body, self.refs) }
    }

    /// The value of a key; if it is written more than once, the last. Walks the whole dict.
    ///
    /// # Errors
    /// Only if the bytes are no longer those that were validated.
    pub fn get(&self, key: &str) -> Result<Option<ValueRef<'a>>, WireError> {
        let mut found = None;
        for pair in self.iter() {
            let (name, value) = pair?;
            if name == key {
                found = Some(value);
            }
        }
        Ok(found)
    }

    pub(super) fn body(&self) -> &'a [u8] {
        self.body
    }

    pub(super) fn refs(&self) -> &'a dyn Resolve {
        self.refs
    }
}

impl<'a> IntoIterator for DictRef<'a> {
    type Item = Result<(&'a str, ValueRef<'a>), WireError>;
    type IntoIter = DictIter<'a>;

    fn into_iter(self) -> DictIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for DictRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ValueRef::Dict(*self).fmt(f)
    }
}

/// The elements of a [`ListRef`]. After an error there are no more.
#[derive(Clone)]
pub struct ListIter<'a> {
    left: u32,
    walk: Walk<'a>,
}

impl<'a> Iterator for ListIter<'a> {
    type Item = Result<ValueRef<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let value = self.walk.value();
        if value.is_err() {
            self.left = 0;
        }
        Some(value)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1) as usize, Some(self.left as usize))
    }
}

impl std::iter::FusedIterator for ListIter<'_> {}

/// The pairs of a [`DictRef`]. After an error there are no more.
#[derive(Clone)]
pub struct DictIter<'a> {
    left: u32,
    walk: Walk<'a>,
}

impl<'a> Iterator for DictIter<'a> {
    type Item = Result<(&'a str, ValueRef<'a>), WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let pair = self.walk.key().and_then(|key| Ok((key, self.walk.value()?)));
        if pair.is_err() {
            self.left = 0;
        }
        Some(pair)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.min(1) as usize, Some(self.left as usize))
    }
}

impl std::iter::FusedIterator for DictIter<'_> {}

/// Steps over siblings. A container is passed over only when somebody asks for what follows it.
#[derive(Clone)]
struct Walk<'a> {
    cursor: Cursor<'a>,
    refs: &'a dyn Resolve,
    /// Keys and values of the container that was lent last.
    behind: u64,
}

impl<'a> Walk<'a> {
    #[inline]
    fn new(body: &'a [u8], refs: &'a dyn Resolve) -> Walk<'a> {
        Walk { cursor: Cursor::new(body, refs), refs, behind: 0 }
    }

    fn key(&mut self) -> Result<&'a str, WireError> {
        self.catch_up()?;
        self.cursor.key()
    }

    #[inline]
    fn value(&mut self) -> Result<ValueRef<'a>, WireError> {
        self.catch_up()?;
        let item = self.cursor.item()?;
        self.behind = match item {
            Item::List(count) => count.into(),
            Item::Dict(pairs) => 2 * u64::from(pairs),
            _ => 0,
        };
        ValueRef::of(item, &self.cursor, self.refs)
    }

    #[inline]
    fn catch_up(&mut self) -> Result<(), WireError> {
        self.cursor.skip(std::mem::take(&mut self.behind))
    }
}
