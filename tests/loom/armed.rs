//! A client that sleeps at its event descriptor: no result is published, and no item sent, beside its sleep.

use super::harness::*;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;
use stokehold::internals::limits::STREAM_WORDS;
use stokehold::internals::primitive::AtomicU64;
use stokehold::internals::ring::{
    Armed, CallLine, Cursor, Popped, State, StreamConsumer, StreamProducer, StreamRing,
};

/// An eventfd: readable from a write to the next drain.
struct Event {
    readable: Mutex<bool>,
    sleepers: Condvar,
}

impl Event {
    fn write(&self) {
        *self.readable.lock().unwrap() = true;
        self.sleepers.notify_all();
    }

    fn drain(&self) {
        *self.readable.lock().unwrap() = false;
    }

    fn poll(&self) {
        let mut readable = self.readable.lock().unwrap();
        while !*readable {
            readable = self.sleepers.wait(readable).unwrap();
        }
    }
}

struct Side {
    lines: Vec<CallLine>,
    kernel: Kernel,
    armed: Armed,
    event: Event,
}

impl Side {
    fn running(calls: usize) -> Arc<Side> {
        let side = Side {
            lines: (0..calls).map(|_| CallLine::new(G)).collect(),
            kernel: Kernel::new(),
            armed: Armed::new(),
            event: Event { readable: Mutex::new(false), sleepers: Condvar::new() },
        };
        for line in &side.lines {
            line.publish(G).unwrap();
            assert!(line.claim(G, life(3)));
        }
        Arc::new(side)
    }

    /// A worker's last steps, as far as it gets.
    fn finish(&self, call: usize, steps: &Steps) -> Option<()> {
        steps.next()?;
        self.lines[call].complete(G, life(3), 1).unwrap();
        steps.next()?;
        if self.armed.ring(&self.lines[call].bell, &self.kernel) {
            steps.next()?;
            self.event.write();
        }
        Some(())
    }

    fn is_over(&self, call: usize) -> bool {
        matches!(self.lines[call].look().unwrap().state(), State::Done | State::Lost)
    }

    /// One look for an outcome, by whoever holds the list.
    fn take_one(&self, left: &mut Vec<usize>) -> bool {
        let find = |left: &Vec<usize>| left.iter().position(|&call| self.is_over(call));
        let at = find(left).or_else(|| {
            let found = Armed::arm(|| self.event.drain(), [&self.armed], || find(left));
            if found.is_some() && !sabotaged("foundquiet") {
                self.event.write();
            }
            found
        });
        at.map(|at| left.remove(at)).is_some()
    }

    /// A loop of the host's that takes the outcomes of these calls.
    fn take_all(&self, calls: std::ops::Range<usize>) {
        let mut left: Vec<usize> = calls.collect();
        while !left.is_empty() {
            let before = left.len();
            left.retain(|&call| !self.is_over(call));
            if left.len() < before {
                continue;
            }
            let nothing = || sabotaged("norecheck_arm") || !left.iter().any(|&call| self.is_over(call));
            if Armed::arm(|| self.event.drain(), [&self.armed], nothing) {
                self.event.poll();
            }
        }
    }
}

#[test]
fn armed_client_misses_no_result() {
    explore("a result against a client that arms", || {
        let side = Side::running(1);
        let worker = {
            let side = side.clone();
            thread::spawn(move || side.finish(0, &Steps::new(9)))
        };
        side.take_all(0..1);
        worker.join().unwrap();
    });
}

#[test]
fn armed_flag_is_taken_by_one_of_two() {
    explore("two results against a client that arms", || {
        let side = Side::running(2);
        let workers: Vec<_> = (0..2)
            .map(|call| {
                let side = side.clone();
                thread::spawn(move || side.finish(call, &Steps::new(9)))
            })
            .collect();
        side.take_all(0..2);
        for worker in workers {
            worker.join().unwrap();
        }
    });
}

