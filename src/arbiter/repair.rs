//! Repair: walking the words after a death, when the pool closes, and when hints may have been lost.

use super::core::Arbiter;
use super::workers::ring_life;
use crate::error::Cause;
use crate::pool::{Life, Refusal};
use crate::primitive::{Ordering, fence};
use crate::ring::{Reason, Repaired, State, sabotage};
use crate::shm::{Death, LaneState, Owner, ResultKey};
use crate::sys::futex::Kernel;

impl Arbiter<'_> {
    /// After a life's end: moves every word that names it, rings for each, then rings everybody. A result that was
    /// published before the death stays, and so does the region that it is in.
    pub(super) fn repair(&mut self, life: Life, cause: Cause) {
        let worker = self.workers.get(&life);
        let pid = worker.map_or(0, |worker| worker.pid.as_raw() as u32);
        let death = Death { life: ring_life(life), pid, cause };
        self.registry.record_death(death);
        crash_point!("arbiter.repair.caused");
        let results = worker.and_then(|w| w.results.clone());
        if let Some(worker) = worker {
            let first = worker.place * self.settings.threads;
            for parker in first..first + self.settings.threads {
                self.board.idle().clear(parker);
                self.board.stop_spinning(parker);
            }
        }
        let mut damaged = Vec::new();
        let mut totals = self.history.totals;
        let mut kept = false;
        let lanes = self.lanes.iter().flatten().filter(|_| !sabotage::on("skiprepair"));
        for lane in lanes {
            let mut touched = false;
            for (call, line) in lane.control.lines().iter().enumerate() {
                // Which of its calls had begun, the dead life's own records say.
                let begun = |generation| {
                    let key = ResultKey { lane: lane.serial, call, generation };
                    // Without records (it died before it had any) only "may have begun" is certain.
                    results.as_ref().is_none_or(|r| r.has_begun(key))
                };
                match line.repair(ring_life(life), begun) {
                    Ok(Repaired::Untouched) => {}
                    Ok(repaired) => {
                        crash_point!("arbiter.repair.moved");
                        kept |= repaired == Repaired::Kept;
                        if let Repaired::Lost(reason) = repaired {
                            totals.ended(reason);
                        }
                        touched = true;
                        line.bell.ring_always(&Kernel);
                    }
                    Err(illegal) => damaged.push((lane.index, lane.serial, illegal.to_string())),
                }
            }
            if touched {
                self.alert(lane.index, lane.serial);
            }
        }
        self.history.totals = totals;
        for (index, serial, why) in damaged {
            self.suspect(index, serial, &why);
        }
        crash_point!("arbiter.repair.done");
        self.remember_death(life, death);
        if kept {
            self.mourned.push(life);
        } else {
            self.regions.drop_owner(&self.registry, Owner::Life(life.get()));
        }
        self.reclaim_closing();
        self.derive_hints();
        self.ring_everybody();
    }

    /// Wakes the callers of a life that is on its way out, so that they look at its mark.
    pub(super) fn ring_callers_of(&self, life: Life) {
        for lane in self.lanes.iter().flatten() {
            let mut touched = false;
            for line in lane.control.lines() {
                if line.look().is_ok_and(|w| w.life() == Some(ring_life(life)) && w.state() == State::Running)
                {
                    touched = true;
                    line.bell.ring_always(&Kernel);
                }
            }
            if touched {
                self.alert(lane.index, lane.serial);
            }
        }
    }

    /// Whether a client that lives has a result that it may not have read yet.
    pub(super) fn has_results(&self) -> bool {
        let lanes = self.lanes.iter().flatten().filter(|lane| lane.is_open);
        lanes.flat_map(|lane| lane.control.lines()).any(|l| l.look().is_ok_and(|w| w.state() == State::Done))
    }

    /// Drops the regions of dead lives that no word names any more.
    pub(super) fn bury(&mut self) {
        let lanes = &self.lanes;
        let named = |life: &Life| {
            lanes.iter().flatten().any(|lane| {
                let mut lines = lane.control.lines().iter().enumerate();
                lines.any(|(call, line)| {
                    line.look().is_ok_and(|w| {
                        // The words of a damaged lane stay as they are, for as long as its client keeps it.
                        w.life() == Some(ring_life(*life))
                            && w.state() == State::Done
                            && !lane.is_over(call, w.generation())
                    })
                })
            })
        };
        // A number that came round again belongs to the living.
        let keep = |life: &&Life| named(life) || self.workers.contains_key(*life);
        let (kept, gone): (Vec<Life>, Vec<Life>) = self.mourned.iter().partition(keep);
        self.mourned = kept;
        for life in gone {
            self.regions.drop_owner(&self.registry, Owner::Life(life.get()));
        }
    }

    /// Sets the pending bit of every lane that has something queued.
    pub(super) fn derive_hints(&self) {
        for lane in self.lanes.iter().flatten() {
            let queued =
                lane.control.lines().iter().any(|l| l.look().is_ok_and(|w| w.state() == State::Queued));
            if queued {
                self.board.pending().set(lane.index);
            }
        }
    }

    /// Rings every worker and has it walk the words: a wake-up can be taken along by a process that dies or stops,
    /// and idle bits cannot be derived from words (docs/protocol.md, F3).
    pub(super) fn ring_everybody(&self) {
        self.registry.bump_sweep();
        self.board.forget_parkers();
        crash_point!("arbiter.ring");
        let pending = self.board.pending();
        for index in (0..pending.len()).filter(|index| pending.is_set(*index)) {
            // Workers leave a bit alone whose lane they may not use, and would look at it each time.
            if !matches!(self.registry.lane(index), LaneState::Open(_)) {
                pending.clear(index);
            }
        }
        for worker in self.workers.values() {
            let first = worker.place * self.settings.threads;
            for parker in first..first + self.settings.threads {
                if let Some(doorbell) = self.board.doorbell(parker) {
                    doorbell.ring_always(&Kernel);
                }
            }
        }
    }

    /// Ends every queued call: nobody will come. The state was changed before.
    pub(super) fn refuse_queued(&mut self, why: Refusal) {
        crash_point!("arbiter.refuse");
        fence(Ordering::SeqCst); // SYNC POINT: close
        let reason = match why {
            Refusal::Degraded => Reason::Degraded,
            Refusal::ShuttingDown => Reason::ShuttingDown,
        };
        let mut damaged = Vec::new();
        let mut totals = self.history.totals;
        for lane in self.lanes.iter().flatten() {
            let queue = lane.queue(&self.board);
            let refused = queue.refuse_all(reason, |call| {
                totals.ended(reason);
                lane.control.lines()[call].bell.ring_always(&Kernel);
            });
            self.alert(lane.index, lane.serial);
            if let Err(illegal) = refused {
                damaged.push((lane.index, lane.serial, illegal.to_string()));
            }
        }
        self.history.totals = totals;
        for (index, serial, why) in damaged {
            self.suspect(index, serial, &why);
        }
    }

    /// A lane's shared memory was found damaged: nobody takes calls from it any more, and its client finds that out
    /// and takes a fresh one.
    pub(super) fn suspect(&mut self, index: usize, serial: u64, why: &str) {
        if index >= self.lanes.len() || self.registry.lane(index) != LaneState::Open(serial) {
            return;
        }
        self.trouble(format!("lane {index} of client {serial} is suspect: {why}"));
        self.retire(index, serial);
    }

    /// Has nobody take calls from a lane any more.
    pub(super) fn retire(&mut self, index: usize, serial: u64) {
        if self.registry.lane(index) != LaneState::Open(serial) {
            return;
        }
        self.registry.set_lane(index, LaneState::Suspect(serial));
        self.board.pending().clear(index);
        if let Some(lane) = &self.lanes[index] {
            for line in lane.control.lines() {
                line.bell.ring_always(&Kernel);
            }
            self.alert(index, serial);
        }
    }
}
