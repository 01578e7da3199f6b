//! The results region of one life: result records, begin records, the death mark, small blocks. 256 KiB, written
//! by that worker only.
//!
//! ```text
//! 0       header
//! 64      death mark
//! 4096    64 begin records of threads, 128 of deferred calls
//! 16384   256 result records of 512 bytes
//! 147456  small blocks
//! ```

use super::begin::{BeginRecord, Begun};
use super::record::Record;
use super::region::{Region, RegionKind};
use crate::error::Result;
use crate::limits::{MAX_DEFERRED, MAX_WORKER_THREADS, RECORD_LEN, RESULT_RECORDS};
use crate::primitive::Ordering;
use crate::ring::Generation;
use crate::sys::robust::{self, DeathMark};
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::Arc;

const MARK: usize = 64;
const BEGINS: usize = 4096;
const RECORDS: usize = 16384;
/// One a thread, then one a deferred call.
const BEGIN_RECORDS: usize = MAX_WORKER_THREADS + MAX_DEFERRED;
/// Size of the region.
pub const LEN: usize = 256 * 1024;
/// Where its blocks start.
pub const BLOCKS: usize = RECORDS + RESULT_RECORDS * RECORD_LEN;

const _: () = {
    assert!(BEGINS + BEGIN_RECORDS * 64 <= RECORDS && BLOCKS < LEN);
    assert!(size_of::<DeathMark>() <= 64);
};

/// Where a result is, as the call line says in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this record.
    Record {
        /// The region's place in the table.
        region: u16,
        /// Where the record starts.
        offset: u64,
    },
    /// Nowhere: the deadline had passed before the app saw the call.
    Expired,
    /// Nowhere: the worker has no record left for it.
    NoRoom,
    /// Nowhere: the worker has no memory left for it.
    Full {
        /// How many bytes it may have; less than 2^40, not 0.
        limit: u64,
    },
}

/// Flag of a result record: the error in it is the caller's, not the app's.
pub const BAD_REQUEST: u64 = 1;
/// Flag of a result record: the app saw that the call's deadline had passed, and stopped.
pub const DEADLINE: u64 = 2;
/// Flag of a result record: it is the end of a stream, whose items came before it.
pub const STREAMED: u64 = 4;
/// Flag of a result record: the stream ended because its consumer took nothing for as many nanoseconds as the record's
/// `extra` says.
pub const STALLED: u64 = 8;
/// Flag of a result record: the stream ended because there was no room beyond as many items as `extra` says.
pub const OVERRUN: u64 = 16;

/// The place of a region that no record is in.
const NOWHERE: u64 = u16::MAX as u64;
/// The largest limit that there is room for.
const MOST: u64 = (1 << 40) - 1;

impl Place {
    /// As a call line carries it.
    #[inline]
    pub fn pack(self) -> u64 {
        match self {
            Place::Record { region, offset } => (region as u64) << 48 | offset,
            Place::Expired => NOWHERE << 48 | 1,
            Place::NoRoom => NOWHERE << 48 | 2,
            Place::Full { limit } => NOWHERE << 48 | limit.clamp(1, MOST) << 8 | 3,
        }
    }

    /// As a call line said it; `None` for nonsense. The record is still to be checked.
    #[inline]
    pub fn unpack(raw: u64) -> Option<Place> {
        match (raw >> 48, raw & ((1 << 48) - 1)) {
            (NOWHERE, 1) => Some(Place::Expired),
            (NOWHERE, 2) => Some(Place::NoRoom),
            (NOWHERE, full) if full & 0xff == 3 && full >> 8 != 0 => Some(Place::Full { limit: full >> 8 }),
            (NOWHERE, _) => None,
            (region, offset) => Some(Place::Record { region: region as u16, offset }),
        }
    }
}

/// Which call a result record answers. A result is taken only if this matches lane, call and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResultKey {
    /// Serial number of the lane.
    pub lane: u64,
    /// Which of its calls.
    pub call: usize,
    /// Which submission of it.
    pub generation: Generation,
}

