//! The app of the fault tests: everything that an app may do to itself, to its worker and to its board.
//!
//! What it began is kept in a journal, a file that outlives it: one line a beginning, written in one piece.

use crate::{frames, guard, later, proc};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{fs, process, thread};
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::shm::{RESULTS_LEN, Region, RegionKind, layout_hash};
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{fd, process as sys};
use stokehold::internals::wire::Kind;
use stokehold::{App, Args, Builder, Call, Client, Ctx, Error, Pool, Reply, Response, Result};

/// What a host has in a static of its program, and a worker that was forked of it finds there.
pub static INHERITED: Mutex<Option<stokehold::Completions>> = Mutex::new(None);

pub struct Faults {
    /// What was open when the worker made the app.
    born_with: Vec<String>,
}

impl App for Faults {
    const NAME: &'static str = "faults:Faults";

    fn init(_: &Ctx) -> Result<Faults> {
        Ok(Faults { born_with: open_files() })
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "add" => {
                let (a, b): (i64, i64) = args.parse()?;
                Ok(Reply::from(a + b))
            }
            "echo" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(bytes))
            }
            "lent_echo" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(ctx.lease_from(bytes)?.into())
            }
            "pattern" => {
                let (id, len): (i64, usize) = args.parse()?;
                let mut lease = ctx.lease(len)?;
                lease.copy_from_slice(&pattern(id, len));
                Ok(lease.into())
            }
            "fill" => {
                let (byte, len): (i64, usize) = args.parse()?;
                let mut lease = ctx.lease(len)?;
                lease.fill(byte as u8);
                Ok(lease.into())
            }
            "copy_of" => {
                let (len,): (usize,) = args.parse()?;
                Ok(Reply::from(&vec![0u8; len][..]))
            }
            "is_filled" => {
                let (byte, bytes): (i64, &[u8]) = args.parse()?;
                Ok(Reply::from(is_filled(bytes, byte)))
            }
            "pid" => Ok(Reply::from(process::id())),
            // What only a call's own request can give: with the journal it shows mix-ups and second runs.
            "work" => {
                let (id, bytes, ms): (i64, &[u8], u64) = args.parse()?;
                begin(id);
                thread::sleep(Duration::from_millis(ms));
                Ok(Reply::from(keyed(id, bytes)))
            }
            // Goes on until the test opens the gate.
            "gate" => {
                let (id, gate): (i64, &str) = args.parse()?;
                begin(id);
                until_open(gate);
                Ok(Reply::from(id))
            }
            // The same, with a large result; its second beginning is when it has the memory for it.
            "gate_and_fill" => {
                let (id, gate, len): (i64, &str, usize) = args.parse()?;
                begin(id);
                until_open(gate);
                let mut lease = ctx.lease(len)?;
                lease.fill(id as u8);
                begin(id + 1);
                Ok(lease.into())
            }
            "hold" => {
                let (id, gate, bytes): (i64, &str, &[u8]) = args.parse()?;
                begin(id);
                until_open(gate);
                Ok(Reply::from(keyed(id, bytes)))
            }
            // The same, quicker for large ones.
            "hold_filled" => {
                let (id, gate, bytes): (i64, &str, &[u8]) = args.parse()?;
                begin(id);
                while !Path::new(gate).exists() {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(Reply::from(is_filled(bytes, 8)))
            }
            "note" => {
                let (id,): (i64,) = args.parse()?;
                begin(id);
                Ok(Reply::from(id))
            }
            "spin" => {
                let (id,): (i64,) = args.parse()?;
                begin(id);
                loop {
                    std::hint::spin_loop();
                }
            }
            "fail" => Err(ctx.error("Fire", "the boiler is out")),
            "panic" => panic!("the fire is out"),
            "segfault" => sys::segfault(),
            "abort" => process::abort(),
            "exit" => {
                let (status,): (i32,) = args.parse()?;
                #[expect(clippy::disallowed_methods, reason = "what an app must not do, and does")]
                process::exit(status)
            }
            // Its memory is taken apart for longer than callers wait for a cause.
            "exit_large" => {
                let (bytes, status): (usize, i32) = args.parse()?;
                std::mem::forget(std::hint::black_box(vec![1_u8; bytes]));
                #[expect(clippy::disallowed_methods, reason = "what an app must not do, and does")]
                process::exit(status)
            }
            "kill" => {
                sys::raise(Signal::SIGKILL)?;
                Err(ctx.error("Alive", "survived SIGKILL"))
            }
            // The one that listens to the arbiter.
            "end_first_thread" => {
                end_first_thread();
                Ok(Reply::from(()))
            }
            "die_first" => {
                let (id, times): (i64, usize) = args.parse()?;
                begin(id);
                if begun(id) <= times {
                    sys::raise(Signal::SIGKILL)?;
                }
                Ok(Reply::from(id))
            }
            "leave_behind" => {
                let child = process::Command::new("/bin/sleep").arg("1000").spawn()?;
                Ok(Reply::from(child.id()))
            }
            "scribble" => {
                let (seed, ms): (u64, u64) = args.parse()?;
                scribble(seed, Duration::from_millis(ms), &["control", "board"]);
                sys::exit_now(9)
            }
            // Only the words, and lives on: nobody's death tells of it.
            "scribble_control" => {
                spoil_words();
                Ok(Reply::from(()))
            }
            "nap" => {
                let (ms,): (u64,) = args.parse()?;
                thread::sleep(Duration::from_millis(ms));
                Ok(Reply::from(ms))
            }
            // Clears the flags of all clients that wait at a descriptor, as a stray write may.
            "mute" => {
                until_open("mute");
                Ok(Reply::from(clear_armed()))
            }
            "greet_again" => greet_again(ctx.life()).map(Reply::from),
            "no_more_files" => {
                fd::set_nofile_soft(0)?;
                Ok(Reply::from(()))
            }
            "open_files" => Ok(Reply::from(open_files())),
            "born_with" => Ok(Reply::new(&(process::id(), self.born_with.clone()))),
            "die_with" => {
                let (_bytes,): (&[u8],) = args.parse()?;
                sys::raise(Signal::SIGKILL)?;
                Err(ctx.error("Alive", "survived SIGKILL"))
            }
            "drop_inherited" => Ok(Reply::from(INHERITED.lock().unwrap().take().is_some())),
            "status" => {
                let (name,): (&str,) = args.parse()?;
                Ok(Reply::from(proc::status(process::id(), name)))
            }
            "variable" => {
                let (name,): (&str,) = args.parse()?;
                Ok(Reply::from(std::env::var(name).unwrap_or_default()))
            }
            other => later::call(other, args, ctx),
        }
    }
}

