//! [`Draft`]: a value that is put together piece by piece, and is its bytes from the first piece on.
//!
//! An [`Encoder`] writes into memory that somebody lends it, in one go. A draft owns what it has so far, can be kept
//! and moved between two pieces, and becomes part of a message by one copy:
//!
//! ```text
//!   begin_list         put(7)                     begin_dict      key("k")             end …
//!   20 00 00 00 00     05 00 00 00 00 00 00 00 07 21 00 00 00 00  11 00 00 00 01 6b
//!      `-- the count: end() writes it
//! ```

use std::fmt;
use std::sync::Arc;

use super::bytes::Bytes;
use super::encoder::items_too_large;
use super::stack::Stack;
use super::tlv::{self, code};
use super::{Encode, EncodeArgs, EncodeKwargs, Encoded, Encoder, WireError};
use crate::limits::{MAX_DEPTH, MAX_ITEMS, MAX_MESSAGE, MAX_NODES};

/// One value being put together: arguments, a result, or a part of them. Each piece is encoded when it is put in, so
/// nothing of it needs to live on. For shapes that no Rust type has: those that a program in another language describes
/// call by call.
///
/// What was refused has changed nothing. Small drafts allocate nothing.
///
/// As arguments by position it must be one list, by name one dict; nothing put in is `None`. A message that takes it
/// adds its own nesting and values to the limits.
///
/// ```
/// # use stokehold::Draft;
/// let mut args = Draft::list();
/// args.str("coal")?;
/// args.begin_dict()?;
/// args.key("tonnes")?;
/// args.put(&(12, 0.5))?; // whatever can be encoded
/// args.end()?;
/// args.end()?;
/// // client.call("boiler", "feed").args(&args).execute()
/// # Ok::<(), stokehold::WireError>(())
/// ```
#[derive(Default)]
pub struct Draft {
    bytes: Bytes,
    /// How many values the bytes have, and how deep they are nested at most.
    nodes: usize,
    height: usize,
    open: Stack<Opened, 4>,
    /// What is encoded later, by where it stands. Rare, so one word until it is used.
    late: Option<Box<Later>>,
}

/// A list or dict that was begun.
#[derive(Clone, Copy, Default)]
struct Opened {
    /// Where its tag is.
    head: u32,
    /// How many values, and keys, it has; and the flag [`DICT`].
    slots: u32,
}

const DICT: u32 = 1 << 31;

#[derive(Default)]
struct Later(Vec<Late>);

/// A value without bytes.
struct Late {
    at: usize,
    depth: usize,
    value: Arc<dyn Encode + Send + Sync>,
}

impl Draft {
    /// Nothing yet.
    #[inline]
    pub fn new() -> Draft {
        Draft::default()
    }

    /// A list that was begun.
    #[inline]
    pub fn list() -> Draft {
        Draft::begun(code::LIST, 0)
    }

    /// A dict that was begun.
    #[inline]
    pub fn dict() -> Draft {
        Draft::begun(code::DICT, DICT)
    }

    /// Puts in `None`.
    ///
    /// # Errors
    /// Here and below: [`WireError::Misplaced`] where no value may stand, and limits: of what is put in, and of the whole.
    #[inline]
    pub fn none(&mut self) -> Result<(), WireError> {
        self.atom(&[code::NONE], &[])
    }

    /// Puts in a truth value.
    #[inline]
    pub fn bool(&mut self, value: bool) -> Result<(), WireError> {
        self.atom(&[code::BOOL, value.into()], &[])
    }

    /// Puts in an integer.
    #[inline]
    pub fn int(&mut self, value: i64) -> Result<(), WireError> {
        self.atom(&tlv::int(value), &[])
    }

    /// Puts in a floating-point number; NaN and the infinities are allowed.
    #[inline]
    pub fn float(&mut self, value: f64) -> Result<(), WireError> {
        self.atom(&tlv::float(value), &[])
    }

