//! Clients that write nonsense into memory of their own that workers read: it ends what they have themselves. The worker
//! lives, and nobody else notices.

use crate::app::{
    Random, all_free, begun, builder, call, keyed, number, open, patient, pattern, range, ready, until_begun,
    works,
};
use crate::forgery;
use crate::guard::{PoolGuard, kill, until};
use crate::harness::Outcome;
use crate::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs::File;
use std::process;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use stokehold::{Client, Code, Error, Kind, Pool, Response, Stream};

crate::tests! {
    a_cursor_of_nonsense_ends_its_own_stream,
    a_cursor_that_takes_what_was_not_read_hurts_its_reader_only,
    a_cursor_that_never_stands_still,
    nonsense_in_a_context_ends_that_context,
    an_outbox_that_lies_elsewhere_is_refused,
    a_client_can_take_no_memory_from_under_a_worker,
    a_stream_word_of_an_earlier_call_leads_nowhere,
    what_is_held_of_earlier_lives_moves_no_later_stream,
}

/// Where each call's cursor is in a requests region.
const CURSORS: usize = 512 + 64 * 512;
const START: u64 = 0_u64.wrapping_sub(10_000);

/// Where a line says where its stream is.
const STREAM: usize = 40;

/// The words of a cursor.
const KEY: usize = 0;
const HEAD: usize = 8;
const COUNT: usize = 16;
const BACK: usize = 24;

/// What a client of this process has mapped, by the kind of region.
struct Own(Vec<String>);

impl Own {
    /// A client, and what has come with it.
    fn client(pool: &Pool) -> (Client, Own) {
        let before: BTreeSet<String> = proc::mappings(process::id()).into_iter().collect();
        let client = pool.client().unwrap();
        let mut now = proc::mappings(process::id());
        now.retain(|line| !before.contains(line));
        (client, Own(now))
    }

    fn at(&self, kind: &str) -> usize {
        let line = self.0.iter().find(|line| line.contains(kind) && line.contains(" rw-s ")).unwrap();
        range(line).unwrap().0
    }

    /// The cursor of the only stream there was.
    fn cursor(&self) -> Words {
        let all = (0..64).map(|call| Words(self.at("requests") + CURSORS + call * 64));
        let used: Vec<Words> = all.filter(|cursor| cursor.read(KEY) != 0).collect();
        assert_eq!(used.len(), 1, "cursors that were used");
        Words(used[0].0)
    }

    /// Any call's.
    fn cursors(&self) -> impl Iterator<Item = Words> + use<> {
        let at = self.at("requests") + CURSORS;
        (0..64).map(move |call| Words(at + call * 64))
    }
}

/// What is written into a cursor.
type Spoil = fn(&Words);

/// Words that other processes read.
struct Words(usize);

impl Words {
    fn read(&self, offset: usize) -> u64 {
        // SAFETY: an aligned word of a mapping that this process has, as long as its client lives.
        unsafe { std::ptr::without_provenance::<u64>(self.0 + offset).read_volatile() }
    }

    fn write(&self, offset: usize, word: u64) {
        // SAFETY: as above; the program's own code only reads it atomically and checks what it finds.
        unsafe { std::ptr::without_provenance_mut::<u64>(self.0 + offset).write_volatile(word) };
    }
}

/// One worker with two threads, of which others use one, and what they use it for.
struct Others {
    pool: Pool,
    client: Client,
    pid: i64,
}

impl Others {
    fn new(guard: &mut PoolGuard) -> Others {
        let pool = guard.start(patient(1).threads(2).stall_ms(300).keep_warm_ms(200));
        let client = pool.client().unwrap();
        let pid = number(call(&client, "pid").execute());
        Others { pool, client, pid }
    }

