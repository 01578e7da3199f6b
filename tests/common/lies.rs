//! What a worker says of calls that is not so: in the words that all share, and in records of its own.

use crate::app::range;
use crate::hostile::{read, write};
use crate::proc;
use std::process;
use std::thread;
use std::time::Duration;
use stokehold::internals::ring::{CallLine, Generation, Life, Reason, State, Word};
use stokehold::internals::shm::{
    BAD_REQUEST, BeginRecord, Body, DEADLINE, OVERRUN, Place, RESULTS_LEN, Record, ResultKey, Results,
    STALLED, STREAMED,
};
use stokehold::internals::sys::futex::Kernel;
use stokehold::internals::wire::{self, Encoder, Header, Kind, Reference};

/// About a call that the liar runs: how, and whether the caller may hear nothing but `Protocol`.
pub const MINE: &[(&str, bool)] = &[
    ("truth", false),
    ("no place", true),
    ("no record", true),
    ("another call's", true),
    ("another generation's", true),
    ("another lane's", true),
    ("between records", true),
    ("before the records", true),
    ("behind the records", true),
    ("as far as can be", true),
    ("in no region", true),
    ("in the last region", true),
    ("in its caller's memory", true),
    ("a code of nothing", true),
    ("of no kind", true),
    ("of a request's kind", true),
    ("of an item's kind", true),
    ("of another version", true),
    ("longer than a record", true),
    ("as long as can be", true),
    ("neither here nor there", true),
    ("outside its region", true),
    ("around the end of numbers", true),
    ("longer than its region", true),
    ("a body in no region", true),
    ("a body in its caller's memory", true),
    ("a body of nothing", false),
    ("bytes outside", true),
    ("bytes around the end", true),
    ("bytes among the records", true),
    ("bytes in its caller's memory", true),
    ("more bytes than there can be", true),
    ("lists in lists", true),
    ("more items than bytes", true),
    ("not text", true),
    ("what others said", true),
    ("nothing at all", false),
    ("a stream's end", true),
    ("a stream's result", true),
    ("an error that is none", true),
    ("too late", false),
    ("no room", false),
    ("full", false),
    ("every flag", false),
    ("stalled for ever", false),
    ("overrun by all there is", false),
    ("twice", false),
];

/// About a call that another worker runs, or that waits.
pub const OTHERS: &[&str] = &[
    "mine and done",
    "mine, without a record",
    "his and done",
    "his, in another record",
    "his and too late",
    "his, and there was no room",
    "his, and all was full",
    "lost before it began",
    "lost",
    "lost to nobody",
    "acknowledged",
    "given up by him",
    "given up by me",
    "nothing",
    "nothing next",
    "waits",
    "waits next",
    "mine",
    "his",
    "nobody's",
    "zero",
    "ones",
];

/// A call as its liar sees it.
struct Seen {
    line: &'static CallLine,
    at: usize,
    call: usize,
    word: Word,
}

/// The liar's own record, which no call has.
struct Own {
    record: &'static Record,
    region: u16,
    offset: u64,
}

const LAST: usize = 255;

impl Own {
    /// The last but so many.
    fn find(life: u16, back: usize) -> Own {
        let base = region_of("results", " rw-s ")[0];
        // SAFETY: a record of this process's results region, which is mapped for ever; it is made of atomics.
        let record = unsafe { &*std::ptr::without_provenance::<Record>(base + 16384 + (LAST - back) * 512) };
        let region = results_of(life).expect("it is registered");
        Own { record, region, offset: Results::offset_of(LAST - back) }
    }

    fn place(&self) -> u64 {
        Place::Record { region: self.region, offset: self.offset }.pack()
    }

    fn write(&self, kind: Kind, body: Body, flags: u64, inline: &[u8]) {
        self.record.write(Header { kind, len: body.bytes() as u32, id: 1 }.encode(), body, flags, inline);
    }

    fn answer(&self, flags: u64, inline: &[u8]) {
        self.write(Kind::Response, Body::Inline(inline.len()), flags, inline);
    }

    fn name(&self, key: ResultKey) {
        use std::sync::atomic::Ordering;
        self.record.own[0].store(key.lane, Ordering::Relaxed);
        self.record.own[1].store(key.pack(), Ordering::Release);
    }
}

