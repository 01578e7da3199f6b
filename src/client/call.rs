//! One call: what is asked of whom, and how it gets into the lane.

use super::Pending;
use super::connection::{Client, Shared};
use super::flight::Flight;
use super::lane::{Held, Lane};
use super::{Response, lease};
use crate::error::{Bound, Code, Error, Kind as ErrorKind, Result};
use crate::limits::{INLINE_LEN, LANE_CALLS};
use crate::primitive::{AtomicU64, Ordering, spin_loop};
use crate::ring::{CallLine, Generation, Reason, SubmitError, wake_one};
use crate::shm::{Body, Deadline, OwnRecord, Placed, PoolState};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use crate::wire::{self, EncodeArgs, EncodeKwargs, Encoder, Header, Kind, Reference};
use std::cell::Cell;
use std::sync::{Arc, PoisonError};

/// A call being put together. Nothing is sent before [`execute`](Call::execute) or [`submit`](Call::submit).
#[derive(Debug)]
#[must_use = "a call does nothing until it is executed or submitted"]
pub struct Call<'c, A = (), K = ()> {
    shared: &'c Arc<Shared>,
    app: &'c str,
    action: &'c str,
    args: A,
    kwargs: K,
    deadline_ms: Option<u64>,
    idempotent: bool,
}

impl<'c> Call<'c> {
    pub(super) fn new(shared: &'c Arc<Shared>, app: &'c str, action: &'c str) -> Call<'c> {
        Call { shared, app, action, args: (), kwargs: (), deadline_ms: None, idempotent: false }
    }
}

impl<'c, A: EncodeArgs, K: EncodeKwargs> Call<'c, A, K> {
    /// With these arguments: a tuple of up to eight, or a slice of values. A [`Lease`](super::Lease) among them is
    /// lent in place.
    pub fn args<B: EncodeArgs>(self, args: B) -> Call<'c, B, K> {
        let Call { shared, app, action, args: _, kwargs, deadline_ms, idempotent } = self;
        Call { shared, app, action, args, kwargs, deadline_ms, idempotent }
    }

