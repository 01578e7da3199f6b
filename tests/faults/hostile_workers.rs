//! Workers that write nonsense wherever they can. What it may do to others on their board is to make calls fail; nobody is
//! given wrong bytes, nobody crashes or goes on for ever, and when the worker is gone everything is as it was.

use crate::app::{all_free, builder, call, fails, keyed, pattern, ready, works};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, Watchdog, kill, some, until};
use crate::harness::Outcome;
use crate::hostile::WAYS;
use crate::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;
use std::{fs, thread};
use stokehold::{Client, Code, Error, Pool};

crate::tests! {
    b5_who_scribbles_hurts_its_own_board_only,
    b2_e4_seals_keep_memory_whole,
}

/// From `STOKEHOLD_SEED`, to see a failure again.
pub fn seed() -> u64 {
    let given = std::env::var("STOKEHOLD_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed =
        given.unwrap_or_else(|| stokehold::internals::sys::process::getrandom_u128().unwrap() as u32 as u64);
    println!("STOKEHOLD_SEED={seed}");
    seed
}

/// What became of calls, and how often.
pub type Ends = BTreeMap<String, usize>;

pub fn note(ends: &mut Ends, error: &Error) {
    *ends.entry(format!("{:?}", error.code())).or_default() += 1;
}

/// What memory is there of the arbiter's own, KiB.
pub fn own_memory(pool: &Pool) -> usize {
    proc::status(pool.arbiter_pid(), "RssAnon").split(' ').next().unwrap().parse().unwrap()
}

/// The processor time that a process has used, in hundredths of a second.
fn used(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}

/// Waits until nobody in the pool is busy with nothing: whoever goes on for ever never is.
pub fn at_rest(pool: &Pool) {
    let all = || proc::session(pool.arbiter_pid()).iter().map(|p| used(p.pid)).sum::<u64>();
    let watchdog = Watchdog::new("everybody in the pool is at rest");
    loop {
        let before = all();
        thread::sleep(Duration::from_millis(300));
        if all().saturating_sub(before) <= 6 {
            return;
        }
        watchdog.wait();
    }
}

/// The client's calls go through again, on memory that is whole.
pub fn recovers(client: &Client) {
    // What was not found yet may cost one more.
    let mut in_a_row = 0;
    until("calls go through again", || {
        let outcome = call(client, "add").args((1, 2)).execute();
        in_a_row = if outcome.is_ok() { in_a_row + 1 } else { 0 };
        in_a_row == 5
    });
    all_free(client);
}

/// All workers are others.
pub fn born_again(client: &Client) {
    let before = client.worker_pids();
    before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
    ready(client, before.len(), &before);
}

/// Another pool of the same host, where all goes on as ever.
pub struct Elsewhere {
    pool: Pool,
    client: Client,
    base: Baseline,
    workers: Vec<u32>,
}

impl Elsewhere {
    pub fn new(guard: &mut PoolGuard) -> Elsewhere {
        let pool = guard.start(builder(1));
        let client = pool.client().unwrap();
        works(&client);
        let workers = client.worker_pids();
        Elsewhere { base: Baseline::of(&pool), pool, client, workers }
    }

    /// Calls until then.
    pub fn notices_nothing(&self, is_over: &AtomicBool) {
        let mut id = 0;
        while !is_over.load(Ordering::Relaxed) || id == 0 {
            id += 1;
            works(&self.client);
            let held = call(&self.client, "pattern").args((id, 5_000)).execute().unwrap();
            assert!(held.as_bytes().unwrap() == pattern(id, 5_000));
        }
    }

    pub fn is_as_it_was(&self) {
        assert_eq!(self.client.worker_pids(), self.workers);
        self.base.reached();
        at_rest(&self.pool);
    }
}

/// Calls of all kinds until then. Whatever ends well is right, unless it is of the life that the file `note` names: how
/// the others ended.
fn calls(client: &Client, ids: &AtomicI64, is_over: &AtomicBool) -> Ends {
    let (mut ends, mut well) = (Ends::new(), 0);
    let is_liar = |life: u16| fs::read_to_string("note").is_ok_and(|note| note == life.to_string());
    let right = |life: u16, what: &str, is_right: bool| {
        assert!(is_right || is_liar(life), "{what} of life {life} is wrong");
    };
    while !is_over.load(Ordering::Relaxed) || well == 0 {
        let id = ids.fetch_add(1, Ordering::Relaxed);
        let bytes = pattern(id, 300);
        let outcome = match id % 4 {
            0 => call(client, "pattern").args((id, 20_000)).execute().map(|answer| {
                let is_right = answer.as_bytes().is_ok_and(|bytes| bytes == pattern(id, 20_000));
                right(answer.life(), "what was lent", is_right);
            }),
            1 => call(client, "numbers").args((300,)).stream().and_then(|stream| {
                for (at, item) in stream.enumerate() {
                    let item = item?;
                    right(item.life(), "an item", item.parse::<i64>().ok() == Some(at as i64));
                }
                Ok(())
            }),
            2 => client.lease_from(&bytes).and_then(|lease| {
                let answer = call(client, "work").args((id, lease, 0)).execute()?;
                right(answer.life(), "a result", answer.parse().ok() == Some(keyed(id, &bytes)));
                Ok(())
            }),
            _ => call(client, "work").args((id, &bytes[..], 0)).execute().map(|answer| {
                right(answer.life(), "a result", answer.parse().ok() == Some(keyed(id, &bytes)));
            }),
        };
        match outcome {
            Ok(()) => well += 1,
            Err(error) => note(&mut ends, &error),
        }
    }
    ends.insert("well".into(), well);
    ends
}

/// B5, B9, C11.
fn b5_who_scribbles_hurts_its_own_board_only() -> Outcome {
    let seed = seed();
    let mut guard = PoolGuard::new();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(3).threads(2));
    let base = Baseline::of(&pool);
    let before = own_memory(&pool);
    let clients: Vec<Client> = (0..3).map(|_| pool.client().unwrap()).collect();
    let ids = AtomicI64::new(1);
    let rounds = WAYS.iter().flat_map(|how| [(*how, false), (*how, true)]);
    let mut all = Vec::new();
    for (round, (how, lives)) in rounds.enumerate() {
        let is_over = AtomicBool::new(false);
        let mut ends = Ends::new();
        thread::scope(|scope| {
            let others: Vec<_> =
                clients[1..].iter().map(|client| scope.spawn(|| calls(client, &ids, &is_over))).collect();
            let there = scope.spawn(|| elsewhere.notices_nothing(&is_over));
            let rage = call(&clients[0], "rage").args((seed + round as u64, 1_000, how, lives));
            if let Err(error) = rage.execute() {
                // It hears soon that its lane is damaged. The worker goes on.
                note(&mut ends, &error);
                thread::sleep(Duration::from_millis(1_050));
            }
            is_over.store(true, Ordering::Relaxed);
            for other in others {
                for (code, count) in other.join().unwrap() {
                    *ends.entry(code).or_default() += count;
                }
            }
            there.join().unwrap();
        });
        println!("{how}, and {}: {ends:?}", if lives { "lives" } else { "dies" });
        clients.iter().for_each(recovers);
        ready(&clients[0], 3, &[]);
        all.extend(ends.into_keys());
    }
    assert!(all.iter().any(|end| end == "Protocol"), "nobody found anything: {all:?}");
    let allowed =
        ["well", "Protocol", "WorkerDied", "Overloaded", "BadRequest", "App", "Deadline", "NoWorkers"];
    all.retain(|end| !allowed.contains(&end.as_str()));
    assert!(all.is_empty(), "ended otherwise: {all:?}");
    at_rest(&pool);
    born_again(&clients[0]);
    drop(clients);
    base.reached();
    let now = own_memory(&pool);
    assert!(now < before + 2048, "the arbiter had {before} KiB, and has {now}");
    elsewhere.is_as_it_was();
    works(&pool.client().unwrap());
    fs::remove_file("note").unwrap();
    Ok(())
}

