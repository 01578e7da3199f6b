//! Bitmaps of hints that many processes set and clear: lanes with something to do, parkers that are idle.
//!
//! A hint may be missing or wrong after a crash or a stray write. Nothing here is load-bearing alone: the arbiter's
//! tick and the repair after a death derive the bits again, and what a bit points at is always checked.

use super::sabotage::order;
use crate::primitive::{AtomicU64, Ordering};

/// A bitmap over shared words.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a>(pub &'a [AtomicU64]);

impl Bits<'_> {
    /// How many bits there are.
    pub fn len(&self) -> usize {
        self.0.len() * 64
    }

    /// Whether there are no bits at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any bit is set.
    pub fn any(&self) -> bool {
        self.0.iter().any(|word| word.load(Ordering::Acquire) != 0)
    }

    /// Whether this bit is set; `false` out of range.
    #[inline]
    pub fn is_set(&self, index: usize) -> bool {
        match self.0.get(index / 64) {
            Some(word) => word.load(Ordering::Acquire) & mask(index) != 0,
            None => false,
        }
    }

    /// Sets a bit; nothing out of range.
    #[inline]
    pub fn set(&self, index: usize) {
        if let Some(word) = self.0.get(index / 64) {
            word.fetch_or(mask(index), order("bitsrelaxed", Ordering::AcqRel));
        }
    }

    /// Clears a bit and says whether it was set.
    #[inline]
    pub fn clear(&self, index: usize) -> bool {
        match self.0.get(index / 64) {
            Some(word) => {
                word.fetch_and(!mask(index), order("bitsrelaxed", Ordering::AcqRel)) & mask(index) != 0
            }
            None => false,
        }
    }

    /// The first set bit at or after `from`, going round once.
    pub fn next_from(&self, from: usize) -> Option<usize> {
        let words = self.0.len();
        if words == 0 {
            return None;
        }
        let (first, bit) = ((from / 64) % words, from % 64);
        for step in 0..=words {
            let index = (first + step) % words;
            let mut value = self.0[index].load(Ordering::Acquire);
            if step == 0 {
                value &= u64::MAX << bit;
            } else if step == words {
                value &= !(u64::MAX << bit);
            }
            if value != 0 {
                return Some(index * 64 + value.trailing_zeros() as usize);
            }
        }
        None
    }
}

#[inline]
fn mask(index: usize) -> u64 {
    1 << (index % 64)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn next_from_goes_round_and_ends() {
        let words: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
        let bits = Bits(&words);
        assert_eq!(bits.next_from(70), None);
        bits.set(69);
        assert_eq!(bits.next_from(70), Some(69));
        assert_eq!(bits.next_from(69), Some(69));
        bits.set(5);
        assert_eq!(bits.next_from(70), Some(5));
        bits.set(191);
        assert_eq!(bits.next_from(70), Some(191));
        assert!(bits.clear(191) && !bits.clear(191));
    }

    #[test]
    fn out_of_range_is_nothing() {
        let bits = Bits(&[]);
        bits.set(9);
        assert!(!bits.is_set(9) && !bits.clear(9));
        assert_eq!(bits.next_from(0), None);
    }
}
