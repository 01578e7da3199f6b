//! Which of a fixed number of places are free. Lock-free; shared by a worker's threads.

use crate::primitive::{AtomicU64, Ordering};

/// `64 * WORDS` places.
pub struct Free<const WORDS: usize>([AtomicU64; WORDS]);

impl<const WORDS: usize> Free<WORDS> {
    /// All free.
    pub fn new() -> Free<WORDS> {
        Free(std::array::from_fn(|_| AtomicU64::new(u64::MAX)))
    }

    /// A free place, now taken.
    pub fn take(&self) -> Option<usize> {
        for (i, word) in self.0.iter().enumerate() {
            let mut bits = word.load(Ordering::Relaxed);
            while bits != 0 {
                let bit = bits.trailing_zeros();
                let rest = bits & !(1 << bit);
                match word.compare_exchange_weak(bits, rest, Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return Some(i * 64 + bit as usize),
                    Err(now) => bits = now,
                }
            }
        }
        None
    }

    /// A taken place is free again; what was done with it stays before that.
    pub fn give_back(&self, place: usize) {
        self.0[place / 64].fetch_or(1 << (place % 64), Ordering::Release);
    }

    /// How many are free.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.load(Ordering::Relaxed).count_ones()).sum()
    }
}
