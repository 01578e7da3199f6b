//! Models 12: the ring of a stream under the call's word and bell. Items arrive in order and complete, the end comes after
//! the last of them and once, nobody sleeps on beside room or an item, and no memory is used again under a reader.

use super::harness::*;
use loom::sync::Mutex;
use loom::thread;
use std::sync::Arc;
use stokehold::internals::limits::STREAM_WORDS;
use stokehold::internals::primitive::{AtomicU64, Ordering};
use stokehold::internals::ring::{
    CallLine, Cancel, Completed, Cursor, Generation, Popped, Repaired, State, StreamConsumer, StreamProducer,
    StreamRing, Unsent, Word,
};

const KEY: u64 = 77;
/// Positions come round after the first word.
const START: u64 = u64::MAX;
const ANY: u64 = u64::MAX;

/// One direction: the producer's words, the consumer's cursor.
struct Way {
    tail: AtomicU64,
    data: Vec<AtomicU64>,
    cursor: Cursor,
}

impl Way {
    fn new(words: usize) -> Way {
        Way {
            tail: AtomicU64::new(START),
            data: (0..words).map(|_| AtomicU64::new(0)).collect(),
            cursor: Cursor::new(),
        }
    }

    fn ring(&self) -> StreamRing<'_> {
        StreamRing::new(&self.tail, &self.data).unwrap()
    }
}

struct Stream {
    line: CallLine,
    kernel: Kernel,
    way: Way,
    /// Where items lie; each is used again when its reader let go of it.
    blocks: Vec<Block>,
}

/// A call that runs, and streams.
fn running(words: usize, blocks: usize) -> Arc<Stream> {
    claimed(G, KEY, words, blocks)
}

fn claimed(generation: Generation, key: u64, words: usize, blocks: usize) -> Arc<Stream> {
    let stream = Stream {
        line: CallLine::new(generation),
        kernel: Kernel::new(),
        way: Way::new(words),
        blocks: (0..blocks).map(|_| Block::new(0)).collect(),
    };
    stream.way.cursor.attach(key, START);
    stream.line.publish(generation).unwrap();
    assert!(stream.line.claim(generation, life(3)));
    Arc::new(stream)
}

/// A message: the number, and words that say nothing.
fn message(n: u64, len: usize) -> Vec<u64> {
    let mut words = vec![n << 16];
    words.resize(len, n);
    words
}

impl Stream {
    fn is_running(&self) -> bool {
        self.line.look().unwrap().state() == State::Running
    }

    fn ring_bell(&self, unless: &str) {
        if !sabotaged(unless) {
            self.line.bell.ring(&self.kernel);
        }
    }

    fn block(&self, n: u64) -> &Block {
        &self.blocks[n as usize % self.blocks.len()]
    }

    /// Whether the reader let go of the item whose block is to be used for this one.
    fn has_block(&self, producer: &mut StreamProducer, n: u64, len: usize) -> bool {
        let Some(before) = n.checked_sub(self.blocks.len() as u64) else { return true };
        let end = (before + 1) * len as u64;
        producer.look(&self.way.cursor).unwrap().wrapping_sub(START) >= end
    }

    /// The producer: sends the item that follows `n` others, or is told that nobody wants it.
    fn send(&self, producer: &mut StreamProducer, n: u64, len: usize) -> Option<()> {
        let (ring, cursor) = (self.way.ring(), &self.way.cursor);
        while !self.has_block(producer, n, len) {
            self.wait(|| !self.has_block(producer, n, len))?;
        }
        self.block(n).write(n + 1);
        loop {
            match producer.push(ring, cursor, &message(n, len)) {
                Ok(()) => break,
                Err(Unsent::Full) => self.wait(|| !producer.has_room(ring, cursor, len).unwrap())?,
                Err(Unsent::Corrupt) => panic!("a correct cursor was called corrupt"),
            }
        }
        self.ring_bell("streamnobell");
        self.is_running().then_some(())
    }

