//! Calls that an app makes of apps, its own pool's: through one client of that pool, which the worker opens when the first
//! is made, and has for as long as it lives.

use super::Ctx;
use super::lanes::Lane;
use super::running::Running;
use super::runtime::Worker;
use crate::client::{Call, Client, Ongoing, Options, Outer};
use crate::conn::Message;
use crate::error::{Error, Kind, Result};
use crate::limits::MAX_NESTING;
use crate::ring::{Entry, State};
use crate::shm::Chain;
use crate::sys::socket;
use crate::wire::Kind as FrameKind;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

/// A worker's client, once there is one.
#[derive(Debug, Default)]
pub(super) struct Nested {
    client: OnceLock<Client>,
    /// Held by the one thread that opens it.
    opening: Mutex<()>,
}

impl Ctx {
    /// A call of an app of the same pool, this worker's own included, to be completed and sent like one of
    /// [`Client::call`](crate::Client::call). It runs on another app thread, of this worker or another; this one waits.
    ///
    /// It belongs to the call that this context is of: it ends with `Deadline` when that one's deadline passes, if it has
    /// none that is earlier, and with [`Cancelled`](crate::Kind::Cancelled) by
    /// [`Parent`](crate::CancelledBy::Parent) within 200 ms after that one was cancelled, or ended. Such calls may be
    /// nested 8 deep.
    ///
    /// An app thread that waits is one less for others. Where all of a pool's wait for calls that are still in the queue, none
    /// of these runs before some caller's deadline: have more threads than such calls, a limit
    /// ([`queue_ms`](Call::queue_ms)), or [`submit`](Call::submit) and answer later ([`Ctx::defer`]). What is certain is refused.
    ///
    /// The first one of a worker connects it to its pool, for which it asks the arbiter. All its threads share that client:
    /// 64 calls in flight.
    ///
    /// # Errors
    /// All are told when the call is sent: as with any client; `BadRequest` when it would be nested too deep, in an app's
    /// `init`, and from [`execute`](Call::execute) where the calls in which it is made hold all app threads of the pool, so that it
    /// could never run; `Overloaded` or `Os` when the worker cannot become a client.
    pub fn call<'c>(&'c self, app: &'c str, action: &'c str) -> Call<'c> {
        let outer = match self.running() {
            Some(running) => running.outer(self.worker()),
            None => Err(Error::bad_request("an app's init makes no calls: there is no pool yet")),
        };
        match outer.and_then(|outer| Ok((self.worker().client()?, outer))) {
            Ok((client, outer)) => client.call_within(outer, app, action),
            Err(error) => Call::refused(error.kind().clone(), app, action),
        }
    }
}

impl Worker {
    fn client(&self) -> Result<&Client> {
        if let Some(client) = self.nested.client.get() {
            return Ok(client);
        }
        let _alone = self.nested.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = self.nested.client.get() {
            return Ok(client);
        }
        let client = Client::connect(self.connect()?, Options { mode: self.mode, ..Options::default() })?;
        Ok(self.nested.client.get_or_init(|| client))
    }

    /// The control thread: what the worker holds as a client, and nobody uses. App threads would look to that only with
    /// their next call.
    pub(super) fn tidy_as_client(&self) {
        if let Some(client) = self.nested.client.get() {
            client.tidy();
        }
    }

    /// A socket on which the arbiter expects this worker as a client.
    fn connect(&self) -> Result<OwnedFd> {
        let (ours, theirs) = socket::pair()?;
        let question = Message::new(FrameKind::Connect).with_fd(theirs);
        self.fetcher.ask(question, FrameKind::Connect)?;
        crash_point!("worker.join.asked");
        Ok(ours)
    }
}

impl Running {
    /// This call, as one that others are made in.
    fn outer(&self, worker: &Worker) -> Result<Outer> {
        let chain = Chain::of(self.lane.requests.record(self.entry.call).flags()).inner();
        if chain.depth > MAX_NESTING as u32 {
            let why = format!("calls may be nested {MAX_NESTING} deep, and this one is that already");
            return Err(Error::new(Kind::BadRequest(why.into())));
        }
        let call = Arc::new(Caller { lane: Arc::downgrade(&self.lane), entry: self.entry });
        Ok(Outer { chain, deadline_ns: self.deadline_ns(worker), call })
    }
}

/// The call that an app is in. It keeps nothing of it: a call that outlives it must not.
#[derive(Debug)]
struct Caller {
    lane: Weak<Lane>,
    entry: Entry,
}

impl Ongoing for Caller {
    fn is_over(&self) -> bool {
        let Some(lane) = self.lane.upgrade() else { return true };
        let word = lane.control.lines()[self.entry.call].look();
        !word.is_ok_and(|word| word.state() == State::Running && word.generation() == self.entry.generation)
    }
}
