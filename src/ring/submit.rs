//! The submit ring of a lane: its client appends (call, generation), any worker takes from the head.
//!
//! An ordinary bounded ring with 64-bit positions that are never reduced, one producer and many consumers, but
//! *it decides nothing*: the call word does. So entries may be dead (cancelled, resubmitted, taken by a worker
//! that walked the words) or appear twice, and the head is a hint that anyone may push over entries that are
//! not live. Capacity is at least twice the calls. When it is full, the client skips dead entries at the head; a
//! live one it appends again *before* it advances over it, so that the call is in somebody's view at every moment
//! (docs/protocol.md, F2; the other order loses a call). Positions are 64 bits because a worker may stop between reading
//! the head and swapping it (F10).

use super::sabotage::{self, order};
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

/// How often a look at a ring that moves under it is repeated.
const PEEKS: usize = 4;

impl SubmitRing<'_> {
    /// What is at the head.
    ///
    /// A correct system never sees `Corrupt`. Tail behind head: whoever moved the head there had seen a tail at
    /// least as far, and the head's Acquire hands that sight on. Tail more than a ring ahead: its producer had
    /// seen the head move on before, and the tail's Acquire hands that on, so the second look at the head
    /// differs from the first.
    #[inline]
    pub fn peek(&self) -> Peek {
        let mut head = self.head();
        for _ in 0..PEEKS {
            let tail = self.tail();
            match tail.wrapping_sub(head) {
                0 => return Peek::Empty,
                n if n <= self.slots.len() as u64 => {
                    return Peek::Entry(head, Entry::unpack(self.slot(head).load(Ordering::Relaxed)));
                }
                _ => {}
            }
            // The two loads are not one: others may have moved both in between.
            let now = if sabotage::on("onelook") { head } else { self.head() };
            if now == head {
                return Peek::Corrupt;
            }
            head = now;
        }
        Peek::Empty // others take faster than we look; not to be mistaken for `is_empty`
    }

    /// Whether head and tail have met. Unlike [`peek`](SubmitRing::peek) never wrong about an entry whose hint
    /// was seen.
    pub fn is_empty(&self) -> bool {
        self.head() == self.tail()
    }

    /// Moves the head over the entry at `position`, after it was claimed or found dead; not if others did.
    #[inline]
    pub fn advance(&self, position: u64) -> bool {
        let next = position.wrapping_add(1);
        if sabotage::on("narrowhead") {
            let head = self.head.load(Ordering::Acquire);
            return head as u32 == position as u32 && {
                self.head.store(next, Ordering::Release);
                true
            };
        }
        if sabotage::on("headstore") {
            self.head.store(next, Ordering::Release);
            return true;
        }
        // SYNC POINT: head
        let ordering = order("advancerelaxed", Ordering::AcqRel);
        self.head.compare_exchange(position, next, ordering, Ordering::Relaxed).is_ok()
    }

    fn head(&self) -> u64 {
        self.head.load(order("headrelaxed", Ordering::Acquire)) // SYNC POINT: head
    }

    fn tail(&self) -> u64 {
        self.tail.load(order("lateslot", Ordering::Acquire)) // SYNC POINT: submit
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
            let head = ring.head.load(Ordering::Acquire); // SYNC POINT: head
            let used = self.tail.wrapping_sub(head);
            if sabotage::on("nofull") {
                self.append(ring, entry);
                return Ok(());
            }
            if used > capacity {
                return Err(PushError::Corrupt);
            }
            if used < capacity - 1 {
                self.append(ring, entry);
                return Ok(());
            }
            let oldest = Entry::unpack(ring.slot(head).load(Ordering::Relaxed));
            if sabotage::on("popfirst") {
                ring.advance(head);
            }
            if live(oldest) && !sabotage::on("nostalecheck") {
                self.append(ring, oldest); // first this, then over it
            }
            ring.advance(head);
        }
        Err(PushError::Full)
    }

    fn append(&mut self, ring: SubmitRing<'_>, entry: Entry) {
        ring.slot(self.tail).store(entry.pack(), Ordering::Relaxed);
        crash_point!("client.submit.slot");
        self.tail = self.tail.wrapping_add(1);
        ring.tail.store(self.tail, order("tailrelaxed", Ordering::Release)); // SYNC POINT: submit
    }
}
