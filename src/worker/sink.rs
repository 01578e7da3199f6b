//! Where an app puts the items of a stream.

use super::ctx::Ctx;
use super::outgoing::{Outgoing, Parcel};
use super::running::Running;
use super::{Flow, Inbox, Lease};
use crate::error::{Error, Result};
use crate::limits::INLINE_LEN;
use crate::wire::{self, Encode, Encoder, Kind, WireError};

/// The way of a call's items to its caller, from [`Ctx::sink`]. Items arrive in the order in which they were sent, before
/// the call's result or error.
///
/// Sending blocks while there is no room, without spinning, unless its [`Flow`] says otherwise; that the caller cancels, leaves
/// or dies ends the wait. Dropping it ends nothing: the stream ends with the call.
pub struct Sink<'c> {
    ctx: &'c Ctx,
    /// Goes back to the context when this is dropped.
    out: Option<Box<Outgoing>>,
    /// What the next item is.
    kind: Kind,
    /// For the next item's encoding, so that none is cleared for each.
    room: [u8; INLINE_LEN],
}

/// What can be an item: anything that can be encoded, and a [`ResultLease`](crate::ResultLease), which is lent in place.
pub trait IntoItem {
    /// Sends it.
    #[doc(hidden)]
    fn send_to(self, sink: &mut Sink<'_>) -> Result<()>;
}

impl<T: Encode> IntoItem for T {
    fn send_to(self, sink: &mut Sink<'_>) -> Result<()> {
        sink.send_encoded(&self)
    }
}

impl IntoItem for Lease {
    fn send_to(self, sink: &mut Sink<'_>) -> Result<()> {
        sink.send_lent(self)
    }
}

impl<'c> Sink<'c> {
    pub(super) fn new(ctx: &'c Ctx, flow: Flow) -> Result<Sink<'c>> {
        Ok(Sink { ctx, out: Some(ctx.take_outgoing(flow)?), kind: Kind::Chunk, room: [0; INLINE_LEN] })
    }

    /// That of a context, whose call has sent nothing yet.
    pub(super) fn first(ctx: &'c Ctx) -> Result<Sink<'c>> {
        if ctx.has_sent() {
            return Err(Error::app("Stream", "a context is started before any item is sent, and once"));
        }
        Sink::new(ctx, Flow::default())
    }

    /// What the opener sends back, from where its block is said to be.
    pub(super) fn inbox(&self, running: &Running, back: u64) -> Result<Inbox<'c>> {
        let out = self.out.as_ref().ok_or_else(no_call)?;
        Inbox::open(self.ctx, running, out.block().clone(), back)
    }

    /// Sends what the opener of a context waits for.
    pub(super) fn start(&mut self, value: &(impl Encode + ?Sized)) -> Result<()> {
        self.kind = Kind::Started;
        let started = self.send_encoded(value);
        self.kind = Kind::Chunk;
        started
    }

    /// No further item comes: the consumer's iterator ends, and the call goes on. What is sent afterwards is refused as
    /// `Closed`.
    pub fn finish(&mut self) {
        if let (Some(out), Some(running)) = (&mut self.out, self.ctx.running()) {
            out.close(running);
        }
    }

    /// Sends one item. Bytes that are not in a lease are copied.
    ///
    /// # Errors
    /// `Cancelled` once nobody waits for the call any more; `Stalled` if the caller takes nothing for longer than the pool's
    /// limit ([`Builder::stall_ms`](crate::Builder::stall_ms)); `Overrun` if there is no room and the stream does not wait
    /// ([`Flow::or_fail`]): then the item is not sent, and further ones may be; `Overloaded` if there is no memory for a large
    /// item; `Value` if it cannot be encoded. Each is a fit answer of the app: the call's outcome is that error, after the items
    /// that were sent.
    #[inline]
    pub fn send(&mut self, item: impl IntoItem) -> Result<()> {
        item.send_to(self)
    }

    fn send_encoded(&mut self, value: &(impl Encode + ?Sized)) -> Result<()> {
        let mut e = Encoder::new(&mut self.room);
        wire::chunk(value, &mut e)?;
        match e.finish() {
            Ok(len) => {
                let body = Parcel::Inline(&self.room[..len]);
                pass(&mut self.out, self.ctx, self.kind, body)
            }
            Err(more) => self.send_large(value, more.needed),
        }
    }

    #[cold]
    fn send_large(&mut self, value: &(impl Encode + ?Sized), needed: usize) -> Result<()> {
        let mut lease = self.ctx.lease(needed)?;
        let mut e = Encoder::new(&mut lease);
        let encoded = wire::chunk(value, &mut e).map(|()| e.finish());
        let Ok(Ok(len)) = encoded else { return Err(WireError::Unbalanced.into()) };
        let Some(block) = lease.into_block() else { return Err(given_away()) };
        pass(&mut self.out, self.ctx, self.kind, Parcel::Block(block, len))
    }

    fn send_lent(&mut self, lease: Lease) -> Result<()> {
        let Some(mut block) = lease.into_block() else { return Err(given_away()) };
        let mut e = Encoder::new(&mut self.room);
        let encoded = wire::chunk(&block.placed.reference(), &mut e).map(|()| e.finish());
        let Ok(Ok(len)) = encoded else { return Err(WireError::Unbalanced.into()) };
        // It may be from the app's `init`, or from another client's call.
        let charged = self.ctx.charge(&mut block);
        match charged {
            Ok(()) => pass(&mut self.out, self.ctx, self.kind, Parcel::Lent(&self.room[..len], block)),
            Err(error) => {
                self.ctx.worker().free_block(block);
                Err(error)
            }
        }
    }
}

#[inline]
fn pass(out: &mut Option<Box<Outgoing>>, ctx: &Ctx, kind: Kind, parcel: Parcel<'_>) -> Result<()> {
    match (out, ctx.running()) {
        (Some(out), Some(running)) => out.send(running, kind, ctx.id(), parcel),
        _ => Err(no_call()),
    }
}

/// In an app's `init` there is nobody to send to.
pub(super) fn no_call() -> Error {
    Error::app("Stream", "there is no call to send items for in an app's init")
}

fn given_away() -> Error {
    Error::bad_request("the lease was given away already")
}

impl Drop for Sink<'_> {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            self.ctx.keep_outgoing(out);
        }
    }
}

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sink(of call {})", self.ctx.id())
    }
}
