//! What a consumer has read of a stream and still looks at: messages are let go of in any order, and their places go back
//! to the producer in the order in which they were sent.

use super::stream::{Corrupt, Cursor, Popped, StreamConsumer, StreamRing};
use crate::limits::STREAM_WORDS;
use std::collections::VecDeque;

/// The consumer's end, in its private memory.
#[derive(Debug)]
pub struct Intake {
    consumer: StreamConsumer,
    /// The messages that were read and lie where the producer must not write yet, the oldest first.
    held: VecDeque<Held>,
    /// The number of the first one.
    first: u64,
    /// Position and count of what was let go of.
    freed: Option<(u64, u64)>,
}

#[derive(Debug)]
struct Held {
    /// Position and count behind it.
    end: (u64, u64),
    dropped: bool,
}

impl Intake {
    /// Of a stream whose positions begin at `start`.
    pub fn new(start: u64) -> Intake {
        Intake { consumer: StreamConsumer::new(start), held: VecDeque::new(), first: 0, freed: None }
    }

    /// Copies the next message out. Its place is the consumer's until [`let_go`](Intake::let_go) of the number that comes
    /// with it.
    #[inline]
    pub fn pop<'w>(&mut self, ring: StreamRing<'_>, room: &'w mut [u64; STREAM_WORDS]) -> (Popped<'w>, u64) {
        let number = self.first + self.held.len() as u64;
        let popped = self.consumer.pop(ring, room);
        if let Popped::Message(_) = popped {
            self.held.push_back(Held { end: self.consumer.position(), dropped: false });
        }
        (popped, number)
    }

    /// The message of this number is not looked at any more. Whether the call's bell is to be rung.
    #[must_use = "a producer may sleep for want of room: ring the bell"]
    pub fn let_go(&mut self, ring: StreamRing<'_>, cursor: &Cursor, number: u64) -> bool {
        if let Some(held) = number.checked_sub(self.first).and_then(|at| self.held.get_mut(at as usize)) {
            held.dropped = true;
        }
        self.tell(ring, cursor, false)
    }

    /// Everything that was let go of is told to the producer, before anybody waits for more. Whether the call's bell is to be
    /// rung.
    #[must_use = "a producer may sleep for want of room: ring the bell"]
    pub fn tell_all(&mut self, ring: StreamRing<'_>, cursor: &Cursor) -> bool {
        self.tell(ring, cursor, true)
    }

    /// See [`StreamConsumer::finish`].
    pub fn finish(&mut self, ring: StreamRing<'_>) -> Result<(), Corrupt> {
        self.consumer.finish(ring)
    }

    /// What has been read, to be compared with what there is.
    #[inline]
    pub fn seen(&self) -> StreamConsumer {
        self.consumer
    }

    /// See [`StreamConsumer::is_spoilt`].
    pub fn is_spoilt(&self, cursor: &Cursor, key: u64) -> bool {
        self.consumer.is_spoilt(cursor, key)
    }

    fn tell(&mut self, ring: StreamRing<'_>, cursor: &Cursor, now: bool) -> bool {
        while let Some(oldest) = self.held.front()
            && oldest.dropped
        {
            self.freed = Some(oldest.end);
            self.held.pop_front();
            self.first += 1;
        }
        self.freed.is_some_and(|freed| self.consumer.let_go(ring, cursor, freed, now))
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::stream::StreamProducer;
    use super::*;
    use crate::primitive::AtomicU64;

    #[test]
    fn places_go_back_in_order_whatever_is_dropped_first() {
        let (tail, cursor) = (AtomicU64::new(0), Cursor::new());
        let data: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        let ring = StreamRing::new(&tail, &data).unwrap();
        let mut producer = StreamProducer::new(1, 0, u64::MAX);
        let mut intake = Intake::new(0);
        cursor.attach(1, 0);
        let mut room = [0; STREAM_WORDS];
        for _ in 0..4 {
            producer.push(ring, &cursor, &[0; 10]).unwrap();
        }
        let numbers: Vec<u64> = (0..4).map(|_| intake.pop(ring, &mut room).1).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
        assert_eq!(intake.pop(ring, &mut room).0, Popped::Empty);
        for later in [2, 1] {
            let _ = intake.let_go(ring, &cursor, later);
            let _ = intake.tell_all(ring, &cursor);
            assert_eq!(producer.look(&cursor), Ok(0), "the first one is held");
        }
        assert!(intake.let_go(ring, &cursor, 0), "nothing is left to read");
        assert_eq!(producer.look(&cursor), Ok(30));
        for again in [0, 2, 4, u64::MAX] {
            let _ = intake.let_go(ring, &cursor, again);
            assert_eq!(producer.look(&cursor), Ok(30), "{again} is not held");
        }
        let _ = intake.let_go(ring, &cursor, 3);
        assert_eq!(producer.look(&cursor), Ok(40));
    }
}
