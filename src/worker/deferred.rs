//! A call that is answered later: by whom the app likes, while the thread that took it takes the next one.

use super::job::{Body, ClientMemory};
use super::reply::Form;
use super::running::Running;
use super::runtime::Worker;
use super::{Args, Lease, Reply, panics};
use crate::error::{Bound, Error, Kind, Result};
use crate::limits::{MAX_DEFERRED, MAX_WORKER_THREADS};
use crate::primitive::{Ordering, fence};
use crate::shm::Begun;
use crate::sys::clock;
use std::sync::Arc;
use std::time::Duration;

/// A call whose answer comes later, from any thread. It comes from [`Ctx::defer`](super::Ctx::defer).
///
/// Exactly one answer: [`reply`](Deferred::reply), [`fail`](Deferred::fail) and [`answer`](Deferred::answer) consume it. One
/// that is dropped is answered with an `App` error of class `Dropped`, or `Panic` if it was dropped by one.
///
/// Until then the call runs, as far as its caller and the pool are concerned: what the caller lent stays lent, its deadline
/// counts, a worker that is told to leave waits for it within the grace that was configured, and if the worker
/// dies the caller has `WorkerDied`. A call that nobody waits for any more ([`is_cancelled`](Deferred::is_cancelled)) is to
/// be let go of soon: answer or drop it. A worker that still has it 100 ms after its deadline, or
/// [`cancel_grace_ms`](crate::Builder::cancel_grace_ms) after it was cancelled, is replaced, as with any other call.
pub struct Deferred {
    call: Option<Box<Call>>,
}

struct Call {
    running: Running,
    id: u64,
    body: Body,
    memory: ClientMemory<Arc<Worker>>,
    slot: Slot,
}

/// A begin record, taken for a call that is, or will be, deferred.
#[derive(Debug)]
pub(super) struct Slot {
    worker: Arc<Worker>,
    begin: usize,
}

/// What a reply carries that says: later.
pub(super) struct Later {
    slot: Slot,
    then: Box<dyn FnOnce(Deferred) + Send>,
}

impl Deferred {
    /// The call's result. Publishes it, and wakes the caller if that sleeps; does not block.
    pub fn reply(self, reply: impl Into<Reply>) {
        self.answer(Ok(reply.into()));
    }

    /// The error that ends the call.
    pub fn fail(self, error: impl Into<Error>) {
        self.answer(Err(error.into()));
    }

    /// Result or error: what [`App::call`](super::App::call) would have returned.
    pub fn answer(mut self, answer: Result<Reply>) {
        if let Some(call) = self.call.take() {
            call.answer(answer);
        }
    }

    /// The arguments once more. What the caller lent is read in its memory, which stays lent until the answer.
    ///
    /// # Errors
    /// `BadRequest` if the caller has damaged its request since the app was called.
    pub fn args(&self) -> Result<Args<'_>> {
        let request = self.call().body.decode(&self.call().memory)?;
        Ok(Args::new(request.args, request.kwargs))
    }

    /// Memory for a result of `len` bytes, as [`Ctx::lease`](super::Ctx::lease).
    ///
    /// # Errors
    /// As there.
    pub fn lease(&self, len: usize) -> Result<Lease> {
        self.call().running.lease(self.worker(), len)
    }

    /// A lease filled with these bytes.
    pub fn lease_from(&self, bytes: &[u8]) -> Result<Lease> {
        let mut lease = self.lease(bytes.len())?;
        lease.copy_from_slice(bytes);
        Ok(lease)
    }

    /// Says that the app is at work on the call: see [`Ctx::keep_alive`](super::Ctx::keep_alive).
    pub fn keep_alive(&self) {
        self.call().running.keep_alive(self.worker());
    }

    /// Whether nobody waits for the answer any more: see [`Ctx::is_cancelled`](super::Ctx::is_cancelled).
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.call().running.is_cancelled()
    }

    /// An error once the call was cancelled: see [`Ctx::check_cancelled`](super::Ctx::check_cancelled).
    pub fn check_cancelled(&self) -> Result<()> {
        self.call().running.check_cancelled(self.worker())
    }

    /// Sleeps until the call is cancelled: see [`Ctx::wait_cancelled`](super::Ctx::wait_cancelled).
    pub fn wait_cancelled(&self, timeout: Duration) -> bool {
        self.call().running.wait_cancelled(timeout)
    }

    /// When the caller stops waiting: see [`Ctx::deadline_ns`](super::Ctx::deadline_ns).
    pub fn deadline_ns(&self) -> Option<u64> {
        self.call().running.deadline_ns(self.worker())
    }

    /// An error once the deadline has passed.
    pub fn check_deadline(&self) -> Result<()> {
        self.call().running.check_deadline(self.worker())
    }

    fn call(&self) -> &Call {
        self.call.as_ref().unwrap_or_else(|| unreachable!("only what consumes or drops it takes it out"))
    }

    fn worker(&self) -> &Arc<Worker> {
        &self.call().slot.worker
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let why = panics::current().map(|panic| Error::new(Kind::App(panic)));
            let dropped =
                || Error::app("Dropped", "the app deferred its answer and dropped the call without one");
            call.answer(Err(why.unwrap_or_else(dropped)));
        }
    }
}

