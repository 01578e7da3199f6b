//! What an app may ask of its surroundings.

use super::deferred::{Deferred, Later};
use super::outgoing::Outgoing;
use super::reply::Form;
use super::running::Running;
use super::runtime::Worker;
use super::share::Charged;
use super::sink::{self, Sink};
use super::{Dialog, Flow, Lease, Reply};
use crate::error::{Error, Result};
use crate::wire::Encode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The context of one call, or of an app's `init`.
#[derive(Debug)]
pub struct Ctx {
    worker: Arc<Worker>,
    running: Option<Running>,
    /// The call's number, for people.
    id: u64,
    /// The stream of its items, while no [`Sink`] has it.
    outgoing: Mutex<Outlet>,
}

#[derive(Debug)]
enum Outlet {
    Unopened,
    Open(Box<Outgoing>),
    Taken,
}

impl Ctx {
    pub(super) fn new(worker: Arc<Worker>, running: Option<Running>, id: u64) -> Ctx {
        Ctx { worker, running, id, outgoing: Mutex::new(Outlet::Unopened) }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    pub(super) fn worker(&self) -> &Arc<Worker> {
        &self.worker
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// What is left of it when the app has returned: the call, and its stream if it has one.
    pub(super) fn into_parts(self) -> (Option<Running>, Option<Box<Outgoing>>) {
        let outlet = self.outgoing.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outgoing = match outlet {
            Outlet::Open(outgoing) => Some(outgoing),
            Outlet::Unopened | Outlet::Taken => None,
        };
        (self.running, outgoing)
    }

    /// The way for a stream's items, opened when it is first asked for.
    pub(super) fn take_outgoing(&self, flow: Flow) -> Result<Box<Outgoing>> {
        let running = self.running().ok_or_else(sink::no_call)?;
        let mut outlet = self.outlet();
        match std::mem::replace(&mut *outlet, Outlet::Taken) {
            Outlet::Open(outgoing) => Ok(outgoing),
            Outlet::Taken => Err(Error::app("Stream", "the call's sink is in use already")),
            Outlet::Unopened => match Outgoing::open(&self.worker, running, flow) {
                Ok(outgoing) => Ok(Box::new(outgoing)),
                Err(error) => {
                    *outlet = Outlet::Unopened;
                    Err(error)
                }
            },
        }
    }

    /// Whether an item was sent, or may be by now.
    pub(super) fn has_sent(&self) -> bool {
        match &*self.outlet() {
            Outlet::Unopened => false,
            Outlet::Open(outgoing) => outgoing.has_sent(),
            Outlet::Taken => true,
        }
    }

    pub(super) fn keep_outgoing(&self, outgoing: Box<Outgoing>) {
        *self.outlet() = Outlet::Open(outgoing);
    }

    fn outlet(&self) -> MutexGuard<'_, Outlet> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a block count for the share of this call's client.
    pub(super) fn charge(&self, block: &mut Charged) -> Result<()> {
        match self.running() {
            Some(running) => {
                let charged = self.worker.charge(block, &running.lane.share);
                charged.inspect_err(|error| running.note(error))
            }
            None => Ok(()),
        }
    }

    /// Sends items to the caller, one by one, before the result: see [`Sink`]. One at a time; a second one, after the first
    /// was dropped, goes on with the same stream.
    ///
    /// A caller that executed the call gets a list of all items in the end.
    ///
    /// ```
    /// # use stokehold::{App, Args, Ctx, Reply, Result};
    /// # struct Model;
    /// # impl App for Model {
    /// #     const NAME: &'static str = "models:Model";
    /// #     fn init(_: &Ctx) -> Result<Self> { Ok(Model) }
    /// fn call(&self, _: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    ///     let (prompt,): (&str,) = args.parse()?;
    ///     let mut sink = ctx.sink()?;
    ///     let mut count = 0;
    ///     for word in prompt.split(' ') {
    ///         sink.send(word)?;
    ///         count += 1;
    ///     }
    ///     Ok(Reply::from(count)) // what the stream's consumer gets after its items
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Overloaded` if the worker has no memory for a stream; `App` in `init`, or while there is another.
    pub fn sink(&self) -> Result<Sink<'_>> {
        self.sink_with(Flow::default())
    }

    /// Starts the context that the caller has opened ([`Call::context`](crate::Call::context)): it gets this value before
    /// anything else, and items may go both ways. Once a call; again only if it failed.
    ///
    /// ```
    /// # use stokehold::{App, Args, Ctx, Reply, Result};
    /// # struct Echo;
    /// # impl App for Echo {
    /// #     const NAME: &'static str = "echo:Echo";
    /// #     fn init(_: &Ctx) -> Result<Self> { Ok(Echo) }
    /// fn call(&self, _: &str, _: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    ///     let mut dialog = ctx.started("ready")?;
    ///     let mut count = 0;
    ///     loop {
    ///         let Some(item) = dialog.recv()? else { break };
    ///         let line = item.parse::<String>()?;
    ///         drop(item); // what it was in is the opener's again
    ///         dialog.send(line)?;
    ///         count += 1;
    ///     }
    ///     Ok(Reply::from(count))
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// `BadRequest` if the caller has opened no context; `App` if it was started already, or in `init`; `Cancelled` if nobody
    /// waits for the call any more; `Overloaded` if the worker has no memory for a stream.
    pub fn started(&self, value: impl Encode) -> Result<Dialog<'_>> {
        Dialog::open(self, &value)
    }

    /// The same with bounds of its own. Those of the first one hold.
    ///
    /// # Errors
    /// As [`sink`](Ctx::sink).
    pub fn sink_with(&self, flow: Flow) -> Result<Sink<'_>> {
        Sink::new(self, flow)
    }

