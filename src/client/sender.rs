//! The opener's direction of a context: items to its app.

use super::connection::Shared;
use super::incoming::{Incoming, Part};
use super::lane::{Held, Lane};
use super::lease::Sent;
use super::outer::Ongoing;
use super::unlent::Unlent;
use crate::error::{Code, Error, Kind as ErrorKind, Limit, Result};
use crate::limits::{INLINE_LEN, LONGEST_SLICE_NS};
use crate::ring::{CallLine, Corrupt, Unsent};
use crate::shm::{Body, LaneState, Outflow, Packed, StreamBlock};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use crate::wire::{self, Encode, Encoder, Kind};
use std::sync::Arc;
use std::time::Duration;

/// Sends items to the app of a context: from [`Context::split`](super::Context::split), for a thread of its own.
///
/// Dropping it finishes the direction: the app is told that nothing more comes. It keeps its call taken.
#[derive(Debug)]
pub struct Sender {
    /// None where the app started no context: then nobody takes anything.
    out: Option<Box<Outgoing>>,
}

#[derive(Debug)]
struct Outgoing {
    out: Outflow<Held>,
    /// For the next item's encoding, so that none is cleared for each.
    room: [u8; INLINE_LEN],
    call: Ours,
    /// What the app said of how far it has read made no sense. Its worker was told of once.
    damaged: bool,
}

/// The call that the items go with.
#[derive(Debug)]
struct Ours {
    part: Part,
    deadline_ns: Option<u64>,
    /// The call that it is made in.
    outer: Option<Arc<dyn Ongoing>>,
}

/// Most items on their way to the app.
const ITEMS: u64 = 1024;
/// Most bytes in blocks on their way to the app. One item may be larger.
const BYTES: u64 = 8 << 20;

impl Sender {
    /// To nobody: the app has started no context.
    pub(super) fn none() -> Sender {
        Sender { out: None }
    }

    /// Of a call with this stream, whose other direction lies in this block.
    pub(super) fn new(
        stream: &Arc<Incoming>,
        block: StreamBlock,
        deadline_ns: Option<u64>,
        outer: Option<Arc<dyn Ongoing>>,
    ) -> Sender {
        let out = Outgoing {
            out: Outflow::new(block, stream.key(), ITEMS, BYTES),
            room: [0; INLINE_LEN],
            call: Ours { part: Part::last(stream.clone()), deadline_ns, outer },
            damaged: false,
        };
        Sender { out: Some(Box::new(out)) }
    }

    /// Sends one item; a [`Lease`](crate::Lease) in it is lent in place. Blocks while there is no room, without spinning: at most
    /// 1,024 items, 32 KiB of small ones and 8 MiB of large ones are on their way, and an item that the app holds is, with all
    /// behind it.
    ///
    /// # Errors
    /// `Closed` once the call has ended, or the direction is finished: the call's outcome comes from the other direction.
    /// `Deadline` when the call's own has passed while this waited; `ArbiterDied`; `Overloaded` and `BadRequest` as for
    /// arguments; `Protocol`, for good, where what the app says of how far it has read makes no sense. The item is not sent
    /// then.
    pub fn send(&mut self, item: impl Encode) -> Result<()> {
        self.send_until(&item, None)
    }

    /// The same, and no longer than this: then it is a `Deadline` of [`Limit::Item`].
    ///
    /// # Errors
    /// As [`send`](Sender::send).
    pub fn send_for(&mut self, item: impl Encode, timeout: Duration) -> Result<()> {
        self.send_until(&item, Some(clock::after(timeout)))
    }

    fn send_until(&mut self, item: &(impl Encode + ?Sized), until: Option<u64>) -> Result<()> {
        match &mut self.out {
            Some(out) if out.damaged => Err(nonsense()),
            Some(out) if !out.out.is_closed() => {
                let sent = out.send(item, until);
                out.damaged = sent.as_ref().is_err_and(|error| error.code() == Code::Protocol);
                sent
            }
            _ => Err(ErrorKind::Closed.into()),
        }
    }

    /// Takes back what the app is through with, as each send does: leases that went with items may be written again then
    /// ([`Lease::try_as_mut`](crate::Lease::try_as_mut)). Does not block.
    ///
    /// # Errors
    /// `Protocol` where what the app says of that makes no sense.
    pub fn reclaim(&mut self) -> Result<()> {
        match &mut self.out {
            Some(out) if out.call.shared().is_original() => out.call.reclaim(&mut out.out),
            _ => Ok(()),
        }
    }

    /// No further item comes. The app is told; the call goes on.
    pub fn finish(&mut self) {
        if let Some(out) = &mut self.out {
            out.close();
        }
    }
}

impl Outgoing {
    fn send(&mut self, item: &(impl Encode + ?Sized), until: Option<u64>) -> Result<()> {
        let Outgoing { out, room, call, .. } = self;
        let shared = call.shared();
        shared.check_process()?;
        let (lane, number) = call.part.stream().lane();
        call.reclaim(out)?;
        let mut sent = Sent::new();
        let bad = |e| Error::bad_request(format!("the item cannot be encoded: {e}"));
        let encode = |e: &mut Encoder<'_>| wire::chunk(item, e).map_err(bad);
        let mut e = Encoder::new(&mut room[..]);
        encode(&mut e)?;
        let (body, inline, block) = match e.finish() {
            Ok(len) => (Body::Inline(len), &room[..len], None),
            Err(more) => {
                // Before it is copied: who does not wait would do that again and again.
                let needed = more.needed;
                let body = Body::Block { region: 0, offset: 0, len: needed };
                let item = out.pack(Kind::Chunk, number as u64, body, &[], needed as u64);
                call.wait_for_room(out, item, until)?;
                let encoded = Unlent::encode(shared, lane, needed, &mut sent, encode);
                let (block, body) = encoded.map_err(|error| call.unanswered(error))?;
                (body, &[][..], Some(block))
            }
        };
        let leases = sent.check(lane).map_err(Error::bad_request)?;
        let bytes = leases + block.as_ref().map_or(0, Unlent::bytes);
        let item = out.pack(Kind::Chunk, number as u64, body, inline, bytes);
        call.push(out, item, until)?;
        if let Some(block) = block {
            block.lend(|held| lend(out, held));
        }
        sent.take(|lease| lend(out, Held::Lease(lease)));
        Ok(())
    }

