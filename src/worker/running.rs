//! A call that this worker has begun, wherever in the worker it is: on its app thread, or deferred.

use super::Lease;
use super::lanes::Lane;
use super::runtime::Worker;
use super::share::Charged;
use crate::error::{CancelledBy, Code, Error, Kind, Limit, Result};
use crate::limits::LONGEST_SLICE_NS;
use crate::primitive::{AtomicBool, Ordering};
use crate::ring::{CallLine, Cursor, Entry, State};
use crate::shm::{BeginRecord, Deadline, LaneState, ResultKey};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use std::sync::Arc;
use std::time::Duration;

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

    /// Its line.
    #[inline]
    pub fn line(&self) -> &CallLine {
        &self.lane.control.lines()[self.entry.call]
    }

    /// How far its caller has read its stream.
    #[inline]
    pub fn cursor(&self) -> &Cursor {
        self.lane.requests.cursor(self.entry.call)
    }

    /// Which call it is.
    pub fn key(&self) -> ResultKey {
        ResultKey { lane: self.lane.serial, call: self.entry.call, generation: self.entry.generation }
    }

    /// A block, for its client's share.
    pub fn allocate(&self, worker: &Worker, len: usize) -> Result<Charged> {
        worker.allocate(len, Some(&self.lane.share)).inspect_err(|error| self.note(error))
    }

    /// Remembers that memory was refused: then `Overloaded` is the outcome, and not the app's own error.
    pub fn note(&self, error: &Error) {
        if error.code() == Code::Overloaded {
            self.refused.store(true, Ordering::Relaxed);
        }
    }

    /// Memory for its result.
    pub fn lease(&self, worker: &Arc<Worker>, len: usize) -> Result<Lease> {
        Lease::of(worker, len, Some(&self.lane.share)).inspect_err(|error| self.note(error))
    }

    /// When its caller stops waiting.
    pub fn deadline_ns(&self, worker: &Worker) -> Option<u64> {
        self.deadline.as_of(self.line().alive_ns(), || self.limit(), worker.bounds.timeout_ns).0
    }

    /// The app is at work on it: a limit of the pool's counts from now.
    pub fn keep_alive(&self, worker: &Worker) {
        let now = clock::monotonic_ns();
        let deadline = self.deadline.put_off(self.limit(), now, worker.bounds.timeout_ns);
        let Deadline(Some(deadline)) = deadline else { return };
        // First what keeps this worker: its control thread reads that, and nothing of what others can write.
        self.record(worker).put_off(deadline);
        self.line().keep_alive(now);
    }

    /// Whether nobody waits for it any more. One load: the word, which is this worker's until it lets go.
    pub fn is_cancelled(&self) -> bool {
        self.line().look().is_ok_and(|word| word.state() == State::Abandoned)
    }

    pub fn check_cancelled(&self, worker: &Worker) -> Result<()> {
        if !self.is_cancelled() {
            return Ok(());
        }
        let is_open = worker.registry.lane(self.lane.index) == LaneState::Open(self.lane.serial);
        let by = if is_open { CancelledBy::Caller } else { CancelledBy::Disconnected };
        Err(Error::new(Kind::Cancelled { by, started: true }))
    }

    /// An error unless somebody waits for it.
    #[inline]
    pub fn check_wanted(&self, worker: &Worker) -> Result<()> {
        if self.line().look().is_ok_and(|word| word.state() == State::Running) {
            return Ok(());
        }
        self.check_cancelled(worker)?;
        Err(Error::new(Kind::Protocol("the call's word is damaged".into())))
    }

    /// Its caller's memory makes no sense: the error of this call.
    #[cold]
    pub fn damaged(&self, worker: &Worker, why: &str) -> Error {
        worker.suspect(&self.lane, why);
        Error::new(Kind::Protocol("the caller's memory is damaged".into()))
    }

    /// Wakes its caller, wherever that sleeps.
    #[inline]
    pub fn ring_bell(&self, worker: &Worker) {
        if self.lane.control.armed().ring(&self.line().bell, &Kernel) {
            worker.alert(&self.lane);
        }
    }

    /// Sleeps on the call's bell, which everything rings that gives a call up.
    pub fn wait_cancelled(&self, timeout: Duration) -> bool {
        let until = clock::after(timeout);
        loop {
            let now = clock::monotonic_ns();
            if self.is_cancelled() || now >= until {
                return self.is_cancelled();
            }
            // Who gave it up may have died before it rang.
            let slice = Duration::from_nanos(LONGEST_SLICE_NS.min(until - now));
            self.line().bell.park(&Kernel, Some(slice), || !self.is_cancelled());
        }
    }

    pub fn check_deadline(&self, worker: &Worker) -> Result<()> {
        match self.deadline_ns(worker) {
            Some(deadline) if clock::monotonic_ns() >= deadline => {
                Err(Error::new(Kind::Deadline { started: true, limit: Limit::Call }))
            }
            _ => Ok(()),
        }
    }

    /// What its caller itself set.
    fn limit(&self) -> Deadline {
        self.lane.requests.limit(self.entry.call)
    }
}
