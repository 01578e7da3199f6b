//! A stream: messages of some words from one producer to one consumer, through a ring that only the producer writes.
//!
//! ```text
//!   producer's memory   tail, data        consumer's memory   cursor: key, head, count
//!
//!        head (let go of)      position (read)        tail
//!   ─────┼─────────────────────┼──────────────────────┼─────► words, 64 bits, never reduced
//!        │   held by the user  │       to be read     │   room for the producer
//! ```
//!
//! One writer a word. Producer: the words of a message, then the tail (Release), then the bell of the call. Consumer: the
//! tail (Acquire), the words, and the head (Release) only after nothing of the message is looked at any more. Either side
//! that must wait sleeps on the call's bell and looks again after a full fence; whoever changes what it waits for rings.
//! There is no message that ends a stream: the end is the call's word, and a consumer that sees it reads the tail once
//! more.
//!
//! What comes from the other side is checked: a tail or a head that no correct peer writes, a length that does not fit, are
//! answers ([`Corrupt`]). A cursor counts only with the key of this stream; before its consumer has written it, nothing was
//! taken.

use super::sabotage::{self, order};
use crate::limits::STREAM_WORDS;
use crate::primitive::{AtomicU64, Ordering};

/// The consumer's side of one stream.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Cursor {
    key: AtomicU64,
    head: AtomicU64,
    count: AtomicU64,
    /// Where the consumer's own block is, if it sends as well; written before its key.
    pub back: AtomicU64,
}

/// The producer's side, and how large it is.
#[derive(Clone, Copy, Debug)]
pub struct StreamRing<'a> {
    tail: &'a AtomicU64,
    data: &'a [AtomicU64],
}

/// The other side has written what no correct peer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// There is no room: so many words, or messages, are on their way.
    Full,
    /// See [`Corrupt`].
    Corrupt,
}

/// What a consumer found.
#[derive(Debug, PartialEq, Eq)]
pub enum Popped<'w> {
    /// Nothing, for now.
    Empty,
    /// The words of the next message; the lowest 16 bits of the first one are their number.
    Message(&'w [u64]),
    /// See [`Corrupt`].
    Corrupt,
}

/// What the producer knows, in its private memory.
#[derive(Clone, Copy, Debug)]
pub struct StreamProducer {
    key: u64,
    start: u64,
    tail: u64,
    sent: u64,
    /// As far as was seen.
    head: u64,
    taken: u64,
    /// Most messages that may be on their way.
    window: u64,
}

/// What the consumer knows, in its private memory.
#[derive(Clone, Copy, Debug)]
pub struct StreamConsumer {
    position: u64,
    /// As far as was seen.
    tail: u64,
    /// Messages read.
    count: u64,
    /// What the cursor says.
    published: u64,
    /// What the cursor said when the bell was last rung.
    rung: u64,
    /// The tail is the last one.
    finished: bool,
    /// The cursor once said what this consumer had not written.
    spoilt: bool,
}

impl Cursor {
    /// One that belongs to no stream.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Cursor {
        let word = || AtomicU64::new(0);
        Cursor { key: word(), head: word(), count: word(), back: word() }
    }

    /// Consumer: from now on it is that of the stream with this key, of which nothing was taken.
    pub fn attach(&self, key: u64, start: u64) {
        self.head.store(start, Ordering::Relaxed);
        self.count.store(0, Ordering::Relaxed);
        self.key.store(key, order("streamattachrelaxed", Ordering::Release)); // SYNC POINT: cursor
    }

    /// Producer: where its consumer's own block is said to be, if the cursor is this stream's.
    pub fn back(&self, key: u64) -> Option<u64> {
        (self.key.load(Ordering::Acquire) == key).then(|| self.back.load(Ordering::Relaxed))
    }

    /// Consumer: nothing before `head` is looked at any more, which is that many messages.
    #[inline]
    fn publish(&self, head: u64, count: u64) {
        self.count.store(count, Ordering::Relaxed);
        self.head.store(head, order("streamheadrelaxed", Ordering::Release)); // SYNC POINT: room
    }

    /// Producer: head and count, if it is this stream's.
    #[inline]
    fn seen(&self, key: u64) -> Option<(u64, u64)> {
        // SYNC POINT: cursor
        if self.key.load(Ordering::Acquire) != key && !sabotage::on("streamanykey") {
            return None;
        }
        let head = self.head.load(Ordering::Acquire); // SYNC POINT: room
        Some((head, self.count.load(Ordering::Relaxed)))
    }
}