    /// Memory for a result of `len` bytes, in which it can be built in place. Not cleared.
    ///
    /// # Errors
    /// `BadRequest` past 1 GiB; `Overloaded` past what a worker has for one client (1 GiB and 64 MiB, with the results that
    /// the client holds) or for all (4.25 GiB); `Os` when the memory file system is full. If a call ends with the
    /// `Overloaded`, it is its caller's outcome.
    pub fn lease(&self, len: usize) -> Result<Lease> {
        match self.running() {
            Some(running) => running.lease(&self.worker, len),
            None => Lease::of(&self.worker, len, None),
        }
    }

    /// A lease filled with these bytes.
    pub fn lease_from(&self, bytes: &[u8]) -> Result<Lease> {
        let mut lease = self.lease(bytes.len())?;
        lease.copy_from_slice(bytes);
        Ok(lease)
    }

    /// Answers later: returns a reply that says so, to be returned from [`App::call`](super::App::call). Once that has
    /// returned, `then` is given the call's handle, on the same thread; it puts it where it will be answered (a queue, a
    /// thread, a callback of another library) and returns. The thread takes the next call.
    ///
    /// There is no handle before the app has returned, and none if it returns something else: so a call cannot be
    /// answered twice, and what it borrowed from its arguments cannot outlast it. What the app needs later it moves into
    /// `then`, or reads again with [`Deferred::args`].
    ///
    /// ```
    /// # use stokehold::{App, Args, Ctx, Deferred, Error, Reply, Result};
    /// # use std::sync::mpsc::{Sender, channel};
    /// struct Batches(Sender<(u32, Deferred)>);
    ///
    /// impl App for Batches {
    ///     const NAME: &'static str = "batches:Batches";
    ///
    ///     fn init(_: &Ctx) -> Result<Self> {
    ///         let (send, jobs) = channel::<(u32, Deferred)>();
    ///         std::thread::spawn(move || {
    ///             for (n, later) in jobs {
    ///                 later.reply(n * 2); // or gather some first, and answer them all at once
    ///             }
    ///         });
    ///         Ok(Batches(send))
    ///     }
    ///
    ///     fn call(&self, _: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    ///         let (n,): (u32,) = args.parse()?;
    ///         let queue = self.0.clone();
    ///         ctx.defer(move |later| {
    ///             // If nobody is there to take it, it comes back, is dropped, and its caller has an error.
    ///             let _ = queue.send((n, later));
    ///         })
    ///     }
    /// }
    /// ```
    ///
    /// # Errors
    /// `Overloaded` when this worker has deferred 128 calls; `App` in `init`, where there is no call.
    pub fn defer(&self, then: impl FnOnce(Deferred) + Send + 'static) -> Result<Reply> {
        self.running()
            .ok_or_else(|| Error::app("Deferred", "there is no call to be deferred in an app's init"))?;
        Ok(Reply(Form::Later(Box::new(Later::new(&self.worker, then)?))))
    }

    /// Says that the app is at work on this call: the pool's timeout ([`Builder::timeout_ms`](crate::Builder::timeout_ms))
    /// counts from now. A deadline that the caller itself set is its own, and holds. Cheap: no system call.
    pub fn keep_alive(&self) {
        if let Some(running) = self.running() {
            running.keep_alive(&self.worker);
        }
    }

    /// Whether nobody waits for this call any more: it was cancelled, its caller saw its deadline pass, or its client is
    /// gone. All three look the same, and what the app answers is dropped: it lets go of the call as soon as it can. One
    /// load of a word of memory, for apps that look now and then.
    ///
    /// An app that goes on regardless costs its worker: see [`cancel_grace_ms`](crate::Builder::cancel_grace_ms).
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.running().is_some_and(Running::is_cancelled)
    }

    /// An error once the call [`is_cancelled`](Ctx::is_cancelled), to leave a loop with `?`.
    ///
    /// # Errors
    /// `Cancelled` by `Disconnected` where the client is known to be gone, else by `Caller`.
    pub fn check_cancelled(&self) -> Result<()> {
        match self.running() {
            Some(running) => running.check_cancelled(&self.worker),
            None => Ok(()),
        }
    }

    /// Sleeps until the call [`is_cancelled`](Ctx::is_cancelled), but no longer than this; whether it is. What an app does
    /// instead of a plain sleep. In `init` there is nothing to wait for, and it does not sleep.
    pub fn wait_cancelled(&self, timeout: Duration) -> bool {
        self.running().is_some_and(|running| running.wait_cancelled(timeout))
    }

    /// When the caller stops waiting, as far as is known now: monotonic nanoseconds (`CLOCK_MONOTONIC`), if there is a
    /// deadline.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.running()?.deadline_ns(&self.worker)
    }

    /// The number of this incarnation of the worker, from 1.
    pub fn life(&self) -> u16 {
        self.worker.life().get()
    }

    /// An error that says which thing of the app's went wrong. Shorthand for [`Error::app`].
    pub fn error(&self, class: &str, message: impl std::fmt::Display) -> Error {
        Error::app(class, message)
    }

    /// An error once the deadline has passed. For apps that can stop half-way.
    pub fn check_deadline(&self) -> Result<()> {
        match self.running() {
            Some(running) => running.check_deadline(&self.worker),
            None => Ok(()),
        }
    }
}