    fn wait(&self, waiting: impl FnOnce() -> bool) -> Option<()> {
        let is_wanted = || sabotaged("streamblindroom") || self.is_running();
        self.line.bell.park(&self.kernel, None, || waiting() && is_wanted());
        self.is_running().then_some(())
    }

    /// The worker: all items, then the end.
    fn serve(&self, items: u64, len: usize, window: u64, steps: &Steps) -> Option<()> {
        let mut producer = StreamProducer::new(KEY, START, window);
        for n in 0..items {
            steps.next()?;
            if self.send(&mut producer, n, len).is_none() {
                break;
            }
        }
        steps.next()?;
        self.line.complete(G, life(3), 1).unwrap();
        steps.next()?;
        self.line.bell.ring(&self.kernel);
        Some(())
    }

    fn pop(&self, consumer: &mut StreamConsumer) -> Option<u64> {
        match consumer.pop(self.way.ring(), &mut [0; STREAM_WORDS]) {
            Popped::Message(words) => Some(words[0] >> 16),
            Popped::Empty => None,
            Popped::Corrupt => panic!("a correct ring was called corrupt"),
        }
    }

    fn let_go(&self, consumer: &mut StreamConsumer, now: bool) {
        if consumer.let_go(self.way.ring(), &self.way.cursor, consumer.position(), now) {
            self.ring_bell("streamquiet");
        }
    }

    /// The consumer: the number of the next item, or the word that ended the stream.
    fn next(&self, consumer: &mut StreamConsumer) -> Result<u64, Word> {
        loop {
            if let Some(n) = self.pop(consumer) {
                return Ok(n);
            }
            let word = self.line.look().unwrap();
            if word.state() != State::Running {
                // What was sent before the end is there by now.
                let last = if sabotaged("norecheck_stream") { None } else { self.pop(consumer) };
                return last.ok_or(word);
            }
            if !sabotaged("streamhoard") {
                self.let_go(consumer, true);
            }
            let early = sabotaged("streamlateflag");
            let waiting = || !consumer.has_news(self.way.ring()) && self.line.glance() == word.raw();
            if !early {
                self.line.bell.park(&self.kernel, None, waiting);
            } else if waiting() {
                self.line.bell.park(&self.kernel, None, || true);
            }
        }
    }

    /// Reads an item where it lies, and lets go of it.
    fn read(&self, consumer: &mut StreamConsumer, n: u64) {
        if sabotaged("streamheadearly") {
            self.let_go(consumer, false);
        }
        assert_eq!(self.block(n).read(), n + 1);
        if !sabotaged("streamheadearly") {
            self.let_go(consumer, false);
        }
    }

    /// All of the stream: how many items there were, and what ended it.
    fn drain(&self) -> (u64, Word) {
        let mut consumer = StreamConsumer::new(START);
        let mut got = 0;
        loop {
            match self.next(&mut consumer) {
                Ok(n) => {
                    assert_eq!(n, got, "out of order");
                    got += 1;
                    self.read(&mut consumer, n);
                }
                Err(word) => {
                    assert_eq!(self.pop(&mut consumer), None, "more after the end");
                    return (got, word);
                }
            }
        }
    }
}

fn worker(stream: &Arc<Stream>, items: u64, len: usize, window: u64) -> thread::JoinHandle<Option<()>> {
    let stream = stream.clone();
    thread::spawn(move || stream.serve(items, len, window, &Steps::new(99)))
}

/// Three items through a ring for two, which both sides may find full or empty at any moment; the end follows the last.
#[test]
fn stream_is_complete_and_in_order() {
    explore("stream of three", || {
        let stream = running(2, 3);
        let worker = worker(&stream, 3, 1, ANY);
        let (got, word) = stream.drain();
        assert_eq!((got, word.state()), (3, State::Done));
        worker.join().unwrap();
    });
}