    /// With these named arguments: pairs of name and value.
    pub fn kwargs<L: EncodeKwargs>(self, kwargs: L) -> Call<'c, A, L> {
        let Call { shared, app, action, args, kwargs: _, deadline_ms, idempotent } = self;
        Call { shared, app, action, args, kwargs, deadline_ms, idempotent }
    }

    /// Ends with `Deadline` this many milliseconds from when it is sent, whether it waits or runs. A worker that
    /// does not let go of an expired call is replaced. The pool's own limit holds as well. 0 is a deadline that has
    /// passed.
    pub fn deadline_ms(mut self, ms: u64) -> Self {
        self.deadline_ms = Some(ms);
        self
    }

    /// May run twice: is sent once more if its worker dies or shared memory is found damaged.
    pub fn idempotent(mut self) -> Self {
        self.idempotent = true;
        self
    }

    /// Sends the call and waits for its one outcome. Blocks the calling thread, and no other.
    ///
    /// # Errors
    /// Any of the outcomes of [`Code`] 1 to 10.
    pub fn execute(self) -> Result<Response> {
        let deadline = self.deadline();
        let first = match self.send(deadline).and_then(Flight::wait) {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        if !self.may_retry(&first) {
            return Err(first);
        }
        match self.send(deadline) {
            // A lease of a lane that was replaced meanwhile cannot be sent again: then the first outcome stands.
            Err(second) if second.code() == Code::BadRequest => Err(first),
            Err(second) => Err(second),
            Ok(flight) => flight.wait(),
        }
    }

    /// Sends the call and returns a handle to its outcome. Never blocks for a worker.
    ///
    /// A submitted call is not sent twice, even if it is idempotent.
    ///
    /// # Errors
    /// Those that are known before it is sent: `Overloaded`, `BadRequest`, `ArbiterDied`; also `Protocol` where the
    /// client's memory is damaged, and `Os` where there is none for the arguments. That the pool has no workers or shuts
    /// down is an outcome of the call, and comes from the handle.
    pub fn submit(self) -> Result<Pending> {
        self.launch().map(Pending::new)
    }

    pub(super) fn launch(&self) -> Result<Flight> {
        self.send(self.deadline())
    }

    pub(super) fn is_of(&self, client: &Arc<Shared>) -> bool {
        Arc::ptr_eq(self.shared, client)
    }

    /// A call that its dead worker certainly never began is sent again once; one that may have run only if its
    /// caller said that it may run twice.
    fn may_retry(&self, error: &Error) -> bool {
        match error.code() {
            Code::WorkerDied => self.idempotent || error.started() == Some(false),
            Code::Protocol => self.idempotent,
            _ => false,
        }
    }

    fn deadline(&self) -> Deadlines {
        // A cheap clock that is a little behind is good enough for a limit that is far away.
        let now = |ns| if ns > FAR_NS { clock::coarse_ns() } else { clock::monotonic_ns() };
        let sent_ns = Cell::new(0);
        let at = |ns: u64| {
            sent_ns.set(now(ns));
            sent_ns.get().saturating_add(ns).max(1)
        };
        let own = self.deadline_ms.map(|ms| ms.saturating_mul(1_000_000));
        let (first, own) = match (own, self.shared.timeout_ns) {
            (Some(own), Some(timeout)) if own > timeout => (Some(at(timeout)), Some(at(own))),
            (Some(own), _) => {
                let own = Some(at(own));
                (own, own)
            }
            (None, timeout) => (timeout.map(at), None),
        };
        Deadlines { first: Deadline(first), own: Deadline(own), sent_ns: sent_ns.get() }
    }

    fn send(&self, deadline: Deadlines) -> Result<Flight> {
        let shared = self.shared;
        shared.check()?;
        shared.check_app(self.app, self.action)?;
        let lane = shared.sound_lane()?;
        let (call, generation) = lane.take()?;
        // From here on the call is ours: it goes back, or a flight takes it.
        let taken = Taken { lane: &lane, call, generation };
        self.encode(&lane, call)?;
        std::mem::forget(taken);
        lane.requests.set_limit(call, deadline.own);
        let (deadline, sent_ns) = (deadline.first, deadline.sent_ns);
        lane.requests.state(call, OwnRecord::Queued(generation), deadline);
        let queue = lane.queue(&shared.board);
        let submitted = queue.publish(call, generation).and_then(|()| {
            if lane.is_hot(call) && was_taken(lane.line(call)) {
                return Ok(false);
            }
            let mut producer = lane.producer.lock().unwrap_or_else(PoisonError::into_inner);
            queue.enqueue(&mut producer, call, generation).map(|()| true)
        });
        match submitted {
            Ok(true) => {}
            Ok(false) => return Ok(Flight::new(shared.clone(), lane, call, generation, deadline, sent_ns)),
            Err(SubmitError::Full) => {
                lane.put_back(call, generation.next());
                return Err(Error::new(ErrorKind::Overloaded {
                    bound: Bound::Calls,
                    limit: LANE_CALLS as u64,
                }));
            }
            Err(SubmitError::Damaged) => {
                shared.renew(&lane, "the submit ring or a call word makes no sense");
                return Err(Error::new(ErrorKind::Protocol("the lane is damaged".into())));
            }
        }
        // The fence was made: now either the arbiter's sweep sees the word or we see the state.
        let closed = match shared.registry.state() {
            PoolState::Starting | PoolState::Running => None,
            PoolState::Degraded => Some(Reason::Degraded),
            PoolState::Empty => Some(Reason::NoWorkers),
            PoolState::ShuttingDown | PoolState::Closed => Some(Reason::ShuttingDown),
        };
        match closed {
            Some(reason) => {
                lane.line(call).refuse(generation, reason);
            }
            None => wake_one(shared.board.idle(), shared.board.spinner(), |parker| {
                if let Some(doorbell) = shared.board.doorbell(parker) {
                    doorbell.ring(&Kernel);
                }
            }),
        }
        Ok(Flight::new(shared.clone(), lane, call, generation, deadline, sent_ns))
    }

    /// Writes the record: inline if it fits, else with its body in a block.
    fn encode(&self, lane: &Arc<Lane>, call: usize) -> Result<()> {
        let mut place = [0; INLINE_LEN];
        let mut sent = lease::Sent::new();
        let mut e = Encoder::new(&mut place);
        self.encode_into(&mut e)?;
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let header = |len: usize| Header { kind: Kind::Request, len: len as u32, id }.encode();
        let flags = u64::from(self.idempotent);
        match e.finish() {
            Ok(len) => {
                lane.requests.record(call).write(header(len), Body::Inline(len), flags, &place[..len]);
            }
            Err(more) => {
                let placed = lane.store.allocate(more.needed, &self.shared.arbiter.for_lane(lane.serial))?;
                let mut block = Unlent { lane, placed: Some(placed) };
                sent.clear();
                let mut e = Encoder::new(block.bytes_mut());
                let encoded = self.encode_into(&mut e).map(|()| e.finish());
                let Ok(Ok(len)) = encoded else {
                    return Err(Error::bad_request("an argument changed while it was encoded"));
                };
                block.lend(call, |place| {
                    let body = Body::Block { region: place.region, offset: place.offset, len };
                    lane.requests.record(call).write(header(len), body, flags, &[]);
                });
            }
        }
        sent.tie(lane, call).map_err(Error::bad_request)
    }

    fn encode_into(&self, e: &mut Encoder<'_>) -> Result<()> {
        wire::request(self.app, self.action, &self.args, &self.kwargs, e)
            .map_err(|e| Error::bad_request(format!("the arguments cannot be encoded: {e}")))
    }
}