    /// What others do goes on beside what `hostile` does, in the same worker, which lives.
    fn notice_nothing(&self, hostile: impl FnOnce() + Send) {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let beside = scope.spawn(|| {
                let mut rounds = 0;
                while !is_over.load(Ordering::Relaxed) || rounds == 0 {
                    let items = call(&self.client, "keyed").args((300, 0)).stream().unwrap();
                    assert_eq!(numbered(items), (300, None));
                    let lent = call(&self.client, "lent").args((20, 20_000)).stream().unwrap();
                    for (at, item) in lent.enumerate() {
                        assert!(item.unwrap().as_bytes().unwrap() == pattern(at as i64, 20_000));
                    }
                    let mut context = call(&self.client, "echo_context").context().unwrap();
                    context.send(rounds).unwrap();
                    assert_eq!(number(context.next().unwrap()), rounds);
                    assert_eq!(number(context.wait()), 1);
                    rounds += 1;
                }
            });
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(hostile));
            is_over.store(true, Ordering::Relaxed);
            beside.join().unwrap();
            ended.unwrap();
        });
        assert_eq!(number(call(&self.client, "pid").execute()), self.pid, "the worker was lost");
        all_free(&self.client);
    }
}

/// How many items came, each the next one, and how it ended.
fn numbered(mut stream: Stream) -> (i64, Option<Code>) {
    let mut count = 0;
    for item in stream.by_ref() {
        match item.and_then(|item| item.parse::<(i64, i64)>()) {
            Ok(item) => {
                assert_eq!(item, (count, keyed(count, &count.to_le_bytes())), "not the next item");
                count += 1;
            }
            Err(error) => {
                assert!(stream.next().is_none(), "something after {error}");
                return (count, Some(error.code()));
            }
        }
    }
    (count, None)
}

/// The one outcome of what was spoilt.
fn error_of(items: impl IntoIterator<Item = Result<Response, Error>>) -> Error {
    let mut items = items.into_iter();
    let error = items.find_map(Result::err).expect("no end without an error");
    assert!(items.next().is_none(), "something after {error}");
    error
}

/// The app may answer what it was told before the client hears that its lane is damaged.
fn is_damage(error: &Error) -> bool {
    match error.kind() {
        Kind::App(said) => said.class == "Protocol",
        _ => error.code() == Code::Protocol,
    }
}

/// The client goes on, on memory that is whole.
fn recovers(client: &Client) {
    until("calls go through again", || call(client, "add").args((1, 2)).execute().is_ok());
    works(client);
    all_free(client);
}

fn a_cursor_of_nonsense_ends_its_own_stream() -> Outcome {
    let mut guard = PoolGuard::new();
    let others = Others::new(&mut guard);
    let ways: &[(&str, Spoil)] = &[
        ("beyond what was sent", |c| c.write(HEAD, c.read(HEAD).wrapping_add(1 << 20))),
        ("far beyond", |c| c.write(HEAD, c.read(HEAD).wrapping_add(1 << 63))),
        ("back", |c| c.write(HEAD, c.read(HEAD).wrapping_sub(1))),
        ("back to the beginning", |c| c.write(HEAD, START)),
        ("nowhere", |c| c.write(HEAD, 0x5555_5555_5555_5555)),
        ("more items than were sent", |c| c.write(COUNT, c.read(COUNT) + (1 << 30))),
        ("fewer items than before", |c| c.write(COUNT, c.read(COUNT) - 1)),
        ("items without end", |c| c.write(COUNT, u64::MAX)),
        ("of no stream", |c| c.write(KEY, 0)),
        ("of another generation", |c| c.write(KEY, c.read(KEY) + (1 << 16))),
        ("of another call", |c| c.write(KEY, c.read(KEY) ^ 1)),
        ("zeroes", |c| [KEY, HEAD, COUNT, BACK].iter().for_each(|at| c.write(*at, 0))),
        ("ones", |c| [HEAD, COUNT, BACK].iter().for_each(|at| c.write(*at, u64::MAX))),
    ];
    let (mut id, mut found) = (0, 0);
    for (way, spoil) in ways {
        for action in ["endless", "lends"] {
            id += 10;
            others.notice_nothing(|| {
                let (client, own) = Own::client(&others.pool);
                let mut stream = match action {
                    "endless" => call(&client, action).args((id,)).stream().unwrap(),
                    _ => call(&client, action).args((id, 5_000, 1_u64 << 20)).stream().unwrap(),
                };
                for _ in 0..600 {
                    drop(stream.next().unwrap().unwrap());
                }
                until("the cursor was written", || own.cursor().read(HEAD) != START);
                spoil(&own.cursor());
                // The app finds out when it looks for room. Nothing is taken that would mend it.
                until_begun(id + 1);
                let error = error_of(stream);
                // What the worker had not seen yet is news to it, if old: then nothing is taken any more.
                assert!(is_damage(&error) || error.code() == Code::Stalled, "{way}: {error}");
                found += usize::from(is_damage(&error));
                recovers(&client);
            });
        }
    }
    println!("{found} of {} were found to be nonsense", 2 * ways.len());
    assert!(found >= ways.len(), "{found}");
    Ok(())
}

