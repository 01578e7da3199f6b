//! The items that the opener of a context sends to its app.

use super::ctx::Ctx;
use super::job::{Body, ClientMemory, is_the_callers, out_of_reach};
use super::running::Running;
use super::runtime::Worker;
use crate::error::{CancelledBy, Error, Kind as ErrorKind, Limit, Result};
use crate::limits::{INLINE_LEN, LONGEST_SLICE_NS, STREAM_WORDS};
use crate::primitive::{AtomicBool, Ordering};
use crate::ring::{Adaptive, Intake, Mode, Popped, State, Waited};
use crate::shm::{Body as At, OwnRecord, Owner, Place, STREAM_START, StreamBlock, item};
use crate::sys::futex::Kernel;
use crate::sys::{awake, clock};
use crate::wire::{Decode, Header, Kind, ResponseRef, ValueRef};
use std::cell::Cell;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// What the opener of a context sends, in order: from [`Dialog`](super::Dialog). An iterator, which ends when the opener has
/// finished its direction.
pub struct Inbox<'c> {
    ctx: &'c Ctx,
    /// In the opener's memory.
    theirs: StreamBlock,
    /// With the cursor, in ours.
    ours: StreamBlock,
    intake: Mutex<Intake>,
    closed: AtomicBool,
    /// Why an item could not be had.
    failed: OnceLock<ErrorKind>,
}

/// One item of an [`Inbox`]. Bytes that the opener lent are read in its memory; they are lent until this is dropped.
pub struct Received<'i> {
    body: Body,
    memory: ClientMemory<&'i Worker>,
    held: Held<'i>,
}

/// Its place in the opener's ring, which is the opener's again when this is dropped.
struct Held<'i> {
    inbox: &'i Inbox<'i>,
    number: Option<u64>,
}

thread_local! {
    /// What this thread has learnt about waiting for items. Beside what it has learnt about waiting for calls.
    static LEARNT: Cell<Option<Adaptive>> = const { Cell::new(None) };
}

impl<'c> Inbox<'c> {
    /// Of a call whose caller opened a context; `ours` is the block of the stream to it, the caller's is
    /// [there](Inbox::back).
    ///
    /// # Errors
    /// `Protocol` if the caller's memory makes no sense; `App` if this worker cannot get at it.
    pub(super) fn open(ctx: &'c Ctx, running: &Running, ours: StreamBlock, back: u64) -> Result<Inbox<'c>> {
        let key = running.key();
        let nonsense =
            || Error::new(ErrorKind::Protocol("the caller's side of a context makes no sense".into()));
        let Some(Place::Record { region, offset }) = Place::unpack(back) else { return Err(nonsense()) };
        let worker = ctx.worker();
        let owner = Owner::of_lane(running.lane.serial);
        let region = worker.foreign.get(&worker.registry, region, owner, &worker.fetcher);
        let region =
            region.map_err(|why| if is_the_callers(&why) { nonsense() } else { out_of_reach(&why) })?;
        let theirs = StreamBlock::open(&region, offset, key).ok_or_else(nonsense)?;
        let intake = Mutex::new(Intake::new(STREAM_START));
        Ok(Inbox { ctx, theirs, ours, intake, closed: AtomicBool::new(false), failed: OnceLock::new() })
    }

    /// Where the opener's block is said to be.
    ///
    /// # Errors
    /// `BadRequest` if there is none.
    pub(super) fn back(running: &Running) -> Result<u64> {
        let none = || Error::bad_request("the caller has opened no context: the action is for Call::context");
        running.cursor().back(running.key().pack()).filter(|back| *back != 0).ok_or_else(none)
    }

    /// The next item; `None` when the opener has finished its direction. Blocks.
    ///
    /// # Errors
    /// `Cancelled` once nobody waits for the call any more. `App` where this worker cannot get at an item in its opener's
    /// memory, for want of descriptors, say; `Protocol` where that makes no sense. Either comes again then: what would follow is
    /// not the next item.
    pub fn recv(&self) -> Result<Option<Received<'_>>> {
        loop {
            if let Some(received) = self.recv_until(u64::MAX)? {
                return Ok(received);
            }
        }
    }

