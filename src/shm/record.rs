//! A record of 512 bytes: frame header, fixed fields, inline body. Requests and results have the same shape.
//!
//! ```text
//! 0    frame header, 16 bytes, verbatim
//! 16   two words of the owner's own      (request: own record, deadline; result: lane serial, call key)
//! 32   body: length 32 | region 16 | in a block 16      40  offset of the block
//! 48   flags (of a request: see Chain)                  56  request: the caller's own deadline
//! 64   448 bytes of TLV body
//! ```
//!
//! All of it is atomics, read once each into a private copy that is then validated: what a peer does to the record
//! meanwhile changes nothing.

use super::region::Shared;
use crate::limits::{HEADER_LEN, INLINE_LEN, RECORD_LEN};
use crate::primitive::{AtomicU64, Ordering};
use crate::sys::prefetch;

/// One record in a region.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Record {
    header: [AtomicU64; 2],
    /// Two words whose meaning the region gives.
    pub own: [AtomicU64; 2],
    body: [AtomicU64; 2],
    flags: AtomicU64,
    /// One more of the owner's words.
    pub extra: AtomicU64,
    inline: [AtomicU64; INLINE_LEN / 8],
}

const _: () = assert!(size_of::<Record>() == RECORD_LEN && align_of::<Record>() == 64);

// SAFETY: `#[repr(C)]` of atomics only.
unsafe impl Shared for Record {}

/// Where a record's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// In the record, this many bytes.
    Inline(usize),
    /// In a block.
    Block {
        /// Number of the region.
        region: u16,
        /// Where in it.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
}

impl Body {
    /// How many bytes it has.
    #[inline]
    pub fn bytes(&self) -> usize {
        let (Body::Inline(len) | Body::Block { len, .. }) = *self;
        len
    }
}

const IN_A_BLOCK: u64 = 1;
/// As many of 64 bytes as a small body needs.
const FIRST_LINES: usize = 4;

impl Record {
    /// Writes everything but the owner's words. The record is not published yet.
    #[inline]
    pub fn write(&self, header: [u8; HEADER_LEN], body: Body, flags: u64, inline: &[u8]) {
        for (word, bytes) in self.header.iter().zip(header.chunks_exact(8)) {
            word.store(le(bytes), Ordering::Relaxed);
        }
        let (descriptor, offset) = match body {
            Body::Inline(len) => ((len as u64) << 32, 0),
            Body::Block { region, offset, len } => {
                ((len as u64) << 32 | (region as u64) << 16 | IN_A_BLOCK, offset)
            }
        };
        self.body[0].store(descriptor, Ordering::Relaxed);
        self.body[1].store(offset, Ordering::Relaxed);
        self.flags.store(flags, Ordering::Relaxed);
        let whole = inline.len() / 8;
        for (word, bytes) in self.inline.iter().zip(inline.chunks_exact(8)) {
            word.store(le(bytes), Ordering::Relaxed);
        }
        let rest = &inline[whole * 8..];
        if !rest.is_empty() {
            // Byte by byte into a register: a word that was put together in memory is waited for, and with it all that
            // was stored before, which other processes have in their caches.
            let word = rest.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            self.inline[whole].store(word, Ordering::Relaxed);
        }
    }

    /// Asks for what a small body needs of it to be on its way, to be read.
    #[inline]
    pub fn prefetch(&self) {
        prefetch::to_read(self, FIRST_LINES);
    }

    /// The same, to be written.
    #[inline]
    pub fn prefetch_to_write(&self) {
        prefetch::to_write(self, FIRST_LINES);
    }

    /// The frame header, copied.
    #[inline]
    pub fn header(&self) -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        for (word, bytes) in self.header.iter().zip(header.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        header
    }

    /// Where the body is said to be, copied; `None` if that makes no sense.
    #[inline]
    pub fn body(&self) -> Option<Body> {
        let (descriptor, offset) =
            (self.body[0].load(Ordering::Relaxed), self.body[1].load(Ordering::Relaxed));
        let len = (descriptor >> 32) as usize;
        match descriptor & 0xffff {
            0 if len <= INLINE_LEN => Some(Body::Inline(len)),
            IN_A_BLOCK if len <= crate::limits::MAX_MESSAGE => {
                Some(Body::Block { region: (descriptor >> 16) as u16, offset, len })
            }
            _ => None,
        }
    }

    /// The flags, copied.
    pub fn flags(&self) -> u64 {
        self.flags.load(Ordering::Relaxed)
    }

    /// Copies the first `len` bytes of the inline body (at most all of it).
    #[inline]
    pub fn copy_inline<'b>(&self, len: usize, to: &'b mut [u8; INLINE_LEN]) -> &'b [u8] {
        let len = len.min(INLINE_LEN);
        for (word, bytes) in self.inline.iter().zip(to.chunks_exact_mut(8)).take(len.div_ceil(8)) {
            bytes.copy_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
        }
        &to[..len]
    }
}

/// Eight bytes as a word, so that memory holds them in their order.
#[inline]
pub(super) fn le(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_any_length_is_read_as_it_was_written() {
        let word = || AtomicU64::new(u64::MAX);
        let record = Record {
            header: [word(), word()],
            own: [word(), word()],
            body: [word(), word()],
            flags: word(),
            extra: word(),
            inline: std::array::from_fn(|_| word()),
        };
        let bytes: [u8; INLINE_LEN] = std::array::from_fn(|at| (at * 7 + 1) as u8);
        for len in 0..=INLINE_LEN {
            record.write([len as u8; HEADER_LEN], Body::Inline(len), 5, &bytes[..len]);
            assert_eq!(record.copy_inline(len, &mut [0; INLINE_LEN]), &bytes[..len]);
            assert_eq!(record.header(), [len as u8; HEADER_LEN]);
            assert_eq!((record.body(), record.flags()), (Some(Body::Inline(len)), 5));
        }
    }
}