/// Within what was sent, but not where a message ends, or not yet read: the worker writes where this client still reads.
fn a_cursor_that_takes_what_was_not_read_hurts_its_reader_only() -> Outcome {
    let mut guard = PoolGuard::new();
    let others = Others::new(&mut guard);
    for round in 0..10 {
        let id = 10 * (round + 1);
        others.notice_nothing(|| {
            let (client, own) = Own::client(&others.pool);
            let mut stream = call(&client, "lends").args((id, 5_000, 1_u64 << 20)).stream().unwrap();
            for _ in 0..600 {
                drop(stream.next().unwrap().unwrap());
            }
            let cursor = own.cursor();
            until("the cursor was written", || cursor.read(HEAD) != START);
            cursor.write(HEAD, cursor.read(HEAD).wrapping_add(1 + 3 * round as u64));
            // It may read anything now, but nothing that is not there, and not for ever.
            let mut bytes = 0_usize;
            for _ in 0..3_000 {
                let Ok(Some(item)) = stream.next_for(Duration::from_millis(300)) else { break };
                let read = item.as_bytes().unwrap_or_default();
                bytes += read.iter().step_by(250).map(|byte| usize::from(*byte)).sum::<usize>();
            }
            std::hint::black_box(bytes);
            drop(stream);
            until_begun(id + 1);
            recovers(&client);
        });
    }
    Ok(())
}

fn a_cursor_that_never_stands_still() -> Outcome {
    let mut guard = PoolGuard::new();
    let others = Others::new(&mut guard);
    let mut random = Random(u64::from(process::id()));
    println!("seed {}", random.0);
    let (mut ends, mut found) = (BTreeSet::new(), 0);
    for round in 0..20 {
        let id = 10 * (round + 1);
        let seed = random.next();
        others.notice_nothing(|| {
            let (client, own) = Own::client(&others.pool);
            let is_over = AtomicBool::new(false);
            // Keeps the memory mapped, whatever becomes of the lane.
            let held = call(&client, "lent").args((1, 5_000)).stream().unwrap().next().unwrap().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let mut random = Random(seed);
                    while !is_over.load(Ordering::Relaxed) {
                        for cursor in own.cursors() {
                            // What makes sense, and what does not.
                            let (at, now) = (8 * random.below(4) as usize, cursor.read(HEAD));
                            let word = match random.below(4) {
                                0 => random.next(),
                                1 => random.below(4000),
                                _ => now.wrapping_add(random.below(100)).wrapping_sub(30),
                            };
                            cursor.write(at, word);
                        }
                    }
                });
                let stream = match round % 2 {
                    0 => call(&client, "endless").args((id,)),
                    _ => call(&client, "endless").args((id,)).item_ms(200),
                };
                let ended = stream.deadline_ms(600).stream().map(error_of).unwrap_or_else(|error| error);
                is_over.store(true, Ordering::Relaxed);
                found += usize::from(is_damage(&ended));
                ends.insert(format!("{:?}", ended.code()));
            });
            until("the app was told", || begun(id) == begun(id + 1));
            drop(held);
            recovers(&client);
        });
    }
    println!("{ends:?}");
    assert!(found > 0, "nobody found anything: {ends:?}");
    Ok(())
}

fn nonsense_in_a_context_ends_that_context() -> Outcome {
    let mut guard = PoolGuard::new();
    let others = Others::new(&mut guard);
    let mut seen = Vec::new();
    for how in forgery::WAYS {
        // Nothing else of this process has a ring while it is looked for.
        let (client, _own) = Own::client(&others.pool);
        let mut context = call(&client, "hold_items").args((5,)).deadline_ms(10_000).context().unwrap();
        for at in 0..3 {
            context.send(&pattern(at, 10)[..]).unwrap();
        }
        context.send(&pattern(3, 5000)[..]).unwrap();
        forgery::forge(how);
        // Rings.
        context.finish();
        let error = error_of(context);
        seen.push(format!("{how}: {error}"));
        assert!(is_damage(&error) || error.code() == Code::BadRequest, "{how}: {error}");
        recovers(&client);
        drop(client);
        others.notice_nothing(|| ());
    }
    println!("{seen:#?}");
    Ok(())
}