impl ResultKey {
    /// Call and generation in one word.
    #[inline]
    pub fn pack(self) -> u64 {
        (self.generation.0 as u64) << 32 | 1 << 16 | self.call as u64 & 0xffff
    }
}

/// The result side of one life.
#[derive(Clone, Debug)]
pub struct Results(Arc<Region>);

impl Results {
    /// A fresh one, written by this process.
    pub fn create() -> Result<Results> {
        Ok(Results(Arc::new(Region::create(RegionKind::Results, LEN)?)))
    }

    /// A worker's, to read.
    pub fn adopt(fd: OwnedFd) -> Result<Results> {
        Ok(Results(Arc::new(Region::adopt(RegionKind::Results, fd, LEN)?)))
    }

    /// One that was fetched already; `None` if it is another kind of region.
    #[inline]
    pub fn of(region: Arc<Region>) -> Option<Results> {
        (region.kind() == RegionKind::Results && region.len() == LEN).then(|| Results(region))
    }

    /// The region itself.
    pub fn region(&self) -> &Arc<Region> {
        &self.0
    }

    /// Worker: makes the kernel mark this region when the calling thread exits. The region stays mapped for ever.
    pub fn arm_mark(&self) -> Result<()> {
        let mark = NonNull::from(self.mark());
        std::mem::forget(self.0.clone());
        // SAFETY: the mark is valid for reads and writes: it lies in this mapping (`at` checked that), which this
        // process created writable (`create`) and which is never unmapped, as its count was just leaked. Nobody
        // else writes it: the region is sealed against every other process, and this one touches it only here.
        unsafe { robust::arm(mark) }
    }

    /// The death mark, for watchers.
    pub fn mark(&self) -> &DeathMark {
        self.0.at(MARK)
    }

    /// The begin record of a thread, or of a deferred call, which come after those of
    /// [`MAX_WORKER_THREADS`] threads.
    #[inline]
    pub fn begin_record(&self, index: usize) -> &BeginRecord {
        &self.begin_records()[index]
    }

    /// All begin records.
    pub fn begin_records(&self) -> &[BeginRecord] {
        self.0.array(BEGINS, BEGIN_RECORDS)
    }

    /// Whether a begin record names this call of this lane with this generation.
    pub fn has_begun(&self, key: ResultKey) -> bool {
        self.begin_records().iter().filter_map(BeginRecord::read).any(
            |Begun { lane, call, generation, .. }| {
                lane == key.lane && call == key.call && generation == key.generation
            },
        )
    }

    /// A result record; `index` is below [`RESULT_RECORDS`].
    #[inline]
    pub fn record(&self, index: usize) -> &Record {
        &self.0.array::<Record>(RECORDS, RESULT_RECORDS)[index]
    }

    /// Where a record lies, as the call line names it.
    pub fn offset_of(index: usize) -> u64 {
        (RECORDS + index * RECORD_LEN) as u64
    }

    /// The record at an offset that a call line named; `None` if no record starts there.
    pub fn record_at(&self, offset: u64) -> Option<&Record> {
        let index = (offset as usize).checked_sub(RECORDS)?;
        (index.is_multiple_of(RECORD_LEN) && index / RECORD_LEN < RESULT_RECORDS)
            .then(|| self.record(index / RECORD_LEN))
    }

    /// Worker: says which call a record answers, after the rest of it was written.
    #[inline]
    pub fn name(&self, index: usize, key: ResultKey) {
        let record = self.record(index);
        record.own[0].store(key.lane, Ordering::Relaxed);
        record.own[1].store(key.pack(), Ordering::Release);
    }

    /// Worker: the record answers nothing any more.
    pub fn unname(&self, index: usize) {
        self.record(index).own[1].store(0, Ordering::Release);
    }

    /// Whether a record answers this call.
    #[inline]
    pub fn answers(record: &Record, key: ResultKey) -> bool {
        record.own[1].load(Ordering::Acquire) == key.pack()
            && record.own[0].load(Ordering::Relaxed) == key.lane
    }
}
