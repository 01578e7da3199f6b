//! [`Encoder`]: writes one TLV value, forward, into memory that the caller owns.
//!
//! Into a fixed slice (a block of shared memory) it never allocates, and when the slice is full it goes on
//! counting: the caller learns the whole size, gets a block of it and encodes again. Into a `Vec` (a socket)
//! it grows. Both count what a container still lacks, so that an [`Encode`](super::Encode) implementation
//! which announces three items and writes two is found here and not by the peer.

use byteorder::{BigEndian, ByteOrder};

use super::stack::Stack;
use super::tlv::{self, code};
use super::{Encode, Reference, WireError, memory};
use crate::limits::{MAX_DEPTH, MAX_FRAME_PAYLOAD, MAX_ITEMS, MAX_MESSAGE, MAX_NODES, MAX_SOCKET_BYTES};

/// Writes one value. Methods are called in the order in which the bytes shall stand.
///
/// ```
/// # use stokehold::internals::wire::Encoder;
/// let mut block = [0; 64];
/// let mut e = Encoder::new(&mut block);
/// e.dict(1)?;
/// e.key("ok")?;
/// e.bool(true)?;
/// assert_eq!(e.finish(), Ok(14));
/// # Ok::<(), stokehold::internals::wire::WireError>(())
/// ```
#[derive(Debug)]
pub struct Encoder<'b> {
    sink: Sink<'b>,
    /// Bytes of the value so far, whether they found room or not.
    len: usize,
    nodes: usize,
    open: Stack,
    /// The most containers that were open at a time.
    height: usize,
    max_inline: usize,
    max_len: usize,
    references: bool,
    /// Something had no room by a limit. Its place was taken: there is no going on, even if the error is not passed on.
    broken: bool,
}

/// The slice was too small: so many bytes are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedMore {
    /// The size of the whole value.
    pub needed: usize,
}

/// A list or dict whose count is not known yet; [`Encoder::end`] fills it in.
#[derive(Debug)]
#[must_use = "a container that was opened must be ended"]
pub struct Open {
    count_at: usize,
    depth: usize,
}