/// The flag goes with a worker that dies before it writes, or before it publishes; the arbiter writes for every word
/// that names the dead life.
#[test]
fn armed_flag_that_a_dead_worker_took_is_made_up_for() {
    for count in 0..=3 {
        explore("a worker that dies with the flag", move || {
            let side = Side::running(1);
            let worker = {
                let side = side.clone();
                thread::spawn(move || {
                    side.finish(0, &Steps::new(count));
                    // The arbiter, after the pidfd.
                    side.lines[0].repair(life(3), |_| true).unwrap();
                    side.lines[0].bell.ring_always(&side.kernel);
                    if !sabotaged("noeventring") {
                        side.event.write();
                    }
                })
            };
            side.take_all(0..1);
            worker.join().unwrap();
        });
    }
}

/// A thread submits while another waits. The waiter cannot look at a call that is not in its list yet, so the one who
/// puts it there looks at it itself.
#[test]
fn armed_waiter_hears_of_a_call_that_is_over_when_it_is_listed() {
    explore("a call that is listed late", || {
        let side = Side::running(1);
        let list = Arc::new(Mutex::new(None));
        let worker = {
            let side = side.clone();
            thread::spawn(move || side.finish(0, &Steps::new(9)))
        };
        let submitter = {
            let (side, list) = (side.clone(), list.clone());
            thread::spawn(move || {
                let mut list = list.lock().unwrap();
                *list = Some(0);
                if side.is_over(0) && !sabotaged("listblind") {
                    side.event.write();
                }
            })
        };
        loop {
            let list = list.lock().unwrap();
            let is_over = || list.is_some_and(|call| side.is_over(call));
            if is_over() {
                break;
            }
            let sleep = Armed::arm(|| side.event.drain(), [&side.armed], || !is_over());
            drop(list);
            if sleep {
                side.event.poll();
            }
        }
        worker.join().unwrap();
        submitter.join().unwrap();
    });
}

/// One thread waits, and another looks once and takes what it finds. What that leaves behind, and what ends later, wakes
/// the one that waits.
#[test]
fn armed_waiter_is_woken_whoever_else_takes() {
    explore("another thread takes an outcome", || {
        let side = Side::running(2);
        let list = Arc::new(Mutex::new(vec![0, 1]));
        let worker = {
            let side = side.clone();
            thread::spawn(move || {
                for call in 0..2 {
                    side.finish(call, &Steps::new(9));
                }
            })
        };
        let passer_by = {
            let (side, list) = (side.clone(), list.clone());
            thread::spawn(move || {
                let mut list = list.lock().unwrap();
                side.take_one(&mut list);
                if list.is_empty() {
                    side.event.write(); // no more comes, and the other is to end
                }
            })
        };
        loop {
            let mut list = list.lock().unwrap();
            let took = side.take_one(&mut list);
            if list.is_empty() {
                break;
            }
            drop(list);
            if !took {
                side.event.poll();
            }
        }
        worker.join().unwrap();
        passer_by.join().unwrap();
    });
}

/// A call whose items are taken one by one, in such a loop.
struct Streaming {
    side: Arc<Side>,
    tail: AtomicU64,
    data: Vec<AtomicU64>,
    cursor: Cursor,
}

/// What the loop has of it.
struct Loop {
    consumer: StreamConsumer,
    items: u64,
    ended: bool,
}

impl Streaming {
    fn running() -> Arc<Streaming> {
        let words = (0..4).map(|_| AtomicU64::new(0)).collect();
        let stream =
            Streaming { side: Side::running(1), tail: AtomicU64::new(0), data: words, cursor: Cursor::new() };
        stream.cursor.attach(1, 0);
        Arc::new(stream)
    }

