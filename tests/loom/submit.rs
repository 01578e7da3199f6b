//! Models 4: the submit ring. A queued call is in somebody's view at every moment, is taken once, and a correct
//! system is never told that its ring is corrupt.

use super::harness::*;
use loom::thread;
use std::sync::Arc;
use stokehold::internals::ring::{Generation, Peek, Producer, State, Taken};

fn nth(n: u32) -> Generation {
    Generation(G.0 + n)
}

fn taken(taken: Taken) -> Option<usize> {
    match taken {
        Taken::Call(entry) => Some(entry.call),
        Taken::Nothing => None,
        Taken::Damaged => panic!("a correct ring was called damaged"),
    }
}

/// Capacity 4, two calls, and a ring that is full: call 0 waits at the head, call 1 was cancelled twice. Call 1
/// is submitted once more while two workers take. When a worker is told "nothing", call 0 is not queued any more.
#[test]
fn f2_a_full_ring_loses_no_call() {
    explore("full ring", || {
        let lane = Arc::new((Lane::new(2, 4), Board::new(0)));
        let mut producer = Producer::default();
        lane.0.queue(&lane.1).submit(&mut producer, 0, G).unwrap();
        lane.0.cancelled(&lane.1, &mut producer, 1, G);
        lane.0.cancelled(&lane.1, &mut producer, 1, nth(1));
        let workers: Vec<_> = [life(3), life(4)]
            .into_iter()
            .map(|me| {
                let lane = lane.clone();
                thread::spawn(move || {
                    let call = taken(lane.0.queue(&lane.1).take(me));
                    if call.is_none() {
                        let state = lane.0.lines[0].look().unwrap().state();
                        assert_ne!(state, State::Queued, "out of everybody's view");
                    }
                    call
                })
            })
            .collect();
        lane.0.queue(&lane.1).submit(&mut producer, 1, nth(2)).unwrap();
        let mut calls: Vec<_> = workers.into_iter().filter_map(|w| w.join().unwrap()).collect();
        // What they left is still there.
        while let Some(call) = taken(lane.0.queue(&lane.1).take(life(5))) {
            calls.push(call);
        }
        calls.sort_unstable();
        assert_eq!(calls, [0, 1], "each once");
    });
}

/// F2 itself: entries of cancelled calls fill the ring, and the oldest, live one is not overwritten.
#[test]
fn f2_dead_entries_do_not_overwrite_a_live_one() {
    explore("dead entries", || {
        let lane = Arc::new((Lane::new(2, 4), Board::new(0)));
        let mut producer = Producer::default();
        lane.0.queue(&lane.1).submit(&mut producer, 0, G).unwrap();
        lane.0.cancelled(&lane.1, &mut producer, 1, G);
        lane.0.cancelled(&lane.1, &mut producer, 1, nth(1));
        let worker = {
            let lane = lane.clone();
            thread::spawn(move || taken(lane.0.queue(&lane.1).take(life(3))))
        };
        lane.0.queue(&lane.1).submit(&mut producer, 1, nth(2)).unwrap();
        if lane.0.lines[1].withdraw(nth(2)) {
            lane.0.queue(&lane.1).submit(&mut producer, 1, nth(3)).unwrap();
        }
        let mut calls = vec![worker.join().unwrap().expect("call 0 was there all the time")];
        while let Some(call) = taken(lane.0.queue(&lane.1).take(life(4))) {
            calls.push(call);
        }
        calls.sort_unstable();
        assert_eq!(calls, [0, 1], "each once");
    });
}

/// An entry is seen only when it is there, and its call is published by then.
#[test]
fn submit_shows_the_entry_with_the_tail() {
    explore("tail", || {
        let lane = Arc::new((Lane::new(2, 4), Board::new(0)));
        let worker = {
            let lane = lane.clone();
            thread::spawn(move || taken(lane.0.queue(&lane.1).take(life(3))))
        };
        lane.0.queue(&lane.1).submit(&mut Producer::default(), 1, G).unwrap();
        let first = worker.join().unwrap();
        let rest = lane.0.queue(&lane.1).take(life(4));
        assert_eq!(first.is_some(), rest == Taken::Nothing, "taken by the worker, or still there");
    });
}

