//! Noticing that one is a forked copy.

use super::map::Mapping;
use crate::error::Result;
use crate::primitive::{AtomicU32, Ordering};
use std::sync::OnceLock;

/// Which process this is, as far as it has asked: zero in a fresh copy. On a page that the kernel wipes in a forked
/// child (`MADV_WIPEONFORK`, see `madvise(2)`), since a pid may be the same on both sides of a namespace.
static PAGE: OnceLock<Mapping> = OnceLock::new();
/// The latest number that was given, by this process or by one that it is a copy of.
static NUMBERS: AtomicU32 = AtomicU32::new(0);

/// Remembers which process made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkGuard(u32);

impl ForkGuard {
    /// For the calling process.
    pub fn new() -> Result<ForkGuard> {
        if PAGE.get().is_none() {
            let page = Mapping::wipe_on_fork_page()?;
            drop(PAGE.set(page)); // another thread's does as well
        }
        let word = word().expect("the page was set just now");
        if word.load(Ordering::Relaxed) == 0 {
            // Never one that an ancestor had: what we inherited from it is not ours.
            let number = NUMBERS.fetch_add(1, Ordering::Relaxed) + 1;
            let _ = word.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        }
        Ok(ForkGuard(word.load(Ordering::Relaxed)))
    }

    /// Whether this is the process that made it, not a forked copy of it.
    #[inline]
    pub fn is_original(&self) -> bool {
        word().is_some_and(|word| word.load(Ordering::Relaxed) == self.0)
    }
}

#[inline]
fn word() -> Option<&'static AtomicU32> {
    // SAFETY: a private page of at least one word, aligned to a page, mapped for ever (a static is not dropped); the
    // kernel's wipe leaves zeroes, which are a valid word.
    PAGE.get().map(|page| unsafe { &*page.as_ptr().cast::<AtomicU32>() })
}