fn open_files() -> Vec<String> {
    let all = proc::descriptors(process::id());
    all.into_iter().map(|(n, to)| format!("{n} {to}")).collect()
}

/// An app whose birth goes as the file `boot` says.
pub struct Birth;

impl App for Birth {
    const NAME: &'static str = "faults:Birth";

    fn init(ctx: &Ctx) -> Result<Birth> {
        match fs::read_to_string("boot").unwrap_or_default().as_str() {
            "error" => Err(ctx.error("Damp", "the coal is wet")),
            "long error" => Err(ctx.error("Damp", "the coal is wet ".repeat(100_000))),
            "panic" => panic!("the coal is wet"),
            "exit" => sys::exit_now(5),
            // The process lives on, and is seen to be dying.
            "first thread" => {
                thread::spawn(|| thread::sleep(Duration::from_secs(600)));
                end_first_thread();
                Ok(Birth)
            }
            "call" => ctx.call(Birth::NAME, "any").execute().map(|_| Birth),
            "hang" => loop {
                thread::sleep(Duration::from_secs(1));
            },
            // In all workers but one, and in those that are tried in its place.
            "three only" => match (0..3).any(|at| fs::File::create_new(format!("kept/{at}")).is_ok()) {
                true => Ok(Birth),
                false => sys::exit_now(5),
            },
            // Before its worker is ready.
            "many threads" => {
                frames::say("ready with many threads", &frames::sockets()[0], ctx.life());
                Ok(Birth)
            }
            _ => Ok(Birth),
        }
    }

