//! The items that the worker of a call sends, as their consumer takes them: in order, each held until it is dropped.

use super::Response;
use super::body::Body as Copied;
use super::connection::Shared;
use super::hold::Hold;
use super::lane::Lane;
use super::response::Unreadable;
use super::submission::Submission;
use crate::error::{Code, Error, Result};
use crate::limits::STREAM_WORDS;
use crate::primitive::{AtomicBool, Ordering};
use crate::ring::{Corrupt, Cursor, Intake, Life, Popped};
use crate::shm::{Body, Owner, Place, Region, ResultKey, STREAM_START, StreamBlock, item};
use crate::sys::futex::Kernel;
use crate::wire::{Header, Kind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The consumer's end of one stream. Kept by the call while it is in flight, by its items, by its last result, and by a
/// context's sender; when the last of them is gone the call's line is free.
#[derive(Debug)]
pub(super) struct Incoming {
    sent: Submission,
    life: Life,
    block: StreamBlock,
    is_context: bool,
    taking: Mutex<Taking>,
    over: Mutex<Over>,
    /// The worker has finished this direction, and everything that it sent was read.
    closed: AtomicBool,
}

/// What the worker sent.
#[derive(Debug)]
pub(super) enum Arrival {
    /// That it has started a context.
    Started(Response),
    Item(Response),
}

#[derive(Debug)]
struct Taking {
    intake: Intake,
    /// Room for one message, so that none is cleared for each.
    words: [u64; STREAM_WORDS],
}

/// How the call ended.
#[derive(Debug)]
enum Over {
    Not,
    /// With an outcome: its line is freed with this.
    Ended(#[allow(dead_code)] Hold),
    /// It was given up, and its worker may still have it.
    Abandoned,
    /// Its lane is used no more.
    Damaged,
}

/// One item, or the end, of a stream: what its response keeps.
#[derive(Debug)]
pub(super) struct Part {
    stream: Arc<Incoming>,
    /// Its number among the items that are held. `None` where nothing of it is in the producer's memory.
    held: Option<u64>,
}

/// Why there is no next item, although one was announced.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It makes no sense.
    Damaged(&'static str),
    /// It lies in memory that its worker does not have any more.
    Gone,
    /// This process cannot get at it.
    Here(Error),
}

impl Incoming {
    /// The stream of a call that this life has, at this place as its line says; `None` if there is none of this call.
    pub fn attach(sent: &Submission, life: Life, place: u64, is_context: bool) -> Result<Option<Incoming>> {
        let Some(Place::Record { region, offset }) = Place::unpack(place) else { return Ok(None) };
        let owner = Owner::Life(life.get());
        let region = match sent.shared.foreign.get(&sent.shared.registry, region, owner, &sent.shared.arbiter)
        {
            Ok(region) => region,
            Err(error) if error.code() == Code::Protocol => return Ok(None),
            Err(error) => return Err(error),
        };
        let key = sent.key();
        let Some(block) = StreamBlock::open(&region, offset, key) else { return Ok(None) };
        crash_point!("client.stream.found");
        if !is_context {
            // Of a context the app found it there.
            let cursor = sent.lane.requests.cursor(sent.call);
            cursor.back.store(0, Ordering::Relaxed);
            cursor.attach(key.pack(), STREAM_START);
        }
        Ok(Some(Incoming {
            sent: sent.clone(),
            life,
            block,
            is_context,
            taking: Mutex::new(Taking { intake: Intake::new(STREAM_START), words: [0; STREAM_WORDS] }),
            over: Mutex::new(Over::Not),
            closed: AtomicBool::new(false),
        }))
    }

    pub fn shared(&self) -> &Arc<Shared> {
        &self.sent.shared
    }

    pub fn lane(&self) -> (&Arc<Lane>, usize) {
        (&self.sent.lane, self.sent.call)
    }

    pub fn key(&self) -> ResultKey {
        self.sent.key()
    }

    /// How far the app has read what is sent to it.
    pub fn back_cursor(&self) -> &Cursor {
        self.block.cursor()
    }

    /// Whether nothing more will come, although the call may go on.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    pub fn life(&self) -> Life {
        self.life
    }

    /// What tells whether there may be an item that was not taken: for who is about to wait.
    #[inline]
    pub fn news(&self) -> impl Fn() -> bool + use<'_> {
        let seen = self.taking().intake.seen();
        let (ring, closed) = (self.block.ring(), self.is_closed());
        move || seen.has_news(ring) || (!closed && self.block.is_closed())
    }

    /// Whether there are items that were not taken.
    pub fn has_items(&self) -> bool {
        self.taking().intake.seen().has_news(self.block.ring())
    }

    /// The producer has ended: what is not there by now is no item.
    pub fn finish(&self) -> Result<(), Trouble> {
        crash_point!("client.stream.ended");
        let finished = self.taking().intake.finish(self.block.ring());
        finished.map_err(|Corrupt| Trouble::Damaged("the ring of a stream makes no sense"))
    }

    /// The next item, if it is there. One thread at a time takes; items are dropped on any.
    pub fn pop(self: &Arc<Self>) -> Result<Option<Arrival>, Trouble> {
        // Before the last look.
        let is_closed = self.block.is_closed();
        let mut taking = self.taking();
        let Taking { intake, words } = &mut *taking;
        let (popped, number) = intake.pop(self.block.ring(), words);
        let words = match popped {
            Popped::Message(words) => words,
            Popped::Empty => {
                if is_closed {
                    self.closed.store(true, Ordering::Relaxed);
                }
                // Before anybody waits for more.
                let tell = intake.tell_all(self.block.ring(), self.cursor());
                drop(taking);
                if tell {
                    self.ring_bell();
                }
                return Ok(None);
            }
            Popped::Corrupt => return Err(Trouble::Damaged("the ring of a stream makes no sense")),
        };
        crash_point!("client.stream.popped");
        let nonsense = Trouble::Damaged("an item of a stream makes no sense");
        let mut room = self.sent.lane.spare(self.sent.call).take();
        let Some((header, body)) = item::unpack(words, &mut room) else { return Err(nonsense) };
        let kind = match Header::decode_extended(&header) {
            Ok(Header { kind: Kind::Chunk, .. }) => Kind::Chunk,
            // Before anything else.
            Ok(Header { kind: Kind::Started, .. }) if self.is_context && number == 0 => Kind::Started,
            _ => return Err(nonsense),
        };
        let part = |held| Part { stream: self.clone(), held };
        let response = match body {
            Body::Inline(len) => {
                // Most refer to nothing: read and let go of under one lock. Dropped under it, a part must not take it.
                let response = Response::item(part(None), Copied::Inline { len, room });
                if response.is_all_here() {
                    let tell = intake.let_go(self.block.ring(), self.cursor(), number);
                    drop(taking);
                    if tell {
                        self.ring_bell();
                    }
                    response
                } else {
                    drop(taking);
                    checked(response.holding(number), nonsense)?
                }
            }
            Body::Block { region, offset, len } => {
                drop(taking);
                let part = part(Some(number));
                let body = copy(&*self.region(region)?, offset, len)?;
                checked(Response::item(part, Copied::Owned(body)), nonsense)?
            }
        };
        Ok(Some(if kind == Kind::Started { Arrival::Started(response) } else { Arrival::Item(response) }))
    }

    fn region(&self, index: u16) -> Result<Arc<Region>, Trouble> {
        let owner = Owner::Life(self.life.get());
        let got =
            self.sent.shared.foreign.get(&self.sent.shared.registry, index, owner, &self.sent.shared.arbiter);
        got.map_err(|error| match error.code() {
            Code::Protocol => Trouble::Gone,
            _ => Trouble::Here(error),
        })
    }

    /// The call has an outcome: its line is free with the last item.
    pub fn ended(&self, hold: Hold) {
        *self.over() = Over::Ended(hold);
    }

    /// The call was given up: its line is given back with the last item.
    pub fn abandoned(&self) {
        *self.over() = Over::Abandoned;
    }

    /// See [`Submission::damaged`].
    #[cold]
    pub fn damaged(&self, why: &str) -> Error {
        if let Over::Ended(mut hold) = std::mem::replace(&mut *self.over(), Over::Damaged) {
            hold.leave();
        }
        self.sent.damaged(true, why)
    }

    /// Whether this process has meddled with its own side of the stream. Its worker must not die of that.
    #[cold]
    pub fn is_spoilt(&self) -> bool {
        self.taking().intake.is_spoilt(self.cursor(), self.key().pack())
    }

    fn let_go(&self, number: u64) {
        let tell = self.taking().intake.let_go(self.block.ring(), self.cursor(), number);
        if tell {
            self.ring_bell();
        }
    }

    fn cursor(&self) -> &Cursor {
        self.sent.lane.requests.cursor(self.sent.call)
    }

    /// The producer may sleep for want of room.
    fn ring_bell(&self) {
        self.sent.lane.line(self.sent.call).bell.ring(&Kernel);
    }

    fn taking(&self) -> MutexGuard<'_, Taking> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn over(&self) -> MutexGuard<'_, Over> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    pub fn last(stream: Arc<Incoming>) -> Part {
        Part { stream, held: None }
    }

    pub fn stream(&self) -> &Arc<Incoming> {
        &self.stream
    }

    /// It lies in the producer's memory, under this number.
    pub fn hold(&mut self, number: u64) {
        self.held = Some(number);
    }

    /// Nothing of it is in the producer's memory.
    pub fn let_go(&mut self) {
        if let Some(number) = self.held.take() {
            self.stream.let_go(number);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.stream.sent.shared.is_original() {
            self.let_go();
        }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.sent.shared.is_original() {
            return;
        }
        match self.over.get_mut().unwrap_or_else(PoisonError::into_inner) {
            Over::Abandoned => {
                self.sent.give_up(false);
                self.sent.lane.abandon(self.sent.call);
            }
            Over::Damaged => self.sent.give_up(false),
            Over::Ended(_) | Over::Not => {}
        }
    }
}

/// An item that may refer to other memory, once that is at hand.
fn checked(mut response: Response, nonsense: Trouble) -> Result<Response, Trouble> {
    match response.check() {
        Ok(()) => {}
        Err(Unreadable::Damaged) => return Err(nonsense),
        Err(Unreadable::Gone) => return Err(Trouble::Gone),
        Err(Unreadable::Here(error)) => return Err(Trouble::Here(error)),
    }
    response.keep_what_it_needs();
    Ok(response)
}

fn copy(from: &Region, offset: u64, len: usize) -> Result<Vec<u8>, Trouble> {
    super::outcome::copy(from, offset, len).map_err(Trouble::Damaged)?.map_err(Trouble::Here)
}
