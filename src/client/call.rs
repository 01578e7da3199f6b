//! One call: what is asked of whom, and how it gets into the lane.

use super::Pending;
use super::connection::{Client, Shared};
use super::deadlines::Deadlines;
use super::flight::Flight;
use super::lane::{Held, Lane};
use super::outer::Outer;
use super::submission::Submission;
use super::unlent::Unlent;
use super::{Response, lease};
use crate::error::{Bound, Code, Error, Kind as ErrorKind, Result};
use crate::limits::{INLINE_LEN, LANE_CALLS};
use crate::primitive::{AtomicU64, Ordering, spin_loop};
use crate::ring::{CallLine, Generation, Reason, SubmitError, wake_one};
use crate::shm::{
    Body, CONTEXT, Chain, IDEMPOTENT, OwnRecord, Place, PoolState, ResultKey, STREAM_START, StreamBlock,
};
use crate::sys::futex::Kernel;
use crate::wire::{self, EncodeArgs, EncodeKwargs, Encoder, Header, Kind};
use std::sync::{Arc, PoisonError};

/// A call being put together. Nothing is sent before [`execute`](Call::execute) or [`submit`](Call::submit).
#[derive(Debug)]
#[must_use = "a call does nothing until it is executed or submitted"]
pub struct Call<'c, A = (), K = ()> {
    shared: std::result::Result<&'c Arc<Shared>, Box<ErrorKind>>,
    app: &'c str,
    action: &'c str,
    args: A,
    kwargs: K,
    deadline_ms: Option<u64>,
    queue_ms: Option<u64>,
    item_ms: Option<u64>,
    idempotent: bool,
    /// The call that it is made in, if an app makes it.
    outer: Option<Box<Outer>>,
}

impl<'c> Call<'c> {
    pub(super) fn new(shared: &'c Arc<Shared>, app: &'c str, action: &'c str) -> Call<'c> {
        Call::of(Ok(shared), app, action)
    }

    /// One that cannot be sent, for this reason.
    pub(crate) fn refused(why: ErrorKind, app: &'c str, action: &'c str) -> Call<'c> {
        Call::of(Err(Box::new(why)), app, action)
    }

    /// The same, made in another one.
    pub(super) fn within(self, outer: Outer) -> Call<'c> {
        Call { outer: Some(Box::new(outer)), ..self }
    }

    fn of(
        shared: std::result::Result<&'c Arc<Shared>, Box<ErrorKind>>,
        app: &'c str,
        action: &'c str,
    ) -> Call<'c> {
        Call {
            shared,
            app,
            action,
            args: (),
            kwargs: (),
            deadline_ms: None,
            queue_ms: None,
            item_ms: None,
            idempotent: false,
            outer: None,
        }
    }
}

