//! A few words of memory that this process shares with the children it forks from now on.
//!
//! For baselines in `bench` and for tests that fork; regions of the data plane are sealed memory files that are
//! passed on and checked.

use super::map::Mapping;
use super::memfd;
use crate::error::{Error, Result};
use crate::primitive::{AtomicU32, AtomicU64};
use std::os::fd::AsFd;

const LINE: usize = 64; // each pair of words has a cache line of its own

/// `count` lines of shared memory, each with one 32-bit and one 64-bit word, zero at first.
#[derive(Debug)]
pub struct SharedWords {
    mapping: Mapping,
    count: usize,
}

impl SharedWords {
    /// `count` lines of zeroes.
    pub fn new(count: usize) -> Result<SharedWords> {
        let len = count.checked_mul(LINE).ok_or_else(|| Error::os("mmap", libc::ENOMEM))?;
        let file = memfd::create("stokehold-words", len)?;
        Ok(SharedWords { mapping: Mapping::shared_rw_inherited(file.as_fd(), len)?, count })
    }

    /// The 32-bit word of line `i`.
    ///
    /// # Panics
    /// If there is no line `i`.
    pub fn u32(&self, i: usize) -> &AtomicU32 {
        let line = self.line(i);
        // SAFETY: `line` begins LINE bytes of mapped memory, as `new` made room for `count` of them, and stays
        // mapped while `self` is borrowed; bytes 8..12 are aligned for and used as nothing but this atomic.
        unsafe { &*line.add(8).cast::<AtomicU32>() }
    }

    /// The 64-bit word of line `i`.
    ///
    /// # Panics
    /// If there is no line `i`.
    pub fn u64(&self, i: usize) -> &AtomicU64 {
        let line = self.line(i);
        // SAFETY: as in `u32`, with bytes 0..8.
        unsafe { &*line.cast::<AtomicU64>() }
    }

    fn line(&self, i: usize) -> *mut u8 {
        assert!(i < self.count, "line {i} of {}", self.count);
        self.mapping.as_ptr().wrapping_add(i * LINE)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::primitive::Ordering;

    #[test]
    fn words_are_apart() {
        let words = SharedWords::new(3).unwrap();
        words.u32(1).store(u32::MAX, Ordering::Relaxed);
        words.u64(2).store(u64::MAX, Ordering::Relaxed);
        assert_eq!(words.u64(1).load(Ordering::Relaxed), 0);
        assert_eq!(words.u32(2).load(Ordering::Relaxed), 0);
        assert_eq!(words.u32(1).load(Ordering::Relaxed), u32::MAX);
    }

    #[test]
    #[should_panic = "line 3 of 3"]
    fn there_is_no_line_after_the_last() {
        SharedWords::new(3).unwrap().u64(3);
    }
}