    fn close(&mut self) {
        let stream = self.call.part.stream();
        if !self.out.is_closed() && stream.shared().is_original() {
            self.out.close();
            crash_point!("stream.closed");
            let (lane, call) = stream.lane();
            lane.line(call).bell.ring(&Kernel);
        }
    }
}

fn lend(out: &mut Outflow<Held>, held: Held) {
    let bytes = held.bytes();
    out.lend(held, bytes);
}

impl Ours {
    fn shared(&self) -> &Shared {
        self.part.stream().shared()
    }

    fn wait_for_room(&self, out: &mut Outflow<Held>, item: Packed, until: Option<u64>) -> Result<()> {
        let (lane, call) = self.part.stream().lane();
        let line = lane.line(call);
        let cursor = self.part.stream().back_cursor();
        while !out.has_room(cursor, item).map_err(|Corrupt| self.damaged())? {
            if !self.is_open(lane, line) {
                return Err(ErrorKind::Closed.into());
            }
            let now = clock::monotonic_ns();
            let over = |limit: Option<u64>| limit.is_some_and(|limit| now >= limit);
            if over(until) || over(self.deadline_ns) {
                let limit = if over(self.deadline_ns) { Limit::Call } else { Limit::Item };
                return Err(ErrorKind::Deadline { started: true, limit }.into());
            }
            let left = clock::earlier(until, self.deadline_ns).map_or(u64::MAX, |limit| limit - now);
            let slice = Duration::from_nanos(left.min(LONGEST_SLICE_NS));
            let mut looked = Ok(());
            line.bell.park(&Kernel, Some(slice), || {
                // What is taken back is room, too.
                looked = self.reclaim(out);
                looked.is_ok() && self.is_open(lane, line) && out.has_room(cursor, item) == Ok(false)
            });
            looked?;
            self.reclaim(out)?;
            if self.shared().arbiter.is_dead() {
                return Err(ErrorKind::ArbiterDied { started: true }.into());
            }
        }
        Ok(())
    }

    fn push(&self, out: &mut Outflow<Held>, item: Packed, until: Option<u64>) -> Result<()> {
        self.wait_for_room(out, item, until)?;
        let (lane, call) = self.part.stream().lane();
        let (line, cursor) = (lane.line(call), self.part.stream().back_cursor());
        if !CallLine::is_pending(line.glance()) {
            return Err(ErrorKind::Closed.into());
        }
        match out.push(cursor, item) {
            Ok(()) => {
                line.bell.ring(&Kernel);
                Ok(())
            }
            Err(Unsent::Full | Unsent::Corrupt) => Err(self.damaged()),
        }
    }

    /// Whether the call goes on, as far as can be told here. Where it does not its outcome comes from the other direction.
    fn is_open(&self, lane: &Lane, line: &CallLine) -> bool {
        let shared = self.shared();
        CallLine::is_pending(line.glance())
            // A damaged lane's words are left as they are. Nobody says so once the arbiter is gone.
            && (shared.registry.lane(lane.index) == LaneState::Open(lane.serial) || shared.arbiter.is_known_dead())
            && !self.outer.as_ref().is_some_and(|outer| outer.is_over())
    }

    /// An arbiter that is gone is so to a call that has begun, or has ended by that.
    #[cold]
    fn unanswered(&self, error: Error) -> Error {
        match error.code() {
            Code::ArbiterDied | Code::ShuttingDown => {
                let (lane, call) = self.part.stream().lane();
                let goes_on = CallLine::is_pending(lane.line(call).glance());
                if goes_on { ErrorKind::ArbiterDied { started: true } } else { ErrorKind::Closed }.into()
            }
            _ => error,
        }
    }

    /// Takes back what the app is through with.
    fn reclaim(&self, out: &mut Outflow<Held>) -> Result<()> {
        if out.lent().0 == 0 {
            return Ok(());
        }
        let stream = self.part.stream();
        let back = |held| stream.lane().0.take_back(held);
        out.take_back(stream.back_cursor(), back).map_err(|Corrupt| self.damaged())
    }

    /// What the app said of how far it has read makes no sense.
    #[cold]
    fn damaged(&self) -> Error {
        self.shared().accuse(self.part.stream().life(), NONSENSE);
        nonsense()
    }
}

const NONSENSE: &str = "a worker has taken more of a context than was sent";

fn nonsense() -> Error {
    ErrorKind::Protocol(NONSENSE.into()).into()
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.close();
        let stream = self.call.part.stream();
        if stream.shared().is_original() {
            let (lane, call) = stream.lane();
            // The app may still look at them: they are ours again when the call is, which this part keeps from being free.
            self.out.drain().for_each(|held| lane.lend(call, held));
        }
    }
}

const _: () = {
    const fn of_any_thread<T: Send>() {}
    of_any_thread::<Sender>();
};
