//! A pool of one client and one worker, as far as shared memory goes: what an arbiter makes and says, and what a worker that
//! keeps to the rules writes. No process and no thread is behind it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use stokehold::Value;
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::limits::INLINE_LEN;
use stokehold::internals::primitive::{AtomicU64, Ordering};
use stokehold::internals::ring::{CallLine, Entry, Generation, Life, Queue, Taken};
use stokehold::internals::shm::{
    Arena, Board, Body, Control, LaneState, Outflow, Owner, Place, Placed, PoolState, RESULT_BLOCKS,
    RESULTS_LEN, RegionEntry, RegionId, RegionKind, Registry, Requests, ResultKey, Results, STREAMED,
    SlotState, StreamBlock,
};
use stokehold::internals::sys::event::Event;
use stokehold::internals::sys::{pidfd, socket};
use stokehold::internals::wire::{self, Encoder, ErrorDetails, Header, Kind};

/// The worker's life.
pub const LIFE: u16 = 3;
/// The client's lane, which is the first.
pub const SERIAL: u64 = 5;
/// The generation that each line begins with.
pub const GENERATION: Generation = Generation(1);
const RESULTS: RegionId = RegionId { index: 1, serial: 1 };
const REQUESTS: RegionId = RegionId { index: 2, serial: 2 };
const APP: &str = "a:A";

/// All of it.
pub struct Pool {
    pub registry: Registry,
    pub board: Board,
    pub control: Control,
    pub results: Results,
    arena: Arena,
    link: Link,
    requests: Option<Requests>,
}

impl Pool {
    /// A new one, and the socket that a client is to connect with. What the client will ask for is answered beforehand: with
    /// `event` first its event descriptor, then the worker's region; everything else it asks in vain.
    pub fn new(event: bool) -> (Pool, OwnedFd) {
        let (ours, theirs) = socket::pair().expect("a pair");
        let mut pool = Pool {
            registry: Registry::create().expect("memory"),
            board: Board::create().expect("memory"),
            control: Control::create(GENERATION).expect("memory"),
            results: Results::create().expect("memory"),
            arena: Arena::new(RESULT_BLOCKS as u64, RESULTS_LEN as u64),
            link: Link::new(ours),
            requests: None,
        };
        pool.publish();
        pool.answer(event);
        (pool, theirs)
    }

    fn publish(&self) {
        self.registry.set_state(PoolState::Running);
        self.registry.set_ready(1);
        self.registry.set_lane(0, LaneState::Open(SERIAL));
        self.registry.set_slot(0, Life::new(LIFE), SlotState::Ready, 1);
        let entry = |id, kind, len, owner| RegionEntry { id, kind, len, owner };
        self.registry.set_region(entry(RESULTS, RegionKind::Results, RESULTS_LEN as u64, Owner::Life(LIFE)));
        self.registry.set_region(entry(REQUESTS, RegionKind::Requests, 64 * 1024, Owner::of_lane(SERIAL)));
    }

    fn answer(&mut self, event: bool) {
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().expect("a descriptor");
        let welcome = Message::new(Kind::Welcome)
            .answering(1)
            .with("lane", 0)
            .with("serial", SERIAL as i64)
            .with("generation", GENERATION.0)
            .with("apps", vec![APP.to_owned()])
            .with("timeout_ns", 0)
            .with("app_threads", 1)
            .with_fd(copy(self.control.fd()))
            .with_fd(copy(self.registry.fd()))
            .with_fd(copy(self.board.fd()))
            .with_fd(pidfd::of_self().expect("a pidfd"));
        let registered = Message::new(Kind::Registered)
            .answering(2)
            .with("index", i64::from(REQUESTS.index))
            .with("region_serial", i64::from(REQUESTS.serial));
        let events = Event::new().ok().filter(|_| event);
        let events =
            events.map(|event| Message::new(Kind::Fetched).answering(3).with_fd(copy(event.as_fd())));
        let fetched = Message::new(Kind::Fetched)
            .answering(3 + u64::from(event))
            .with("len", RESULTS_LEN as i64)
            .with_fd(copy(self.results.region().fd()));
        for message in [Some(welcome), Some(registered), events, Some(fetched)].into_iter().flatten() {
            self.link.send(message).expect("there is room");
        }
        // SAFETY: plain numbers.
        assert_eq!(unsafe { libc::shutdown(self.link.fd().as_raw_fd(), libc::SHUT_WR) }, 0);
    }

    /// The client's own region, which it has registered.
    pub fn requests(&mut self) -> Requests {
        while self.requests.is_none() {
            let mut message = self.link.receive(Some(Duration::ZERO)).ok().flatten().expect("it has said so");
            if message.kind == Kind::Register {
                let fd = message.fds.pop().expect("with its descriptor");
                self.requests = Some(Requests::adopt(fd).expect("made by the library"));
            }
        }
        self.requests.clone().expect("just now")
    }