impl<'a> StreamRing<'a> {
    /// Over these words; `None` unless their number is a power of two and at least two.
    #[inline]
    pub fn new(tail: &'a AtomicU64, data: &'a [AtomicU64]) -> Option<StreamRing<'a>> {
        (data.len().is_power_of_two() && data.len() > 1).then_some(StreamRing { tail, data })
    }

    /// How many words it has.
    #[inline]
    pub fn capacity(&self) -> u64 {
        self.data.len() as u64
    }

    #[inline]
    fn at(&self, position: u64) -> &AtomicU64 {
        &self.data[position as usize & (self.data.len() - 1)]
    }
}

impl StreamProducer {
    /// The producer of a stream whose positions begin at `start`, of which at most `window` messages are on their way.
    pub fn new(key: u64, start: u64, window: u64) -> StreamProducer {
        StreamProducer { key, start, tail: start, sent: 0, head: start, taken: 0, window }
    }

    /// Sends a message of 1 to [`STREAM_WORDS`] words; the lowest 16 bits of the first are overwritten by their number.
    /// The call's bell is to be rung afterwards.
    ///
    /// # Panics
    /// If it has more words than that, or than the ring.
    #[inline]
    pub fn push(&mut self, ring: StreamRing<'_>, cursor: &Cursor, words: &[u64]) -> Result<(), Unsent> {
        assert!(!words.is_empty() && words.len() <= STREAM_WORDS && words.len() as u64 <= ring.capacity());
        if !self.has_room(ring, cursor, words.len()).map_err(|Corrupt| Unsent::Corrupt)?
            && !sabotage::on("streamnofull")
        {
            return Err(Unsent::Full);
        }
        if sabotage::on("streamtailfirst") {
            ring.tail.store(self.tail.wrapping_add(words.len() as u64), Ordering::Release);
        }
        let first = words[0] & !0xffff | words.len() as u64;
        ring.at(self.tail).store(first, Ordering::Relaxed);
        for (at, word) in words.iter().enumerate().skip(1) {
            ring.at(self.tail.wrapping_add(at as u64)).store(*word, Ordering::Relaxed);
        }
        crash_point!("stream.sent.words");
        self.tail = self.tail.wrapping_add(words.len() as u64);
        self.sent = self.sent.wrapping_add(1);
        ring.tail.store(self.tail, order("streamtailrelaxed", Ordering::Release)); // SYNC POINT: item
        crash_point!("stream.sent.tail");
        Ok(())
    }

    /// Whether there is room for a message of so many words. Looks at the cursor only if there seems to be none.
    #[inline]
    pub fn has_room(&mut self, ring: StreamRing<'_>, cursor: &Cursor, words: usize) -> Result<bool, Corrupt> {
        let fits = |this: &StreamProducer| {
            this.tail.wrapping_sub(this.head) + words as u64 <= ring.capacity()
                && this.sent.wrapping_sub(this.taken) < this.window
        };
        if fits(self) {
            return Ok(true);
        }
        self.look(cursor)?;
        Ok(fits(self))
    }

    /// Looks how far the consumer has come: the position before which it looks at nothing any more.
    #[inline]
    pub fn look(&mut self, cursor: &Cursor) -> Result<u64, Corrupt> {
        let (head, taken) = cursor.seen(self.key).unwrap_or((self.start, 0));
        // Neither goes back, nor beyond what was sent.
        let is_sound = head.wrapping_sub(self.head) <= self.tail.wrapping_sub(self.head)
            && taken.wrapping_sub(self.taken) <= self.sent.wrapping_sub(self.taken);
        if !is_sound {
            return Err(Corrupt);
        }
        (self.head, self.taken) = (head, taken);
        Ok(head)
    }