/// What a client says of its own side of a context, before a worker has looked.
fn an_outbox_that_lies_elsewhere_is_refused() -> Outcome {
    let mut guard = PoolGuard::new();
    let others = Others::new(&mut guard);
    let places: [fn(u64) -> u64; 9] = [
        |_| u64::MAX,
        |_| 1,
        |at| at + 64,
        |at| at ^ 0xff_ff,
        |at| at & 0xffff_ffff,
        |at| at << 8,
        |at| at | 0xffff << 40,
        |at| at.rotate_left(32),
        |_| 0,
    ];
    let mut seen = Vec::new();
    for (round, spoil) in places.into_iter().enumerate() {
        let gates: Vec<_> = (0..2)
            .map(|at| {
                let id = 100 * (round as i64 + 1) + at;
                let gate = call(&others.client, "gate").args((id, "gate")).submit().unwrap();
                until_begun(id);
                gate
            })
            .collect();
        let (client, own) = Own::client(&others.pool);
        let context = thread::scope(|scope| {
            let opening = scope.spawn(|| call(&client, "echo_context").deadline_ms(10_000).context());
            until("it is queued", || own.cursors().any(|cursor| cursor.read(KEY) != 0));
            let cursor = own.cursor();
            cursor.write(BACK, spoil(cursor.read(BACK)));
            open("gate");
            opening.join().unwrap()
        });
        gates.into_iter().for_each(|gate| drop(gate.wait().unwrap())); // both have seen it open
        std::fs::remove_file("gate").ok();
        let error = context.map(drop).expect_err("it was opened");
        seen.push(error.to_string());
        assert!(is_damage(&error) || error.code() == Code::BadRequest, "{error}");
        recovers(&client);
        others.notice_nothing(|| ());
    }
    println!("{seen:#?}");
    Ok(())
}

/// Neither by a hole in a mapping nor by a shorter file.
fn a_client_can_take_no_memory_from_under_a_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let others = Others::new(&mut guard);
    let (client, _) = Own::client(&others.pool);
    let mut stream = call(&client, "lends").args((10, 5_000, 1_u64 << 20)).stream().unwrap();
    let mut context = call(&client, "hold_items").args((5,)).context();
    let held: Vec<Response> = (0..20).map(|_| stream.next().unwrap().unwrap()).collect();
    // Before the others make some of their own: those cannot be truncated only when they are done.
    let files: Vec<_> = proc::descriptors(process::id())
        .into_iter()
        .filter(|(_, to)| to.contains("memfd:stokehold"))
        .map(|(fd, to)| (File::options().write(true).open(format!("/proc/self/fd/{fd}")).unwrap(), to))
        .collect();
    let mappings = proc::mappings(process::id());
    others.notice_nothing(|| {
        let mut tried = BTreeSet::new();
        let now = proc::mappings(process::id());
        for line in mappings.iter().filter(|line| now.contains(line)) {
            let (from, to) = range(line).unwrap();
            let kind =
                ["requests", "growth", "results", "registry"].into_iter().find(|kind| line.contains(kind));
            let Some(kind) = kind else { continue };
            // SAFETY: takes a range that is mapped; what it would do is refused.
            let answer = unsafe {
                let start = std::ptr::without_provenance_mut::<libc::c_void>(from);
                libc::madvise(start, to - from, libc::MADV_REMOVE)
            };
            assert_eq!(answer, -1, "{line}");
            tried.insert(kind);
        }
        assert!(
            ["requests", "growth", "results", "registry"].iter().all(|kind| tried.contains(kind)),
            "{tried:?}"
        );
        for (file, to) in &files {
            assert!(file.set_len(4096).is_err(), "{to}");
        }
        for (at, item) in held.iter().enumerate() {
            assert!(item.as_bytes().unwrap() == pattern(at as i64, 5_000));
        }
        if let Ok(context) = &mut context {
            context.send(&pattern(0, 5_000)[..]).unwrap();
        }
        drop((held, stream));
        assert_eq!(number(context.unwrap().wait()), 1);
        until_begun(11);
    });
    // Its own words are on memory that several write. Who zeroes them has no calls, and others have theirs.
    others.notice_nothing(|| {
        let (client, own) = Own::client(&others.pool);
        let mut stream = call(&client, "endless").args((20,)).stream().unwrap();
        assert_eq!(number(stream.next().unwrap()), 0);
        let line = own.0.iter().find(|line| line.contains("control")).unwrap();
        let (from, to) = range(line).unwrap();
        // SAFETY: takes a range that is mapped; zeroes are words that are checked like any.
        unsafe {
            let start = std::ptr::without_provenance_mut::<libc::c_void>(from);
            assert_eq!(libc::madvise(start, to - from, libc::MADV_REMOVE), 0);
        }
        assert_eq!(error_of(stream).code(), Code::Protocol);
        until_begun(21);
        recovers(&client);
    });
    Ok(())
}

