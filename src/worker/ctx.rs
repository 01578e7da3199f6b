//! What an app may ask of its surroundings.

use super::deferred::{Deferred, Later};
use super::reply::Form;
use super::running::Running;
use super::runtime::Worker;
use super::{Lease, Reply};
use crate::error::{Error, Result};
use std::sync::Arc;

/// The context of one call, or of an app's `init`.
#[derive(Debug)]
pub struct Ctx {
    worker: Arc<Worker>,
    running: Option<Running>,
}

impl Ctx {
    pub(super) fn new(worker: Arc<Worker>, running: Option<Running>) -> Ctx {
        Ctx { worker, running }
    }

    pub(super) fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    pub(super) fn into_running(self) -> Option<Running> {
        self.running
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

    /// Whether nobody waits for this call any more: its caller cancelled it, its deadline has passed, or its client is
    /// gone. For apps that can stop half-way; one look at a word of memory.
    pub fn is_abandoned(&self) -> bool {
        self.running().is_some_and(Running::is_abandoned)
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