    /// As far as was seen: what lies before it is looked at no more.
    #[inline]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Where the next message will begin.
    #[inline]
    pub fn tail(&self) -> u64 {
        self.tail
    }
}

impl StreamConsumer {
    /// The consumer of a stream whose positions begin at `start`.
    pub fn new(start: u64) -> StreamConsumer {
        StreamConsumer {
            position: start,
            tail: start,
            count: 0,
            published: start,
            rung: start,
            finished: false,
            spoilt: false,
        }
    }

    /// The producer has ended: whatever it writes from now on, there is no more than it has sent.
    pub fn finish(&mut self, ring: StreamRing<'_>) -> Result<(), Corrupt> {
        if !self.finished {
            let tail = ring.tail.load(order("streamlookrelaxed", Ordering::Acquire)); // SYNC POINT: item
            let sent = tail.wrapping_sub(self.position);
            if sent > ring.capacity() || sent < self.tail.wrapping_sub(self.position) {
                return Err(Corrupt);
            }
            (self.tail, self.finished) = (tail, true);
        }
        Ok(())
    }

    /// Copies the next message out. Its place is the consumer's until [`let_go`](StreamConsumer::let_go) says otherwise.
    #[inline]
    pub fn pop<'w>(&mut self, ring: StreamRing<'_>, room: &'w mut [u64; STREAM_WORDS]) -> Popped<'w> {
        if self.position == self.tail {
            let tail = ring.tail.load(order("streamlookrelaxed", Ordering::Acquire)); // SYNC POINT: item
            if tail == self.position || self.finished {
                return Popped::Empty;
            }
            if tail.wrapping_sub(self.position) > ring.capacity() {
                return Popped::Corrupt;
            }
            self.tail = tail;
        }
        let first = ring.at(self.position).load(Ordering::Relaxed);
        let len = first & 0xffff;
        if len == 0 || len > STREAM_WORDS as u64 || len > self.tail.wrapping_sub(self.position) {
            return Popped::Corrupt;
        }
        let words = &mut room[..len as usize];
        words[0] = first;
        for (at, word) in words.iter_mut().enumerate().skip(1) {
            *word = ring.at(self.position.wrapping_add(at as u64)).load(Ordering::Relaxed);
        }
        self.position = self.position.wrapping_add(len);
        self.count = self.count.wrapping_add(1);
        Popped::Message(words)
    }

    /// Whether something may have come that was not read yet. Without an order: only to see that something changed.
    #[inline]
    pub fn has_news(&self, ring: StreamRing<'_>) -> bool {
        self.position != self.tail || (!self.finished && ring.tail.load(Ordering::Relaxed) != self.position)
    }

    /// Where the next message begins, and how many were read.
    #[inline]
    pub fn position(&self) -> (u64, u64) {
        (self.position, self.count)
    }

    /// Whether somebody has written into the cursor of this stream, which only its consumer writes: then a correct producer
    /// may have overwritten what was not read yet, and what is read proves nothing against it.
    pub fn is_spoilt(&self, cursor: &Cursor, key: u64) -> bool {
        self.spoilt
            || cursor.key.load(Ordering::Relaxed) != key
            || cursor.head.load(Ordering::Relaxed) != self.published
    }