impl Call {
    fn answer(self, answer: Result<Reply>) {
        let worker = &self.slot.worker;
        let answer = match answer {
            Ok(Reply(Form::Later(_))) => {
                Err(Error::app("Deferred", "the answer of a deferred call cannot be deferred again"))
            }
            answer => worker.settle(answer, &self.running),
        };
        let answer = answer.map_err(|error| {
            let request = self.body.decode(&self.memory);
            worker.raised_by(request.map_or("", |request| request.app), error)
        });
        worker.publish(&self.running.lane, self.running.entry, self.id, answer, None);
        // The slot goes now: its begin record ends after the call does.
    }
}

impl Later {
    /// Takes a place for a call that will be deferred.
    ///
    /// # Errors
    /// `Overloaded` if there is none.
    pub(super) fn new(worker: &Arc<Worker>, then: impl FnOnce(Deferred) + Send + 'static) -> Result<Later> {
        let place = worker.deferred.take().ok_or_else(|| {
            Error::new(Kind::Overloaded { bound: Bound::Deferred, limit: MAX_DEFERRED as u64 })
        })?;
        let slot = Slot { worker: worker.clone(), begin: MAX_WORKER_THREADS + place };
        Ok(Later { slot, then: Box::new(then) })
    }
}

impl Worker {
    /// The app has returned and will answer later: the thread's begin record becomes one of the call's own, and the
    /// app gets its handle.
    pub(super) fn defer(
        self: &Arc<Self>,
        later: Later,
        running: Running,
        id: u64,
        body: Body,
        memory: ClientMemory<Arc<Worker>>,
    ) {
        let Later { slot, then } = later;
        let thread = running.record(self);
        let (begun, entry) = (thread.read(), running.entry);
        let record = self.results.begin_record(slot.begin);
        record.begin(Begun {
            lane: running.lane.serial,
            call: entry.call,
            generation: entry.generation,
            since_ns: begun.map_or_else(clock::coarse_ns, |begun| begun.since_ns),
            deadline_ns: running.deadline_ns(self),
        });
        crash_point!("worker.defer.both");
        // From the one to the other, so that whoever dies in between has begun with it.
        thread.end();
        crash_point!("worker.defer.moved");
        if running.is_cancelled() {
            self.interrupts.pass();
        }
        let running = Running { begin: slot.begin, ..running };
        let call = Call { running, id, body, memory, slot };
        let deferred = Deferred { call: Some(Box::new(call)) };
        // Its handle is dropped by the panic, if it was not given away: that is the answer.
        if let Err(panic) = panics::catch(|| then(deferred)) {
            log::debug!("a function given to Ctx::defer: {}", panic.message);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        crash_point!("worker.defer.published");
        self.worker.results.begin_record(self.begin).end();
        self.worker.deferred.give_back(self.begin - MAX_WORKER_THREADS);
        fence(Ordering::SeqCst); // SYNC POINT: leave
        if self.worker.is_stopping() {
            self.worker.watch.look_now();
        }
    }
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.call {
            Some(call) => write!(f, "Deferred(call {})", call.id),
            None => f.write_str("Deferred"),
        }
    }
}

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Later")
    }
}
