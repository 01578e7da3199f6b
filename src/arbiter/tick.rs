//! The slow tick: the backstop for everything that a crash, a stop or a stray write may have lost.

use super::core::Arbiter;
use super::workers::{Incarnation, ring_life};
use crate::limits::LANE_CALLS;
use crate::pool::{CallId, Event, Life, Why};
use crate::ring::State;
use crate::shm::{Deadline, LaneState, OwnRecord, ResultKey};
use crate::sys::futex::Kernel;
use crate::sys::{clock, pidfd};
use std::os::fd::AsFd;

/// How often it comes, nanoseconds.
pub const TICK_NS: u64 = 500_000_000;
/// How long after its deadline a running call counts as one whose client cannot end it.
const OVERDUE_NS: u64 = 1_000_000_000;
/// For how long, and for up to twice as long, a worker may have taken a call that it has not begun. Nanoseconds.
const UNBEGUN_NS: u64 = 4_000_000_000;

/// The words of a lane's calls that the last tick found queued, taken and not begun, abandoned or ended; of the others 0,
/// which is no word.
/// Half of what an idle client costs the arbiter.
#[derive(Debug)]
pub struct Seen([u64; LANE_CALLS]);

impl Seen {
    /// Nothing yet.
    pub fn new() -> Seen {
        Seen([0; LANE_CALLS])
    }
}

/// What comes on some ticks only.
#[derive(Debug, Default)]
pub struct Seldom {
    next_at: u64,
}

impl Seldom {
    /// Whether it is time. Then the next time is on the first tick so much later, however far the ticks lie apart.
    pub(super) fn is_due(&mut self, now: u64, every_ns: u64) -> bool {
        let is_due = now >= self.next_at;
        if is_due {
            self.next_at = now.saturating_add(every_ns);
        }
        is_due
    }
}

