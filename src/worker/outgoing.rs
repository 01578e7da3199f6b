//! The stream of items that a call sends to its caller: its ring, and the blocks of items that are on their way.

use super::flow::Flow;
use super::running::Running;
use super::runtime::Worker;
use super::share::Charged;
use crate::error::{Bound, Error, Kind as ErrorKind, Result};
use crate::limits::{LONGEST_SLICE_NS, RESULT_RECORDS};
use crate::ring::{Corrupt, Cursor, Unsent};
use crate::shm::{Body, Outflow, Packed, Place, StreamBlock};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use crate::wire::Kind;
use std::sync::Arc;
use std::time::Duration;

/// The producer's end. It exists from the announcement until the call's outcome is published.
#[derive(Debug)]
pub(super) struct Outgoing {
    worker: Arc<Worker>,
    /// Taken for the end of the stream, so that the end cannot fail for want of one.
    record: usize,
    ring: Charged,
    flow: Flow,
    out: Outflow<Charged>,
}

/// One item, encoded.
pub(super) enum Parcel<'a> {
    /// A body that fits into the ring.
    Inline(&'a [u8]),
    /// The same, and it refers to this block.
    Lent(&'a [u8], Charged),
    /// A body that is the first so many bytes of this block.
    Block(Charged, usize),
}

/// So much is lent before any of it is taken back: twice what two processors have for themselves. And so many blocks,
/// however small.
const REST_BYTES: u64 = 4 << 20;
const REST_BLOCKS: usize = 256;

impl Outgoing {
    /// Opens the stream of this call, and tells its caller where it is.
    ///
    /// # Errors
    /// `Overloaded` if there is no memory for it, or no result record.
    pub fn open(worker: &Arc<Worker>, running: &Running, flow: Flow) -> Result<Outgoing> {
        let ring = running.allocate(worker, StreamBlock::LEN)?;
        let Some(record) = worker.take_record() else {
            worker.free_block(ring);
            let limit = RESULT_RECORDS as u64;
            let error = Error::new(ErrorKind::Overloaded { bound: Bound::Results, limit });
            running.note(&error);
            return Err(error);
        };
        let key = running.key();
        let block = StreamBlock::create(&ring.placed, key);
        let place = Place::Record { region: ring.placed.id.index, offset: ring.placed.block.offset };
        let out = Outflow::new(block, key, flow.items, flow.bytes);
        let out = Outgoing { worker: worker.clone(), record, ring, flow, out };
        crash_point!("worker.stream.created");
        running.line().announce(place.pack());
        crash_point!("worker.stream.announced");
        running.ring_bell(worker);
        Ok(out)
    }

    /// Sends an item; waits while there is no room, if the stream is one that waits.
    ///
    /// # Errors
    /// `Cancelled` once nobody waits for the stream any more, `Stalled` if the consumer takes nothing for too long,
    /// `Overrun` if there is no room and the stream does not wait for it.
    pub fn send(&mut self, running: &Running, kind: Kind, id: u64, parcel: Parcel<'_>) -> Result<()> {
        let (body, inline, block) = parcel.into_parts();
        let bytes = block.as_ref().map_or(0, |block| block.placed.block.len);
        let item = self.out.pack(kind, id, body, inline, bytes);
        let sent = self.push(running, item);
        if let Some(block) = block {
            match sent {
                Ok(()) => self.out.lend(block, bytes),
                Err(_) => self.worker.free_block(block),
            }
        }
        sent
    }

    fn push(&mut self, running: &Running, item: Packed) -> Result<()> {
        running.check_wanted(&self.worker)?;
        if self.out.is_closed() {
            return Err(Error::new(ErrorKind::Closed));
        }
        if item.bytes > 0 && self.has_lent_much(item.bytes) {
            self.reclaim(running)?;
        }
        if !self.has_room(running, item)? {
            self.wait_for_room(running, item)?;
        }
        match self.out.push(running.cursor(), item) {
            Ok(()) => {
                running.ring_bell(&self.worker);
                Ok(())
            }
            Err(Unsent::Full | Unsent::Corrupt) => Err(self.damaged(running)),
        }
    }

    fn has_room(&mut self, running: &Running, item: Packed) -> Result<bool> {
        self.out.has_room(running.cursor(), item).map_err(|Corrupt| self.damaged(running))
    }

    #[cold]
    fn wait_for_room(&mut self, running: &Running, item: Packed) -> Result<()> {
        // Small items do not look what was taken back: a large one before them may be.
        self.reclaim(running)?;
        if self.has_room(running, item)? {
            return Ok(());
        }
        if !self.flow.waits {
            return Err(Error::new(ErrorKind::Overrun { limit: self.flow.items }));
        }
        let stall_ns = self.worker.bounds.stall_ns.unwrap_or(u64::MAX);
        let (mut since, mut seen) = (clock::monotonic_ns(), self.out.head());
        loop {
            let now = clock::monotonic_ns();
            let head = self.out.head();
            if head != seen {
                // Not enough yet, and not nothing.
                (since, seen) = (now, head);
            }
            let until = since.saturating_add(stall_ns);
            if now >= until {
                return Err(Error::new(ErrorKind::Stalled { after: Duration::from_nanos(now - since) }));
            }
            let slice = Duration::from_nanos((until - now).min(LONGEST_SLICE_NS));
            let mut looked = Ok(());
            running.line().bell.park(&Kernel, Some(slice), || {
                looked = self.reclaim(running);
                looked.is_ok()
                    && running.check_wanted(&self.worker).is_ok()
                    && self.has_room(running, item).is_ok_and(|has_room| !has_room)
            });
            looked?;
            running.check_wanted(&self.worker)?;
            self.reclaim(running)?;
            if self.has_room(running, item)? {
                return Ok(());
            }
        }
    }

    /// Whether it is time to look for blocks to take back. Not with each item: what the consumer has just read is in its
    /// processor's cache, and to write there again takes several times as long as where nobody has been for a while.
    #[inline]
    fn has_lent_much(&self, bytes: u64) -> bool {
        let (blocks, lent) = self.out.lent();
        lent.saturating_add(bytes) > REST_BYTES.min(self.flow.bytes) || blocks >= REST_BLOCKS
    }

    /// Takes back the blocks that the consumer is through with.
    fn reclaim(&mut self, running: &Running) -> Result<()> {
        self.take_back(running.cursor()).map_err(|Corrupt| self.damaged(running))
    }

    fn take_back(&mut self, cursor: &Cursor) -> Result<(), Corrupt> {
        self.out.take_back(cursor, |block| self.worker.free_block(block))
    }

    /// There will be no further item.
    pub fn close(&mut self, running: &Running) {
        self.out.close();
        running.ring_bell(&self.worker);
    }

    pub fn has_sent(&self) -> bool {
        self.out.has_sent()
    }

    pub fn block(&self) -> &StreamBlock {
        self.out.block()
    }

    /// The client's cursor makes no sense.
    #[cold]
    fn damaged(&self, running: &Running) -> Error {
        running.damaged(&self.worker, "a client has taken more of a stream than was sent")
    }

    /// What is left of it when its call ends: the record for that, with the stream's memory tied to it.
    pub fn into_record(mut self, cursor: &Cursor) -> usize {
        let _ = self.take_back(cursor); // what cannot be taken back now can be when the caller has let go of all
        let blocks = std::iter::once(self.ring).chain(self.out.drain()).collect();
        self.worker.records.attach_stream(self.record, blocks);
        self.record
    }
}

impl<'a> Parcel<'a> {
    /// What it is made of: where its body is, the bytes of one that fits into the ring, and the block that goes with it.
    #[inline]
    fn into_parts(self) -> (Body, &'a [u8], Option<Charged>) {
        match self {
            Parcel::Inline(body) => (Body::Inline(body.len()), body, None),
            Parcel::Lent(body, block) => (Body::Inline(body.len()), body, Some(block)),
            Parcel::Block(block, len) => {
                let (region, offset) = (block.placed.id.index, block.placed.block.offset);
                (Body::Block { region, offset, len }, &[], Some(block))
            }
        }
    }
}
