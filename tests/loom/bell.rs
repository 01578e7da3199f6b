//! Models 7: a call's bell. Nobody sleeps on past the event that should end the sleep, although both ends of a
//! stream, and several threads, sleep on the same word.

use super::harness::*;
use loom::thread;
use std::sync::Arc;
use std::time::Duration;
use stokehold::internals::primitive::{AtomicU32, Ordering};
use stokehold::internals::ring::{Bell, CallLine, Cancel, Futex, State};

fn running() -> Arc<(CallLine, Kernel)> {
    let call = Arc::new((CallLine::new(G), Kernel::new()));
    call.0.publish(G).unwrap();
    assert!(call.0.claim(G, life(3)));
    call
}

fn sleep_until(call: &(CallLine, Kernel), over: impl Fn(State) -> bool) {
    let (line, kernel) = call;
    while !over(line.look().unwrap().state()) {
        line.bell.park(kernel, None, || !over(line.look().unwrap().state()));
    }
}

#[test]
fn bell_of_a_result_wakes_the_caller() {
    explore("done against wait", || {
        let call = running();
        let worker = {
            let call = call.clone();
            thread::spawn(move || {
                if sabotaged("ringfirst") {
                    call.0.bell.ring(&call.1);
                }
                call.0.complete(G, life(3), 1).unwrap();
                if !sabotaged("ringfirst") {
                    call.0.bell.ring(&call.1);
                }
            })
        };
        sleep_until(&call, |state| state == State::Done);
        worker.join().unwrap();
    });
}

/// F6, the unary part: whoever sleeps on the call wakes on a cancel too; here a waiting thread of the
/// client and a worker that waits for room in a stream.
#[test]
fn f6_a_cancel_wakes_everybody_who_sleeps_on_the_call() {
    explore("cancel against two sleepers", || {
        let call = running();
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let call = call.clone();
                thread::spawn(move || sleep_until(&call, |state| state != State::Running))
            })
            .collect();
        assert_eq!(call.0.cancel(G), Ok(Cancel::Abandoned(life(3))));
        if !sabotaged("quietcancel") {
            call.0.bell.ring(&call.1);
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

/// F13: a client gives a call up, takes the flag of those who sleep on it, and dies before it wakes them. The arbiter does,
/// although it sees no flag.
#[test]
fn f13_a_ringer_that_dies_before_the_wake_up_is_made_up_for() {
    struct Dying;
    impl Futex for Dying {
        fn wait(&self, _: &AtomicU32, _: u32, _: Option<Duration>) {}
        fn wake_all(&self, _: &AtomicU32) {}
    }
    explore("dead ringer", || {
        let call = running();
        let worker = {
            let call = call.clone();
            thread::spawn(move || sleep_until(&call, |state| state != State::Running))
        };
        assert_eq!(call.0.cancel(G), Ok(Cancel::Abandoned(life(3))));
        call.0.bell.ring(&Dying);
        assert_eq!(call.0.reclaim_and_ring(&call.1), Ok(false));
        worker.join().unwrap();
    });
}

/// Both ends of a stream of two items with room for one sleep on one bell, and each ends the other's sleep. A
/// sleeper that cleared the flag when it woke would take the other's along.
#[test]
fn bell_is_shared_by_both_ends_of_a_stream() {
    struct Stream {
        bell: Bell,
        kernel: Kernel,
        head: AtomicU32,
        tail: AtomicU32,
    }
    explore("two ends of a stream", || {
        let stream = Arc::new(Stream {
            bell: Bell::new(),
            kernel: Kernel::new(),
            head: AtomicU32::new(0),
            tail: AtomicU32::new(0),
        });
        let producer = {
            let s = stream.clone();
            thread::spawn(move || {
                for item in 0..2 {
                    while s.head.load(Ordering::Acquire) != item {
                        s.bell.park(&s.kernel, None, || s.head.load(Ordering::Acquire) != item);
                    }
                    s.tail.store(item + 1, Ordering::Release);
                    s.bell.ring(&s.kernel);
                }
            })
        };
        for item in 0..2 {
            while stream.tail.load(Ordering::Acquire) == item {
                stream.bell.park(&stream.kernel, None, || stream.tail.load(Ordering::Acquire) == item);
            }
            stream.head.store(item + 1, Ordering::Release);
            stream.bell.ring(&stream.kernel);
        }
        producer.join().unwrap();
    });
}
