//! Models 5 and 6: submitting against parking, and against the clearing of a pending bit. Every worker of these
//! models takes one call and never comes back, the worst case for a wake-up that goes astray: whoever sleeps
//! beside a queued call sleeps for ever, which loom reports as a deadlock.

use super::harness::*;
use loom::thread;
use std::sync::Arc;
use stokehold::internals::primitive::{AtomicU32, Ordering};
use stokehold::internals::ring::{Entry, Parker, Producer, State, Taken};

#[derive(Debug)]
struct Pool {
    lane: Lane,
    board: Board,
}

impl Pool {
    fn new(calls: usize, workers: usize) -> Arc<Pool> {
        let capacity = (2 * calls).next_power_of_two();
        Arc::new(Pool { lane: Lane::new(calls, capacity), board: Board::new(workers) })
    }

    fn submit(&self, producer: &mut Producer, call: usize, prefer: Option<usize>) {
        if sabotaged("wakefirst") {
            self.board.wake_one(prefer);
        }
        self.lane.queue(&self.board).submit(producer, call, G).unwrap();
        if !sabotaged("wakefirst") {
            self.board.wake_one(prefer);
        }
    }

    fn take(&self, me: usize) -> Option<Entry> {
        match self.lane.queue(&self.board).take(life(me as u16 + 1)) {
            Taken::Call(entry) => Some(entry),
            Taken::Nothing => None,
            Taken::Damaged => panic!("a correct ring was called damaged"),
        }
    }

    /// Looks for a call as long as the lane is said to have one.
    fn find(&self, me: usize) -> Option<Entry> {
        while self.board.pending().is_set(0) {
            match self.take(me) {
                Some(entry) => return Some(entry),
                None => self.quiesce(),
            }
        }
        None
    }

    fn quiesce(&self) {
        if self.lane.queue(&self.board).quiesce() && !sabotaged("nosetbackring") {
            self.board.wake_idle();
        }
    }

    /// A worker, until it has a call.
    fn work(&self, me: usize) -> Entry {
        let parker = self.board.parker(me);
        loop {
            if let Some(entry) = self.find(me) {
                return entry;
            }
            self.idle(me, &parker);
        }
    }

    /// Parks once.
    fn idle(&self, me: usize, parker: &Parker<'_>) {
        if let Some(heard) = parker.announce(|| self.board.pending().any()) {
            parker.sleep(heard, &self.board.kernels[me], None);
            parker.retract();
        }
    }

    fn spawn(self: &Arc<Self>, me: usize) -> thread::JoinHandle<Entry> {
        let pool = self.clone();
        thread::spawn(move || pool.work(me))
    }
}

#[test]
fn park_and_submit_never_miss_each_other() {
    explore("submit against park", || {
        let pool = Pool::new(1, 1);
        let worker = pool.spawn(0);
        pool.submit(&mut Producer::default(), 0, None);
        worker.join().unwrap();
    });
}

/// Model 6: the bit was left set by an earlier call, so the worker finds nothing and clears it, just now.
#[test]
fn pending_is_not_cleared_over_a_submission() {
    explore("submit against quiesce", || {
        let pool = Pool::new(1, 1);
        pool.board.pending().set(0);
        let worker = pool.spawn(0);
        pool.submit(&mut Producer::default(), 0, None);
        worker.join().unwrap();
    });
}

/// A hint that the arbiter's tick sets, without a fence, for a client that stopped between its publication and its
/// ring entry: who sees the bit sees the call that the arbiter saw.
#[test]
fn pending_of_a_tick_shows_the_call() {
    explore("hint of a tick", || {
        let pool = Pool::new(1, 1);
        let arbiter = {
            let pool = pool.clone();
            thread::spawn(move || {
                if pool.lane.lines[0].look().unwrap().state() == State::Queued {
                    pool.board.pending().set(0);
                }
            })
        };
        let worker = {
            let pool = pool.clone();
            thread::spawn(move || {
                if pool.board.pending().is_set(0) {
                    let taken = pool.lane.queue(&pool.board).walk(life(1), 0);
                    assert!(matches!(taken, Taken::Call(_)), "a hint of nothing");
                }
            })
        };
        pool.lane.queue(&pool.board).publish(0, G).unwrap(); // its last step
        arbiter.join().unwrap();
        worker.join().unwrap();
    });
}

