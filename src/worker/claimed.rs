//! A call that a thread of this worker has claimed, and not looked at.

use super::lanes::Lane;
use crate::ring::Entry;
use crate::sys::clock;
use std::sync::Arc;

/// Which, and when.
#[must_use = "a call that was claimed has to be run"]
pub(super) struct Claimed {
    pub lane: Arc<Lane>,
    pub entry: Entry,
    /// Monotonic nanoseconds.
    pub since_ns: u64,
}

impl Claimed {
    /// As soon as its word was swapped: its caller watches the line, and a store to it that comes later, or a fence behind
    /// that, waits until this processor has it back.
    #[inline]
    pub fn new(lane: Arc<Lane>, entry: Entry) -> Claimed {
        let since_ns = clock::coarse_ns();
        lane.control.lines()[entry.call].begin(since_ns);
        Claimed { lane, entry, since_ns }
    }
}