/// F10's neighbour: head and tail are two loads. A client that laps the worker between them, and another
/// worker that moves the head, must never look like a corrupt ring.
#[test]
fn f10_a_lapped_worker_does_not_call_the_ring_corrupt() {
    explore("lapped", || {
        let lane = Arc::new((Lane::new(1, 2), Board::new(0)));
        let slow = {
            let lane = lane.clone();
            thread::spawn(move || assert_ne!(lane.0.ring().peek(), Peek::Corrupt))
        };
        let mut producer = Producer::default();
        for n in 0..4 {
            lane.0.cancelled(&lane.1, &mut producer, 0, nth(n));
        }
        slow.join().unwrap();
    });
    explore("head moved by another", || {
        let lane = Arc::new((Lane::new(1, 2), Board::new(0)));
        let slow = {
            let lane = lane.clone();
            thread::spawn(move || assert_ne!(lane.0.ring().peek(), Peek::Corrupt))
        };
        let other = {
            let lane = lane.clone();
            thread::spawn(move || assert_ne!(lane.0.queue(&lane.1).take(life(3)), Taken::Damaged))
        };
        lane.0.queue(&lane.1).submit(&mut Producer::default(), 0, G).unwrap();
        slow.join().unwrap();
        other.join().unwrap();
    });
}

/// F10's other neighbour: a worker that stopped between its look at a dead entry and its step over it. The
/// head does not go back, and what the client sees next is no corrupt ring either.
#[test]
fn f10_a_slow_worker_does_not_move_the_head_back() {
    explore("head moved back", || {
        let lane = Arc::new((Lane::new(1, 2), Board::new(0)));
        let mut producer = Producer::default();
        lane.0.cancelled(&lane.1, &mut producer, 0, G);
        let slow = {
            let lane = lane.clone();
            thread::spawn(move || match lane.0.ring().peek() {
                Peek::Entry(position, _) => drop(lane.0.ring().advance(position)),
                Peek::Empty => {}
                Peek::Corrupt => panic!("a correct ring was called corrupt"),
            })
        };
        for n in 1..4 {
            lane.0.cancelled(&lane.1, &mut producer, 0, nth(n));
        }
        slow.join().unwrap();
        lane.0.cancelled(&lane.1, &mut producer, 0, nth(4));
    });
}

/// F10: a worker that stopped between its look at the head and its swap, for 2^32 positions.
#[test]
fn f10_a_head_that_went_a_whole_period_round_is_another_head() {
    explore("f10", || {
        let lane = Lane::new(1, 4);
        let ring = lane.ring();
        let seen = 3;
        let period = seen + (1 << 32);
        lane.head.store(period, stokehold::internals::primitive::Ordering::Relaxed);
        assert!(!ring.advance(seen), "64 bits are compared");
        assert!(ring.advance(period));
    });
}

/// A worker on its hot line, one on the ring and a canceller want the same call: one gets it.
#[test]
fn take_line_and_take_and_cancel_share_a_call_once() {
    explore("hot line", || {
        let lane = Arc::new((Lane::new(1, 2), Board::new(0)));
        let hot = {
            let lane = lane.clone();
            thread::spawn(move || matches!(lane.0.queue(&lane.1).take_line(life(3), 0), Taken::Call(_)))
        };
        let other = {
            let lane = lane.clone();
            thread::spawn(move || matches!(lane.0.queue(&lane.1).take(life(4)), Taken::Call(_)))
        };
        let mut producer = Producer::default();
        lane.0.queue(&lane.1).submit(&mut producer, 0, G).unwrap();
        let cancelled = lane.0.lines[0].withdraw(G);
        let winners = [cancelled, hot.join().unwrap(), other.join().unwrap()];
        assert_eq!(winners.iter().filter(|won| **won).count(), 1, "{winners:?}");
        if !cancelled {
            assert_eq!(lane.0.lines[0].look().unwrap().state(), State::Running);
        }
    });
}
