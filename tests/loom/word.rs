//! Models 1: the call word alone, between a client, a canceller, a worker that may crash after any step, and the
//! arbiter. One outcome, one execution at most, and no memory reused under somebody who still has it.

use super::harness::*;
use loom::thread;
use std::sync::{Arc, Mutex};
use stokehold::internals::ring::{CallLine, Cancel, Generation, Life, Reason, Repaired, State};

#[derive(Debug, PartialEq)]
enum Outcome {
    Done(u64),
    Cancelled,
    Lost(Reason),
}

#[derive(Debug)]
struct Call {
    line: CallLine,
    request: Block,
    result: Block,
    kernel: Kernel,
    outcomes: Mutex<Vec<Outcome>>,
}

impl Call {
    fn queued() -> Arc<Call> {
        let call = Call {
            line: CallLine::new(G),
            request: Block::new(41),
            result: Block::new(0),
            kernel: Kernel::new(),
            outcomes: Mutex::new(Vec::new()),
        };
        call.line.publish(G).unwrap();
        Arc::new(call)
    }

    fn deliver(&self, outcome: Outcome) {
        let mut outcomes = self.outcomes.lock().unwrap();
        outcomes.push(outcome);
        assert_eq!(outcomes.len(), 1, "more than one outcome: {outcomes:?}");
    }

    /// The worker; `None` when it died.
    fn serve(&self, life: Life, steps: &Steps) -> Option<()> {
        steps.next()?;
        if sabotaged("readfirst") {
            self.request.read();
        }
        if !self.line.claim(G, life) {
            return Some(());
        }
        steps.next()?;
        let request = self.request.read();
        self.result.write(request + 1);
        steps.next()?;
        self.line.complete(G, life, 1).unwrap();
        steps.next()?;
        self.line.bell.ring(&self.kernel);
        Some(())
    }

    /// The client: waits, delivers what is its to deliver, releases, and writes the next request.
    fn wait(&self) {
        loop {
            let word = self.line.look().unwrap();
            match word.state() {
                State::Done => {
                    self.deliver(Outcome::Done(self.result.read()));
                    self.line.release(word).unwrap();
                }
                State::Lost => {
                    self.deliver(Outcome::Lost(word.reason().unwrap()));
                    self.line.release(word).unwrap();
                }
                State::Acked => {
                    self.line.release(word).unwrap();
                }
                State::Idle => {
                    assert_eq!(word.generation(), G.next());
                    break;
                }
                State::Abandoned if sabotaged("nofence") => self.line.reset(G.next()),
                State::Queued | State::Running | State::Abandoned => {
                    self.line.bell.park(&self.kernel, None, || self.line.look() == Ok(word));
                }
            }
        }
        self.request.write(42);
    }

    fn cancel(&self) {
        match self.line.cancel(G).unwrap() {
            Cancel::NeverStarted | Cancel::Abandoned(_) => self.deliver(Outcome::Cancelled),
            Cancel::TooLate(_) => return,
        }
        self.line.bell.ring(&self.kernel);
    }

    /// The arbiter, once the life is gone: repairs, and refuses what nobody will take.
    fn bury(&self, life: Life) {
        if self.line.repair(life, |_| true).unwrap() != Repaired::Untouched {
            self.line.bell.ring_always(&self.kernel);
        }
        if self.line.refuse(G, Reason::NoWorkers) {
            self.line.bell.ring(&self.kernel);
        }
    }
}

/// Client, canceller, worker and arbiter; the worker dies after each of its steps in turn, or not at all.
#[test]
fn word_has_one_outcome_whoever_cancels_or_dies() {
    for steps in 0..=4 {
        explore(&format!("word, {steps} steps"), move || {
            let call = Call::queued();
            let worker = {
                let call = call.clone();
                thread::spawn(move || call.serve(life(3), &Steps::new(steps)))
            };
            let canceller = {
                let call = call.clone();
                thread::spawn(move || call.cancel())
            };
            let arbiter = {
                let call = call.clone();
                thread::spawn(move || {
                    worker.join().unwrap(); // its pidfd fires
                    call.bury(life(3));
                })
            };
            call.wait();
            canceller.join().unwrap();
            arbiter.join().unwrap();
            assert_eq!(call.outcomes.lock().unwrap().len(), 1);
        });
    }
}

/// A dead client's line reaches IDLE, and its memory is given away, only after the worker let go.
#[test]
fn word_of_a_dead_client_is_reclaimed_after_its_worker_let_go() {
    for steps in 0..=4 {
        explore(&format!("reclaim, {steps} steps"), move || {
            let call = Call::queued();
            let worker = {
                let call = call.clone();
                thread::spawn(move || call.serve(life(3), &Steps::new(steps)))
            };
            let idle = call.line.reclaim().unwrap();
            if idle {
                call.request.write(42);
            } else {
                worker.join().unwrap();
                call.bury(life(3));
                while !call.line.reclaim().unwrap() {}
                call.request.write(42);
            }
        });
    }
}

/// What the client wrote before it published is what the claimer reads.
#[test]
fn word_hands_the_request_over() {
    explore("request handed over", || {
        let call = Arc::new((CallLine::new(G), Block::new(0)));
        let worker = {
            let call = call.clone();
            thread::spawn(move || {
                if call.0.claim(G, life(3)) {
                    assert_eq!(call.1.read(), 41);
                }
            })
        };
        call.1.write(41);
        call.0.publish(G).unwrap();
        worker.join().unwrap();
    });
}

/// F8, and why a cancelled call's generation moves: of two cancellers with one handle, the slow one must
/// not hit the next submission of the line.
#[test]
fn f8_a_stale_handle_hits_no_later_submission() {
    explore("f8", || {
        let line = Arc::new(CallLine::new(G));
        line.publish(G).unwrap();
        let cancellers: Vec<_> = (0..2)
            .map(|_| {
                let line = line.clone();
                thread::spawn(move || matches!(line.cancel(G), Ok(Cancel::NeverStarted)))
            })
            .collect();
        // The client sees its first call cancelled, and uses the line again.
        let word = line.look().unwrap();
        let again = word.state() == State::Idle;
        if again {
            line.publish(word.generation()).unwrap();
        }
        let hits = cancellers.into_iter().map(|c| c.join().unwrap()).filter(|hit| *hit).count();
        assert_eq!(hits, 1, "one handle, one cancelled call");
        if again {
            assert_eq!(line.look().unwrap().state(), State::Queued, "nobody cancelled the second call");
        }
    });
}

/// A client thread whose handle names an older generation changes nothing, however the counter wraps (F8 again,
/// at the edge of the 32 bits).
#[test]
fn f8_generations_differ_across_the_wrap() {
    explore("f8 wrap", || {
        let line = CallLine::new(Generation(u32::MAX));
        line.publish(Generation(u32::MAX)).unwrap();
        assert!(line.withdraw(Generation(u32::MAX)));
        line.publish(Generation(0)).unwrap();
        assert!(matches!(line.cancel(Generation(u32::MAX)), Ok(Cancel::TooLate(_))));
    });
}
