//! Begin records: what a worker took and runs, in its own memory: one record for each of its threads, and one for each
//! call that it deferred.
//!
//! Written after the claim and before the app sees the call. A call that is deferred has two for a moment. After a death they tell whether a lost call had begun;
//! only that decides whether it may be sent again.

use super::region::Shared;
use crate::primitive::{AtomicU64, Ordering};
use crate::ring::Generation;

/// The record of one thread, or of one deferred call.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct BeginRecord {
    key: AtomicU64,
    lane: AtomicU64,
    since: AtomicU64,
    deadline: AtomicU64,
    _spare: [AtomicU64; 4],
}

const _: () = assert!(size_of::<BeginRecord>() == 64);

// SAFETY: `#[repr(C)]` of atomics only.
unsafe impl Shared for BeginRecord {}

/// What a begin record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Serial number of the lane.
    pub lane: u64,
    /// Which of its calls.
    pub call: usize,
    /// Which submission of it.
    pub generation: Generation,
    /// Since when, monotonic nanoseconds.
    pub since_ns: u64,
    /// When its caller stops waiting, if it ever does.
    pub deadline_ns: Option<u64>,
}

const VALID: u64 = 1 << 16;

impl BeginRecord {
    /// Worker: this thread begins with a call, or hands it over to this record.
    #[inline]
    pub fn begin(&self, begun: Begun) {
        self.lane.store(begun.lane, Ordering::Relaxed);
        self.since.store(begun.since_ns, Ordering::Relaxed);
        self.deadline.store(begun.deadline_ns.unwrap_or(0), Ordering::Relaxed);
        let key = (begun.generation.0 as u64) << 32 | VALID | begun.call as u64 & 0xffff;
        self.key.store(key, Ordering::Release); // SYNC POINT: begin
    }

    /// Worker: the call may go on until then.
    pub fn put_off(&self, deadline_ns: u64) {
        self.deadline.store(deadline_ns, Ordering::Relaxed);
    }

    /// Worker: this thread runs nothing.
    #[inline]
    pub fn end(&self) {
        self.key.store(0, Ordering::Release);
    }

    /// What the thread runs, or ran when it died. While it lives the answer may be a mixture: the key of one call with
    /// the rest of the next one.
    pub fn read(&self) -> Option<Begun> {
        let key = self.key.load(Ordering::Acquire); // SYNC POINT: begin
        (key & 0xffff_0000 == VALID).then(|| Begun {
            lane: self.lane.load(Ordering::Relaxed),
            call: (key & 0xffff) as usize,
            generation: Generation((key >> 32) as u32),
            since_ns: self.since.load(Ordering::Relaxed),
            deadline_ns: Some(self.deadline.load(Ordering::Relaxed)).filter(|at| *at != 0),
        })
    }
}
