//! The two names of a worker: the number of its life, and the index of the slot that it fills.

use std::fmt;
use std::num::NonZeroU16;

/// The number of one incarnation. It goes into the call word, where zero stands for nobody.
///
/// Lives are handed out in order and come round after 65,535 of them. One that still exists is skipped, so two
/// incarnations never share a number, and a dead life's number is repaired out of every word long before it is
/// given out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Life(NonZeroU16);

impl Life {
    /// The first life of a pool.
    pub const FIRST: Life = Life(NonZeroU16::MIN);

    /// The life of this number, unless it is zero.
    pub const fn new(number: u16) -> Option<Life> {
        match NonZeroU16::new(number) {
            Some(n) => Some(Life(n)),
            None => None,
        }
    }

    /// Its number, 1–65,535.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    /// The number after this one: 1 after 65,535.
    pub(super) fn next(self) -> Life {
        Life(self.0.checked_add(1).unwrap_or(NonZeroU16::MIN))
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which slot of its pool, from 0 to one less than [`MAX_WORKERS`](crate::limits::MAX_WORKERS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotIndex(u16);

impl SlotIndex {
    pub(super) fn new(index: usize) -> SlotIndex {
        debug_assert!(index < crate::limits::MAX_WORKERS);
        SlotIndex(index as u16)
    }

    /// For indexing arrays that have one element a slot.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for SlotIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
