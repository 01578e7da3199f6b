//! What reads shared memory, over memory that says anything and changes while it is read: the input is an image, and a second
//! one that comes in at the k-th load of the reader (the hook in `primitive.rs`). B6, B7, B9, C15's counterpart in memory.
//!
//! A client gets results and items, of a worker and an arbiter that this target plays; a worker looks at a lane and its
//! requests; a sender looks at its receiver's cursor. Nothing panics, loops or reads out of bounds, a call has one outcome,
//! and what was taken stays as it was, whatever is written afterwards.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use std::os::fd::BorrowedFd;
use stokehold::internals::limits::{INLINE_LEN, LANE_CALLS, STREAM_WORDS};
use stokehold::internals::primitive::at_load;
use stokehold::internals::ring::{
    Cancel, Corrupt, Entry, Generation, Intake, Mode, Popped, Producer, Reason, StreamProducer, Taken, Unsent,
};
use stokehold::internals::shm::{
    Begun, Body, Deadline, OwnRecord, Place, RESULT_BLOCKS, RegionKind, Requests, ResultKey, STREAM_START,
    StreamBlock, item,
};
use stokehold::internals::sys::{clock, memfd};
use stokehold::internals::wire::{Header, NoReferences, RequestRef};
use stokehold::{Client, Code, Error, Options, Response, Stream};
use stokehold_fuzz::pool::{Answer, GENERATION, Pool, SERIAL, life};
use stokehold_fuzz::rough::{Rough, word};

/// What is written, and where.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Change {
    which: Which,
    at: u16,
    what: What,
}

/// Where it is written.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Which {
    /// The line of the call.
    Line,
    /// Anywhere in the control region.
    Control,
    /// The record of its result.
    Record,
    /// The block of its stream.
    Stream,
    /// Anywhere in the worker's region.
    Results,
    /// The request.
    Request,
    Board,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum What {
    Word(u64),
    Small(u8),
    /// What stands there with one bit changed.
    Flip(u8),
    /// What stands there and a little more, or less.
    Add(i8),
    /// A word of a call that is well made.
    State {
        generation: u8,
        life: u8,
        state: u8,
    },
    /// The place of a result or of a stream.
    Place {
        region: u8,
        block: u16,
    },
}

#[derive(Arbitrary, Debug)]
enum Reader {
    /// Who takes a result.
    Result {
        answer: Answer,
    },
    /// Who takes a stream's items.
    Items {
        items: Vec<Answer>,
        end: Answer,
        closed: bool,
    },
    /// Who executed a call whose app answered with items.
    Gathered {
        items: Vec<Answer>,
        end: Answer,
    },
    /// A worker.
    Lane {
        walk: bool,
    },
    Requests,
    Begins,
    /// Who sends.
    Sender {
        pushes: Vec<u8>,
        window: u8,
    },
    /// Who receives, at the lowest level.
    Receiver {
        drops: Vec<u8>,
    },
}

#[derive(Arbitrary, Debug)]
struct Image {
    reader: Reader,
    /// Before it is looked at.
    first: Vec<Change>,
    at_load: u8,
    /// Then.
    second: Vec<Change>,
    steps: u8,
}

const CALL: usize = 0;
/// Calls that a reader makes.
const MOST_CALLS: u32 = 3;
const KEY: ResultKey = ResultKey { lane: SERIAL, call: CALL, generation: GENERATION };

fuzz_target!(|image: Image| {
    clock::stand_at(1_000_000_000);
    let scene = Scene::new();
    match &image.reader {
        Reader::Result { answer } => scene.result(answer, &image),
        Reader::Items { items, end, closed } => scene.items(items, end, *closed, &image),
        Reader::Gathered { items, end } => scene.gathered(items, end, &image),
        Reader::Lane { walk } => scene.lane(*walk, &image),
        Reader::Requests => scene.requests(&image),
        Reader::Begins => scene.begins(&image),
        Reader::Sender { pushes, window } => scene.sender(pushes, *window, &image),
        Reader::Receiver { drops } => scene.receiver(drops, &image),
    }
});

/// A pool, and its client.
struct Scene {
    pool: Pool,
    rough: Mess,
    client: Option<Client>,
}

/// All that anybody writes into.
#[derive(Clone)]
struct Mess {
    control: Rough,
    board: Rough,
    results: Rough,
    requests: Option<Rough>,
    block: usize,
}

