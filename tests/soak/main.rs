//! Many calls of all kinds on one pool, and nothing grows: resident memory, descriptors, memory files, mappings and
//! regions of the host, the arbiter and every worker are the same after the first tenth of the calls as after the last.
//!
//!     cargo test --release --test soak -- [CALLS]
//!
//! 10,000,000 by `ci/soak.sh`, 100,000 without a number: enough for a leak of 64 bytes a call to show. Most calls are
//! small, with 32 in flight. One in 2,500 is a lease, a body that is too large for its record, or a large result, of
//! 1 KiB to 2 MiB; one in 250,000 has 40 MiB. One in 100,000 is cancelled, one in 500,000 kills its worker, and clients
//! come and go. For every 64 there is a stream, a context, or a call that calls another worker ([`streams`]): read to its end,
//! left in the middle, cancelled, late; one in 500,000 loses its worker.

#[allow(dead_code)] // shared with tests that use all of it
#[path = "../common/proc.rs"]
mod proc;
mod streams;

use std::fs;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};
use stokehold::{App, Args, Client, Code, Ctx, Error, Pool, Reply, Result};

struct Soak;

impl App for Soak {
    const NAME: &'static str = "soak:Soak";

    fn init(_: &Ctx) -> Result<Soak> {
        Ok(Soak)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "add" => {
                let (a, b): (i64, i64) = args.parse()?;
                Ok(Reply::from(a + b))
            }
            "sum" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(sum(bytes)))
            }
            "fill" => {
                let (byte, len, lend): (i64, usize, bool) = args.parse()?;
                if lend {
                    let mut lease = ctx.lease(len)?;
                    lease.fill(byte as u8);
                    Ok(lease.into())
                } else {
                    Ok(Reply::from(&vec![byte as u8; len][..]))
                }
            }
            "nap" => {
                std::thread::sleep(Duration::from_millis(5));
                Ok(Reply::from(()))
            }
            "die" => process::abort(),
            other => streams::call(other, args, ctx),
        }
    }
}

/// Why it did not go well.
type Text<T = ()> = std::result::Result<T, String>;

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

const NAME: &str = "f6_nothing_grows";
const WORKERS: usize = 3;
const IN_FLIGHT: usize = 32;
const WARM_MS: u64 = 500;
/// How often all processes are looked at.
const LOOKS: u64 = 10;
/// What may come on top of what there was after the first tenth: caches of the allocator, of the page tables.
const MORE_KIB: u64 = 4 * 1024;

fn main() -> ExitCode {
    stokehold::init(|apps| apps.add::<Soak>()).expect("the app can be registered");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        println!("{NAME}: test");
        return ExitCode::SUCCESS;
    }
    let calls = arguments.iter().find_map(|a| a.parse().ok());
    // A name that others look for among all the tests.
    let chosen = |a: &String| calls.is_some() || a.starts_with('-') || NAME.contains(a.as_str());
    let outcome = arguments.iter().all(chosen).then(|| soak(calls.unwrap_or(100_000)));
    let (passed, failed, verdict) = match outcome {
        None => (0, 0, "ok"),
        Some(Ok(())) => {
            println!("\ntest {NAME} ... ok");
            (1, 0, "ok")
        }
        Some(Err(why)) => {
            println!("{why}\ntest {NAME} ... FAILED");
            (0, 1, "FAILED")
        }
    };
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {} filtered out\n",
        1 - passed - failed
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn soak(calls: u64) -> Text {
    let builder = Pool::builder().app::<Soak>().workers(WORKERS).keep_warm_ms(WARM_MS);
    let pool = builder.restart_limit(1_000, 1_000).start().map_err(text)?;
    let client = pool.client().map_err(text)?;
    let begin = Instant::now();
    let mut first = None;
    for look in 0..LOOKS {
        let from = look * (calls / LOOKS);
        for batch in (from..from + calls / LOOKS).step_by(IN_FLIGHT) {
            small(&client, batch)?;
            mixed(&pool, &client, batch)?;
            if batch % 64 < IN_FLIGHT as u64 {
                streams::one(&client, batch / 64)?;
            }
        }
        let now = at_rest(&pool, &client)?;
        println!("{:>12} calls, {:>5.1} s: {now}", from + calls / LOOKS, begin.elapsed().as_secs_f64());
        let first = first.get_or_insert_with(|| now.clone());
        now.compare(first)?;
    }
    drop(client);
    pool.shutdown().map_err(text)
}

/// As many small calls as are in flight at a time.
fn small(client: &Client, batch: u64) -> Text {
    let send = |i| client.call(Soak::NAME, "add").args(((batch + i) as i64, 7)).submit();
    let pending: Vec<_> = (0..IN_FLIGHT as u64).map(send).collect();
    for (i, pending) in pending.into_iter().enumerate() {
        let outcome = pending.and_then(|pending| pending.wait()).and_then(|r| r.parse::<i64>());
        match outcome {
            Ok(sum) if sum == (batch + i as u64) as i64 + 7 => {}
            Ok(sum) => return Err(format!("call {} gave {sum}", batch + i as u64)),
            Err(error) => return Err(format!("call {}: {error}", batch + i as u64)),
        }
    }
    Ok(())
}