    /// Nothing before `head` is looked at any more, which is `count` messages. `true`: the call's bell is to be rung.
    ///
    /// The cursor says so at once, for a producer that looks. One that sleeps is not woken for every message: only when it is
    /// to be known `now`, at half of what is known to be there or a quarter of the ring, and whenever nothing is left to
    /// read. For then the producer may wait for exactly this, and the reader for the producer: an item may be dropped by
    /// another thread than the one that sleeps for the next.
    #[inline]
    #[must_use = "a producer may sleep for want of room: ring the bell"]
    pub fn let_go(
        &mut self,
        ring: StreamRing<'_>,
        cursor: &Cursor,
        (head, count): (u64, u64),
        now: bool,
    ) -> bool {
        if head != self.published {
            self.spoilt |= cursor.head.load(Ordering::Relaxed) != self.published;
            self.published = head;
            cursor.publish(head, count);
            crash_point!("stream.told");
        }
        let freed = head.wrapping_sub(self.rung);
        let is_all_read = self.position == self.tail && !sabotage::on("streamlatedrop");
        let half = self.tail.wrapping_sub(self.rung) / 2;
        if freed == 0 || !(now || is_all_read || freed >= half.min(ring.capacity() / 4)) {
            return false;
        }
        self.rung = head;
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const KEY: u64 = 77;

    struct Shared {
        tail: AtomicU64,
        data: Vec<AtomicU64>,
        cursor: Cursor,
    }

    impl Shared {
        fn new(words: usize, start: u64) -> Shared {
            Shared {
                tail: AtomicU64::new(start),
                data: (0..words).map(|_| AtomicU64::new(u64::MAX)).collect(),
                cursor: Cursor::new(),
            }
        }

        fn ring(&self) -> StreamRing<'_> {
            StreamRing::new(&self.tail, &self.data).unwrap()
        }
    }

    fn room() -> [u64; STREAM_WORDS] {
        [0; STREAM_WORDS]
    }

    /// Messages of every length, across the end of the ring and of the numbers.
    #[test]
    fn what_is_sent_arrives_in_order() {
        for start in [0, u64::MAX - 100] {
            let shared = Shared::new(64, start);
            let mut producer = StreamProducer::new(KEY, start, u64::MAX);
            let mut consumer = StreamConsumer::new(start);
            shared.cursor.attach(KEY, start);
            for round in 0..if cfg!(miri) { 2 * STREAM_WORDS as u64 } else { 1000 } {
                let len = round as usize % STREAM_WORDS + 1;
                let words: Vec<u64> = (0..len as u64).map(|at| (round << 16 | 0xbad) + at).collect();
                producer.push(shared.ring(), &shared.cursor, &words).unwrap();
                let mut room = room();
                let Popped::Message(read) = consumer.pop(shared.ring(), &mut room) else { panic!() };
                assert_eq!((read[0], &read[1..]), (round << 16 | len as u64, &words[1..]));
                let _ = consumer.let_go(shared.ring(), &shared.cursor, consumer.position(), true);
            }
            assert_eq!(consumer.pop(shared.ring(), &mut room()), Popped::Empty);
        }
    }

    #[test]
    fn a_full_ring_has_room_again_when_the_consumer_let_go() {
        let shared = Shared::new(8, 0);
        let mut producer = StreamProducer::new(KEY, 0, u64::MAX);
        let mut consumer = StreamConsumer::new(0);
        for _ in 0..4 {
            producer.push(shared.ring(), &shared.cursor, &[0, 1]).unwrap();
        }
        let full = producer.push(shared.ring(), &shared.cursor, &[0]);
        assert_eq!(full, Err(Unsent::Full));
        shared.cursor.attach(KEY, 0);
        let mut room = room();
        assert!(matches!(consumer.pop(shared.ring(), &mut room), Popped::Message(_)));
        assert_eq!(
            producer.push(shared.ring(), &shared.cursor, &[0]),
            Err(Unsent::Full),
            "read, not let go of"
        );
        assert!(consumer.let_go(shared.ring(), &shared.cursor, consumer.position(), false), "a quarter");
        producer.push(shared.ring(), &shared.cursor, &[0, 1]).unwrap();
        assert_eq!(producer.push(shared.ring(), &shared.cursor, &[0]), Err(Unsent::Full));
    }