impl Mess {
    fn apply(&self, changes: &[Change]) {
        for change in changes.iter().take(16) {
            let at = usize::from(change.at);
            let (memory, at) = match (change.which, &self.requests) {
                (Which::Line, _) => (&self.control, 4096 / 8 + at % 8),
                (Which::Control, _) => (&self.control, at),
                (Which::Record, _) => (&self.results, 16384 / 8 + at % 64),
                (Which::Stream, _) => (&self.results, self.block / 8 + at % (192 / 8 + 40)),
                (Which::Results, _) => (&self.results, at),
                (Which::Request, Some(requests)) => (requests, 512 / 8 + at % 64),
                (Which::Board | Which::Request, _) => (&self.board, at),
            };
            let now = memory.read(at);
            memory.write(
                at,
                match change.what {
                    What::Word(word) => word,
                    What::Small(n) => n.into(),
                    What::Flip(bit) => now ^ 1 << (bit % 64),
                    What::Add(n) => now.wrapping_add_signed(n.into()),
                    What::State { generation, life, state } => {
                        word(Generation(generation.into()), life, state).raw()
                    }
                    What::Place { region, block } => {
                        Place::Record { region: u16::from(region % 4), offset: u64::from(block) * 64 }.pack()
                    }
                },
            );
        }
    }

    /// Before the reader begins, and while it reads.
    fn set(&self, image: &Image) {
        self.apply(&image.first);
        let (mess, second) = (self.clone(), image.second.clone());
        at_load(1 + u64::from(image.at_load), move || mess.apply(&second));
    }

    /// Everything else, at once.
    fn ruin(&self) {
        for memory in [&self.control, &self.results] {
            (0..memory.words()).for_each(|at| memory.write(at, 0x5555_5555_5555_5555));
        }
    }
}

impl Scene {
    fn new() -> Scene {
        let (pool, theirs) = Pool::new(false);
        let copy = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().expect("a descriptor");
        let board_len = memfd::size(pool.board.fd()).expect("its size") as usize;
        let rough = Mess {
            control: Rough::adopt(RegionKind::Control, copy(pool.control.fd()), 8192).expect("mapped"),
            board: Rough::adopt(RegionKind::Board, copy(pool.board.fd()), board_len).expect("mapped"),
            results: Rough::of(pool.results.region()),
            requests: None,
            block: RESULT_BLOCKS,
        };
        let options = Options { mode: Mode::Park, ..Options::default() };
        let client = Client::connect(theirs, options).expect("an orderly welcome");
        Scene { pool, rough, client: Some(client) }
    }

