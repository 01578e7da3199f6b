//! The ring of a stream with real threads, under the call's word and bell as a worker and a client use it: one sends, one
//! takes, another drops what was taken, and now and then the call is cancelled. The payload is relaxed atomics, so that an
//! ordering that is missing shows as an old value.

use super::stress::Kernel;
use super::*;
use crate::limits::STREAM_WORDS;
use crate::primitive::{AtomicU64, Ordering};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc;

const ITEMS: u64 = if cfg!(miri) { 12 } else { 20_000 };
const CALLS: u32 = if cfg!(miri) { 3 } else { 1_000 };
/// Items lie in so many places, used in turn.
const PLACES: u64 = 8;
const WORDS: usize = 16;
const LONGEST: u64 = 5;
/// The numbers come round soon.
const START: u64 = u64::MAX - 7;

struct Stream {
    line: CallLine,
    kernel: Kernel,
    tail: AtomicU64,
    data: Vec<AtomicU64>,
    cursor: Cursor,
    places: Vec<AtomicU64>,
    /// The call to whose stream no item belongs any more, plus one; the client's.
    over: AtomicU64,
}

fn life() -> Life {
    Life::new(3).unwrap()
}

impl Stream {
    fn new() -> Stream {
        let words = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Stream {
            line: CallLine::new(Generation(0)),
            kernel: Kernel::default(),
            tail: AtomicU64::new(START),
            data: words(WORDS),
            cursor: Cursor::new(),
            places: words(PLACES as usize),
            over: AtomicU64::new(0),
        }
    }

    fn ring(&self) -> StreamRing<'_> {
        StreamRing::new(&self.tail, &self.data).unwrap()
    }

    fn place(&self, n: u64) -> &AtomicU64 {
        &self.places[(n % PLACES) as usize]
    }

    fn is_running(&self) -> bool {
        self.line.look().unwrap().state() == State::Running
    }

    /// The worker's side of one call. Where its items end is remembered, as a worker does that lends blocks.
    fn serve(&self, generation: Generation, window: u64, items: u64) {
        let (ring, cursor) = (self.ring(), &self.cursor);
        let mut producer = StreamProducer::new(key(generation), START, window);
        let mut ends = Vec::new();
        for n in 0..items {
            let before = n.checked_sub(PLACES).map(|before| ends[before as usize]);
            let words = message(generation, n);
            let mut is_lent = || {
                let head = producer.look(cursor).unwrap();
                before.is_some_and(|end: u64| head.wrapping_sub(START) < end)
            };
            while self.is_running() && is_lent() {
                self.line.bell.park(&self.kernel, None, || is_lent() && self.is_running());
            }
            if !self.is_running() {
                break;
            }
            self.place(n).store(payload(generation, n), Ordering::Relaxed);
            while self.is_running() && producer.push(ring, cursor, &words).is_err() {
                let mut is_full = || !producer.has_room(ring, cursor, words.len()).unwrap();
                self.line.bell.park(&self.kernel, None, || is_full() && self.is_running());
            }
            ends.push(producer.tail().wrapping_sub(START));
            self.line.bell.ring(&self.kernel);
        }
        self.line.complete(generation, life(), 1).unwrap();
        self.line.bell.ring(&self.kernel);
        // The memory is the worker's again when the client says so.
        while self.over.load(Ordering::Acquire) != u64::from(generation.0) + 1 {
            let is_held = || self.over.load(Ordering::Acquire) != u64::from(generation.0) + 1;
            self.line.bell.park(&self.kernel, None, is_held);
        }
        for place in &self.places {
            place.store(u64::MAX, Ordering::Relaxed);
        }
        self.tail.store(START, Ordering::Relaxed);
    }

    /// The client's side: takes until the end, and gives every item to `drop` with its number. Returns how many there were.
    fn take(&self, taking: &Mutex<Taking>, drop: &mpsc::Sender<u64>) -> (u64, State) {
        let mut got = 0;
        let pop = || {
            let mut taking = taking.lock().unwrap();
            let Taking { consumer, held, .. } = &mut *taking;
            match consumer.pop(self.ring(), &mut [0; STREAM_WORDS]) {
                Popped::Message(words) => {
                    let read = (words[0] >> 16, words[1..].to_vec());
                    held.push((consumer.position(), false));
                    Some(read)
                }
                Popped::Empty => {
                    taking.tell(self, true);
                    None
                }
                Popped::Corrupt => panic!("a correct ring was called corrupt"),
            }
        };
        let generation = taking.lock().unwrap().generation;
        let mut take = |(number, rest): (u64, Vec<u64>)| {
            let sent = message(generation, got);
            assert_eq!((number, &rest[..]), (sent[0] >> 16, &sent[1..]), "out of order");
            drop.send(got).unwrap();
            got += 1;
        };
        loop {
            if let Some(item) = pop() {
                take(item);
                continue;
            }
            let word = self.line.look().unwrap();
            if !CallLine::is_pending(word.raw()) {
                while let Some(item) = pop() {
                    take(item);
                }
                return (got, word.state());
            }
            let seen = taking.lock().unwrap().consumer;
            let waiting = || !seen.has_news(self.ring()) && self.line.glance() == word.raw();
            self.line.bell.park(&self.kernel, None, waiting);
        }
    }
}