impl Arbiter<'_> {
    /// Looks at every word once.
    pub(super) fn tick(&mut self) {
        crash_point!("arbiter.tick");
        let now = clock::monotonic_ns();
        let looks = self.looks.is_due(now, UNBEGUN_NS);
        let timeout = self.settings.timeout_ns();
        let mut stuck = false;
        let mut damaged = Vec::new();
        let mut overdue: Vec<Life> = Vec::new();
        let mut given_up = Vec::new();
        let mut unseen = Vec::new();
        for lane in self.lanes.iter_mut().flatten() {
            let state = self.registry.lane(lane.index);
            let is_open = state == LaneState::Open(lane.serial);
            let is_closing = state == LaneState::Closing(lane.serial);
            let (mut pending, mut news) = (false, false);
            for (call, line) in lane.control.lines().iter().enumerate() {
                let word = match line.look() {
                    Ok(word) => word,
                    Err(illegal) => {
                        damaged.push((lane.index, lane.serial, illegal.to_string()));
                        break;
                    }
                };
                let before = std::mem::take(&mut lane.seen.0[call]);
                let life = word.life().and_then(|l| Life::new(l.get()));
                match (word.state(), life) {
                    (State::Queued, _) => {
                        pending = true;
                        lane.seen.0[call] = word.raw();
                        stuck |= is_open && before == word.raw();
                    }
                    (State::Running | State::Abandoned, Some(life)) if !self.workers.contains_key(&life) => {
                        // Every word of a dead life was repaired before it was reaped: nobody's worker wrote this.
                        let why = format!("a call is with life {life}, which does not exist");
                        damaged.push((lane.index, lane.serial, why));
                    }
                    (State::Running, Some(life)) => {
                        let generation = word.generation();
                        let key = ResultKey { lane: lane.serial, call, generation };
                        let worker = self.workers.get(&life);
                        let results = worker.and_then(|w| w.results.as_ref());
                        let stopped = |w: &Incarnation| pidfd::is_stopped(w.pidfd.as_fd()).unwrap_or(false);
                        if results.is_some_and(|r| !r.has_begun(key)) && !worker.is_some_and(stopped) {
                            // It has only just taken it, and has no processor since. Or it knows nothing of it, which would
                            // be so for ever.
                            lane.seen.0[call] = if looks || before == word.raw() { word.raw() } else { 0 };
                            if looks && is_open && before == word.raw() {
                                let why = format!("a call is with life {life}, which does not run it");
                                damaged.push((lane.index, lane.serial, why));
                            }
                        }
                        // Whoever took the flag may have stopped before it wrote, and who sends an item sees it taken.
                        news |= line.stream() != 0 && !lane.control.armed().is_set();
                        // A client that lives ends its expired calls itself; one that is stopped cannot.
                        if let Some(requests) = &lane.requests
                            && let (OwnRecord::Queued(generation), deadline) = requests.own(call)
                            && generation == word.generation()
                            && let Deadline(Some(deadline)) =
                                deadline.as_of(line.alive_ns(), || requests.limit(call), timeout)
                            && now > deadline.saturating_add(OVERDUE_NS)
                        {
                            overdue.push(life);
                        }
                    }
                    (State::Abandoned, Some(life)) => {
                        lane.seen.0[call] = word.raw();
                        let generation = word.generation();
                        let key = ResultKey { lane: lane.serial, call, generation };
                        let results = self.workers.get(&life).and_then(|w| w.results.as_ref());
                        let has_begun = results.is_none_or(|r| r.has_begun(key));
                        // A stray write may name a worker that has nothing to do with the call: where nobody waits
                        // for it, that one must not pay.
                        if has_begun || is_open && before == word.raw() {
                            given_up
                                .push((life, CallId { lane: lane.serial, call, generation: generation.0 }));
                        } else if is_closing && before == word.raw() {
                            let _ = line.acknowledge(generation, ring_life(life));
                        }
                    }
                    (State::Done | State::Lost | State::Acked, _) => {
                        line.bell.ring(&Kernel);
                        // Whoever ended it may have stopped before it wrote to its client's descriptor. Once, since the
                        // client may hold the result for long.
                        lane.seen.0[call] = word.raw();
                        news |= before != word.raw();
                    }
                    _ => {}
                }
            }
            if news {
                unseen.push((lane.index, lane.serial));
            }
            if pending && is_open {
                self.board.pending().set(lane.index);
            }
        }
        for (index, serial) in unseen {
            self.alert(index, serial);
        }
        for (index, serial, why) in damaged {
            self.suspect(index, serial, &why);
        }
        self.review_given_up();
        for (life, call) in given_up {
            self.decide(Event::GivenUp { life, call });
        }
        for life in overdue {
            self.decide(Event::Cordon { life, why: Why::Deadline });
        }
        if stuck {
            self.ring_everybody();
        }
        self.watch_marks();
        self.bury();
        self.drop_silent(now);
        self.forget_silent_clients();
        self.reclaim_closing();
        self.tidy(now);
        self.flush_waiting();
        self.hear();
    }

    /// Tells the policy which of the calls that it knows to be given up are over; `false` if none is.
    pub(super) fn review_given_up(&mut self) -> bool {
        let is_kept = |life: Life, call: CallId| {
            let lane = self.lanes.iter().flatten().find(|lane| lane.serial == call.lane);
            let word = lane.and_then(|lane| lane.control.lines().get(call.call)).and_then(|l| l.look().ok());
            word.is_some_and(|word| {
                word.state() == State::Abandoned
                    && word.generation().0 == call.generation
                    && word.life() == Some(ring_life(life))
            })
        };
        let over: Vec<_> =
            self.policy.given_up_calls().filter(|(life, call)| !is_kept(*life, *call)).collect();
        let is_any = !over.is_empty();
        for (life, call) in over {
            self.decide(Event::LetGo { life, call });
        }
        is_any
    }

    /// Death marks, where the end of a thread cannot be watched.
    fn watch_marks(&mut self) {
        let marked: Vec<Life> = self
            .workers
            .iter()
            .filter(|(_, w)| w.results.as_ref().is_some_and(|r| r.mark().is_dead()))
            .map(|(life, _)| *life)
            .collect();
        for life in marked {
            self.worker_marked(life);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tick is set for so long after the last one has ended, and the kernel rounds up.
    #[test]
    fn looks_come_with_ticks_that_are_further_apart_than_they_should_be() {
        for late_ns in [0, 1, 1_000, 1_000_000, 3_000_000, TICK_NS / 2] {
            let (mut looks, mut last) = (Seldom::default(), None);
            for tick in 10..10_000 {
                let now = tick * (TICK_NS + late_ns);
                if looks.is_due(now, UNBEGUN_NS) {
                    let passed = now - last.unwrap_or(now - UNBEGUN_NS);
                    let most = UNBEGUN_NS + TICK_NS + late_ns;
                    assert!((UNBEGUN_NS..most).contains(&passed), "{passed} ns, with ticks {late_ns} late");
                    last = Some(now);
                }
            }
            assert!(last.is_some());
        }
    }
}