/// Two items that lie in the same block, one after the other.
#[test]
fn stream_item_stays_while_it_is_read() {
    explore("stream through one block", || {
        let stream = running(2, 1);
        let worker = worker(&stream, 2, 1, ANY);
        let (got, word) = stream.drain();
        assert_eq!((got, word.state()), (2, State::Done));
        worker.join().unwrap();
    });
}

/// A call that has sent four items, of which its window allows no more.
fn four_sent() -> (Arc<Stream>, StreamProducer) {
    let stream = running(16, 5);
    let mut producer = StreamProducer::new(KEY, START, 4);
    for n in 0..4 {
        stream.send(&mut producer, n, 1).unwrap();
    }
    (stream, producer)
}

/// A consumer drops one of the four items, too little to ring for, and holds the others. It rings before it sleeps.
#[test]
fn stream_window_opens_before_the_consumer_sleeps() {
    explore("stream with a window", || {
        let (stream, mut producer) = four_sent();
        let worker = {
            let stream = stream.clone();
            thread::spawn(move || stream.send(&mut producer, 4, 1).unwrap())
        };
        let mut consumer = StreamConsumer::new(START);
        assert_eq!(stream.pop(&mut consumer), Some(0));
        stream.read(&mut consumer, 0);
        for n in 1..4 {
            assert_eq!(stream.pop(&mut consumer), Some(n));
        }
        assert_eq!(stream.next(&mut consumer), Ok(4));
        worker.join().unwrap();
    });
}

/// It drops the first of the four on another thread than the one that waits for the next.
#[test]
fn stream_item_that_another_thread_drops_makes_room() {
    explore("dropped elsewhere", || {
        let (stream, mut producer) = four_sent();
        let mut consumer = StreamConsumer::new(START);
        assert_eq!(stream.pop(&mut consumer), Some(0));
        let first = consumer.position();
        for n in 1..4 {
            assert_eq!(stream.pop(&mut consumer), Some(n));
        }
        let taking = Arc::new(Mutex::new(consumer));
        let worker = {
            let stream = stream.clone();
            thread::spawn(move || stream.send(&mut producer, 4, 1).unwrap())
        };
        let dropper = {
            let (stream, taking) = (stream.clone(), taking.clone());
            thread::spawn(move || {
                let (ring, cursor) = (stream.way.ring(), &stream.way.cursor);
                if taking.lock().unwrap().let_go(ring, cursor, first, false) {
                    stream.ring_bell("streamquiet");
                }
            })
        };
        loop {
            let mut consumer = taking.lock().unwrap();
            if let Some(n) = stream.pop(&mut consumer) {
                assert_eq!(n, 4);
                break;
            }
            let seen = *consumer;
            drop(consumer);
            stream.line.bell.park(&stream.kernel, None, || !seen.has_news(stream.way.ring()));
        }
        worker.join().unwrap();
        dropper.join().unwrap();
    });
}

/// The worker dies after any step: its client has what was sent, all of it and in order, and then one end.
#[test]
fn stream_of_a_dead_worker_is_a_prefix_and_one_end() {
    const ITEMS: u64 = 2;
    for steps in 0..=ITEMS as usize + 2 {
        explore(&format!("stream, {steps} steps"), move || {
            let stream = running(2, ITEMS as usize);
            let arbiter = {
                let stream = stream.clone();
                thread::spawn(move || {
                    let _ = stream.serve(ITEMS, 1, ANY, &Steps::new(steps));
                    // Its pidfd fires.
                    if stream.line.repair(life(3), |_| true).unwrap() != Repaired::Untouched {
                        stream.line.bell.ring_always(&stream.kernel);
                    }
                })
            };
            let (got, word) = stream.drain();
            let sent = steps.min(ITEMS as usize) as u64;
            let end = if steps > ITEMS as usize { State::Done } else { State::Lost };
            assert_eq!((got, word.state()), (sent, end));
            arbiter.join().unwrap();
        });
    }
}

