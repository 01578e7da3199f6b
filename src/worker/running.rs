//! A call that this worker has begun, wherever in the worker it is: on its app thread, or deferred.

use super::Lease;
use super::lanes::Lane;
use super::runtime::Worker;
use crate::error::{Code, Error, Kind, Result};
use crate::primitive::{AtomicBool, Ordering};
use crate::ring::{Entry, State};
use crate::shm::{BeginRecord, Deadline};
use crate::sys::clock;
use std::sync::Arc;

/// What is known of it while it runs.
#[derive(Debug)]
pub(super) struct Running {
    pub lane: Arc<Lane>,
    pub entry: Entry,
    /// Its begin record: a thread's, or a deferred call's.
    pub begin: usize,
    /// As its caller sent it.
    pub deadline: Deadline,
    /// It was refused memory for its result.
    pub refused: AtomicBool,
}

impl Running {
    pub fn record<'w>(&self, worker: &'w Worker) -> &'w BeginRecord {
        worker.results.begin_record(self.begin)
    }

    /// Memory for its result.
    pub fn lease(&self, worker: &Arc<Worker>, len: usize) -> Result<Lease> {
        Lease::of(worker, len, Some(&self.lane.share)).inspect_err(|error| {
            if error.code() == Code::Overloaded {
                self.refused.store(true, Ordering::Relaxed);
            }
        })
    }

    /// When its caller stops waiting.
    pub fn deadline_ns(&self, worker: &Worker) -> Option<u64> {
        let alive = self.lane.control.lines()[self.entry.call].alive_ns();
        match alive {
            0 => self.deadline.0,
            alive => self.put_off(worker, alive.min(clock::monotonic_ns())),
        }
    }

    /// The app is at work on it: a limit of the pool's counts from now.
    pub fn keep_alive(&self, worker: &Worker) {
        let now = clock::monotonic_ns();
        let Some(deadline) = self.put_off(worker, now) else { return };
        // First what keeps this worker: its control thread reads that, and nothing of what others can write.
        self.record(worker).put_off(deadline);
        self.lane.control.lines()[self.entry.call].keep_alive(now);
    }

    /// Whether nobody waits for it any more. One load: the word, which is this worker's until it lets go.
    pub fn is_abandoned(&self) -> bool {
        let word = self.lane.control.lines()[self.entry.call].look();
        word.is_ok_and(|word| word.state() == State::Abandoned)
    }

    pub fn check_deadline(&self, worker: &Worker) -> Result<()> {
        match self.deadline_ns(worker) {
            Some(deadline) if clock::monotonic_ns() >= deadline => {
                Err(Error::new(Kind::Deadline { started: true }))
            }
            _ => Ok(()),
        }
    }

    fn put_off(&self, worker: &Worker, alive_ns: u64) -> Option<u64> {
        let limit = self.lane.requests.limit(self.entry.call);
        self.deadline.put_off(limit, alive_ns, worker.timeout_ns).0
    }
}
