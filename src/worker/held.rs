//! The result records of a worker: which are free, which are held for a client until it moves its call on.

use super::free::Free;
use super::share::Charged;
use crate::limits::{LANE_CALLS, RESULT_RECORDS};
use crate::primitive::{AtomicU64, Ordering};
use crate::ring::Generation;
use crossbeam::atomic::AtomicCell;

/// Free records, and the block that a taken one refers to. Lock-free; shared by the worker's threads.
pub struct Records {
    free: Free<{ RESULT_RECORDS / 64 }>,
    blocks: Box<[AtomicCell<Option<Box<Tied>>>]>,
}

/// The memory that goes with a result.
#[derive(Debug, Default)]
pub struct Tied {
    /// What its record refers to.
    pub block: Option<Charged>,
    /// Of the stream that it ends: the ring, and items that lie in blocks.
    pub stream: Vec<Charged>,
}

impl Tied {
    /// All of it.
    pub fn into_blocks(self) -> impl Iterator<Item = Charged> {
        self.block.into_iter().chain(self.stream)
    }
}

impl Records {
    /// All free.
    pub fn new() -> Records {
        Records { free: Free::new(), blocks: (0..RESULT_RECORDS).map(|_| AtomicCell::new(None)).collect() }
    }

    /// A free record, now taken.
    pub fn take(&self) -> Option<usize> {
        self.free.take()
    }

    /// Ties a block to a taken record: it is given back when the record is. Returns the one tied to it before. One thread
    /// at a time has the record.
    pub fn attach(&self, record: usize, block: Charged) -> Option<Charged> {
        let mut tied = self.blocks[record].take().unwrap_or_default();
        let before = tied.block.replace(block);
        self.blocks[record].store(Some(tied));
        before
    }

    /// Ties the memory of a stream to the record of its end.
    pub fn attach_stream(&self, record: usize, stream: Vec<Charged>) {
        let mut tied = self.blocks[record].take().unwrap_or_default();
        tied.stream = stream;
        self.blocks[record].store(Some(tied));
    }

    /// The record is free again; returns what was tied to it.
    pub fn give_back(&self, record: usize) -> Option<Box<Tied>> {
        let tied = self.blocks[record].take();
        self.free.give_back(record);
        tied
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Records({} of {RESULT_RECORDS} free)", self.free.count())
    }
}

/// For each call of one lane the record that its last result of this life is in.
///
/// That the same call is claimed again proves that its client is through with the last result; so no look at the
/// word is needed on the way of a call.
///
/// Each is tagged with the generation it answers: who decided to free one and was held up meanwhile must not free the
/// record of a later call, which a client may be reading.
#[derive(Debug)]
pub struct Held([AtomicU64; LANE_CALLS]);

/// What is held for a call: generation and record. To be given back exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding(u64);

impl Holding {
    /// The record.
    #[inline]
    pub fn record(self) -> usize {
        (self.0 as u32 - 1) as usize
    }

    /// The submission that the record answers.
    #[inline]
    pub fn generation(self) -> Generation {
        Generation((self.0 >> 32) as u32)
    }
}

impl Held {
    /// None.
    pub fn new() -> Held {
        Held(std::array::from_fn(|_| AtomicU64::new(0)))
    }

    /// What is held for this call.
    #[inline]
    pub fn peek(&self, call: usize) -> Option<Holding> {
        let held = self.0[call].load(Ordering::Acquire);
        (held != 0).then_some(Holding(held))
    }

    /// The record, if exactly this is still held; it is no longer then.
    pub fn release(&self, call: usize, holding: Holding) -> Option<usize> {
        let taken = self.0[call].compare_exchange(holding.0, 0, Ordering::AcqRel, Ordering::Relaxed);
        taken.ok().map(|held| Holding(held).record())
    }

    /// This record is held for this submission of the call from now on.
    pub fn hold(&self, call: usize, generation: Generation, record: usize) -> Holding {
        let held = (generation.0 as u64) << 32 | (record as u64 + 1);
        self.0[call].store(held, Ordering::Release);
        Holding(held)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_seen_is_released() {
        let held = Held::new();
        let first = held.hold(3, Generation(7), 0);
        assert_eq!(held.peek(3), Some(first));
        let second = held.hold(3, Generation(8), 255);
        assert_eq!(held.release(3, first), None, "a later call's record");
        assert_eq!(held.release(3, second), Some(255));
        assert_eq!((held.peek(3), held.release(3, second)), (None, None));
    }

    #[test]
    fn records_run_out_and_come_back() {
        let records = Records::new();
        let taken: Vec<_> = std::iter::from_fn(|| records.take()).collect();
        assert_eq!(taken.len(), RESULT_RECORDS);
        records.give_back(77);
        assert_eq!(records.take(), Some(77));
        assert_eq!(records.take(), None);
    }
}