#[derive(Debug)]
enum Sink<'b> {
    Slice(&'b mut [u8]),
    Vec { out: &'b mut Vec<u8>, base: usize },
}

impl<'b> Encoder<'b> {
    /// Writes into shared memory: references are allowed, inline values and the whole up to [`MAX_MESSAGE`].
    #[inline]
    pub fn new(block: &'b mut [u8]) -> Encoder<'b> {
        Encoder {
            sink: Sink::Slice(block),
            len: 0,
            nodes: 0,
            open: Stack::default(),
            height: 0,
            max_inline: MAX_MESSAGE,
            max_len: MAX_MESSAGE,
            references: true,
            broken: false,
        }
    }

    /// Continues behind the first `len` bytes of `block`, with one further value. No references.
    #[inline]
    pub(super) fn behind(block: &'b mut [u8], len: usize) -> Encoder<'b> {
        Encoder { len, references: false, ..Encoder::new(block) }
    }

    /// The same behind all of `out`, which grows.
    pub(super) fn behind_vec(out: &'b mut Vec<u8>) -> Encoder<'b> {
        let len = out.len();
        Encoder { sink: Sink::Vec { out, base: 0 }, len, references: false, ..Encoder::new(&mut []) }
    }

    /// Appends to `out` for a socket: no references, single values up to [`MAX_SOCKET_BYTES`], the whole up
    /// to [`MAX_FRAME_PAYLOAD`].
    pub fn to_vec(out: &'b mut Vec<u8>) -> Encoder<'b> {
        let base = out.len();
        Encoder {
            sink: Sink::Vec { out, base },
            len: 0,
            nodes: 0,
            open: Stack::default(),
            height: 0,
            max_inline: MAX_SOCKET_BYTES,
            max_len: MAX_FRAME_PAYLOAD,
            references: false,
            broken: false,
        }
    }

    /// Ends the value.
    ///
    /// # Errors
    /// [`NeedMore`] with the whole size, if the slice was too small for it. What the slice holds then is of
    /// no use.
    ///
    /// # Panics
    /// If an announced element was never written, or an error was not passed on: a bug of the caller. `wire::request` and the
    /// other writers of messages find that before, as an error.
    #[inline]
    pub fn finish(self) -> Result<usize, NeedMore> {
        assert!(self.is_balanced(), "an encoder was finished within a value");
        match self.sink {
            Sink::Slice(block) if self.len > block.len() => Err(NeedMore { needed: self.len }),
            _ => Ok(self.len),
        }
    }

    /// `None`.
    ///
    /// # Errors
    /// Here and below: a value where none may stand ([`WireError::Unbalanced`]), too many values, nesting
    /// that is too deep, or a length or count over its limit.
    #[inline]
    pub fn none(&mut self) -> Result<(), WireError> {
        self.value()?;
        self.put(&[code::NONE])
    }

    /// A truth value.
    #[inline]
    pub fn bool(&mut self, value: bool) -> Result<(), WireError> {
        self.value()?;
        self.put(&[code::BOOL, value.into()])
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) -> Result<(), WireError> {
        self.value()?;
        self.put(&tlv::int(value))
    }

    /// A floating-point number; NaN and the infinities are allowed.
    #[inline]
    pub fn float(&mut self, value: f64) -> Result<(), WireError> {
        self.value()?;
        self.put(&tlv::float(value))
    }

    /// Bytes, inline.
    #[inline]
    pub fn bytes(&mut self, value: &[u8]) -> Result<(), WireError> {
        self.value()?;
        self.counted(code::BYTES, "Bytes", value)
    }

    /// A string.
    #[inline]
    pub fn str(&mut self, value: &str) -> Result<(), WireError> {
        self.value()?;
        self.counted(code::STR, "String", value.as_bytes())
    }

    /// A list of `count` values, which must follow.
    #[inline]
    pub fn list(&mut self, count: usize) -> Result<(), WireError> {
        self.container(code::LIST, "List", count)
    }

    /// A dict of `pairs` pairs, each a [`key`](Encoder::key) and a value, which must follow.
    #[inline]
    pub fn dict(&mut self, pairs: usize) -> Result<(), WireError> {
        self.container(code::DICT, "Dict", pairs)
    }

    /// The key of the next pair.
    #[inline]
    pub fn key(&mut self, key: &str) -> Result<(), WireError> {
        self.slot(true)?;
        self.counted(code::STR, "String", key.as_bytes())
    }

    /// Bytes that lie in a region. The reader gets them as bytes.
    ///
    /// # Errors
    /// On a socket: `Unsupported type for TLV encoding: reference`.
    #[inline]
    pub fn reference(&mut self, reference: Reference) -> Result<(), WireError> {
        if !self.references {
            return Err(WireError::Unsupported("reference"));
        }
        self.value()?;
        let mut bytes = [code::REF; 19];
        BigEndian::write_u16(&mut bytes[1..3], reference.region);
        BigEndian::write_u64(&mut bytes[3..11], reference.offset);
        BigEndian::write_u64(&mut bytes[11..], reference.len);
        self.put(&bytes)
    }

    /// A list whose count [`end`](Encoder::end) fills in.
    pub fn open_list(&mut self) -> Result<Open, WireError> {
        self.open(code::LIST, 0)
    }

    /// A dict whose count [`end`](Encoder::end) fills in.
    pub fn open_dict(&mut self) -> Result<Open, WireError> {
        self.open(code::DICT, DICT)
    }

    /// Ends the innermost container, which must be `opened`.
    pub fn end(&mut self, opened: Open) -> Result<(), WireError> {
        if self.open.len() != opened.depth {
            return Err(WireError::Unbalanced);
        }
        let entry = self.open.top().map_or(0, |entry| *entry);
        let slots = entry & SLOTS;
        let count = match entry & (UNSIZED | DICT) {
            UNSIZED => slots,
            UNSIZED_DICT if slots.is_multiple_of(2) => slots / 2,
            _ => return Err(WireError::Unbalanced),
        };
        self.open.pop();
        self.settle();
        let mut bytes = [0; 4];
        BigEndian::write_u32(&mut bytes, count);
        let out = match &mut self.sink {
            Sink::Slice(block) => &mut **block,
            Sink::Vec { out, base } => out.get_mut(*base..).unwrap_or_default(),
        };
        if let Some(place) = out.get_mut(opened.count_at..opened.count_at + 4) {
            place.copy_from_slice(&bytes);
        }
        Ok(())
    }

    /// Whether nothing or one whole value was written.
    pub fn is_balanced(&self) -> bool {
        self.open.is_empty() && !self.broken
    }

    /// Bytes of the value so far.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What [`finish`](Encoder::finish) asserts, as an error.
    #[inline]
    pub(super) fn close(&self) -> Result<(), WireError> {
        if self.is_balanced() { Ok(()) } else { Err(WireError::Unbalanced) }
    }

    /// How many values were written, each with all that is in it, and how deep they are nested.
    #[inline]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.nodes, self.height)
    }

    /// Begins a message: a dict whose keys are known bytes. `texts` of its values come by [`text`](Encoder::text), and
    /// `fields` others each behind a [`field`](Encoder::field).
    #[inline]
    pub(super) fn message(&mut self, texts: usize, fields: u32) -> Result<(), WireError> {
        self.node()?;
        self.slot(false)?;
        self.nodes += texts;
        self.open.push(fields)?;
        self.height = self.height.max(self.open.len());
        Ok(())
    }

    /// What stands before a string of a message, and the string.
    #[inline]
    pub(super) fn text(&mut self, key: &[u8], text: &str) -> Result<(), WireError> {
        self.put(key)?;
        self.counted(code::STR, "String", text.as_bytes())
    }

    /// What stands before another value of a message, when so many are left with it: the value before was one, and whole.
    #[inline]
    pub(super) fn field(&mut self, left: u32, key: &[u8]) -> Result<(), WireError> {
        if self.open.len() != 1 || self.open.last() != Some(&left) {
            return Err(WireError::Unbalanced);
        }
        self.put(key)
    }

    /// Takes the place of a value that was encoded elsewhere, with `nodes` values in `height` levels of containers: its
    /// bytes follow, by [`put`](Encoder::put), and then [`end_encoded`](Encoder::end_encoded).
    #[inline]
    pub(super) fn begin_encoded(&mut self, nodes: usize, height: usize) -> Result<(), WireError> {
        self.node()?;
        self.slot(false)?;
        self.nodes += nodes.saturating_sub(1);
        if self.nodes > MAX_NODES {
            return Err(WireError::TooManyValues);
        }
        self.height = self.height.max(self.open.len() + height);
        if self.height > MAX_DEPTH {
            return Err(WireError::TooDeep { max: MAX_DEPTH });
        }
        Ok(())
    }

    /// Within such bytes, `depth` containers below the one that is open here: one value.
    pub(super) fn within_encoded(&mut self, depth: usize, value: &dyn Encode) -> Result<(), WireError> {
        // They stand for the containers whose heads were among the bytes. The innermost counts what it gets.
        for _ in 0..depth {
            self.open.push(UNSIZED)?;
        }
        let outside = self.open.len();
        value.encode(self)?;
        if self.open.len() != outside || self.open.last() != Some(&(UNSIZED | 1)) {
            return Err(WireError::Unbalanced);
        }
        for _ in 0..depth {
            self.open.pop();
        }
        Ok(())
    }

    /// All bytes of the value are there.
    #[inline]
    pub(super) fn end_encoded(&mut self) {
        self.settle();
    }

    #[inline]
    fn container(&mut self, tag: u8, what: &'static str, count: usize) -> Result<(), WireError> {
        if count > MAX_ITEMS {
            return Err(items_too_large(what, count));
        }
        self.node()?;
        self.slot(false)?;
        if count == 0 {
            self.height = self.height.max(self.open.deeper()?);
            self.settle();
        } else {
            self.open.push(if tag == code::DICT { DICT | (2 * count as u32) } else { count as u32 })?;
            self.height = self.height.max(self.open.len());
        }
        self.put(&tlv::head(tag, count)) // at most MAX_ITEMS
    }

    fn open(&mut self, tag: u8, dict: u32) -> Result<Open, WireError> {
        self.node()?;
        self.slot(false)?;
        self.open.push(UNSIZED | dict)?;
        self.height = self.height.max(self.open.len());
        let opened = Open { count_at: self.len + 1, depth: self.open.len() };
        self.put(&tlv::head(tag, 0))?;
        Ok(opened)
    }

    /// Accounts for a value that has no elements.
    #[inline]
    fn value(&mut self) -> Result<(), WireError> {
        self.node()?;
        self.slot(false)?;
        self.settle();
        Ok(())
    }

    #[inline]
    fn node(&mut self) -> Result<(), WireError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(WireError::TooManyValues) } else { Ok(()) }
    }

    /// Takes a place in the innermost container: a key's or a value's.
    #[inline]
    fn slot(&mut self, key: bool) -> Result<(), WireError> {
        let nodes = self.nodes;
        let Some(entry) = self.open.top() else {
            // Only the one root stands outside of containers.
            return if key || nodes != 1 { Err(WireError::Unbalanced) } else { Ok(()) };
        };
        let slots = *entry & SLOTS;
        if key != (*entry & DICT != 0 && slots.is_multiple_of(2)) {
            return Err(WireError::Unbalanced);
        }
        if *entry & UNSIZED == 0 {
            if slots == 0 {
                return Err(WireError::Unbalanced);
            }
            *entry -= 1;
            return Ok(());
        }
        let (what, most) = if *entry & DICT != 0 { ("Dict", 2 * MAX_ITEMS) } else { ("List", MAX_ITEMS) };
        if slots as usize >= most {
            return Err(items_too_large(what, MAX_ITEMS + 1));
        }
        *entry += 1;
        Ok(())
    }

    /// Closes the containers that have all they announced.
    #[inline]
    fn settle(&mut self) {
        while let Some(entry) = self.open.top() {
            if *entry & (UNSIZED | SLOTS) != 0 {
                return;
            }
            self.open.pop();
        }
    }

    #[inline]
    fn counted(&mut self, tag: u8, what: &'static str, body: &[u8]) -> Result<(), WireError> {
        if body.len() > self.max_inline {
            self.broken = true;
            let max = self.max_inline as u64;
            return Err(WireError::TooLarge { what, len: body.len() as u64, unit: "bytes", max });
        }
        self.put(&tlv::head(tag, body.len()))?; // max_inline is far below 4 GiB
        self.put(body)
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let end = self.len + bytes.len();
        match &mut self.sink {
            Sink::Slice(block) if end <= self.max_len => {
                if let Some(place) = block.get_mut(self.len..end) {
                    place.copy_from_slice(bytes);
                }
                self.len = end;
                Ok(())
            }
            _ => self.put_elsewhere(bytes, end),
        }
    }

    /// What is not for a slice, or too much. Not inlined: a call writes into a slice, and each of its puts would carry this
    /// along.
    #[inline(never)]
    fn put_elsewhere(&mut self, bytes: &[u8], end: usize) -> Result<(), WireError> {
        if end > self.max_len {
            self.broken = true;
            return Err(WireError::MessageTooLarge { len: end as u64, max: self.max_len as u64 });
        }
        if let Sink::Vec { out, .. } = &mut self.sink {
            if let Err(error) = memory::reserve(out, bytes.len()) {
                self.broken = true;
                return Err(error);
            }
            out.extend_from_slice(bytes);
        }
        self.len = end;
        Ok(())
    }
}

#[cold]
pub(super) fn items_too_large(what: &'static str, count: usize) -> WireError {
    WireError::TooLarge { what, len: count as u64, unit: "items", max: MAX_ITEMS as u64 }
}

/// An open container is one word: how many places it still has (or, unsized, already took), and two flags.
const SLOTS: u32 = (1 << 30) - 1;
const UNSIZED: u32 = 1 << 30;
const DICT: u32 = 1 << 31;
const UNSIZED_DICT: u32 = UNSIZED | DICT;

// So that what was encoded elsewhere, for shared memory, has no value over the limit of a socket if all of it is not.
const _: () = assert!(MAX_FRAME_PAYLOAD <= MAX_SOCKET_BYTES);
const _: () = assert!(2 * MAX_ITEMS < SLOTS as usize && MAX_MESSAGE < u32::MAX as usize);