    fn ring(&self) -> StreamRing<'_> {
        StreamRing::new(&self.tail, &self.data).unwrap()
    }

    /// The worker: so many items, each rung for, then the end if it comes so far.
    fn serve(&self, items: u64, ends: bool) {
        let mut producer = StreamProducer::new(1, 0, u64::MAX);
        for n in 0..items {
            producer.push(self.ring(), &self.cursor, &[n << 16]).unwrap();
            if self.side.armed.ring(&self.side.lines[0].bell, &self.side.kernel) {
                self.side.event.write();
            }
        }
        if ends {
            self.side.finish(0, &Steps::new(9));
        }
    }

    fn pop(&self, at: &mut Loop) -> bool {
        let popped = match at.consumer.pop(self.ring(), &mut [0; STREAM_WORDS]) {
            Popped::Message(words) => words[0] >> 16,
            Popped::Empty => return false,
            Popped::Corrupt => panic!("a correct ring was called corrupt"),
        };
        assert_eq!(popped, at.items, "in order, and none twice");
        at.items += 1;
        true
    }

    /// One look, as at each call of the loop: an item, the word, once more an item, then the end.
    fn look(&self, at: &mut Loop) -> bool {
        if self.pop(at) {
            return true;
        }
        let is_over = self.side.is_over(0);
        if is_over && !(!sabotaged("norecheck_armed") && self.pop(at)) {
            at.ended = true;
        }
        is_over
    }

    /// The look behind the fence of one that is about to sleep.
    fn arm(&self, at: &mut Loop) -> bool {
        let look = || match sabotaged("armblind") {
            true => self.side.is_over(0) && self.look(at), // words alone
            false => self.look(at),
        };
        Armed::arm(|| self.side.event.drain(), [&self.side.armed], look)
    }
}

impl Loop {
    fn new() -> Loop {
        Loop { consumer: StreamConsumer::new(0), items: 0, ended: false }
    }
}

/// An item wakes the loop as an end does: the worker sends the last one here and goes on with its work.
#[test]
fn armed_client_misses_no_item() {
    explore("items against a client that arms", || {
        let stream = Streaming::running();
        let worker = {
            let stream = stream.clone();
            thread::spawn(move || stream.serve(2, false))
        };
        let mut at = Loop::new();
        while at.items < 2 {
            if !stream.look(&mut at) && !stream.arm(&mut at) {
                stream.side.event.poll();
            }
        }
        worker.join().unwrap();
    });
}

/// The end is seen after all items, whatever came when.
#[test]
fn armed_client_sees_the_end_behind_all_items() {
    explore("items and their end against a client that arms", || {
        let stream = Streaming::running();
        let worker = {
            let stream = stream.clone();
            thread::spawn(move || stream.serve(2, true))
        };
        let mut at = Loop::new();
        while !at.ended {
            if !stream.look(&mut at) && !stream.arm(&mut at) {
                stream.side.event.poll();
            }
        }
        assert_eq!(at.items, 2);
        worker.join().unwrap();
    });
}

/// As with a call that is over when it is listed: its items so far nobody rings for again.
#[test]
fn armed_waiter_hears_of_items_that_came_before_the_listing() {
    explore("a stream that is listed late", || {
        let stream = Streaming::running();
        let list = Arc::new(Mutex::new(None));
        let worker = {
            let stream = stream.clone();
            thread::spawn(move || stream.serve(1, false))
        };
        let submitter = {
            let (stream, list) = (stream.clone(), list.clone());
            thread::spawn(move || {
                let mut list = list.lock().unwrap();
                let listed = Loop::new();
                if listed.consumer.has_news(stream.ring()) && !sabotaged("listblind") {
                    stream.side.event.write();
                }
                *list = Some(listed);
            })
        };
        loop {
            let mut list = list.lock().unwrap();
            let took = match &mut *list {
                Some(at) => stream.look(at) || stream.arm(at),
                None => Armed::arm(|| stream.side.event.drain(), [&stream.side.armed], || false),
            };
            if list.as_ref().is_some_and(|at| at.items == 1) {
                break;
            }
            drop(list);
            if !took {
                stream.side.event.poll();
            }
        }
        worker.join().unwrap();
        submitter.join().unwrap();
    });
}
