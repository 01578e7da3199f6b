//! Noticing that one is a forked copy.

use super::map::Mapping;
use crate::error::Result;
use crate::primitive::{AtomicU32, Ordering};

/// A page that the kernel wipes in a forked child (`MADV_WIPEONFORK`, see `madvise(2)`).
#[derive(Debug)]
pub struct ForkGuard(Mapping);

impl ForkGuard {
    /// For the calling process.
    pub fn new() -> Result<ForkGuard> {
        let guard = ForkGuard(Mapping::wipe_on_fork_page()?);
        guard.word().store(1, Ordering::Relaxed);
        Ok(guard)
    }

    /// Whether this is the process that made it, not a forked copy of it.
    #[inline]
    pub fn is_original(&self) -> bool {
        self.word().load(Ordering::Relaxed) != 0
    }

    fn word(&self) -> &AtomicU32 {
        // SAFETY: a private page of at least one word, aligned to a page, mapped for as long as `self` lives
        // (`wipe_on_fork_page`); the kernel's wipe leaves zeroes, which are a valid word.
        unsafe { &*self.0.as_ptr().cast::<AtomicU32>() }
    }
}