/// What comes now and then.
fn mixed(pool: &Pool, client: &Client, batch: u64) -> Text {
    let now = |every: u64| batch / every != (batch + IN_FLIGHT as u64) / every;
    let call = |action| client.call(Soak::NAME, action);
    if now(2_500) {
        let turn = batch / 2_500;
        // Mostly of the sizes of a record and of small blocks, at times of a shared region, seldom of one of its own.
        let len = 1 << (10 + turn % 7 + if turn.is_multiple_of(40) { 5 } else { 0 });
        let len = if turn.is_multiple_of(100) { 40 << 20 } else { len };
        let byte = (turn % 250) as u8;
        let expected = u64::from(byte) * len as u64;
        let summed = match turn % 4 {
            0 | 1 => {
                let mut lease = client.lease(len).map_err(text)?;
                lease.fill(byte);
                call("sum").args((&lease,)).execute()
            }
            2 => call("sum").args((&vec![byte; len][..],)).execute(),
            _ => {
                let filled =
                    call("fill").args((i64::from(byte), len, turn % 8 == 3)).execute().map_err(text)?;
                let same = filled.as_bytes().map_err(text)?.iter().all(|b| *b == byte);
                if same && filled.as_bytes().map_err(text)?.len() == len {
                    return Ok(());
                } else {
                    return Err("a wrong result".into());
                }
            }
        };
        let found: u64 = summed.and_then(|r| r.parse()).map_err(text)?;
        if found != expected {
            return Err(format!("{len} bytes of {byte} make {found}"));
        }
    }
    if now(100_000) {
        drop(call("nap").submit().map_err(text)?);
        let passing = pool.client().map_err(text)?;
        let lease = passing.lease_from(&[1; 100_000]).map_err(text)?;
        passing.call(Soak::NAME, "sum").args((&lease,)).execute().map_err(text)?;
    }
    if now(500_000) {
        let error = call("die").execute().err();
        if error.as_ref().map(Error::code) != Some(Code::WorkerDied) {
            return Err(format!("a worker that dies: {error:?}"));
        }
        streams::cut(client)?;
    }
    Ok(())
}

/// What one process has.
#[derive(Clone, Debug)]
struct Process {
    name: String,
    anon_kib: u64,
    descriptors: usize,
    memory_files: usize,
    mappings: usize,
}

/// All processes of the pool and this one, in an order that replacements do not change.
#[derive(Clone, Debug)]
struct All(Vec<Process>);

/// Waits until what is idle was given back, then looks.
fn at_rest(pool: &Pool, client: &Client) -> Text<All> {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        std::thread::sleep(Duration::from_millis(100));
        // All workers, so that each knows what there is to know; and the client looks at what it may let go of.
        streams::all_ask(client)?;
        for i in 0..16 {
            small(client, i)?;
        }
        client.call(Soak::NAME, "add").args((1, 1)).execute().map_err(text)?;
        let all = All::look(pool);
        let large = |p: &Process| p.mappings > all.0.len() * 4 + 8;
        let ready = client.worker_pids().len() == WORKERS && client.free_calls() == 64;
        if ready && all.0.len() == WORKERS + 2 && !all.0.iter().any(large) && !all.has_large_regions(pool) {
            return Ok(all);
        }
        if Instant::now() > end {
            return Err(format!("this is not given back: {all}"));
        }
    }
}

impl All {
    fn look(pool: &Pool) -> All {
        let mut pids: Vec<u32> = proc::session(pool.arbiter_pid()).iter().map(|p| p.pid).collect();
        pids.push(process::id());
        let mut all: Vec<_> = pids.into_iter().map(Process::look).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        All(all)
    }

    fn has_large_regions(&self, pool: &Pool) -> bool {
        let mut pids: Vec<u32> = proc::session(pool.arbiter_pid()).iter().map(|p| p.pid).collect();
        pids.push(process::id());
        pids.into_iter().flat_map(proc::mappings).filter(|line| line.contains("growth")).any(|line| {
            let range = line.split(' ').next().and_then(|r| r.split_once('-'));
            let number = |text| u64::from_str_radix(text, 16).unwrap_or(0);
            range.is_some_and(|(from, to)| number(to) - number(from) > 4 << 20)
        })
    }

    fn compare(&self, first: &All) -> Text {
        for now in &self.0 {
            // Workers come to know each other and the clients by and by: what one had at first, any may have later.
            let alike = || first.0.iter().filter(|then| then.name == now.name);
            let most = |count: fn(&Process) -> usize| alike().map(count).max().unwrap_or(0);
            let then = Process {
                name: now.name.clone(),
                anon_kib: alike().map(|p| p.anon_kib).max().unwrap_or(0),
                descriptors: most(|p| p.descriptors),
                memory_files: most(|p| p.memory_files),
                mappings: most(|p| p.mappings),
            };
            let grown = now.anon_kib > then.anon_kib + MORE_KIB;
            // One small growth region of each writer may stay, and is not always there yet at the first look.
            let more = |now: usize, then: usize| now > then + WORKERS + 1;
            if grown
                || more(now.descriptors, then.descriptors)
                || more(now.memory_files, then.memory_files)
                || more(now.mappings, then.mappings)
            {
                return Err(format!("{} has grown: {then} at first, {now} now", now.name));
            }
        }
        Ok(())
    }
}

impl Process {
    fn look(pid: u32) -> Process {
        let name = proc::process(pid).map_or_else(String::new, |p| p.name);
        let kib =
            |line: &str| proc::status(pid, line).split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Process {
            name: if pid == process::id() { "host".into() } else { name },
            anon_kib: kib("RssAnon"),
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            memory_files: proc::memory_files(pid).len(),
            mappings: proc::mappings(pid).len(),
        }
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Process { name, anon_kib, descriptors, memory_files, mappings } = self;
        write!(f, "{name} {anon_kib} KiB, {descriptors} fd, {memory_files} files, {mappings} maps")
    }
}

impl std::fmt::Display for All {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|process| write!(f, "[{process}] "))
    }
}

fn text(error: Error) -> String {
    error.to_string()
}