    /// Puts in bytes.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) -> Result<(), WireError> {
        self.atom(&tlv::head(code::BYTES, value.len()), value)
    }

    /// Puts in a string.
    #[inline]
    pub fn str(&mut self, value: &str) -> Result<(), WireError> {
        self.atom(&tlv::head(code::STR, value.len()), value.as_bytes())
    }

    /// Puts in a value of any type.
    ///
    /// # Errors
    /// Those of the value as well. A [`Lease`](crate::Lease) is refused: see [`put_late`](Draft::put_late).
    pub fn put(&mut self, value: &(impl Encode + ?Sized)) -> Result<(), WireError> {
        self.check(false)?;
        let begin = self.bytes.len();
        let put = self.write(value).and_then(|(nodes, height)| {
            self.check_size(nodes, height)?;
            self.count(nodes, height);
            Ok(())
        });
        if put.is_err() {
            self.bytes.truncate(begin);
        }
        put
    }

    /// Puts in a value that is encoded whenever the draft is, and not before. So it must be with a
    /// [`Lease`](crate::Lease): a call learns of it as it is encoded.
    ///
    /// # Errors
    /// Those of the value come when it is encoded.
    pub fn put_late(&mut self, value: Arc<dyn Encode + Send + Sync>) -> Result<(), WireError> {
        self.check(false)?;
        self.check_size(1, 0)?;
        self.late.get_or_insert_default().0.push(Late {
            at: self.bytes.len(),
            depth: self.open.len(),
            value,
        });
        self.count(0, 0); // its nodes are counted when it is encoded
        Ok(())
    }

    /// Puts in the key of the next value of the dict that was begun last.
    #[inline]
    pub fn key(&mut self, key: &str) -> Result<(), WireError> {
        self.check(true)?;
        self.bytes.append(&tlv::head(code::STR, key.len()), key.as_bytes())?;
        self.count(0, 0);
        Ok(())
    }

    /// Begins a list: what is put in until its [`end`](Draft::end) is in it.
    #[inline]
    pub fn begin_list(&mut self) -> Result<(), WireError> {
        self.begin(code::LIST, 0)
    }

    /// Begins a dict: pairs of [`key`](Draft::key) and a value, until its [`end`](Draft::end).
    #[inline]
    pub fn begin_dict(&mut self) -> Result<(), WireError> {
        self.begin(code::DICT, DICT)
    }

    /// Ends the list or dict that was begun last.
    ///
    /// # Errors
    /// [`WireError::Misplaced`] if there is none, or a key of it has no value.
    #[inline]
    pub fn end(&mut self) -> Result<(), WireError> {
        let Some(&Opened { head, slots }) = self.open.last() else {
            return Err(WireError::Misplaced("an end without a list or a dict that is open"));
        };
        if self.awaits_value() {
            return Err(WireError::Misplaced("a dict that ends with a key that has no value"));
        }
        let (tag, count) =
            if slots & DICT != 0 { (code::DICT, (slots & !DICT) / 2) } else { (code::LIST, slots) };
        self.bytes.write_at(head as usize, &tlv::head(tag, count as usize));
        self.open.pop();
        Ok(())
    }

    /// How many lists and dicts are begun and not ended.
    #[inline]
    pub fn depth(&self) -> usize {
        self.open.len()
    }

    /// Whether a key of the dict that was begun last has no value yet.
    #[inline]
    pub fn awaits_value(&self) -> bool {
        self.open.last().is_some_and(|opened| opened.slots & DICT != 0 && opened.slots & 1 != 0)
    }

    /// Whether nothing was put in.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == 0 && self.late.is_none()
    }

    fn begin(&mut self, tag: u8, dict: u32) -> Result<(), WireError> {
        self.check(false)?;
        self.check_size(1, 1)?;
        let head = self.bytes.len() as u32; // at most MAX_MESSAGE
        self.bytes.append(&tlv::head(tag, 0), &[])?;
        self.count(1, 1);
        self.open.push(Opened { head, slots: dict })
    }

    /// Puts in a value without elements.
    #[inline]
    fn atom<const N: usize>(&mut self, head: &[u8; N], body: &[u8]) -> Result<(), WireError> {
        self.check(false)?;
        self.check_size(1, 0)?;
        self.bytes.append(head, body)?;
        self.count(1, 0);
        Ok(())
    }

    /// Whether a key, or a value, may stand here.
    #[inline]
    fn check(&self, key: bool) -> Result<(), WireError> {
        let Some(Opened { slots, .. }) = self.open.last() else {
            return if !key && self.is_empty() { Ok(()) } else { Err(misplaced(key, false)) };
        };
        let (dict, len) = (slots & DICT != 0, (slots & !DICT) as usize);
        if key != (dict && len.is_multiple_of(2)) {
            return Err(misplaced(key, dict));
        }
        match dict {
            true if len >= 2 * MAX_ITEMS => Err(items_too_large("Dict", MAX_ITEMS + 1)),
            false if len >= MAX_ITEMS => Err(items_too_large("List", MAX_ITEMS + 1)),
            _ => Ok(()),
        }
    }

    /// Whether a value of so many values, in so many levels of containers, has room here.
    #[inline]
    fn check_size(&self, nodes: usize, height: usize) -> Result<(), WireError> {
        if self.nodes + self.late().len() + nodes > MAX_NODES {
            return Err(WireError::TooManyValues);
        }
        if self.open.len() + height > MAX_DEPTH {
            return Err(WireError::TooDeep { max: MAX_DEPTH });
        }
        Ok(())
    }

    /// It was put in; it, or a key, took a place in the innermost container.
    #[inline]
    fn count(&mut self, nodes: usize, height: usize) {
        self.nodes += nodes;
        self.height = self.height.max(self.open.len() + height);
        if let Some(opened) = self.open.top() {
            opened.slots += 1;
        }
    }

    /// Writes a value behind what is there; says its size as [`check_size`](Draft::check_size) takes it.
    fn write(&mut self, value: &(impl Encode + ?Sized)) -> Result<(usize, usize), WireError> {
        let mut needed = 0;
        if let Some((near, len)) = self.bytes.near_mut() {
            let mut e = Encoder::behind(near, *len);
            let size = whole(value, &mut e)?;
            needed = e.len();
            if e.finish().is_ok() {
                *len = needed;
                return Ok(size);
            }
        }
        whole(value, &mut Encoder::behind_vec(self.bytes.make_far(needed)?))
    }

    /// Writes it into a message, with what is late.
    fn encode_late(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        let bytes = self.bytes.as_slice();
        if let ([only], true) = (self.late(), bytes.is_empty()) {
            return only.value.encode(e);
        }
        e.begin_encoded(self.nodes, self.height)?;
        let mut done = 0;
        for late in self.late() {
            e.put(&bytes[done..late.at])?;
            done = late.at;
            e.within_encoded(late.depth, &*late.value)?;
        }
        e.put(&bytes[done..])?;
        e.end_encoded();
        Ok(())
    }

    /// What [`begin`](Draft::begin) makes of nothing.
    #[inline]
    fn begun(tag: u8, dict: u32) -> Draft {
        let (bytes, open) = (Bytes::from(tlv::head(tag, 0)), Stack::from(Opened { head: 0, slots: dict }));
        Draft { bytes, nodes: 1, height: 1, open, late: None }
    }

    #[inline]
    fn late(&self) -> &[Late] {
        self.late.as_ref().map_or(&[], |late| &late.0)
    }

    #[inline]
    fn is(&self, tag: u8) -> bool {
        self.bytes.as_slice().first() == Some(&tag)
    }
}