/// What the client knows of its stream, behind its lock.
struct Taking {
    generation: Generation,
    consumer: StreamConsumer,
    /// Where each item ends, and whether it was dropped.
    held: Vec<((u64, u64), bool)>,
    freed: usize,
}

impl Taking {
    fn tell(&mut self, stream: &Stream, now: bool) {
        while self.held.get(self.freed).is_some_and(|(_, dropped)| *dropped) {
            self.freed += 1;
        }
        let Some(last) = self.freed.checked_sub(1) else { return };
        if self.consumer.let_go(stream.ring(), &stream.cursor, self.held[last].0, now) {
            stream.line.bell.ring(&stream.kernel);
        }
    }
}

fn key(generation: Generation) -> u64 {
    u64::from(generation.0) << 32 | 1
}

fn payload(generation: Generation, n: u64) -> u64 {
    key(generation) ^ n << 8
}

fn message(generation: Generation, n: u64) -> Vec<u64> {
    let mut words = vec![n << 16];
    words.resize((n % LONGEST + 1) as usize, payload(generation, n));
    words
}

/// One call: the worker on a thread, the client on another, what was taken dropped on a third, as late as the worker can
/// bear. It is cancelled when that one has had so many items.
fn stream_once(stream: &Stream, generation: Generation, window: u64, items: u64, cancel: Option<u64>) {
    stream.line.publish(generation).unwrap();
    assert!(stream.line.claim(generation, life()));
    let consumer = StreamConsumer::new(START);
    let taking = Mutex::new(Taking { generation, consumer, held: Vec::new(), freed: 0 });
    let (drop, dropped) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| stream.serve(generation, window, items));
        let taking = &taking;
        let dropper = scope.spawn(move || {
            let mut held = VecDeque::new();
            let late = if window < PLACES { window } else { 1 };
            let mut count = 0;
            let forget = |n: u64| {
                assert_eq!(stream.place(n).load(Ordering::Relaxed), payload(generation, n), "item {n}");
                let mut taking = taking.lock().unwrap();
                taking.held[n as usize].1 = true;
                taking.tell(stream, false);
            };
            for n in dropped {
                held.push_back(n);
                if held.len() as u64 >= late {
                    held.pop_front().into_iter().for_each(forget);
                }
                count += 1;
                if cancel == Some(count) {
                    let cancelled = stream.line.cancel(generation).unwrap();
                    assert!(!matches!(cancelled, Cancel::NeverStarted));
                    stream.line.bell.ring(&stream.kernel);
                }
            }
            held.into_iter().for_each(forget);
        });
        stream.cursor.attach(key(generation), START);
        let (got, end) = stream.take(taking, &drop);
        std::mem::drop(drop);
        dropper.join().unwrap();
        match cancel {
            None => assert_eq!((got, end), (items, State::Done)),
            // The window has kept the worker from its end.
            Some(after) if after + window < items => assert!(got < items && end != State::Done, "{end:?}"),
            Some(_) => assert!(got <= items && end != State::Lost),
        }
        stream.over.store(u64::from(generation.0) + 1, Ordering::Release);
        stream.line.bell.ring(&stream.kernel);
        let mut word = stream.line.look().unwrap();
        while word.state() == State::Abandoned {
            stream.line.bell.park(&stream.kernel, None, || stream.line.glance() == word.raw());
            word = stream.line.look().unwrap();
        }
        assert_eq!(stream.line.release(word), Ok(generation.next()));
    });
}

#[test]
fn items_go_through_whole_and_in_order() {
    let stream = Stream::new();
    for (generation, window) in [(0, u64::MAX), (1, 1), (2, 4)] {
        stream_once(&stream, Generation(generation), window, ITEMS, None);
    }
}

/// Short streams, one after the other through the same memory; some are cancelled on their way.
#[test]
fn cancelled_streams_leave_nothing_to_the_next() {
    let stream = Stream::new();
    for call in 0..CALLS {
        let cancel = (call % 3 != 0).then_some(u64::from(call % 6 + 1));
        stream_once(&stream, Generation(call), 3, 9, cancel);
    }
}