/// A call that is being put together: it goes back if that fails, also by a panic of an argument.
struct Taken<'l> {
    lane: &'l Lane,
    call: usize,
    generation: Generation,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.lane.put_back(self.call, self.generation);
    }
}

/// A block for the body of a request, until it is lent with the call.
struct Unlent<'l> {
    lane: &'l Lane,
    placed: Option<Placed>,
}

impl Unlent<'_> {
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.placed.as_mut().map_or(&mut [], Placed::bytes_mut)
    }

    fn lend(mut self, call: usize, write: impl FnOnce(Reference)) {
        if let Some(placed) = self.placed.take() {
            write(placed.reference());
            self.lane.lend(call, Held::Body(placed));
        }
    }
}

impl Drop for Unlent<'_> {
    fn drop(&mut self) {
        if let Some(placed) = self.placed.take() {
            self.lane.store.free(placed);
        }
    }
}

/// When a call ends.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    /// The caller's own or the pool's, whichever comes first.
    first: Deadline,
    /// The caller's own. The pool's may be put off, this one not.
    own: Deadline,
    /// When they were counted from, if there are any.
    sent_ns: u64,
}

/// Whether a worker that watches the line takes the call within a moment. Then no ring entry, hint or doorbell is
/// needed: it is claimed, and everything else about it goes by its word.
#[inline]
fn was_taken(line: &CallLine) -> bool {
    for _ in 0..HOT_SPINS {
        if !CallLine::is_queued(line.glance()) {
            return true;
        }
        spin_loop();
    }
    false
}

/// Looks at a hot line for its claim.
const HOT_SPINS: u32 = 24;

/// A deadline this far away may come a timer interrupt early: a thousandth of it.
const FAR_NS: u64 = 1_000 * clock::COARSE_NS;

/// Request ids are for people and for the broker; nothing is matched by them here.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Client {
    /// How many calls are free right now, of 64. None in a forked copy.
    #[doc(hidden)]
    pub fn free_calls(&self) -> u32 {
        if !self.shared.is_original() {
            return 0;
        }
        self.shared.lane.load().free_calls()
    }
}
