//! Models 2: what the arbiter does to a dead worker's calls, against the client that waits for them and against
//! the next incarnation in the same place.

use super::harness::*;
use loom::thread;
use std::sync::{Arc, Mutex};
use stokehold::internals::primitive::{AtomicU64, Ordering};
use stokehold::internals::ring::{CallLine, Completed, Generation, Life, Reason, Repaired, State};

/// Two incarnations of one place: the low byte is the place, which `noinc` takes for the whole.
fn first() -> Life {
    life(0x101)
}

fn second() -> Life {
    life(0x201)
}

#[derive(Debug)]
struct Call {
    line: CallLine,
    result: Block,
    /// The first life's begin record: the generation it began with, plus one.
    began: AtomicU64,
    kernel: Kernel,
    /// How often the app ran.
    runs: Mutex<usize>,
}

impl Call {
    fn queued() -> Arc<Call> {
        let call = Call {
            line: CallLine::new(G),
            result: Block::new(0),
            began: AtomicU64::new(0),
            kernel: Kernel::new(),
            runs: Mutex::new(0),
        };
        call.line.publish(G).unwrap();
        Arc::new(call)
    }

    fn begin(&self, generation: Generation) {
        self.began.store(u64::from(generation.0) + 1, Ordering::Release);
    }

    fn serve(&self, generation: Generation, life: Life, steps: &Steps) -> Option<()> {
        steps.next()?;
        if !self.line.claim(generation, life) {
            return Some(());
        }
        steps.next()?;
        if !sabotaged("beginlate") {
            self.begin(generation);
        }
        steps.next()?;
        *self.runs.lock().unwrap() += 1;
        self.result.write(5);
        steps.next()?;
        if sabotaged("beginlate") {
            self.begin(generation);
        }
        steps.next()?;
        assert_eq!(self.line.complete(generation, life, 1), Ok(Completed::Done), "nobody cancels here");
        steps.next()?;
        self.line.bell.ring(&self.kernel);
        Some(())
    }

    fn bury(&self, life: Life) {
        let began = self.began.load(Ordering::Acquire);
        let repaired = self.line.repair(life, |g| began == u64::from(g.0) + 1).unwrap();
        let ring = match repaired {
            Repaired::Untouched => false,
            Repaired::Kept => !sabotaged("nodonering"),
            Repaired::Lost(_) | Repaired::Acked => true,
        };
        if ring {
            self.line.bell.ring_always(&self.kernel);
        }
    }

    /// Waits for DONE or LOST; `None` for a result.
    fn wait(&self) -> Option<Reason> {
        loop {
            let word = self.line.look().unwrap();
            match word.state() {
                State::Done => {
                    assert_eq!(self.result.read(), 5);
                    self.line.release(word).expect("a published result wins over a later death");
                    return None;
                }
                State::Lost => {
                    self.line.release(word).unwrap();
                    return word.reason();
                }
                _ => self.line.bell.park(&self.kernel, None, || self.line.look() == Ok(word)),
            }
        }
    }
}

/// F5 and the begin record: whatever the step after which a worker dies, its client is woken, a result
/// published before is taken, and a call that is submitted again had not run.
#[test]
fn f5_a_death_after_any_step_ends_the_wait_and_runs_nothing_twice() {
    for steps in 0..=6 {
        explore(&format!("death after {steps} steps"), move || {
            let call = Call::queued();
            let worker = {
                let call = call.clone();
                thread::spawn(move || call.serve(G, first(), &Steps::new(steps)))
            };
            let arbiter = {
                let call = call.clone();
                thread::spawn(move || {
                    worker.join().unwrap();
                    call.bury(first());
                    if call.line.refuse(G, Reason::NoWorkers) {
                        call.line.bell.ring(&call.kernel);
                    }
                })
            };
            if call.wait() == Some(Reason::NotBegun) {
                // Safe to submit again: the next life runs it.
                call.line.publish(G.next()).unwrap();
                call.serve(G.next(), second(), &Steps::new(usize::MAX)).unwrap();
            }
            arbiter.join().unwrap();
            assert!(*call.runs.lock().unwrap() <= 1, "executed twice");
        });
    }
}

/// The next incarnation starts, and takes the call, before its predecessor is repaired out of the words.
#[test]
fn repair_leaves_the_next_incarnation_alone() {
    explore("two incarnations", || {
        let call = Call::queued();
        let dead = {
            let call = call.clone();
            thread::spawn(move || call.serve(G, first(), &Steps::new(0)))
        };
        let arbiter = {
            let call = call.clone();
            thread::spawn(move || {
                dead.join().unwrap();
                let next = {
                    let call = call.clone();
                    thread::spawn(move || call.serve(G, second(), &Steps::new(usize::MAX)).unwrap())
                };
                call.bury(first());
                next.join().unwrap();
            })
        };
        assert_eq!(call.wait(), None, "the new incarnation's result");
        arbiter.join().unwrap();
    });
}

/// Only the pidfd says that a worker is dead: a repair that believes anything earlier takes a live one's call.
#[test]
fn repair_waits_for_the_pidfd() {
    explore("early repair", || {
        let call = Call::queued();
        let worker = {
            let call = call.clone();
            thread::spawn(move || call.serve(G, first(), &Steps::new(usize::MAX)).unwrap())
        };
        if !sabotaged("earlyrepair") {
            worker.join().unwrap();
        }
        call.bury(first());
        assert_eq!(call.wait(), None);
    });
}
