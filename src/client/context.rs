//! A call with items both ways.

use super::sender::Sender;
use super::stream::Stream;
use super::{Call, Canceller, Response};
use crate::error::Result;
use crate::shm::{CONTEXT, STREAM};
use crate::wire::{Encode, EncodeArgs, EncodeKwargs};
use std::iter::FusedIterator;
use std::time::Duration;

/// A call in which items go both ways, from [`Call::context`].
///
/// The app says that it has started, with a value, before anything else. Then either side sends items, each within bounds of
/// its own direction, and finishes its direction when it likes; the call ends when the app returns, and what it returns comes
/// behind its items. The two ends live together: an error, a cancel or the death of one ends the other. A context that is
/// dropped before it has ended is cancelled, and its app is told that, and not that its opener had finished. A context is
/// used once.
///
/// Where the app has finished its direction the iterator ends there, before the call does: whether that goes well tells
/// [`wait`](Context::wait).
///
/// The iterator is the app's items, as that of a [`Stream`], which this is, too, in everything else. A host that only sends, to an
/// app that only sends, waits until one of them is tired: take and send on two threads ([`split`](Context::split)), or with limits
/// ([`send_for`](Context::send_for), [`try_next`](Context::try_next)).
#[derive(Debug)]
pub struct Context {
    // Dropped first: it gives the call up, and what is given up must not look finished.
    items: Stream,
    sender: Sender,
    started: Option<Response>,
}

impl<A: EncodeArgs, K: EncodeKwargs> Call<'_, A, K> {
    /// Sends the call, and waits until its app has started the context ([`Ctx::started`](crate::Ctx::started)). Blocks the calling
    /// thread. Limits are those of a [`stream`](Call::stream).
    ///
    /// An app that starts none is taken as it is: then there is no value, what it answers comes as from a stream, and nothing
    /// can be sent to it.
    ///
    /// # Errors
    /// As [`submit`](Call::submit), and the call's outcome if it fails before it has started.
    pub fn context(self) -> Result<Context> {
        let item_ns = self.item_ns();
        let flight = self.open(STREAM | CONTEXT)?.taking_items();
        let (outbox, limit_ns, outer) =
            (flight.outbox().cloned(), flight.limit_ns(), flight.outer().cloned());
        let mut items = Stream::new(flight, item_ns);
        let started = items.until_started()?;
        // Of a call that has ended already there is none.
        let sender = match (items.incoming(), outbox) {
            (Some(stream), Some(outbox)) if started.is_some() => Sender::new(stream, outbox, limit_ns, outer),
            _ => Sender::none(),
        };
        Ok(Context { items, sender, started })
    }
}

impl Context {
    /// What the app said when it started. `None` if it answers as a plain action or a one-way stream does.
    pub fn started(&self) -> Option<&Response> {
        self.started.as_ref()
    }

    /// The same, for who keeps it beside the halves of the context. Then there is none here any more.
    pub fn take_started(&mut self) -> Option<Response> {
        self.started.take()
    }

    /// Sends an item to the app: see [`Sender::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, item: impl Encode) -> Result<()> {
        self.sender.send(item)
    }

    /// See [`Sender::send_for`].
    ///
    /// # Errors
    /// As there.
    pub fn send_for(&mut self, item: impl Encode, timeout: Duration) -> Result<()> {
        self.sender.send_for(item, timeout)
    }

    /// See [`Sender::reclaim`].
    ///
    /// # Errors
    /// As there.
    pub fn reclaim(&mut self) -> Result<()> {
        self.sender.reclaim()
    }

    /// No further item comes from here: the app's loop over them ends.
    pub fn finish(&mut self) {
        self.sender.finish();
    }

    /// See [`Stream::next_for`].
    ///
    /// # Errors
    /// As there.
    pub fn next_for(&mut self, timeout: Duration) -> Result<Option<Response>> {
        self.items.next_for(timeout)
    }

    /// See [`Stream::try_next`].
    ///
    /// # Errors
    /// As there.
    pub fn try_next(&mut self) -> Option<Result<Option<Response>>> {
        self.items.try_next()
    }

    /// Finishes this direction, drops the items that still come, and waits for what the app returns: see [`Stream::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(self) -> Result<Response> {
        let Context { items, sender, started } = self;
        drop((sender, started));
        items.wait()
    }

    /// Cancels the call: see [`Stream::cancel`].
    pub fn cancel(self) {
        self.items.cancel();
    }

    /// See [`Stream::canceller`].
    pub fn canceller(&self) -> Canceller {
        self.items.canceller()
    }

    /// Both directions, for two threads.
    pub fn split(self) -> (Sender, Stream) {
        (self.sender, self.items)
    }
}

impl Iterator for Context {
    type Item = Result<Response>;

    fn next(&mut self) -> Option<Result<Response>> {
        self.items.next()
    }
}

impl FusedIterator for Context {}