    fn call(&self, _: &str, _: Args<'_>, _: &Ctx) -> Result<Reply> {
        Ok(Reply::from(process::id()))
    }
}

/// A pool that is quick to replace its workers.
pub fn builder(workers: usize) -> Builder {
    let builder = Pool::builder().app::<Faults>().workers(workers);
    builder.restart_limit(10_000, 1_000).backoff_ms(1, 5).kill_grace_ms(50).stop_grace_ms(5_000)
}

/// One that gives apps all the time they want to heed what they are told: no worker pays for a machine that is slow. The
/// signal is never sent; where there is one, that grace holds behind a deadline as well.
pub fn patient(workers: usize) -> Builder {
    builder(workers).cancel_signal(libc::SIGUSR1).cancel_grace_ms(600_000)
}

/// A call of the app.
pub fn call<'c>(client: &'c Client, action: &'c str) -> Call<'c> {
    client.call(Faults::NAME, action)
}

/// The error of what must not succeed.
pub fn fails(outcome: Result<Response>) -> Error {
    match outcome {
        Ok(response) => panic!("it succeeded: {response:?}"),
        Err(error) => error,
    }
}

/// A whole number of what must succeed.
pub fn number(outcome: Result<Response>) -> i64 {
    outcome.unwrap().parse().unwrap()
}

/// That the pool works: a call goes through.
pub fn works(client: &Client) {
    assert_eq!(number(call(client, "add").args((2, 3)).execute()), 5);
}

/// Waits until no call of this client is with a worker, and all may be used again.
pub fn all_free(client: &Client) {
    guard::until("all calls of the client are free", || client.free_calls() == 64);
}

/// Waits until this many workers are ready, none of which is among `not`.
pub fn ready(client: &Client, count: usize, not: &[u32]) -> Vec<u32> {
    guard::some(format!("{count} workers are ready beside {not:?}"), || {
        let pids = client.worker_pids();
        (pids.len() == count && !pids.iter().any(|pid| not.contains(pid))).then_some(pids)
    })
}

/// Says in the journal that a call began.
pub fn begin(id: i64) {
    let mut journal = fs::OpenOptions::new().create(true).append(true).open("journal").unwrap();
    journal.write_all(format!("{id}\n").as_bytes()).unwrap();
}

/// How often a call began.
pub fn begun(id: i64) -> usize {
    journal().get(&id).copied().unwrap_or(0)
}

/// How often each call began.
pub fn journal() -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string("journal").unwrap_or_default().lines() {
        *counts.entry(line.parse().unwrap()).or_default() += 1;
    }
    counts
}

/// Waits until a call began.
pub fn until_begun(id: i64) {
    guard::until(format!("call {id} has begun"), || begun(id) > 0);
}

/// Lets the calls that wait at a gate go on.
pub fn open(gate: &str) {
    fs::write(gate, "").unwrap();
}

/// Whether all bytes are this one. Quick without optimisation, too.
pub fn is_filled(bytes: &[u8], byte: i64) -> bool {
    let same = [byte as u8; 4096];
    bytes.chunks(same.len()).all(|chunk| *chunk == same[..chunk.len()])
}

/// A hash of a request that depends on its number, too.
pub fn keyed(id: i64, bytes: &[u8]) -> i64 {
    let mut hash = mix(id as u64);
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = mix(hash ^ u64::from_le_bytes(word)).wrapping_add(chunk.len() as u64);
    }
    hash as i64
}

