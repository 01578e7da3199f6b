//! The submit ring of a lane: its client appends (call, generation), any worker takes from the head.
//!
//! An ordinary bounded ring with 64-bit positions that are never reduced, one producer and many consumers, but
//! *it decides nothing*: the call word does. So entries may be dead (cancelled, resubmitted, taken by a worker
//! that walked the words) or appear twice, and the head is a hint that anyone may push over entries that are
//! not live. Capacity is at least twice the calls. When it is full, the client skips dead entries at the head; a
//! live one it appends again *before* it advances over it, so that the call is in somebody's view at every moment
//! (MODEL.md F2; the other order loses a call). Positions are 64 bits because a worker may stop between reading
//! the head and swapping it (F10).

use super::word::Generation;
use crate::primitive::{AtomicU64, Ordering};

/// What the ring carries: which call, which submission of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Index of the call in its lane.
    pub call: usize,
    /// Its generation when it was appended.
    pub generation: Generation,
}

impl Entry {
    fn pack(self) -> u64 {
        (self.generation.0 as u64) << 32 | self.call as u64 & 0xffff
    }

    fn unpack(raw: u64) -> Entry {
        Entry { call: (raw & 0xffff) as usize, generation: Generation((raw >> 32) as u32) }
    }
}

/// A ring over shared words. `slots.len()` is a power of two.
#[derive(Clone, Copy, Debug)]
pub struct SubmitRing<'a> {
    /// Next position to take.
    pub head: &'a AtomicU64,
    /// Next position to fill.
    pub tail: &'a AtomicU64,
    /// The entries.
    pub slots: &'a [AtomicU64],
}

/// What a worker sees at the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing there.
    Empty,
    /// An entry, at this position.
    Entry(u64, Entry),
    /// Head and tail make no sense.
    Corrupt,
}

/// Why an entry was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// Every entry is live, or others move the head as fast as we do.
    Full,
    /// The head makes no sense.
    Corrupt,
}

impl SubmitRing<'_> {
    /// What is at the head.
    #[inline]
    pub fn peek(&self) -> Peek {
        let head = self.head.load(Ordering::Acquire);
        let tail = self.tail.load(Ordering::Acquire); // SYNC POINT: submit
        match tail.wrapping_sub(head) {
            0 => Peek::Empty,
            n if n > self.slots.len() as u64 => {
                // The two loads are not one: others may have moved both in between.
                if self.head.load(Ordering::Acquire) == head { Peek::Corrupt } else { Peek::Empty }
            }
            _ => Peek::Entry(head, Entry::unpack(self.slot(head).load(Ordering::Relaxed))),
        }
    }

    /// Moves the head over the entry at `position`, after it was claimed or found dead; not if others did.
    #[inline]
    pub fn advance(&self, position: u64) -> bool {
        self.head
            .compare_exchange(position, position.wrapping_add(1), Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    fn slot(&self, position: u64) -> &AtomicU64 {
        &self.slots[position as usize & (self.slots.len() - 1)]
    }
}

/// The producer's private side: the tail as the client knows it, whatever is written into the shared one.
#[derive(Debug, Default)]
pub struct Producer {
    tail: u64,
}

impl Producer {
    /// For a ring whose positions start at `tail`.
    pub fn new(tail: u64) -> Producer {
        Producer { tail }
    }

    /// Appends an entry. `live` says whether an older entry's call is still queued with that generation.
    pub fn push(
        &mut self,
        ring: SubmitRing<'_>,
        entry: Entry,
        live: impl Fn(Entry) -> bool,
    ) -> Result<(), PushError> {
        let capacity = ring.slots.len() as u64;
        for _ in 0..=capacity {
            let head = ring.head.load(Ordering::Acquire);
            let used = self.tail.wrapping_sub(head);
            if used > capacity {
                return Err(PushError::Corrupt);
            }
            if used < capacity - 1 {
                self.append(ring, entry);
                return Ok(());
            }
            let oldest = Entry::unpack(ring.slot(head).load(Ordering::Relaxed));
            if live(oldest) {
                self.append(ring, oldest); // first this, then over it
            }
            ring.advance(head);
        }
        Err(PushError::Full)
    }

    fn append(&mut self, ring: SubmitRing<'_>, entry: Entry) {
        ring.slot(self.tail).store(entry.pack(), Ordering::Relaxed);
        self.tail = self.tail.wrapping_add(1);
        ring.tail.store(self.tail, Ordering::Release); // SYNC POINT: submit
    }
}
