//! The requests region of a lane: a record a call, and small payload blocks. 64 KiB, written by its client only.
//!
//! ```text
//! 0      header
//! 512    64 request records of 512 bytes
//! 33280  64 cursors: how far the client has read the stream of each call
//! 37376  small blocks
//! ```
//!
//! Each record carries the client's *own record* of the call: its generation and whether it is queued or cancelled.
//! That is half of the truth about a call (the other half is the worker's begin and result records): a call runs
//! only if it says queued with the generation that was claimed, whatever the call word says.

use super::record::Record;
use super::region::{Region, RegionKind};
use crate::error::Result;
use crate::limits::{LANE_CALLS, RECORD_LEN};
use crate::primitive::Ordering;
use crate::ring::{Cursor, Generation};
use crate::sys::clock;
use std::os::fd::OwnedFd;
use std::sync::Arc;

const RECORDS: usize = 512;
/// Size of the region.
pub const LEN: usize = 64 * 1024;
/// Where its blocks start.
pub const BLOCKS: usize = CURSORS + LANE_CALLS * size_of::<Cursor>();
const CURSORS: usize = RECORDS + LANE_CALLS * RECORD_LEN;

const _: () = assert!(BLOCKS < LEN && CURSORS.is_multiple_of(64));

/// What the client says of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnRecord {
    /// Nothing, or nonsense.
    None,
    /// Submitted and wanted, with this generation.
    Queued(Generation),
    /// Given up, with this generation.
    Cancelled(Generation),
    /// Given up, with this generation, while items of its stream are still being read where they lie.
    Held(Generation),
}

/// Monotonic nanoseconds after which a call is not wanted any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(pub Option<u64>);

impl Deadline {
    /// Where it stands now, after the app's last sign of life, 0 for none: see [`put_off`](Deadline::put_off). A time to
    /// come was written by nobody, and would put it off at each look; one from before the call changes nothing, since the
    /// pool's limit was counted from later.
    #[inline]
    pub fn as_of(self, alive_ns: u64, limit: impl FnOnce() -> Deadline, timeout_ns: Option<u64>) -> Deadline {
        match alive_ns {
            0 => self,
            to_come if to_come > clock::monotonic_ns() => self,
            alive => self.put_off(limit(), alive, timeout_ns),
        }
    }

    /// Where it stands if the app said at `alive_ns` that it is at work, in a pool where a call may take `timeout_ns` from
    /// then on. What the caller itself set (`limit`) holds whatever the app says.
    pub fn put_off(self, limit: Deadline, alive_ns: u64, timeout_ns: Option<u64>) -> Deadline {
        let (Some(at), Some(timeout)) = (self.0, timeout_ns) else { return self };
        let until = alive_ns.saturating_add(timeout).min(limit.0.unwrap_or(u64::MAX));
        Deadline(Some(at.max(until)))
    }
}

/// Flag of a request record: the call may run twice.
pub const IDEMPOTENT: u64 = 1;
/// Flag of a request record: the caller takes a stream.
pub const STREAM: u64 = 2;
/// Flag of a request record: the caller has opened a context, and sends items as well.
pub const CONTEXT: u64 = 4;

/// The request records of one lane.
#[derive(Clone, Debug)]
pub struct Requests(Arc<Region>);

const QUEUED: u64 = 0x51;
const CANCELLED: u64 = 0xca;
const HELD: u64 = 0x4e;

impl Requests {
    /// A fresh one, written by this process.
    pub fn create() -> Result<Requests> {
        Ok(Requests(Arc::new(Region::create(RegionKind::Requests, LEN)?)))
    }

    /// A client's, to read.
    pub fn adopt(fd: OwnedFd) -> Result<Requests> {
        Ok(Requests(Arc::new(Region::adopt(RegionKind::Requests, fd, LEN)?)))
    }

    /// One that was registered already.
    ///
    /// # Errors
    /// `Incompatible` if it is another kind of region or of another size.
    pub fn of(region: &Arc<Region>) -> Result<Requests> {
        if region.kind() != RegionKind::Requests || region.len() != LEN {
            let why = format!("a requests region of {} bytes where {LEN} are needed", region.len());
            return Err(crate::error::Error::new(crate::error::Kind::Incompatible(why.into())));
        }
        Ok(Requests(region.clone()))
    }

    /// The region itself.
    pub fn region(&self) -> &Arc<Region> {
        &self.0
    }

    /// A call's record. `call` is below [`LANE_CALLS`].
    #[inline]
    pub fn record(&self, call: usize) -> &Record {
        &self.0.array::<Record>(RECORDS, LANE_CALLS)[call]
    }

    /// How far the client has read the stream of a call.
    #[inline]
    pub fn cursor(&self, call: usize) -> &Cursor {
        &self.0.array::<Cursor>(CURSORS, LANE_CALLS)[call]
    }

    /// Client: states what it wants of a call, after the rest of the record was written and before it is published.
    #[inline]
    pub fn state(&self, call: usize, own: OwnRecord, deadline: Deadline) {
        let record = self.record(call);
        record.own[1].store(deadline.0.unwrap_or(0), Ordering::Relaxed);
        let word = match own {
            OwnRecord::None => 0,
            OwnRecord::Queued(g) => (g.0 as u64) << 32 | QUEUED,
            OwnRecord::Cancelled(g) => (g.0 as u64) << 32 | CANCELLED,
            OwnRecord::Held(g) => (g.0 as u64) << 32 | HELD,
        };
        record.own[0].store(word, Ordering::Release);
    }

    /// Client: the deadline that the caller itself set, if it did. Before [`state`](Requests::state).
    #[inline]
    pub fn set_limit(&self, call: usize, limit: Deadline) {
        self.record(call).extra.store(limit.0.unwrap_or(0), Ordering::Relaxed);
    }

    /// The deadline that the caller itself set: no keep-alive goes beyond it.
    #[inline]
    pub fn limit(&self, call: usize) -> Deadline {
        let limit = self.record(call).extra.load(Ordering::Relaxed);
        Deadline((limit != 0).then_some(limit))
    }

    /// What the client says of a call.
    #[inline]
    pub fn own(&self, call: usize) -> (OwnRecord, Deadline) {
        let record = self.record(call);
        let word = record.own[0].load(Ordering::Acquire);
        let generation = Generation((word >> 32) as u32);
        let own = match word & 0xffff_ffff {
            QUEUED => OwnRecord::Queued(generation),
            CANCELLED => OwnRecord::Cancelled(generation),
            HELD => OwnRecord::Held(generation),
            _ => OwnRecord::None,
        };
        let deadline = record.own[1].load(Ordering::Relaxed);
        (own, Deadline((deadline != 0).then_some(deadline)))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_put_off_as_far_as_its_caller_allows() {
        let at = |ns| Deadline(Some(ns));
        let never = Deadline(None);
        // The pool's: from 100 it may take until 130, and 30 from each sign of life.
        assert_eq!(at(130).put_off(never, 0, Some(30)), at(130));
        assert_eq!(at(130).put_off(never, 125, Some(30)), at(155));
        // The caller's own is further away than the pool's, and reached.
        assert_eq!(at(130).put_off(at(150), 125, Some(30)), at(150));
        // The caller's own is nearer.
        assert_eq!(at(110).put_off(at(110), 109, Some(30)), at(110));
        // A pool without a limit; nothing to put off.
        assert_eq!(at(110).put_off(at(110), 109, None), at(110));
        assert_eq!(never.put_off(never, 109, Some(30)), never);
        assert_eq!(at(130).put_off(never, u64::MAX, Some(30)), at(u64::MAX));
    }
}
