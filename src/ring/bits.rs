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

    /// The first set bit at or after `from`, going round once. From the first one if `from` is out of range.
    #[inline]
    pub fn next_from(&self, from: usize) -> Option<usize> {
        let from = if from < self.len() { from } else { 0 };
        let (before, after) = self.0.split_at_checked(from / 64)?;
        let (first, rest) = after.split_first()?;
        let not_before = u64::MAX << (from % 64);
        let find = |words: &[AtomicU64], at: usize, among: u64| {
            words.iter().zip(at..).find_map(|(word, at)| {
                let value = word.load(Ordering::Acquire) & among;
                (value != 0).then(|| at * 64 + value.trailing_zeros() as usize)
            })
        };
        let first = std::slice::from_ref(first);
        find(first, before.len(), not_before)
            .or_else(|| find(rest, before.len() + 1, u64::MAX))
            .or_else(|| find(before, 0, u64::MAX))
            .or_else(|| find(first, before.len(), !not_before))
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
        assert_eq!(bits.next_from(192), Some(5), "out of range is from the first one");
        assert!(bits.clear(5));
        assert_eq!((bits.next_from(64), bits.next_from(usize::MAX)), (Some(69), Some(69)));
        bits.set(64);
        assert_eq!(
            (bits.next_from(65), bits.next_from(70)),
            (Some(69), Some(64)),
            "the lower bits of its word come last"
        );
    }

    #[test]
    fn out_of_range_is_nothing() {
        let bits = Bits(&[]);
        bits.set(9);
        assert!(!bits.is_set(9) && !bits.clear(9));
        assert_eq!(bits.next_from(0), None);
    }
}
