//! The result records of a worker: which are free, which are held for a client until it moves its call on.

use crate::limits::{LANE_CALLS, RESULT_RECORDS};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::shm::Placed;
use crossbeam::atomic::AtomicCell;

/// Free records, and the block that a taken one refers to. Lock-free; shared by the worker's threads.
pub struct Records {
    free: [AtomicU64; RESULT_RECORDS / 64],
    blocks: Box<[AtomicCell<Option<Box<Placed>>>]>,
}

impl Records {
    /// All free.
    pub fn new() -> Records {
        Records {
            free: std::array::from_fn(|_| AtomicU64::new(u64::MAX)),
            blocks: (0..RESULT_RECORDS).map(|_| AtomicCell::new(None)).collect(),
        }
    }

    /// A free record, now taken.
    pub fn take(&self) -> Option<usize> {
        for (i, word) in self.free.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                match word.compare_exchange_weak(
                    bits,
                    bits & !(1 << bit),
                    Ordering::Acquire,
                    Ordering::Relaxed,
                ) {
                    Ok(_) => return Some(i * 64 + bit as usize),
                    Err(now) => bits = now,
                }
            }
        }
        None
    }

    /// Ties a block to a taken record: it is given back when the record is. Returns the one tied to it before.
    pub fn attach(&self, record: usize, block: Placed) -> Option<Placed> {
        self.blocks[record].swap(Some(Box::new(block))).map(|b| *b)
    }

    /// The record is free again; returns its block.
    pub fn give_back(&self, record: usize) -> Option<Placed> {
        let block = self.blocks[record].take().map(|b| *b);
        self.free[record / 64].fetch_or(1 << (record % 64), Ordering::Release);
        block
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let free: u32 = self.free.iter().map(|w| w.load(Ordering::Relaxed).count_ones()).sum();
        write!(f, "Records({free} of {RESULT_RECORDS} free)")
    }
}

/// For each call of one lane the record that its last result of this life is in.
///
/// That the same call is claimed again proves that its client is through with the last result; so no look at the
/// word is needed on the way of a call.
#[derive(Debug)]
pub struct Held([AtomicU32; LANE_CALLS]);

impl Held {
    /// None.
    pub fn new() -> Held {
        Held(std::array::from_fn(|_| AtomicU32::new(0)))
    }

    /// The record that was held for this call, which is no longer.
    pub fn release(&self, call: usize) -> Option<usize> {
        let held = &self.0[call];
        if held.load(Ordering::Relaxed) == 0 {
            return None;
        }
        held.swap(0, Ordering::AcqRel).checked_sub(1).map(|n| n as usize)
    }

    /// This record is held for this call from now on.
    pub fn hold(&self, call: usize, record: usize) {
        self.0[call].store(record as u32 + 1, Ordering::Release);
    }

    /// Whether something is held for this call.
    pub fn holds(&self, call: usize) -> bool {
        self.0[call].load(Ordering::Relaxed) != 0
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

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