    /// The same, no longer than this.
    ///
    /// # Errors
    /// As [`recv`](Inbox::recv), and `Deadline` of [`Limit::Item`] when the time is up.
    pub fn recv_for(&self, timeout: Duration) -> Result<Option<Received<'_>>> {
        let received = self.recv_until(clock::after(timeout))?;
        received.ok_or_else(|| ErrorKind::Deadline { started: true, limit: Limit::Item }.into())
    }

    /// The next item if it is there; `None` if not, `Some(None)` when the opener has finished its direction.
    ///
    /// # Errors
    /// As [`recv`](Inbox::recv).
    pub fn try_recv(&self) -> Result<Option<Option<Received<'_>>>> {
        let running = self.running()?;
        running.check_wanted(self.ctx.worker())?;
        self.take()
    }

    /// As `try_recv`, after a wait until then, monotonic nanoseconds, if need be.
    fn recv_until(&self, until: u64) -> Result<Option<Option<Received<'_>>>> {
        let running = self.running()?;
        let mut spins = true;
        loop {
            running.check_wanted(self.ctx.worker())?;
            if let Some(received) = self.take()? {
                return Ok(Some(received));
            }
            let seen = self.intake().seen();
            let line = running.line();
            let news = || {
                seen.has_news(self.theirs.ring())
                    || self.theirs.is_closed()
                    || !line.look().is_ok_and(|word| word.state() == State::Running)
            };
            if spins && self.stays_awake(until, news) {
                continue;
            }
            spins = false; // it takes long
            let now = clock::monotonic_ns();
            if now >= until {
                return Ok(None);
            }
            let slice = Duration::from_nanos((until - now).min(LONGEST_SLICE_NS));
            line.bell.park(&Kernel, Some(slice), || !news());
        }
    }

    /// Waits for `news` without sleeping, as far as this thread has learnt that it is worth its while. Whether it is to look.
    #[inline]
    fn stays_awake(&self, until: u64, news: impl Fn() -> bool) -> bool {
        let worker = self.ctx.worker();
        let mut adaptive = LEARNT.get().unwrap_or_else(|| worker.patience());
        let for_ever = worker.mode == Mode::Spin;
        let around = if for_ever { clock::coarse_ns().saturating_add(LONGEST_SLICE_NS) } else { u64::MAX };
        let waited = awake::stay_awake(&mut adaptive, true, until.min(around), news);
        LEARNT.set(Some(adaptive));
        !matches!(waited, Waited::Slept { .. }) || (for_ever && clock::monotonic_ns() < until)
    }

    fn take(&self) -> Result<Option<Option<Received<'_>>>> {
        if self.closed.load(Ordering::Relaxed) {
            return self.end();
        }
        if let Some(why) = self.failed.get() {
            return Err(Error::new(why.clone()));
        }
        // Before the last look.
        let is_closed = self.theirs.is_closed();
        let mut words = [0; STREAM_WORDS];
        let mut intake = self.intake();
        let (popped, number) = intake.pop(self.theirs.ring(), &mut words);
        let words = match popped {
            Popped::Message(words) => words,
            Popped::Corrupt => {
                drop(intake);
                return Err(self.failed(self.damaged()));
            }
            Popped::Empty => {
                if intake.tell_all(self.theirs.ring(), self.ours.cursor()) {
                    self.ring_bell();
                }
                if !is_closed {
                    return Ok(None);
                }
                self.closed.store(true, Ordering::Relaxed);
                drop(intake);
                return self.end();
            }
        };
        drop(intake);
        let held = Held { inbox: self, number: Some(number) };
        self.read(words, held).map(|received| Some(Some(received))).map_err(|error| self.failed(error))
    }

    /// An item was lost: nothing comes after it but this.
    #[cold]
    fn failed(&self, error: Error) -> Error {
        let _ = self.failed.set(error.kind().clone());
        error
    }

    /// There is no further item. Who gave the call up has not finished what it sent, however that looks: it gives up first,
    /// in its own record where the word does not say it.
    fn end(&self) -> Result<Option<Option<Received<'_>>>> {
        let running = self.running()?;
        running.check_wanted(self.ctx.worker())?;
        match running.lane.requests.own(running.entry.call).0 {
            OwnRecord::Queued(generation) if generation == running.entry.generation => Ok(Some(None)),
            _ => Err(Error::new(ErrorKind::Cancelled { by: CancelledBy::Caller, started: true })),
        }
    }

    fn read<'i>(&'i self, words: &[u64], held: Held<'i>) -> Result<Received<'i>> {
        let mut room = [0; INLINE_LEN];
        let unpacked = item::unpack(words, &mut room);
        let (header, body) = unpacked.ok_or_else(|| self.damaged())?;
        match Header::decode_extended(&header) {
            Ok(Header { kind: Kind::Chunk, .. }) => {}
            _ => return Err(self.damaged()),
        }
        let worker: &Worker = self.ctx.worker();
        let memory = ClientMemory::new(worker, self.running()?.lane.serial);
        let body = match body {
            At::Inline(len) => Body::Inline { len, room },
            At::Block { region, offset, len } => {
                Body::Large(memory.copy(region, offset, len).map_err(|error| self.unread(&error))?)
            }
        };
        let mut received = Received { body, memory, held };
        // What it refers to is fetched here, and an item that cannot be read is found here.
        if ResponseRef::decode(Kind::Chunk, received.body.bytes(), &received.memory).is_err() {
            return Err(match received.memory.into_trouble() {
                Some(error) => self.unread(&error),
                None => self.damaged(),
            });
        }
        if received.memory.met_nothing() {
            received.held.let_go();
        }
        Ok(received)
    }

    /// What an item lies in, or refers to, cannot be had.
    fn unread(&self, why: &Error) -> Error {
        if is_the_callers(why) { self.damaged() } else { out_of_reach(why) }
    }

    fn running(&self) -> Result<&Running> {
        self.ctx.running().ok_or_else(super::sink::no_call)
    }

    fn ring_bell(&self) {
        if let Some(running) = self.ctx.running() {
            running.ring_bell(self.ctx.worker());
        }
    }

    #[cold]
    fn damaged(&self) -> Error {
        let why = "what a client sends in a context makes no sense";
        self.running().map_or_else(|none| none, |running| running.damaged(self.ctx.worker(), why))
    }

    fn intake(&self) -> MutexGuard<'_, Intake> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Received<'_> {
    /// The item as a value that borrows from this.
    ///
    /// # Errors
    /// None for an item as it came; it was read once already.
    pub fn value(&self) -> Result<ValueRef<'_>> {
        Ok(ResponseRef::item_again(self.body.bytes(), &self.memory)?)
    }

    /// The item as a type of one's own.
    ///
    /// # Errors
    /// `Value` if it is something else.
    pub fn parse<'a, T: Decode<'a>>(&'a self) -> Result<T> {
        T::decode(self.value()?)
    }

    /// Its bytes, in the opener's memory if it lent them.
    ///
    /// # Errors
    /// `Value` if it is not bytes.
    pub fn as_bytes(&self) -> Result<&[u8]> {
        self.parse()
    }
}

impl Held<'_> {
    fn let_go(&mut self) {
        let Some(number) = self.number.take() else { return };
        let inbox = self.inbox;
        let tell = inbox.intake().let_go(inbox.theirs.ring(), inbox.ours.cursor(), number);
        if tell {
            inbox.ring_bell();
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.let_go();
    }
}

impl<'i> Iterator for &'i Inbox<'_> {
    type Item = Result<Received<'i>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.recv().transpose()
    }
}

impl std::fmt::Debug for Inbox<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox(of call {})", self.ctx.id())
    }
}

impl std::fmt::Debug for Received<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Received({:?})", self.value())
    }
}