/// B1, B2, E4: no seal gives way, and what needs none is not missed for long.
fn b2_e4_seals_keep_memory_whole() -> Outcome {
    let mut guard = PoolGuard::new();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(2));
    let (bad, good) = (pool.client().unwrap(), pool.client().unwrap());
    for round in 0..6 {
        let lease = good.lease_from(&pattern(7, 6 << 20)).unwrap();
        // So that it has others' memory mapped.
        let known = [(); 2].map(|()| call(&good, "pattern").args((round, 70_000)).submit().unwrap());
        let held = known.map(|pending| pending.wait().unwrap());
        call(&good, "work").args((round, &lease, 0)).execute().unwrap();
        let tampered = call(&bad, "tamper").execute();
        let possible = some("it has tried", || fs::read_to_string("kept/possible").ok());
        assert_eq!(possible, "", "round {round}");
        fs::remove_dir_all("kept").unwrap();
        if let Err(error) = tampered {
            assert_eq!(error.code(), Code::Protocol, "{error}");
        }
        held.iter().for_each(|held| assert!(held.as_bytes().unwrap() == pattern(round, 70_000)));
        drop(held);
        recovers(&good);
        recovers(&bad);
        assert!(*lease == pattern(7, 6 << 20));
    }
    // What everybody may write may have holes now: that keeps nobody out who comes later.
    let before = good.worker_pids();
    before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
    ready(&good, 2, &before);
    works(&pool.client().unwrap());
    assert_eq!(fails(call(&bad, "exit").args((0,)).execute()).code(), Code::WorkerDied);
    at_rest(&pool);
    elsewhere.is_as_it_was();
    Ok(())
}