/// A line remembers where the last stream was. Whoever writes it there again announces nothing.
fn a_stream_word_of_an_earlier_call_leads_nowhere() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let (client, own) = Own::client(&pool);
    let lines: Vec<Words> = (0..64).map(|call| Words(own.at("control") + 4096 + call * 64)).collect();
    for round in 0..20 {
        // Of this life or the one before, of this line or another, whose block is there or is another one's.
        let mut items = call(&client, "lent").args((3, 5_000)).stream().unwrap();
        let mut first = items.next().unwrap().ok();
        assert!(first.as_ref().unwrap().as_bytes().unwrap() == pattern(0, 5_000));
        let place = lines
            .iter()
            .map(|line| line.read(STREAM))
            .find(|place| *place != 0)
            .expect("it says where it is");
        drop(items);
        if round % 2 == 0 {
            first = None;
        }
        if round % 4 > 1 {
            let pids = client.worker_pids();
            pids.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
            ready(&client, 1, &pids);
        }
        let id = 10 * (round + 1);
        std::fs::remove_file("gate").ok();
        let mut next = call(&client, "gate").args((id, "gate")).stream().unwrap();
        until_begun(id);
        lines.iter().filter(|line| line.read(STREAM) == 0).for_each(|line| line.write(STREAM, place));
        assert!(next.next_for(Duration::from_millis(20)).is_err(), "an item of an earlier stream");
        open("gate");
        assert_eq!(number(next.next().unwrap()), id);
        assert!(next.next().is_none());
        assert!(first.is_none_or(|first| first.as_bytes().unwrap() == pattern(0, 5_000)));
        drop(next);
        all_free(&client);
        lines.iter().for_each(|line| line.write(STREAM, 0));
    }
    works(&client);
    Ok(())
}

/// Lives and generations come round meanwhile; the place of a worker is taken again each time.
fn what_is_held_of_earlier_lives_moves_no_later_stream() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).numbers_left(20));
    let client = pool.client().unwrap();
    let mut held: Vec<(i64, Response)> = Vec::new();
    for round in 0..50 {
        let mut stream = call(&client, "lends").args((10 * round, 5_000, 1_u64 << 20)).stream().unwrap();
        for at in 0..round % 7 + 1 {
            let item = stream.next().unwrap().unwrap();
            assert!(item.as_bytes().unwrap() == pattern(at, 5_000));
            held.push((at, item));
        }
        let pids = client.worker_pids();
        kill(pids[0], Signal::SIGKILL);
        ready(&client, 1, &pids);
        // Of the next life: complete, while items of the lives before are dropped, the oldest of them first or last.
        let mut next = call(&client, "keyed").args((2_000, 0)).stream().unwrap();
        for count in 0..2_000 {
            let (at, _): (i64, i64) = next.next().unwrap().unwrap().parse().unwrap();
            assert_eq!(at, count);
            if count % 100 == 7 && held.len() > 40 {
                drop(held.swap_remove(count as usize % 40));
            }
        }
        assert!(next.next().is_none());
        drop(stream);
        for (at, item) in &held {
            assert!(item.as_bytes().unwrap() == pattern(*at, 5_000), "round {round}");
        }
    }
    drop(held);
    all_free(&client);
    works(&client);
    Ok(())
}