    /// Whose fault it is that a message makes no sense: seen at once, and also when the cursor has been written since.
    #[test]
    fn a_cursor_that_somebody_else_writes_is_noticed() {
        let shared = Shared::new(64, 0);
        let mut producer = StreamProducer::new(KEY, 0, u64::MAX);
        let mut consumer = StreamConsumer::new(0);
        shared.cursor.attach(KEY, 0);
        assert!(!consumer.is_spoilt(&shared.cursor, KEY));
        assert!(consumer.is_spoilt(&shared.cursor, KEY + 1), "of another stream");
        let mut room = room();
        for round in 0..3 {
            producer.push(shared.ring(), &shared.cursor, &[0, 1]).unwrap();
            assert!(matches!(consumer.pop(shared.ring(), &mut room), Popped::Message(_)));
            if round == 1 {
                let ours = shared.cursor.head.swap(7, Ordering::Relaxed);
                assert!(consumer.is_spoilt(&shared.cursor, KEY));
                shared.cursor.head.store(ours, Ordering::Relaxed);
                assert!(!consumer.is_spoilt(&shared.cursor, KEY), "nobody saw it");
                shared.cursor.head.store(7, Ordering::Relaxed);
            }
            let _ = consumer.let_go(shared.ring(), &shared.cursor, consumer.position(), true);
            assert_eq!(consumer.is_spoilt(&shared.cursor, KEY), round > 0, "{round}");
        }
    }

    /// A producer that goes on after its end is not listened to, nor one that takes back what was seen.
    #[test]
    fn there_is_nothing_behind_the_end() {
        let shared = Shared::new(64, 0);
        let mut producer = StreamProducer::new(KEY, 0, 100);
        let mut consumer = StreamConsumer::new(0);
        producer.push(shared.ring(), &shared.cursor, &[0, 1]).unwrap();
        producer.push(shared.ring(), &shared.cursor, &[0, 2]).unwrap();
        assert_eq!(consumer.finish(shared.ring()), Ok(()));
        producer.push(shared.ring(), &shared.cursor, &[0, 3]).unwrap();
        assert_eq!(consumer.finish(shared.ring()), Ok(()), "it is finished once");
        let mut room = room();
        for item in [1, 2] {
            assert_eq!(consumer.pop(shared.ring(), &mut room), Popped::Message(&[2, item]));
        }
        assert!(!consumer.has_news(shared.ring()));
        assert_eq!(consumer.pop(shared.ring(), &mut room), Popped::Empty);
        for tail in [65, 1, u64::MAX] {
            let mut consumer = StreamConsumer::new(0);
            shared.tail.store(4, Ordering::Relaxed);
            assert!(matches!(consumer.pop(shared.ring(), &mut room), Popped::Message(_)));
            shared.tail.store(tail, Ordering::Relaxed);
            assert_eq!(
                consumer.finish(shared.ring()),
                if tail == 65 { Ok(()) } else { Err(Corrupt) },
                "{tail}"
            );
        }
    }

    #[test]
    fn a_window_bounds_the_messages_on_their_way() {
        let shared = Shared::new(64, 0);
        let mut producer = StreamProducer::new(KEY, 0, 2);
        let mut consumer = StreamConsumer::new(0);
        shared.cursor.attach(KEY, 0);
        for round in 0..10 {
            while producer.push(shared.ring(), &shared.cursor, &[0]).is_ok() {}
            assert_eq!(producer.tail(), 2 + round, "two on their way");
            assert!(matches!(consumer.pop(shared.ring(), &mut room()), Popped::Message(_)));
            let _ = consumer.let_go(shared.ring(), &shared.cursor, consumer.position(), false);
        }
    }

