//! The producer's end of a stream: its ring, and what is lent with items that are on their way.

use super::item;
use super::record::Body;
use super::results::ResultKey;
use super::stream::{STREAM_START, StreamBlock};
use crate::limits::STREAM_WORDS;
use crate::ring::{Corrupt, Cursor, StreamProducer, Unsent};
use crate::wire::{Header, Kind};
use std::collections::VecDeque;

/// In the producer's private memory; `L` is what an item needs until its consumer is through with it.
#[derive(Debug)]
pub struct Outflow<L> {
    block: StreamBlock,
    producer: StreamProducer,
    /// What the consumer may still look at, the oldest first, and its bytes.
    lent: VecDeque<Lent<L>>,
    lent_bytes: u64,
    most_bytes: u64,
    closed: bool,
    /// Of the next item, so that none are cleared for each.
    words: [u64; STREAM_WORDS],
}

/// Its producer's again once the consumer is past this position.
#[derive(Debug)]
struct Lent<L> {
    end: u64,
    bytes: u64,
    what: L,
}

/// The next item, put together.
#[derive(Clone, Copy, Debug)]
pub struct Packed {
    words: usize,
    /// Of what is to be lent with it.
    pub bytes: u64,
}

impl<L> Outflow<L> {
    /// Into this block of the call's, of which at most `items` items and `bytes` bytes are on their way.
    pub fn new(block: StreamBlock, key: ResultKey, items: u64, bytes: u64) -> Outflow<L> {
        Outflow {
            block,
            producer: StreamProducer::new(key.pack(), STREAM_START, items),
            lent: VecDeque::new(),
            lent_bytes: 0,
            most_bytes: bytes,
            closed: false,
            words: [0; STREAM_WORDS],
        }
    }

    pub fn block(&self) -> &StreamBlock {
        &self.block
    }

    /// Whether there was an item.
    pub fn has_sent(&self) -> bool {
        self.producer.tail() != STREAM_START
    }

    /// How far the consumer has come, as far as was seen.
    pub fn head(&self) -> u64 {
        self.producer.head()
    }

    /// Puts the next item together; `inline` is its body if that is inline. With it go `bytes` of what is lent.
    #[inline]
    pub fn pack(&mut self, kind: Kind, id: u64, body: Body, inline: &[u8], bytes: u64) -> Packed {
        let header = Header { kind, len: body.bytes() as u32, id }.encode();
        Packed { words: item::pack(header, body, inline, &mut self.words), bytes }
    }

    /// Whether it may be sent now. One item may be, however large.
    #[inline]
    pub fn has_room(&mut self, cursor: &Cursor, item: Packed) -> Result<bool, Corrupt> {
        let fits = self.lent.is_empty() || self.lent_bytes.saturating_add(item.bytes) <= self.most_bytes;
        Ok(self.producer.has_room(self.block.ring(), cursor, item.words)? && fits)
    }

    /// Sends it. The call's bell is to be rung afterwards, and what goes with it to be [lent](Outflow::lend).
    #[inline]
    pub fn push(&mut self, cursor: &Cursor, item: Packed) -> Result<(), Unsent> {
        self.producer.push(self.block.ring(), cursor, &self.words[..item.words])
    }

    /// Keeps so many bytes that went with the item which was sent last.
    pub fn lend(&mut self, what: L, bytes: u64) {
        self.lent_bytes += bytes;
        self.lent.push_back(Lent { end: self.producer.tail(), bytes, what });
    }

    /// How much is kept, as far as was seen.
    #[inline]
    pub fn lent(&self) -> (usize, u64) {
        (self.lent.len(), self.lent_bytes)
    }

    /// Looks how far the consumer has come, and gives back what it is through with.
    pub fn take_back(&mut self, cursor: &Cursor, mut back: impl FnMut(L)) -> Result<(), Corrupt> {
        let head = self.producer.look(cursor)?;
        let tail = self.producer.tail();
        // Both lie before the tail: the one that is further away from it is the older one.
        while let Some(oldest) = self.lent.front()
            && tail.wrapping_sub(oldest.end) >= tail.wrapping_sub(head)
        {
            if let Some(lent) = self.lent.pop_front() {
                self.lent_bytes -= lent.bytes;
                back(lent.what);
            }
        }
        Ok(())
    }

    /// There will be no further item. The call's bell is to be rung afterwards.
    pub fn close(&mut self) {
        self.closed = true;
        self.block.close();
    }

    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Nothing is kept here any more: what the consumer may still look at.
    pub fn drain(&mut self) -> impl Iterator<Item = L> + '_ {
        self.lent_bytes = 0;
        self.lent.drain(..).map(|lent| lent.what)
    }
}