impl<'c, A: EncodeArgs, K: EncodeKwargs> Call<'c, A, K> {
    /// With these arguments: a tuple of up to eight, or a slice of values. A [`Lease`](super::Lease) among them is
    /// lent in place.
    pub fn args<B: EncodeArgs>(self, args: B) -> Call<'c, B, K> {
        let Call { shared, app, action, args: _, kwargs, deadline_ms, queue_ms, item_ms, idempotent, outer } =
            self;
        Call { shared, app, action, args, kwargs, deadline_ms, queue_ms, item_ms, idempotent, outer }
    }

    /// With these named arguments: pairs of name and value.
    pub fn kwargs<L: EncodeKwargs>(self, kwargs: L) -> Call<'c, A, L> {
        let Call { shared, app, action, args, kwargs: _, deadline_ms, queue_ms, item_ms, idempotent, outer } =
            self;
        Call { shared, app, action, args, kwargs, deadline_ms, queue_ms, item_ms, idempotent, outer }
    }

    /// Ends with `Deadline` this many milliseconds from when it is sent, whether it waits or runs. A worker that
    /// does not let go of an expired call is replaced. The pool's own limit holds as well. 0 is a deadline that has
    /// passed.
    pub fn deadline_ms(mut self, ms: u64) -> Self {
        self.deadline_ms = Some(ms);
        self
    }

    /// Ends with `Deadline` of [`Limit::Queue`](crate::Limit::Queue) if no worker has taken it this many milliseconds
    /// after it was sent: then the app never sees it. From the moment that a worker takes it this limit means nothing.
    /// It is kept, as all limits are, by who waits for the call or looks at it: what nobody looks at may be taken later. 0
    /// is for a worker that takes it at once.
    pub fn queue_ms(mut self, ms: u64) -> Self {
        self.queue_ms = Some(ms);
        self
    }

    /// For streams and contexts: ends with `Deadline` of [`Limit::Item`](crate::Limit::Item) if the next item has not come
    /// within so many milliseconds after it was asked for. No limit by default.
    pub fn item_ms(mut self, ms: u64) -> Self {
        self.item_ms = Some(ms);
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
    /// Any of the outcomes of [`Code`] 1 to 12.
    pub fn execute(self) -> Result<Response> {
        let deadlines = self.deadlines();
        let outcome = match self.send(deadlines, 0, true) {
            Ok(flight) => flight.wait(),
            Err(error) => Err(error),
        };
        let again = match &outcome {
            Err(first) if !self.may_retry(first) => return outcome,
            Err(first) if first.started() == Some(true) => deadlines.once_taken(),
            Err(_) => deadlines,
            Ok(_) => return outcome,
        };
        match self.send(again, 0, true) {
            // A lease of a lane that was replaced meanwhile cannot be sent again: then the first outcome stands.
            Err(second) if second.code() == Code::BadRequest => outcome,
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
        self.send(self.deadlines(), 0, false)
    }

    /// Sends it for who takes the items of its answer. Only a limit of its own holds for it.
    pub(super) fn open(&self, flags: u64) -> Result<Flight> {
        self.send(self.limits(None), flags, false)
    }

    pub(super) fn item_ns(&self) -> Option<u64> {
        ns(self.item_ms)
    }

    pub(super) fn is_of(&self, client: &Arc<Shared>) -> bool {
        self.shared.as_ref().is_ok_and(|shared| Arc::ptr_eq(shared, client))
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

    fn deadlines(&self) -> Deadlines {
        self.limits(self.shared.as_ref().ok().and_then(|shared| shared.timeout_ns))
    }

    /// From now on, with the pool's own.
    fn limits(&self, pool: Option<u64>) -> Deadlines {
        let limits = Deadlines::from_now(ns(self.deadline_ms), pool, ns(self.queue_ms));
        match &self.outer {
            None => limits,
            Some(outer) => limits.within(outer.deadline_ns),
        }
    }

    /// Sends it; `waits` if this thread does nothing else until its end.
    fn send(&self, deadlines: Deadlines, flags: u64, waits: bool) -> Result<Flight> {
        self.publish(deadlines, flags, waits).map_err(Error::of_call)
    }

    fn publish(&self, deadlines: Deadlines, flags: u64, waits: bool) -> Result<Flight> {
        let shared = *self.shared.as_ref().map_err(|why| Error::new(ErrorKind::clone(why)))?;
        let chain = match &self.outer {
            None => Chain::default(),
            Some(outer) if waits => outer.waited_for(shared.app_threads)?,
            // It waits until the app has started.
            Some(outer) if flags & CONTEXT != 0 => {
                outer.waited_for(shared.app_threads)?;
                outer.chain
            }
            Some(outer) => outer.chain,
        };
        shared.check()?;
        shared.check_app(self.app, self.action)?;
        let lane = shared.sound_lane()?;
        let (call, generation) = match lane.take() {
            Ok(taken) => taken,
            Err(_) if lane.is_spoilt() => {
                return Err(damaged(shared, &lane, "a call that was given up is another submission's"));
            }
            Err(full) => return Err(full),
        };
        // From here on the call is ours: it goes back, or a flight takes it.
        let taken = Taken { lane: &lane, call, generation };
        lane.requests.record(call).prefetch_to_write(); // the worker of the last one has read it
        self.encode(shared, &lane, call, flags | chain.flags())?;
        let outbox = match flags & CONTEXT {
            0 => None,
            _ => Some(open_outbox(shared, &lane, call, generation)?),
        };
        std::mem::forget(taken);
        lane.requests.set_limit(call, deadlines.own);
        lane.requests.state(call, OwnRecord::Queued(generation), deadlines.first);
        let fly = |lane| {
            let outer = self.outer.as_ref().map(|outer| outer.call.clone());
            let sent = Submission { shared: shared.clone(), lane, call, generation };
            let flight = Flight::new(sent, deadlines, outer);
            match outbox {
                None => flight,
                Some(outbox) => flight.sending(outbox),
            }
        };
        let queue = lane.queue(&shared.board);
        crash_point!("client.submit.recorded");
        let submitted = queue.publish(call, generation).and_then(|()| {
            crash_point!("client.submit.published");
            if lane.is_hot(call) && was_taken(lane.line(call)) {
                return Ok(false);
            }
            let mut producer = lane.producer.lock().unwrap_or_else(PoisonError::into_inner);
            queue.enqueue(&mut producer, call, generation).map(|()| true)
        });
        match submitted {
            Ok(true) => {}
            Ok(false) => return Ok(fly(lane)),
            Err(SubmitError::Full) => {
                lane.put_back(call, generation.next());
                return Err(Error::new(ErrorKind::Overloaded {
                    bound: Bound::Calls,
                    limit: LANE_CALLS as u64,
                }));
            }
            Err(SubmitError::Damaged) => {
                return Err(damaged(shared, &lane, "the submit ring or a call word makes no sense"));
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
                crash_point!("client.submit.token");
                if let Some(doorbell) = shared.board.doorbell(parker) {
                    doorbell.ring(&Kernel);
                }
            }),
        }
        Ok(fly(lane))
    }

    /// Writes the record: inline if it fits, else with its body in a block.
    fn encode(&self, shared: &Shared, lane: &Arc<Lane>, call: usize, flags: u64) -> Result<()> {
        let mut place = [0; INLINE_LEN];
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let header = |len: usize| Header { kind: Kind::Request, len: len as u32, id }.encode();
        let flags = flags | if self.idempotent { IDEMPOTENT } else { 0 };
        if let (Some(args), Some(kwargs)) = (self.args.encoded_args(), self.kwargs.encoded_kwargs())
            && let Some(len) = wire::request_of(self.app, self.action, args, kwargs, &mut place)
        {
            lane.requests.record(call).write(header(len), Body::Inline(len), flags, &place[..len]);
            return Ok(());
        }
        let mut sent = lease::Sent::new();
        let mut e = Encoder::new(&mut place);
        self.encode_into(&mut e)?;
        match e.finish() {
            Ok(len) => {
                lane.requests.record(call).write(header(len), Body::Inline(len), flags, &place[..len]);
            }
            Err(more) => {
                let encode = |e: &mut Encoder<'_>| self.encode_into(e);
                let (block, body) = Unlent::encode(shared, lane, more.needed, &mut sent, encode)?;
                lane.requests.record(call).write(header(body.bytes()), body, flags, &[]);
                block.lend(|held| lane.lend(call, held));
            }
        }
        sent.tie(lane, call).map_err(Error::bad_request)
    }

    fn encode_into(&self, e: &mut Encoder<'_>) -> Result<()> {
        wire::request(self.app, self.action, &self.args, &self.kwargs, e)
            .map_err(|e| Error::bad_request(format!("the arguments cannot be encoded: {e}")))
    }
}

/// The ring of the items that will go to the app, lent with the call.
#[cold]
fn open_outbox(
    shared: &Arc<Shared>,
    lane: &Arc<Lane>,
    call: usize,
    generation: Generation,
) -> Result<StreamBlock> {
    let placed = shared.allocate(lane, StreamBlock::LEN)?;
    let key = ResultKey { lane: lane.serial, call, generation };
    let outbox = StreamBlock::create(&placed, key);
    let place = Place::Record { region: placed.id.index, offset: placed.block.offset };
    lane.lend(call, Held::Body(placed));
    let cursor = lane.requests.cursor(call);
    cursor.back.store(place.pack(), Ordering::Relaxed);
    cursor.attach(key.pack(), STREAM_START);
    crash_point!("client.context.lent");
    Ok(outbox)
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

fn ns(ms: Option<u64>) -> Option<u64> {
    ms.map(|ms| ms.saturating_mul(1_000_000))
}

/// The call is not sent; the next one has a lane that is in order.
#[cold]
fn damaged(shared: &Shared, lane: &Arc<Lane>, why: &str) -> Error {
    shared.renew(lane, why);
    Error::new(ErrorKind::Protocol("the lane is damaged".into()))
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
