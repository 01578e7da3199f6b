//! The producer's block of one stream, in the producer's own region.
//!
//! ```text
//! 0      whose it is: serial number of the lane; generation and call; how many words the ring has; whether it is closed
//! 64     tail
//! 128    cursor of the other direction, where the producer receives as well
//! 192    the ring
//! ```
//!
//! It says itself which call it belongs to, so that who was told the wrong place finds that out.

use super::region::{Region, Shared};
use super::results::ResultKey;
use super::store::Placed;
use crate::limits::{BLOCK_ALIGN, STREAM_RING, STREAM_WORDS};
use crate::primitive::{AtomicU64, Ordering};
use crate::ring::{Cursor, StreamRing};
use std::sync::Arc;

#[derive(Debug)]
#[repr(C, align(64))]
struct Head {
    lane: AtomicU64,
    key: AtomicU64,
    words: AtomicU64,
    closed: AtomicU64,
}

const TAIL: usize = 64;
const CURSOR: usize = 128;
const DATA: usize = 192;

const _: () = assert!(size_of::<Head>() == TAIL && CURSOR + size_of::<Cursor>() == DATA);
const _: () = assert!(DATA.is_multiple_of(BLOCK_ALIGN));

// SAFETY: `#[repr(C)]` of atomics only; what pads it is never read.
unsafe impl Shared for Head {}
// SAFETY: `#[repr(C)]` of atomics only (`ring::stream`); what pads it is never read.
unsafe impl Shared for Cursor {}

/// Where the positions of each stream begin: a little before the end of the numbers, so that to come round is what happens
/// every day, and not first after years.
pub const STREAM_START: u64 = 0_u64.wrapping_sub(10_000);

/// A stream's block, by its producer or its consumer.
#[derive(Clone, Debug)]
pub struct StreamBlock {
    region: Arc<Region>,
    offset: usize,
    words: usize,
}

impl StreamBlock {
    /// Bytes of a block.
    pub const LEN: usize = DATA + STREAM_RING * 8;

    /// Producer: makes a block of [`LEN`](StreamBlock::LEN) bytes of its own into that of this call. To be announced
    /// afterwards.
    pub fn create(placed: &Placed, key: ResultKey) -> StreamBlock {
        let offset = placed.block.offset as usize;
        assert!(placed.block.len as usize >= StreamBlock::LEN && offset.is_multiple_of(BLOCK_ALIGN));
        let block = StreamBlock { region: placed.region.clone(), offset, words: STREAM_RING };
        block.tail().store(STREAM_START, Ordering::Relaxed);
        block.cursor().attach(key.pack(), STREAM_START);
        let head = block.head();
        head.words.store(STREAM_RING as u64, Ordering::Relaxed);
        head.closed.store(0, Ordering::Relaxed);
        head.lane.store(key.lane, Ordering::Relaxed);
        head.key.store(key.pack(), Ordering::Release);
        block
    }

    /// Consumer: the block at this place of its producer's region, if it is this call's. What a peer may have written is
    /// looked at once.
    pub fn open(region: &Arc<Region>, offset: u64, key: ResultKey) -> Option<StreamBlock> {
        let first = region.lend(offset, DATA as u64)?; // inside, and not among records
        let offset = offset as usize;
        if first.is_empty() || !offset.is_multiple_of(BLOCK_ALIGN) {
            return None;
        }
        let block = StreamBlock { region: region.clone(), offset, words: 0 };
        let head = block.head();
        if head.key.load(Ordering::Acquire) != key.pack() || head.lane.load(Ordering::Relaxed) != key.lane {
            return None;
        }
        let words = usize::try_from(head.words.load(Ordering::Relaxed)).ok()?;
        let is_ring = words.is_power_of_two() && words > STREAM_WORDS;
        let end = words.checked_mul(8)?.checked_add(offset + DATA)?;
        (is_ring && end <= region.len()).then_some(StreamBlock { words, ..block })
    }

    /// The ring.
    #[inline]
    pub fn ring(&self) -> StreamRing<'_> {
        let data = self.region.array(self.offset + DATA, self.words);
        StreamRing::new(self.tail(), data)
            .unwrap_or_else(|| unreachable!("`create` and `open` have seen to it"))
    }

    /// How far its producer has read the stream of the other direction.
    #[inline]
    pub fn cursor(&self) -> &Cursor {
        self.region.at(self.offset + CURSOR)
    }

    /// Producer: there will be no further item. The call's bell is to be rung afterwards.
    pub fn close(&self) {
        self.head().closed.store(1, Ordering::Release); // SYNC POINT: item
    }

    /// Consumer: whether there will be no further item than those that are there now: to be asked before one looks for
    /// the last time.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.head().closed.load(Ordering::Acquire) != 0
    }

    fn head(&self) -> &Head {
        self.region.at(self.offset)
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        self.region.at(self.offset + TAIL)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::ring::{Generation, Popped, StreamConsumer, StreamProducer};
    use crate::shm::{Arena, RESULT_BLOCKS, RESULTS_LEN, RegionId, RegionKind};

    const KEY: ResultKey = ResultKey { lane: 9, call: 3, generation: Generation(7) };

    fn placed() -> Placed {
        let region = Arc::new(Region::create(RegionKind::Results, RESULTS_LEN).unwrap());
        let mut arena = Arena::new(RESULT_BLOCKS as u64, RESULTS_LEN as u64);
        let block = arena.allocate(StreamBlock::LEN as u64).unwrap();
        Placed { id: RegionId { index: 1, serial: 1 }, region, block }
    }

    #[test]
    fn a_block_is_found_by_its_own_call_only() {
        let placed = placed();
        let ours = StreamBlock::create(&placed, KEY);
        let mut producer = StreamProducer::new(KEY.pack(), STREAM_START, 10);
        let at = placed.block.offset;
        let theirs = StreamBlock::open(&placed.region, at, KEY).unwrap();
        producer.push(ours.ring(), ours.cursor(), &[0, 42]).unwrap();
        let mut room = [0; STREAM_WORDS];
        assert_eq!(
            StreamConsumer::new(STREAM_START).pop(theirs.ring(), &mut room),
            Popped::Message(&[2, 42])
        );
        for other in [
            ResultKey { lane: 8, ..KEY },
            ResultKey { call: 4, ..KEY },
            ResultKey { generation: Generation(8), ..KEY },
        ] {
            assert!(StreamBlock::open(&placed.region, at, other).is_none(), "{other:?}");
        }
        let end = RESULTS_LEN as u64;
        for wrong in [0, 64, at + 8, at + 64, end - 64, end, end + 64, u64::MAX, u64::MAX - 63] {
            assert!(StreamBlock::open(&placed.region, wrong, KEY).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_size_that_makes_no_sense_is_no_block() {
        let placed = placed();
        let ours = StreamBlock::create(&placed, KEY);
        for words in [0, 1, 2, 32, 1000, 1 << 20, 1 << 60, 1 << 61, u64::MAX] {
            ours.head().words.store(words, Ordering::Relaxed);
            assert!(StreamBlock::open(&placed.region, placed.block.offset, KEY).is_none(), "{words}");
        }
    }
}