    /// Its calls.
    pub fn queue(&self) -> Queue<'_> {
        let (lines, ring) = (self.control.lines(), self.control.ring());
        Queue { lines, ring, pending: self.board.pending(), index: 0 }
    }

    /// The line of a call.
    pub fn line(&self, call: usize) -> &CallLine {
        &self.control.lines()[call]
    }

    /// By which the worker names a call.
    pub fn key(call: usize, generation: Generation) -> ResultKey {
        ResultKey { lane: SERIAL, call, generation }
    }

    /// Worker: takes a call that waits.
    pub fn take(&self) -> Option<Entry> {
        match self.queue().take(life()) {
            Taken::Call(entry) => Some(entry),
            _ => None,
        }
    }

    /// Worker: publishes an answer; `streamed` if items came before it.
    pub fn complete(&mut self, of: Entry, answer: &Answer, streamed: bool) {
        let (kind, bytes) = answer.body(false);
        let (at, inline) = self.place(&bytes);
        let header = Header { kind, len: bytes.len() as u32, id: 1 }.encode();
        let record = self.results.record(of.call);
        record.write(header, at, if streamed { STREAMED } else { 0 }, if inline { &bytes } else { &[] });
        self.results.name(of.call, Pool::key(of.call, of.generation));
        let place = Place::Record { region: RESULTS.index, offset: Results::offset_of(of.call) };
        let _ = self.line(of.call).complete(of.generation, life(), place.pack());
    }

    /// Worker: sends these items. Where its block is, if there was room for one.
    pub fn send(&mut self, of: Entry, items: &[Answer], closed: bool) -> Option<usize> {
        let key = Pool::key(of.call, of.generation);
        let (block, offset) = self.stream_block(key)?;
        let cursors = self.requests();
        let mut flow: Outflow<()> = Outflow::new(block, key, 64, 1 << 20);
        for answer in items.iter().take(12) {
            let (kind, bytes) = answer.body(true);
            let (at, inline) = self.place(&bytes);
            let packed = flow.pack(kind, 1, at, if inline { &bytes } else { &[] }, 0);
            let _ = flow.push(cursors.cursor(of.call), packed);
        }
        if closed {
            flow.close();
        }
        self.line(of.call).announce(Place::Record { region: RESULTS.index, offset: offset as u64 }.pack());
        Some(offset)
    }

    /// Worker: the block of a stream, and where it is.
    pub fn stream_block(&mut self, key: ResultKey) -> Option<(StreamBlock, usize)> {
        let block = self.arena.allocate(StreamBlock::LEN as u64)?;
        let offset = block.offset as usize;
        let placed = Placed { id: RESULTS, region: self.results.region().clone(), block };
        Some((StreamBlock::create(&placed, key), offset))
    }

    /// Where a body lies, which is written there if it is not to be in a record.
    fn place(&mut self, bytes: &[u8]) -> (Body, bool) {
        if bytes.len() <= INLINE_LEN {
            return (Body::Inline(bytes.len()), true);
        }
        // No room: an answer that is not what its header says.
        let Some(block) = self.arena.allocate(bytes.len() as u64) else { return (Body::Inline(0), false) };
        let words = self.results.region().array::<AtomicU64>(block.offset as usize, bytes.len().div_ceil(8));
        for (word, part) in words.iter().zip(bytes.chunks(8)) {
            let mut whole = [0; 8];
            whole[..part.len()].copy_from_slice(part);
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        (Body::Block { region: RESULTS.index, offset: block.offset, len: bytes.len() }, false)
    }
}

/// The worker's.
pub fn life() -> Life {
    Life::new(LIFE).expect("not 0")
}

/// What a worker answers, or an item.
#[derive(arbitrary::Arbitrary, Clone, Debug)]
pub enum Answer {
    Nothing,
    Number(i64),
    Bytes(u8),
    Large(u16),
    Fails,
    /// Whatever these bytes are.
    Body(Vec<u8>),
}

impl Answer {
    /// Its kind and its bytes.
    fn body(&self, is_item: bool) -> (Kind, Vec<u8>) {
        let kind = if is_item { Kind::Chunk } else { Kind::Response };
        let value: Value = match self {
            Answer::Nothing => return (Kind::End, Vec::new()),
            Answer::Body(body) => return (kind, body.clone()),
            Answer::Fails => {
                let mut bytes = Vec::new();
                let mut e = Encoder::to_vec(&mut bytes);
                wire::error("E", "m", &ErrorDetails::default(), &mut e).expect("it fits");
                drop(e);
                return (Kind::Error, bytes);
            }
            Answer::Number(n) => (*n).into(),
            Answer::Bytes(n) => vec![*n; usize::from(*n)].as_slice().into(),
            Answer::Large(n) => vec![7_u8; usize::from(*n)].as_slice().into(),
        };
        let mut bytes = Vec::new();
        let mut e = Encoder::to_vec(&mut bytes);
        let written = if is_item { wire::chunk(&value, &mut e) } else { wire::response(&value, &mut e) };
        written.expect("it fits");
        drop(e);
        (kind, bytes)
    }
}