/// Where regions of a kind are mapped in this process.
fn region_of(kind: &str, access: &str) -> Vec<usize> {
    let maps = proc::mappings(process::id());
    let ours = maps.iter().filter(|line| line.contains(kind) && line.contains(access));
    ours.filter_map(|line| range(line)).map(|(from, _)| from).collect()
}

/// The places of the table of regions, as the registry has them.
fn regions() -> Vec<(u16, u64, u64)> {
    let at = region_of("registry", " r--s ")[0] + 28672;
    let all = (0..2048).map(|n| (n as u16, read(at + n * 16), read(at + n * 16 + 8)));
    all.filter(|(_, what, _)| what & 0xff == 1).collect()
}

fn results_of(life: u16) -> Option<u16> {
    let owner = 1 << 31 | u64::from(life);
    let found = regions().into_iter().find(|(_, what, whose)| {
        what >> 8 & 0xff == 5 && whose & 0xffff_ffff == owner && what >> 16 == RESULTS_LEN as u64
    });
    found.map(|(index, ..)| index)
}

/// Some region that there is, and which registration of its place it is.
pub fn a_region() -> (u16, u32) {
    let (index, _, whose) = regions()[0];
    (index, (whose >> 32) as u32)
}

/// A region of some client's.
fn clients_region() -> u16 {
    regions().into_iter().find(|(_, what, _)| what >> 8 & 0xff == 4).expect("there is a client").0
}

/// The body of what clients that this worker knows asked for last, on their first lines, as it lies there.
fn bytes_of_others() -> Vec<u8> {
    let all = region_of("requests", " r--s ").into_iter().flat_map(|base| {
        let body = (base + 512 + 64..).step_by(8).take(20).map(|at| read(at).to_le_bytes());
        body.collect::<Vec<_>>().concat()
    });
    all.take(440).collect()
}

/// The serial numbers of the lanes that are open.
fn open_lanes() -> Vec<u64> {
    let at = region_of("registry", " r--s ")[0] + 20480;
    (0..1024).map(|n| read(at + n * 8)).filter(|word| word & 0xff == 1).map(|word| word >> 8).collect()
}

fn is_open(lane: u64) -> bool {
    open_lanes().contains(&lane)
}

fn calls() -> Vec<Seen> {
    let lines = region_of("control", " rw-s ").into_iter().flat_map(|base| {
        (0..64).map(move |call| {
            let at = base + 4096 + call * 64;
            // SAFETY: a line of a mapped control region, which is made of atomics; it stays mapped while the liar lies.
            (unsafe { &*std::ptr::without_provenance::<CallLine>(at) }, at, call)
        })
    });
    lines.filter_map(|(line, at, call)| Some(Seen { line, at, call, word: line.look().ok()? })).collect()
}

/// The call that the liar is in, and its lane: what its worker has begun last.
fn own_begun(life: Life) -> (Seen, u64) {
    let base = region_of("results", " rw-s ")[0] + 4096;
    let records = (0..192).filter_map(|n| {
        // SAFETY: as above, a begin record.
        unsafe { &*std::ptr::without_provenance::<BeginRecord>(base + n * 64) }.read()
    });
    let begun = records.max_by_key(|begun| begun.since_ns).expect("the liar runs nothing");
    let is_its = |seen: &Seen| seen.call == begun.call && seen.word == Word::running(begun.generation, life);
    (calls().into_iter().find(is_its).expect("its call is not to be found"), begun.lane)
}

fn encoded(value: i64) -> Vec<u8> {
    encoded_as(|e| wire::response(&value, e).unwrap())
}

fn encoded_as(write: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut room = [0; 448];
    let mut e = Encoder::new(&mut room);
    write(&mut e);
    let len = e.finish().unwrap();
    room[..len].to_vec()
}

fn reference(region: u16, offset: u64, len: u64) -> Vec<u8> {
    encoded_as(|e| wire::response(&Reference { region, offset, len }, e).unwrap())
}

/// The envelope of a result, around these bytes.
fn raw(value: &[u8]) -> Vec<u8> {
    let whole = encoded(0);
    let at = whole.len() - 9; // the type of a whole number, and the number
    [&whole[..at], value].concat()
}