/// The wake-up that the model checker of the design did not see, because its lanes had two calls: while one
/// worker has the pending bit away, another looks, sees none and goes to sleep; the first takes one call, and
/// nobody wakes the other for the second. So who sets a bit back rings every idle parker.
///
/// It begins where one worker has found nothing and is about to clear the bit, another has found nothing and is
/// about to park, and two calls came just now.
#[test]
fn f11_a_bit_that_was_away_hides_no_call() {
    explore("bit away", || {
        let pool = Pool::new(2, 2);
        let mut producer = Producer::default();
        pool.submit(&mut producer, 0, None);
        pool.submit(&mut producer, 1, None);
        let clears = {
            let pool = pool.clone();
            thread::spawn(move || {
                pool.quiesce();
                pool.take(0).expect("two calls, two workers");
            })
        };
        pool.idle(1, &pool.board.parker(1));
        pool.take(1).expect("two calls, two workers");
        clears.join().unwrap();
    });
}

/// Two went to sleep while the bit was away: ringing one of them is not enough.
#[test]
fn f11_a_bit_that_was_away_is_made_good_to_all() {
    explore("bit away, two sleepers", || {
        let pool = Pool::new(3, 3);
        let mut producer = Producer::default();
        for call in 0..3 {
            pool.submit(&mut producer, call, None);
        }
        pool.board.pending().clear(0); // `quiesce` of worker 0 ...
        let sleepers = [1, 2].map(|me| {
            let pool = pool.clone();
            thread::spawn(move || pool.idle(me, &pool.board.parker(me)))
        });
        pool.board.pending().set(0); // ... and its second half
        full_fence("nofence_setback");
        if sabotaged("setbackringsone") {
            pool.board.wake_one(None);
        } else {
            pool.board.wake_idle();
        }
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

/// The whole of it, without a head start.
#[test]
fn f11_whole_two_workers_and_two_calls() {
    explore("two workers, two calls, a bit left set", || {
        let pool = Pool::new(2, 2);
        pool.board.pending().set(0);
        let workers = [pool.spawn(0), pool.spawn(1)];
        let mut producer = Producer::default();
        pool.submit(&mut producer, 0, None);
        pool.submit(&mut producer, 1, None);
        let [a, b] = workers.map(|worker| worker.join().unwrap());
        assert_ne!(a.call, b.call);
    });
}

/// F3's other half: a woken worker that dies, or stops for ever, with the token it was given. The arbiter
/// rings everybody once it knows (a death) or sees the call still queued (a tick); then the others walk the words.
#[test]
fn f3_a_token_that_a_worker_took_along_is_made_good() {
    explore("token lost by a worker", || {
        let pool = Pool::new(1, 2);
        let sweep = Arc::new(AtomicU32::new(0));
        let dies = {
            let pool = pool.clone();
            thread::spawn(move || {
                // Asleep until somebody rings, or just before it: and then no step more.
                if let Some(heard) = pool.board.parker(0).announce(|| pool.board.pending().any()) {
                    pool.board.parker(0).sleep(heard, &pool.board.kernels[0], None);
                }
            })
        };
        let lives = {
            let (pool, sweep) = (pool.clone(), sweep.clone());
            thread::spawn(move || {
                let parker = pool.board.parker(1);
                let mut swept = 0;
                loop {
                    let now = sweep.load(Ordering::Acquire);
                    if now != swept {
                        // The arbiter rang: the words, whatever ring and hints say.
                        swept = now;
                        if let Taken::Call(entry) = pool.lane.queue(&pool.board).walk(life(2), 0) {
                            return entry;
                        }
                    }
                    if let Some(entry) = pool.find(1) {
                        return entry;
                    }
                    let work = || pool.board.pending().any() || sweep.load(Ordering::Acquire) != swept;
                    if let Some(heard) = parker.announce(work) {
                        parker.sleep(heard, &pool.board.kernels[1], None);
                        parker.retract();
                    }
                }
            })
        };
        pool.submit(&mut Producer::default(), 0, Some(0));
        if !sabotaged("norepair") {
            sweep.store(1, Ordering::Release);
            pool.board.ring_everybody();
        }
        dies.join().unwrap();
        lives.join().unwrap();
    });
}

/// F3 as it was found: a client takes an idle bit and dies before it rings. The arbiter's ring of everybody
/// makes that good; ringing one, as for a new call, does not.
#[test]
fn f3_a_token_that_a_client_took_along_is_made_good() {
    explore("token lost by a client", || {
        let pool = Pool::new(1, 1);
        let worker = pool.spawn(0);
        pool.lane.queue(&pool.board).submit(&mut Producer::default(), 0, G).unwrap();
        pool.board.idle().clear(0); // its last step
        if sabotaged("ringone") {
            pool.board.wake_one(None);
        } else {
            pool.board.ring_everybody();
        }
        worker.join().unwrap();
    });
}

/// A worker that watches its last line takes it past the ring, beside one that parks, and no wake-up is lost.
/// Who claims while its own idle bit is set is woken in another's place.
///
/// It begins where worker 1 is idle and watches line 0, worker 0 was woken for call 0, and the client goes on to
/// submit call 1 and would rather wake worker 1.
#[test]
fn hot_line_keeps_every_wake_up() {
    explore("hot line against park", || {
        let pool = Pool::new(2, 2);
        let heard = pool.board.parker(1).announce(|| false).unwrap();
        let mut producer = Producer::default();
        pool.lane.queue(&pool.board).submit(&mut producer, 0, G).unwrap();
        let spinner = {
            let pool = pool.clone();
            thread::spawn(move || {
                let (parker, queue) = (pool.board.parker(1), pool.lane.queue(&pool.board));
                if queue.lines[0].look().unwrap().state() != State::Queued && !parker.rang(heard) {
                    parker.sleep(heard, &pool.board.kernels[1], None);
                }
                parker.retract(); // before anything is claimed
                match queue.take_line(life(2), 0) {
                    Taken::Call(entry) => entry,
                    _ => pool.work(1),
                }
            })
        };
        let woken = pool.spawn(0);
        pool.submit(&mut producer, 1, Some(1));
        let (a, b) = (spinner.join().unwrap(), woken.join().unwrap());
        assert_ne!(a.call, b.call);
    });
}

/// A client that calls again at once looks whether the worker that watches the line took the call, and only
/// otherwise makes a ring entry of it. Whoever wins, the entry, the hint and the wake-ups stay right for the next.
#[test]
fn hot_line_is_taken_before_there_is_an_entry() {
    explore("hot line without an entry", || {
        let pool = Pool::new(2, 2);
        let watcher = {
            let pool = pool.clone();
            thread::spawn(move || match pool.lane.queue(&pool.board).take_line(life(2), 0) {
                Taken::Call(entry) => entry, // not announced, so there is no bit to take back
                _ => pool.work(1),
            })
        };
        let other = pool.spawn(0);
        let mut producer = Producer::default();
        let queue = pool.lane.queue(&pool.board);
        queue.publish(0, G).unwrap();
        if queue.lines[0].look().unwrap().state() == State::Queued && !sabotaged("assumetaken") {
            queue.enqueue(&mut producer, 0, G).unwrap();
            pool.board.wake_one(None);
        }
        pool.submit(&mut producer, 1, None);
        let (a, b) = (watcher.join().unwrap(), other.join().unwrap());
        assert_ne!(a.call, b.call);
    });
}