/// Bytes that nothing but their number gives.
pub fn pattern(id: i64, len: usize) -> Vec<u8> {
    let mut random = Random(id as u64);
    let mut bytes = vec![0; len];
    bytes.chunks_mut(8).for_each(|c| c.copy_from_slice(&random.next().to_le_bytes()[..c.len()]));
    bytes
}

/// Numbers that repeat with their seed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes random words to random places of every region that several processes write: at least once to each place of
/// interest, then for as long as `time` says.
fn scribble(seed: u64, time: Duration, kinds: &[&str]) {
    let mut random = Random(seed);
    let maps = proc::mappings(process::id());
    let shared = maps.iter().filter(|l| l.contains(" rw-s ") && kinds.iter().any(|k| l.contains(k)));
    let ranges: Vec<(usize, usize)> = shared.filter_map(|line| range(line)).collect();
    let end = Instant::now() + time;
    loop {
        for (from, to) in &ranges {
            for _ in 0..256 {
                let at = from + random.below((to - from) as u64 / 8) as usize * 8;
                // SAFETY: none. That is the point: nothing but the kernel stops a worker from writing there.
                unsafe { std::ptr::without_provenance_mut::<u64>(at).write_volatile(random.next()) };
            }
        }
        if Instant::now() >= end {
            return;
        }
    }
}

/// Writes random words over every call line of every lane that this worker has mapped.
fn spoil_words() {
    let mut random = Random(1);
    let maps = proc::mappings(process::id());
    for (from, to) in maps.iter().filter(|l| l.contains("control")).filter_map(|line| range(line)) {
        for at in (from + 4096..to).step_by(8) {
            // SAFETY: none, as above.
            unsafe { std::ptr::without_provenance_mut::<u64>(at).write_volatile(random.next()) };
        }
    }
}

/// Ends the first thread of this process, and no other.
fn end_first_thread() {
    extern "C" fn leave(_: libc::c_int) {
        // SAFETY: ends the calling thread, and touches nothing of it.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    }
    let pid = process::id() as libc::pid_t;
    // SAFETY: a handler that makes one system call and does not return; then a signal for a thread of this process.
    unsafe {
        libc::signal(libc::SIGUSR1, leave as *const () as libc::sighandler_t);
        libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR1);
    }
}

/// Waits at a gate.
pub fn until_open(gate: &str) {
    while !Path::new(gate).exists() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Writes zero over the flag of every lane that this worker has mapped. How many were set.
pub fn clear_armed() -> usize {
    let maps = proc::mappings(process::id());
    let lanes = maps.iter().filter(|l| l.contains("control")).filter_map(|line| range(line));
    let were_set = lanes.map(|(from, _)| {
        let flag = std::ptr::without_provenance_mut::<u32>(from + 192);
        // SAFETY: none, as above.
        usize::from(unsafe { std::ptr::replace(flag, 0) } != 0)
    });
    were_set.sum()
}

pub fn range(line: &str) -> Option<(usize, usize)> {
    let (from, to) = line.split_once(' ')?.0.split_once('-')?;
    Some((usize::from_str_radix(from, 16).ok()?, usize::from_str_radix(to, 16).ok()?))
}

/// Says HELLO to the arbiter once more, on each of this worker's sockets. Answers how many it has.
fn greet_again(life: u16) -> Result<usize> {
    let sockets: Vec<_> =
        proc::descriptors(process::id()).into_iter().filter(|(_, to)| to.starts_with("socket:")).collect();
    for (number, _) in &sockets {
        // SAFETY: open, as long as the worker lives.
        let socket = unsafe { BorrowedFd::borrow_raw(*number as i32) }.try_clone_to_owned()?;
        let region = Region::create(RegionKind::Results, RESULTS_LEN)?;
        let hello =
            Message::new(Kind::Hello).with("layout", layout_hash() as i64).with("life", i64::from(life));
        Link::new(socket).send(hello.with_fd(region.fd().try_clone_to_owned()?))?;
    }
    Ok(sockets.len())
}
