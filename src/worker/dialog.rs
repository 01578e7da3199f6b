//! The app's end of a context: items both ways.

use super::sink::{self, IntoItem};
use super::{Ctx, Inbox, Received, Sink};
use crate::error::Result;
use crate::wire::Encode;
use std::time::Duration;

/// A call in which items go both ways, from [`Ctx::started`].
///
/// Each direction has bounds of its own, and is finished by its sender. The call ends when the app returns: what it returns is
/// what the opener gets behind the items. Until then the two ends live together: that the opener cancels, leaves or dies ends
/// whatever the app waits for here with `Cancelled`.
#[derive(Debug)]
pub struct Dialog<'c> {
    sink: Sink<'c>,
    inbox: Inbox<'c>,
}

impl<'c> Dialog<'c> {
    pub(super) fn open(ctx: &'c Ctx, value: &(impl Encode + ?Sized)) -> Result<Dialog<'c>> {
        let running = ctx.running().ok_or_else(sink::no_call)?;
        let back = Inbox::back(running)?; // before the caller is told of a stream
        let mut sink = Sink::first(ctx)?;
        let inbox = sink.inbox(running, back)?;
        sink.start(value)?;
        Ok(Dialog { sink, inbox })
    }

    /// Sends an item to the opener: see [`Sink::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, item: impl IntoItem) -> Result<()> {
        self.sink.send(item)
    }

    /// The opener's next item: see [`Inbox::recv`].
    ///
    /// # Errors
    /// As there.
    pub fn recv(&self) -> Result<Option<Received<'_>>> {
        self.inbox.recv()
    }

    /// See [`Inbox::recv_for`].
    ///
    /// # Errors
    /// As there.
    pub fn recv_for(&self, timeout: Duration) -> Result<Option<Received<'_>>> {
        self.inbox.recv_for(timeout)
    }

    /// See [`Inbox::try_recv`].
    ///
    /// # Errors
    /// As there.
    pub fn try_recv(&self) -> Result<Option<Option<Received<'_>>>> {
        self.inbox.try_recv()
    }

    /// No further item comes from the app: the opener's iterator ends, and the call goes on.
    pub fn finish(&mut self) {
        self.sink.finish();
    }

    /// Both directions, for two threads.
    pub fn split(self) -> (Sink<'c>, Inbox<'c>) {
        (self.sink, self.inbox)
    }
}