/// F6: the producer waits for room that nobody will make, its call is cancelled, or its client dies.
#[test]
fn f6_a_producer_that_waits_for_room_hears_of_the_end() {
    for dead in [false, true] {
        explore(&format!("full ring, dead {dead}"), move || {
            let stream = running(2, 3);
            let worker = worker(&stream, 2, 2, ANY);
            if dead {
                while stream.line.look().unwrap().state() == State::Running {
                    assert!(!stream.line.reclaim().unwrap());
                }
            } else {
                assert_eq!(stream.line.cancel(G), Ok(Cancel::Abandoned(life(3))));
            }
            stream.ring_bell("quietcancel");
            worker.join().unwrap();
            assert_eq!(stream.line.look().unwrap().state(), State::Acked);
        });
    }
}

/// What a client says of a call in its own record.
const QUEUED: u64 = 0;
const HELD: u64 = 1;
const CANCELLED: u64 = 2;

/// F1 with the ring: one thread reads an item where it lies, another cancels, and the worker, which acknowledged at once,
/// has the memory back when the client's own record says that nothing of it is held.
#[test]
fn f1_a_cancelled_stream_keeps_its_memory_until_the_last_item_is_dropped() {
    explore("f1, stream", || {
        struct Client {
            own: AtomicU64,
            leased: Mutex<bool>,
        }
        let stream = running(2, 1);
        let mut producer = StreamProducer::new(KEY, START, ANY);
        stream.send(&mut producer, 0, 1).unwrap();
        let client = Arc::new(Client { own: AtomicU64::new(QUEUED), leased: Mutex::new(false) });
        let worker = {
            let (stream, client) = (stream.clone(), client.clone());
            thread::spawn(move || {
                if stream.line.complete(G, life(3), 1) == Ok(Completed::Abandoned)
                    && (sabotaged("streamackfrees") || client.own.load(Ordering::Acquire) == CANCELLED)
                {
                    stream.block(0).write(99);
                }
            })
        };
        let canceller = {
            let (stream, client) = (stream.clone(), client.clone());
            thread::spawn(move || {
                let leased = client.leased.lock().unwrap();
                if stream.line.cancel(G) == Ok(Cancel::Abandoned(life(3))) {
                    let held = *leased && !sabotaged("streamlostlease");
                    client.own.store(if held { HELD } else { CANCELLED }, Ordering::Release);
                }
            })
        };
        let mut leased = client.leased.lock().unwrap();
        let mut consumer = StreamConsumer::new(START);
        // Taken under the lock: who cancels knows of it.
        if client.own.load(Ordering::Relaxed) == QUEUED && stream.pop(&mut consumer) == Some(0) {
            *leased = true;
            drop(leased);
            assert_eq!(stream.block(0).read(), 1);
            leased = client.leased.lock().unwrap();
            *leased = false;
            if client.own.load(Ordering::Relaxed) == HELD {
                let ordering =
                    if sabotaged("streamoverrelaxed") { Ordering::Relaxed } else { Ordering::Release };
                client.own.store(CANCELLED, ordering);
            }
        }
        drop(leased);
        worker.join().unwrap();
        canceller.join().unwrap();
    });
}