    fn call(&self) -> stokehold::Call<'_, (i64, &'static str), ()> {
        self.client.as_ref().expect("connected").call("a:A", "f").args((7, "x"))
    }

    /// As a worker does it.
    fn claim(&self) -> Entry {
        self.pool.take().expect("it was sent")
    }

    fn result(mut self, answer: &Answer, image: &Image) {
        let mut pending = self.call().submit().expect("it is sent");
        let of = self.claim();
        self.pool.complete(of, answer, false);
        self.rough.set(image);
        let outcome = pending.try_wait();
        at_load(1, || {});
        match outcome {
            Some(Ok(response)) => self.stays(&response),
            Some(Err(error)) => told(&error),
            // The word says that it goes on; then it can be cancelled.
            None => drop(pending.cancel()),
        }
        self.over();
    }

    /// What was taken has been copied.
    fn stays(&self, response: &Response) {
        let seen = response.value().map(|value| value.to_owned()).map(|owned| format!("{owned:?}"));
        self.rough.ruin();
        let now = response.value().map(|value| value.to_owned()).map(|owned| format!("{owned:?}"));
        assert_eq!(seen.ok(), now.ok(), "it changed after it was taken");
    }

    fn items(mut self, items: &[Answer], end: &Answer, closed: bool, image: &Image) {
        let mut stream = self.call().stream().expect("it is sent");
        let of = self.claim();
        self.send(of, items, closed);
        if !matches!(end, Answer::Nothing) {
            self.pool.complete(of, end, true);
        }
        self.rough.set(image);
        self.drain(&mut stream, image);
        drop(stream);
        self.over();
    }

    fn drain(&self, stream: &mut Stream, image: &Image) {
        let mut held = Vec::new();
        for step in 0..=image.steps % 24 {
            match stream.try_next() {
                Some(Ok(Some(item))) => {
                    if item.value().is_ok_and(|value| value.to_owned().is_ok()) && step % 3 == 0 {
                        held.push(item);
                    }
                }
                Some(Ok(None)) => {
                    assert!(
                        matches!(stream.try_next(), None | Some(Ok(None))),
                        "nothing comes after the end"
                    );
                    break;
                }
                Some(Err(error)) => {
                    told(&error);
                    assert!(matches!(stream.try_next(), None | Some(Ok(None))), "one outcome");
                    break;
                }
                None => break,
            }
        }
        at_load(1, || {});
    }

    fn gathered(mut self, items: &[Answer], end: &Answer, image: &Image) {
        let mut pending = self.call().submit().expect("it is sent");
        let of = self.claim();
        self.send(of, items, false);
        self.pool.complete(of, end, true);
        self.rough.set(image);
        match pending.try_wait() {
            Some(Ok(response)) => self.stays(&response),
            Some(Err(error)) => told(&error),
            None => drop(pending.cancel()),
        }
        self.over();
    }

    fn send(&mut self, of: Entry, items: &[Answer], closed: bool) {
        self.rough.block = self.pool.send(of, items, closed).unwrap_or(RESULT_BLOCKS);
    }

    /// Whatever was written: the client's own books are in order.
    fn over(mut self) {
        let client = self.client.take().expect("connected");
        let free = client.free_calls();
        assert!(free >= LANE_CALLS as u32 - MOST_CALLS, "{free}");
        let _ =
            client.call("a:A", "f").args((7,)).deadline_ms(0).submit().map(|pending| drop(pending.cancel()));
        drop(client);
    }

    fn lane(self, walk: bool, image: &Image) {
        let client = self.client.as_ref().expect("connected");
        let sent: Vec<_> =
            (0..3).filter_map(|_| client.call("a:A", "f").deadline_ms(0).submit().ok()).collect();
        let (queue, life) = (self.pool.queue(), life());
        self.rough.set(image);
        for from in 0..usize::from(image.steps % 8) {
            let taken = if walk { queue.walk(life, from) } else { queue.take(life) };
            match taken {
                Taken::Call(Entry { call, generation }) => {
                    let line = self.pool.line(call);
                    line.begin(1);
                    let _ = (line.acknowledge(generation, life), line.complete(generation, life, 9));
                }
                Taken::Nothing => {
                    let _ = queue.quiesce();
                }
                Taken::Damaged => break,
            }
        }
        let mut producer = Producer::default();
        let _ = queue.enqueue(&mut producer, 1, GENERATION);
        let _ = queue.refuse_all(Reason::Degraded, |_| {});
        for line in self.pool.control.lines() {
            let _ = line.repair(life, |_| image.steps & 1 == 0);
            if let Ok(Cancel::Abandoned(whose)) = line.cancel(GENERATION) {
                let _ = line.acknowledge(GENERATION, whose);
            }
            let _ = line.reclaim();
        }
        sent.into_iter().for_each(|pending| drop(pending.cancel()));
        self.over();
    }

    /// As a worker reads a request.
    fn requests(mut self, image: &Image) {
        let _pending = self.call().submit().expect("it is sent");
        let theirs = Requests::create().expect("memory");
        let record = theirs.record(CALL);
        let source = self.pool.requests();
        let (header, inline) = (source.record(CALL).header(), &mut [0; INLINE_LEN]);
        if let Some(Body::Inline(len)) = source.record(CALL).body() {
            let copied = source.record(CALL).copy_inline(len, inline);
            record.write(header, Body::Inline(len), 0, copied);
        }
        theirs.state(CALL, OwnRecord::Queued(GENERATION), Deadline(None));
        self.rough.requests = Some(Rough::of(theirs.region()));
        self.rough.set(image);
        let (own, _) = theirs.own(CALL);
        let _ = (own, theirs.limit(CALL), Header::decode_extended(&record.header()), record.flags());
        let mut room = [0; INLINE_LEN];
        match record.body() {
            Some(Body::Inline(len)) => {
                let body = record.copy_inline(len, &mut room);
                let once = RequestRef::decode(body, &NoReferences).map(|request| format!("{request:?}"));
                self.rough
                    .requests
                    .as_ref()
                    .map(|requests| (0..requests.words()).for_each(|at| requests.write(at, 1)));
                assert_eq!(
                    once,
                    RequestRef::decode(body, &NoReferences).map(|request| format!("{request:?}"))
                );
            }
            Some(Body::Block { offset, len, .. }) => {
                let lent = theirs.region().lend(offset, len as u64);
                assert!(lent.is_none_or(|lent| lent.len() == len && offset >= 512));
            }
            None => {}
        }
    }

    /// As the arbiter reads what a dead worker had begun.
    fn begins(self, image: &Image) {
        let begun =
            Begun { lane: SERIAL, call: CALL, generation: GENERATION, since_ns: 1, deadline_ns: Some(2) };
        self.pool.results.begin_record(0).begin(begun);
        self.rough.set(image);
        let _ = self.pool.results.has_begun(KEY);
        assert!(
            self.pool
                .results
                .begin_records()
                .iter()
                .filter_map(|record| record.read())
                .all(|b| b.call <= 0xffff)
        );
        let _ = self.pool.results.mark().is_dead();
    }

    fn sender(mut self, pushes: &[u8], window: u8, image: &Image) {
        let Some((block, offset)) = self.pool.stream_block(KEY) else { return };
        let mut producer = StreamProducer::new(KEY.pack(), STREAM_START, window.into());
        // The receiver's side is whatever is written there.
        self.rough.block = offset;
        self.rough.set(image);
        let mut words = [0; STREAM_WORDS];
        for (at, len) in pushes.iter().take(64).enumerate() {
            words[0] = at as u64;
            let before = producer.tail();
            match producer.push(block.ring(), block.cursor(), &words[..usize::from(*len) % STREAM_WORDS + 1])
            {
                Ok(()) => {
                    let on_the_way = producer.tail().wrapping_sub(producer.head());
                    assert!(on_the_way <= block.ring().capacity(), "written over what may be read");
                }
                Err(Unsent::Full) => assert_eq!(before, producer.tail()),
                Err(Unsent::Corrupt) => break,
            }
        }
    }

    fn receiver(mut self, drops: &[u8], image: &Image) {
        let Some((ours, offset)) = self.pool.stream_block(KEY) else { return };
        self.rough.block = offset;
        let mut producer = StreamProducer::new(KEY.pack(), STREAM_START, 64);
        for n in 0..8_u64 {
            let _ = producer.push(ours.ring(), ours.cursor(), &[0, n, n]);
        }
        self.rough.set(image);
        let Some(block) = StreamBlock::open(self.pool.results.region(), self.rough.block as u64, KEY) else {
            return;
        };
        assert!(
            self.rough.block + 192 + 8 * block.ring().capacity() as usize <= self.pool.results.region().len()
        );
        let mut intake = Intake::new(STREAM_START);
        let (mut room, mut read) = ([0; STREAM_WORDS], 0);
        for which in drops.iter().take(64) {
            if which % 16 == 0 && intake.finish(block.ring()) == Err(Corrupt) {
                break;
            }
            match intake.pop(block.ring(), &mut room) {
                (Popped::Message(words), number) => {
                    assert!(
                        !words.is_empty()
                            && words.len() <= STREAM_WORDS
                            && words[0] & 0xffff == words.len() as u64
                    );
                    assert!(
                        number == read || which % 2 == 0 || number <= read,
                        "each has a number of its own"
                    );
                    read = number + 1;
                    let mut inline = [0; INLINE_LEN];
                    if let Some((_, Body::Inline(len))) = item::unpack(words, &mut inline) {
                        assert!(len <= INLINE_LEN);
                    }
                    let _ = intake.let_go(block.ring(), block.cursor(), u64::from(*which));
                }
                (Popped::Empty, _) => {
                    let _ = intake.tell_all(block.ring(), block.cursor());
                }
                (Popped::Corrupt, _) => break,
            }
        }
    }
}

/// One of the outcomes that damage may have, and no other.
fn told(error: &Error) {
    let code = error.code();
    let is_outcome = (code as u32) < 100 || code == Code::Frame;
    assert!(is_outcome, "{error}");
    let _ = error.started();
}
