//! A client that sleeps at its event descriptor: no result is published beside its sleep.

use super::harness::*;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;
use stokehold::internals::ring::{Armed, CallLine, State};

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