    /// The producer is told of everything at once, and woken seldom, but always when nothing is left to read.
    #[test]
    fn the_bell_is_rung_for_half_of_what_is_there_and_for_the_last() {
        let shared = Shared::new(64, 0);
        let mut producer = StreamProducer::new(KEY, 0, 100);
        let mut consumer = StreamConsumer::new(0);
        shared.cursor.attach(KEY, 0);
        for _ in 0..8 {
            producer.push(shared.ring(), &shared.cursor, &[0]).unwrap();
        }
        let mut rung = Vec::new();
        for n in 1..=8 {
            assert!(matches!(consumer.pop(shared.ring(), &mut room()), Popped::Message(_)));
            if consumer.let_go(shared.ring(), &shared.cursor, consumer.position(), false) {
                rung.push(n);
            }
            assert_eq!(producer.look(&shared.cursor), Ok(n));
        }
        assert_eq!(rung, [4, 6, 7, 8]);
        assert!(!consumer.let_go(shared.ring(), &shared.cursor, consumer.position(), true), "nothing new");
        producer.push(shared.ring(), &shared.cursor, &[0]).unwrap();
        producer.push(shared.ring(), &shared.cursor, &[0]).unwrap();
        // Both are held; the first is dropped by another thread while the reader finds nothing.
        for _ in 0..2 {
            assert!(matches!(consumer.pop(shared.ring(), &mut room()), Popped::Message(_)));
        }
        assert_eq!(consumer.pop(shared.ring(), &mut room()), Popped::Empty);
        assert!(consumer.let_go(shared.ring(), &shared.cursor, (9, 9), false));
    }

    #[test]
    fn a_cursor_of_another_stream_frees_nothing() {
        let shared = Shared::new(8, 0);
        let mut producer = StreamProducer::new(KEY, 0, u64::MAX);
        shared.cursor.attach(KEY - 1, 1000);
        assert_eq!(producer.look(&shared.cursor), Ok(0));
        shared.cursor.attach(KEY, 1);
        assert_eq!(producer.look(&shared.cursor), Err(Corrupt), "nothing was sent yet");
    }

    /// B9: a tail or a head that runs ahead or goes back.
    #[test]
    fn what_no_correct_peer_writes_is_an_answer() {
        let shared = Shared::new(8, 0);
        let mut producer = StreamProducer::new(KEY, 0, u64::MAX);
        shared.cursor.attach(KEY, 0);
        for _ in 0..8 {
            producer.push(shared.ring(), &shared.cursor, &[0]).unwrap();
        }
        for (head, count) in [(9, 9), (u64::MAX, 0), (8, 9), (3, u64::MAX), (1 << 63, 1 << 63)] {
            shared.cursor.publish(head, count);
            assert_eq!(
                producer.push(shared.ring(), &shared.cursor, &[0]),
                Err(Unsent::Corrupt),
                "{head} {count}"
            );
        }
        for (tail, len) in [(9, 1), (u64::MAX, 1), (4, 0), (4, 5), (8, 60), (1, 2), (8, 0xffff)] {
            shared.tail.store(tail, Ordering::Relaxed);
            shared.data[0].store(0xabc0000 | len, Ordering::Relaxed);
            let mut consumer = StreamConsumer::new(0);
            assert_eq!(consumer.pop(shared.ring(), &mut room()), Popped::Corrupt, "{tail} {len}");
        }
        assert!(StreamRing::new(&shared.tail, &shared.data[..7]).is_none());
        assert!(StreamRing::new(&shared.tail, &shared.data[..1]).is_none());
    }

    /// B9: the last tail, of a producer that is dead, is looked at like any other.
    #[test]
    fn an_end_that_makes_no_sense_is_an_answer() {
        for (tail, sound) in [(4, true), (8, true), (2, false), (9 + 2, false), (u64::MAX, false)] {
            let shared = Shared::new(8, 0);
            let mut producer = StreamProducer::new(KEY, 0, u64::MAX);
            producer.push(shared.ring(), &shared.cursor, &[0, 1]).unwrap();
            producer.push(shared.ring(), &shared.cursor, &[0, 2]).unwrap();
            let mut consumer = StreamConsumer::new(0);
            assert!(consumer.has_news(shared.ring()));
            assert!(matches!(consumer.pop(shared.ring(), &mut room()), Popped::Message(_)));
            shared.tail.store(tail, Ordering::Relaxed);
            assert_eq!(consumer.finish(shared.ring()).is_ok(), sound, "{tail}");
            if tail == 4 {
                assert!(consumer.has_news(shared.ring()), "one is left");
                assert!(matches!(consumer.pop(shared.ring(), &mut room()), Popped::Message(_)));
                shared.tail.store(6, Ordering::Relaxed);
                assert!(!consumer.has_news(shared.ring()), "it had ended");
            }
        }
    }
}