/// A worker announces a stream where one of the line's last call lay, and the client's cursor is that one's until it has found
/// the new one. Neither takes anything of the old for the new, and the client does not sleep beside it.
#[test]
fn stream_is_found_where_an_earlier_one_lay() {
    const PLACE: u64 = 64;
    const OLD: u64 = KEY - 1;
    explore("announce against open", || {
        let before = Generation(G.0 - 1);
        let stream = claimed(before, OLD, 2, 2);
        let key = Arc::new(AtomicU64::new(OLD)); // of the block
        // One item went through the old stream.
        stream.line.announce(PLACE);
        let mut old = StreamProducer::new(OLD, START, ANY);
        old.push(stream.way.ring(), &stream.way.cursor, &message(9, 2)).unwrap();
        let mut consumer = StreamConsumer::new(START);
        assert_eq!(stream.pop(&mut consumer), Some(9));
        stream.let_go(&mut consumer, true);
        stream.line.complete(before, life(3), 1).unwrap();
        stream.line.release(stream.line.look().unwrap()).unwrap();

        stream.line.publish(G).unwrap();
        let worker = {
            let (stream, key) = (stream.clone(), key.clone());
            thread::spawn(move || {
                assert!(stream.line.claim(G, life(3)));
                stream.way.tail.store(START, Ordering::Relaxed);
                key.store(KEY, Ordering::Release);
                stream.line.announce(PLACE);
                stream.line.bell.ring(&stream.kernel);
                stream.serve(2, 2, ANY, &Steps::new(99))
            })
        };
        // A place where no stream of this call is, is not looked at again.
        let mut ignored = 0;
        loop {
            let word = stream.line.look().unwrap();
            let place = stream.line.stream();
            if place != ignored && key.load(Ordering::Acquire) == KEY {
                break;
            }
            ignored = place;
            let is_over = !CallLine::is_pending(word.raw());
            if is_over {
                assert!(
                    !sabotaged("norecheck_stream") && stream.line.stream() != ignored,
                    "an end, and no stream"
                );
                continue;
            }
            let settled = || !CallLine::is_pending(stream.line.glance());
            let nothing = || stream.line.stream() == ignored && !settled();
            stream.line.bell.park(&stream.kernel, None, nothing);
        }
        stream.way.cursor.attach(KEY, START);
        let (got, word) = stream.drain();
        assert_eq!((got, word.state()), (2, State::Done));
        worker.join().unwrap();
    });
}

/// A context: each side sends and receives, three threads sleep on one bell, and who rings it for one of them takes no
/// other's wake-up along. The client's second item finds no room; the worker answers both with one.
#[test]
fn stream_of_each_direction_sleeps_on_one_bell() {
    explore("two directions", || {
        let back = Way::new(2);
        back.cursor.attach(KEY, START);
        let mut producer = StreamProducer::new(KEY, START, ANY);
        producer.push(back.ring(), &back.cursor, &message(0, 2)).unwrap();
        let both = Arc::new((running(2, 1), back));
        let worker = {
            let both = both.clone();
            thread::spawn(move || {
                let (stream, back) = &*both;
                let mut consumer = StreamConsumer::new(START);
                for n in 0..2 {
                    assert_eq!(receive(stream, back, &mut consumer), n);
                }
                stream.send(&mut StreamProducer::new(KEY, START, ANY), 0, 2).unwrap();
                stream.line.complete(G, life(3), 1).unwrap();
                stream.line.bell.ring(&stream.kernel);
            })
        };
        let sender = {
            let both = both.clone();
            thread::spawn(move || {
                let (stream, back) = &*both;
                while producer.push(back.ring(), &back.cursor, &message(1, 2)).is_err() {
                    let waiting = || !producer.has_room(back.ring(), &back.cursor, 2).unwrap();
                    stream.line.bell.park(&stream.kernel, None, waiting);
                }
                stream.ring_bell("streamnobell");
            })
        };
        let (got, word) = both.0.drain();
        assert_eq!((got, word.state()), (1, State::Done));
        worker.join().unwrap();
        sender.join().unwrap();
    });
}

/// The next item of the other direction, copied out.
fn receive(stream: &Stream, way: &Way, consumer: &mut StreamConsumer) -> u64 {
    loop {
        if let Popped::Message(words) = consumer.pop(way.ring(), &mut [0; STREAM_WORDS]) {
            let n = words[0] >> 16;
            if consumer.let_go(way.ring(), &way.cursor, consumer.position(), true) {
                stream.ring_bell("streamquiet");
            }
            return n;
        }
        stream.line.bell.park(&stream.kernel, None, || !consumer.has_news(way.ring()));
    }
}