/// Publishes a result for the call that this thread is in, as no worker does.
pub fn about_mine(how: &str, then: &str, life: u16) {
    let me = Life::new(life).unwrap();
    let (Seen { line, call, word, at }, lane) = own_begun(me);
    let (own, generation) = (Own::find(life, 0), word.generation());
    let key = ResultKey { lane, call, generation };
    let end = RESULTS_LEN as u64;
    let block = |region, offset, len| {
        own.write(Kind::Response, Body::Block { region, offset, len }, 0, &[]);
        own.place()
    };
    let inline = |bytes: &[u8]| {
        own.answer(0, bytes);
        own.place()
    };
    own.answer(0, &encoded(77));
    own.name(key);
    let record = |region, offset| Place::Record { region, offset }.pack();
    let word_of = |at: usize| std::ptr::from_ref(own.record) as usize + at;
    let place = match how {
        "truth" | "twice" => own.place(),
        "no place" => 0,
        "no record" => record(own.region, Results::offset_of(LAST - 1)),
        "another call's" => (own.name(ResultKey { call: call ^ 1, ..key }), own.place()).1,
        "another generation's" => {
            (own.name(ResultKey { generation: generation.next(), ..key }), own.place()).1
        }
        "another lane's" => (own.name(ResultKey { lane: lane + 1, ..key }), own.place()).1,
        "between records" => record(own.region, own.offset + 8),
        "before the records" => record(own.region, 4096),
        "behind the records" => record(own.region, end),
        "as far as can be" => record(own.region, (1 << 48) - 512),
        "in no region" => record(1999, own.offset),
        "in the last region" => record(65534, own.offset),
        "in its caller's memory" => record(clients_region(), 512),
        "a code of nothing" => 0xffff << 48 | 77,
        "of no kind" => (write(word_of(3), 0xee_u8), own.place()).1,
        "of a request's kind" => (write(word_of(3), Kind::Request.code()), own.place()).1,
        "of an item's kind" => (write(word_of(3), Kind::Chunk.code()), own.place()).1,
        "of another version" => (write(word_of(2), 9_u8), own.place()).1,
        "longer than a record" => (write(word_of(32), 449_u64 << 32), own.place()).1,
        "as long as can be" => (write(word_of(32), 0xffff_ffff_u64 << 32), own.place()).1,
        "neither here nor there" => (write(word_of(32), 20_u64 << 32 | 2), own.place()).1,
        "outside its region" => block(own.region, end - 8, 64),
        "around the end of numbers" => block(own.region, u64::MAX - 7, 64),
        "longer than its region" => block(own.region, 0, 1 << 30),
        "a body in no region" => block(1999, 0, 64),
        "a body in its caller's memory" => block(clients_region(), 512, 64),
        "a body of nothing" => block(own.region, end, 0),
        "bytes outside" => inline(&reference(own.region, end - 8, 9)),
        "bytes around the end" => inline(&reference(own.region, u64::MAX - 8, 64)),
        "bytes among the records" => inline(&reference(own.region, 16384, 512)),
        "bytes in its caller's memory" => inline(&reference(clients_region(), 40_000, 64)),
        "more bytes than there can be" => inline(&reference(own.region, 0, u64::MAX)),
        "lists in lists" => inline(&raw(&[0x20, 0, 0, 0, 1].repeat(80))),
        "more items than bytes" => inline(&raw(&[0x20, 0xff, 0xff, 0xff, 0xff, 0])),
        "not text" => inline(&raw(&[0x11, 0, 0, 0, 2, 0xff, 0xfe])),
        "what others said" => inline(&bytes_of_others()),
        "nothing at all" => inline(&[]),
        "a stream's end" => (own.write(Kind::End, Body::Inline(0), STREAMED, &[]), own.place()).1,
        "a stream's result" => (own.answer(STREAMED, &encoded(77)), own.place()).1,
        "an error that is none" => {
            own.write(Kind::Error, Body::Inline(3), 0, b"no.");
            own.place()
        }
        "too late" => Place::Expired.pack(),
        "no room" => Place::NoRoom.pack(),
        "full" => Place::Full { limit: u64::MAX }.pack(),
        "every flag" => error(&own, !(STREAMED), u64::MAX),
        "stalled for ever" => error(&own, STALLED, u64::MAX),
        "overrun by all there is" => error(&own, OVERRUN, u64::MAX),
        other => panic!("no lie {other}"),
    };
    line.complete(generation, me, place).unwrap();
    line.bell.ring_always(&Kernel);
    if then == "exits" && how != "twice" {
        return;
    }
    // Its caller is to find the lie, and not what the liar's worker makes of it.
    for _ in 0..5_000 {
        if line.look() != Ok(Word::done(generation, me)) || !is_open(lane) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    if how == "twice" {
        own.answer(0, &encoded(78));
        for generation in [generation, generation.next()] {
            own.name(ResultKey { generation, ..key });
            write(at, Word::done(generation, me).raw());
            line.bell.ring_always(&Kernel);
        }
    }
}

fn error(own: &Own, flags: u64, number: u64) -> u64 {
    let _all = [BAD_REQUEST, DEADLINE, STALLED, OVERRUN];
    let said = encoded_as(|e| {
        wire::error("Fire", "the boiler is out", &wire::ErrorDetails::default(), e).unwrap();
    });
    own.write(Kind::Error, Body::Inline(said.len()), flags, &said);
    own.record.extra.store(number, std::sync::atomic::Ordering::Relaxed);
    own.place()
}

/// Says something of each call that another worker runs, and of each that waits. How many those were.
pub fn about_others(how: &str, life: u16) -> usize {
    let me = Life::new(life).unwrap();
    let (_, my_lane) = own_begun(me);
    let lane = open_lanes().into_iter().find(|lane| *lane != my_lane).expect("somebody else has one");
    let is_theirs = |seen: &Seen| match seen.word.state() {
        State::Running => seen.word.life() != Some(me),
        state => state == State::Queued,
    };
    let all: Vec<Seen> = calls().into_iter().filter(is_theirs).collect();
    let someone = all.iter().find_map(|seen| seen.word.life());
    for (back, Seen { line, at, call, word }) in all.iter().enumerate() {
        let own = Own::find(life, back);
        let generation: Generation = word.generation();
        let him = word.life().or(someone).expect("somebody runs something");
        own.answer(0, &encoded(77));
        own.name(ResultKey { lane, call: *call, generation });
        let his = |n| Place::Record { region: results_of(him.get()).unwrap(), offset: Results::offset_of(n) };
        let (place, word) = match how {
            "mine and done" => (own.place(), Word::done(generation, me)),
            "mine, without a record" => {
                own.name(ResultKey { lane: lane + 77, call: *call, generation });
                (own.place(), Word::done(generation, me))
            }
            "his and done" => (own.place(), Word::done(generation, him)),
            "his, in another record" => (his(3).pack(), Word::done(generation, him)),
            "his and too late" => (Place::Expired.pack(), Word::done(generation, him)),
            "his, and there was no room" => (Place::NoRoom.pack(), Word::done(generation, him)),
            "his, and all was full" => (Place::Full { limit: 1 }.pack(), Word::done(generation, him)),
            "lost before it began" => (0, Word::lost(generation, Some(him), Reason::NotBegun)),
            "lost" => (0, Word::lost(generation, Some(him), Reason::Begun)),
            "lost to nobody" => (0, Word::lost(generation, None, Reason::NoWorkers)),
            "acknowledged" => (0, Word::acked(generation, him)),
            "given up by him" => (0, Word::abandoned(generation, him)),
            "given up by me" => (0, Word::abandoned(generation, me)),
            "nothing" => (0, Word::idle(generation)),
            "nothing next" => (0, Word::idle(generation.next())),
            "waits" => (0, Word::queued(generation)),
            "waits next" => (0, Word::queued(generation.next())),
            "mine" => (0, Word::running(generation, me)),
            "his" => (0, Word::running(generation, him)),
            "nobody's" => (0, Word::running(generation, Life::new(4000).unwrap())),
            raw => {
                write(*at, if raw == "zero" { 0 } else { u64::MAX });
                line.bell.ring_always(&Kernel);
                continue;
            }
        };
        write(*at + 8, place);
        write(*at, word.raw());
        line.bell.ring_always(&Kernel);
    }
    all.len()
}