/// Writes exactly one value; says its size.
fn whole(value: &(impl Encode + ?Sized), e: &mut Encoder<'_>) -> Result<(usize, usize), WireError> {
    value.encode(e)?;
    e.close()?;
    match e.size() {
        (0, _) => Err(WireError::Unbalanced),
        size => Ok(size),
    }
}

#[cold]
fn misplaced(key: bool, in_dict: bool) -> WireError {
    WireError::Misplaced(match (key, in_dict) {
        (true, true) => "a key that follows a key that has no value yet",
        (true, false) => "a key outside of a dict",
        (false, true) => "a value without a key in a dict",
        (false, false) => "a second value where one can stand",
    })
}

/// # Errors
/// Besides those of the [`Encoder`]: [`WireError::Misplaced`] if a list or a dict was not ended.
impl Encode for Draft {
    #[inline]
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        if self.depth() > 0 {
            return Err(WireError::Misplaced("a list or a dict that was begun and not ended"));
        }
        if self.late.is_some() {
            return self.encode_late(e);
        }
        if self.is_empty() {
            return e.none();
        }
        e.begin_encoded(self.nodes, self.height)?;
        e.put(self.bytes.as_slice())?;
        e.end_encoded();
        Ok(())
    }

    #[inline]
    fn encoded(&self) -> Option<Encoded<'_>> {
        if self.depth() > 0 || self.late.is_some() || self.is_empty() {
            return None;
        }
        Some(Encoded { bytes: self.bytes.as_slice(), nodes: self.nodes, height: self.height })
    }
}

impl EncodeArgs for Draft {
    #[inline]
    fn encode_args(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        if !self.is(code::LIST) {
            return Err(WireError::Misplaced("arguments by position that are not one list"));
        }
        self.encode(e)
    }

    #[inline]
    fn encoded_args(&self) -> Option<Encoded<'_>> {
        if self.is(code::LIST) { self.encoded() } else { None }
    }
}

impl EncodeKwargs for Draft {
    #[inline]
    fn encode_kwargs(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        if !self.is(code::DICT) {
            return Err(WireError::Misplaced("arguments by name that are not one dict"));
        }
        self.encode(e)
    }

    #[inline]
    fn encoded_kwargs(&self) -> Option<Encoded<'_>> {
        if self.is(code::DICT) { self.encoded() } else { None }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Draft({} bytes, {} open)", self.bytes.len(), self.depth())
    }
}

const _: () = assert!(MAX_MESSAGE <= u32::MAX as usize && 2 * MAX_ITEMS < DICT as usize);
