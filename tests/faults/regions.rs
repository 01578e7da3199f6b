//! Growth regions: taken as they are needed, kept warm, retired, bounded. What is counted is what `/proc` shows of each
//! process: a region's memory is free only when nobody has it open or mapped.

use crate::app::{all_free, builder, call, fails, is_filled, number, open, until_begun, works};
use crate::guard::{PoolGuard, kill, some, until};
use crate::harness::{Outcome, Skip};
use crate::logging::HOOK;
use crate::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;
use std::{fs, process, thread};
use stokehold::{Bound, Client, Code, Kind, Lease, Options, Pool};

crate::tests! {
    regions_that_nobody_uses_are_retired,
    a_worker_in_a_call_lets_go_of_regions_that_are_gone,
    a_client_at_rest_gives_back_what_it_is_told_to,
    a_caller_that_waits_lets_go_of_regions_that_are_gone,
    a_logger_may_use_the_client_whose_regions_it_hears_of,
    warm_regions_are_used_again,
    one_small_region_is_kept,
    a_region_of_the_next_owner_is_not_taken_for_the_last_ones,
    what_a_client_may_have_fits,
    a_gibibyte_there_and_back,
    a_leaky_client_harms_only_itself,
    a_leak_of_many_small_results_harms_only_its_client,
}

const MIB: usize = 1 << 20;

/// How often growth regions are mapped, and open, in each process of the pool and in this one.
fn growth(pool: &Pool) -> Vec<(u32, usize, usize)> {
    let pids = proc::session(pool.arbiter_pid()).into_iter().map(|p| p.pid);
    pids.chain([process::id()]).map(|pid| (pid, mapped(pid).len(), files(pid).len())).collect()
}

pub fn mapped(pid: u32) -> Vec<String> {
    let maps = proc::mappings(pid);
    maps.into_iter().filter(|line| line.contains("stokehold-growth")).collect()
}

/// The inode numbers of the growth regions that a process has open.
pub fn files(pid: u32) -> BTreeSet<u64> {
    let growth = proc::descriptors(pid).into_iter().filter(|(_, to)| to.contains("memfd:stokehold-growth"));
    let inode = |n| fs::metadata(format!("/proc/{pid}/fd/{n}")).ok();
    growth.filter_map(|(n, _)| inode(n)).map(|m| std::os::unix::fs::MetadataExt::ino(&m)).collect()
}

pub fn none_is_left(pool: &Pool) -> bool {
    growth(pool).iter().all(|(_, mapped, open)| (*mapped, *open) == (0, 0))
}

/// A large argument and a large result.
fn there_and_back(client: &Client, byte: i64, len: usize) {
    let lease = filled(client, byte, len);
    assert!(call(client, "is_filled").args((byte, &lease)).execute().unwrap().parse::<bool>().unwrap());
    let back = call(client, "fill").args((byte, len)).execute().unwrap();
    assert!(back.as_bytes().unwrap().len() == len && is_filled(back.as_bytes().unwrap(), byte));
}

pub fn filled(client: &Client, byte: i64, len: usize) -> Lease {
    let mut lease = client.lease(len).unwrap();
    lease.fill(byte as u8);
    lease
}

/// Skips where the machine has not so much memory to spare.
pub fn memory_for(bytes: usize) -> Outcome {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = available.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<usize>().ok());
    match kib {
        Some(kib) if kib / 1024 > 2 * bytes / MIB => Ok(()),
        _ => Err(Skip(format!("not twice {} MiB of memory are available: {kib:?} KiB", bytes / MIB))),
    }
}

fn regions_that_nobody_uses_are_retired() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).keep_warm_ms(1_000));
    let client = pool.client().unwrap();
    let descriptors = proc::descriptors(process::id()).len();
    for round in 1..=3 {
        // Of both kinds: shared by several blocks, and of one. The first may be gone again if the second takes long.
        let seen = some("what is counted is there", || {
            for len in [10 * MIB, 40 * MIB] {
                there_and_back(&client, round, len);
            }
            let seen = growth(&pool);
            assert_eq!(seen.len(), 4, "{seen:?}");
            (seen.iter().filter(|(_, mapped, _)| *mapped >= 2).count() >= 3).then_some(seen)
        });
        until(format!("all memory is free: {seen:?}"), || {
            works(&client);
            none_is_left(&pool)
        });
        assert_eq!(proc::descriptors(process::id()).len(), descriptors);
    }
    Ok(())
}

/// Its app threads look at nothing while they are in a call: its control thread does.
fn a_worker_in_a_call_lets_go_of_regions_that_are_gone() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(1_000));
    let client = pool.client().unwrap();
    let worker = client.worker_pids()[0];
    until("it has mapped the client's and its own", || {
        there_and_back(&client, 1, 40 * MIB);
        mapped(worker).len() == 2
    });
    let gate = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    until("the worker in the call has let go", || {
        drop(client.lease(1)); // the client looks as well
        none_is_left(&pool)
    });
    assert!(!gate.is_ready());
    // Of a client that is gone, too.
    let other = pool.client().unwrap();
    let lease = filled(&other, 2, 40 * MIB);
    open("gate");
    assert_eq!(number(gate.wait()), 1);
    call(&other, "is_filled").args((2, &lease)).execute().unwrap();
    fs::remove_file("gate").unwrap();
    let gate = call(&client, "gate").args((2, "gate")).submit().unwrap();
    until_begun(2);
    assert_eq!(mapped(worker).len(), 1);
    drop((lease, other));
    until("the worker in the call has let go", || none_is_left(&pool));
    open("gate");
    assert_eq!(number(gate.wait()), 2);
    Ok(())
}

/// A client has no thread of ours.
fn a_client_at_rest_gives_back_what_it_is_told_to() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(60_000));
    let client = pool.client().unwrap();
    there_and_back(&client, 1, 40 * MIB);
    let held = filled(&client, 7, 40 * MIB);
    assert_eq!(mapped(process::id()).len(), 2, "one of its own, used again, and the worker's");
    client.trim();
    assert_eq!(mapped(process::id()).len(), 2, "both are in use, or may be used again");
    assert!(is_filled(&held, 7));
    drop(held);
    client.trim();
    assert_eq!((mapped(process::id()).len(), files(process::id()).len()), (1, 0), "the worker's is warm");
    works(&client);
    Ok(())
}

fn a_caller_that_waits_lets_go_of_regions_that_are_gone() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).keep_warm_ms(1_000));
    let client = pool.client().unwrap();
    there_and_back(&client, 1, 40 * MIB);
    assert!(!none_is_left(&pool));
    let waiting = thread::scope(|scope| {
        let waiting = scope.spawn(|| number(call(&client, "gate").args((1, "gate")).execute()));
        until_begun(1);
        until("the host has let go while its only caller waits", || none_is_left(&pool));
        open("gate");
        waiting.join().unwrap()
    });
    assert_eq!(waiting, 1);
    Ok(())
}

/// It writes what is logged to the pool, say.
fn a_logger_may_use_the_client_whose_regions_it_hears_of() -> Outcome {
    static CLIENT: Mutex<Option<Client>> = Mutex::new(None);
    *HOOK.lock().unwrap() = Some(|| {
        let client = CLIENT.lock().unwrap().clone();
        if let Some(client) = client {
            let _ = client.lease(60 * MIB);
            client.trim();
        }
    });
    // One is retired because it is asked to, one to make room.
    for to_make_room in [false, true] {
        let mut guard = PoolGuard::new();
        let pool = guard.start(builder(1));
        let options = Options { quota: 90 << 20, ..Options::default() };
        let client = Client::connect(pool.client_socket().unwrap(), options).unwrap();
        drop([client.lease(40 * MIB).unwrap(), client.lease(40 * MIB).unwrap()]);
        kill(pool.arbiter_pid(), Signal::SIGKILL);
        until("the arbiter is dead", || proc::process(pool.arbiter_pid()).is_none_or(|p| p.state == 'Z'));
        *CLIENT.lock().unwrap() = Some(client.clone());
        log::set_max_level(log::LevelFilter::Trace);
        if to_make_room {
            assert_eq!(client.lease(60 * MIB).unwrap_err().code(), Code::ArbiterDied);
        }
        client.trim();
        log::set_max_level(log::LevelFilter::Off);
        *CLIENT.lock().unwrap() = None;
        assert_eq!(mapped(process::id()).len(), 0);
    }
    Ok(())
}

fn warm_regions_are_used_again() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(60_000));
    let client = pool.client().unwrap();
    there_and_back(&client, 0, 40 * MIB);
    let all = || -> Vec<_> { proc::session(pool.arbiter_pid()).iter().map(|p| files(p.pid)).collect() };
    let before = (files(process::id()), all());
    assert_eq!(before.0.len(), 1);
    for round in 1..20 {
        there_and_back(&client, round, 40 * MIB - round as usize * MIB);
        thread::sleep(Duration::from_millis(20)); // ticks go by
    }
    thread::sleep(Duration::from_millis(1_200));
    there_and_back(&client, 1, 40 * MIB);
    assert_eq!((files(process::id()), all()), before, "the same regions, and no others");
    Ok(())
}

fn one_small_region_is_kept() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(100));
    let client = pool.client().unwrap();
    there_and_back(&client, 1, MIB);
    let before = files(process::id());
    there_and_back(&client, 1, 40 * MIB);
    until("the large ones are gone", || {
        works(&client);
        growth(&pool).iter().all(|(_, mapped, _)| *mapped < 3) && files(process::id()).len() == 1
    });
    thread::sleep(Duration::from_millis(1_200));
    there_and_back(&client, 2, MIB);
    assert_eq!(files(process::id()), before);
    Ok(())
}

/// Places in the table are given away again, soon and to the same owner. What was lent from the region that had one
/// before is not read from the next.
fn a_region_of_the_next_owner_is_not_taken_for_the_last_ones() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let options = Options { quota: 50 << 20, ..Options::default() };
    let clients: Vec<_> =
        (0..2).map(|_| Client::connect(pool.client_socket().unwrap(), options).unwrap()).collect();
    for round in 0..40i64 {
        let client = &clients[round as usize % 2];
        // Another size each time, too much for the quota beside the last one: that one is retired, and its place is free.
        let lease = filled(client, round, 33 * MIB + (round % 7) as usize * 2 * MIB);
        let same = call(client, "is_filled").args((round, &lease)).execute().unwrap();
        assert!(same.parse::<bool>().unwrap(), "round {round}");
        let taken: BTreeSet<_> = files(process::id());
        assert!(taken.len() <= 2, "{taken:?}");
    }
    Ok(())
}

/// A quota that is not used up by what is left over of each region.
fn what_a_client_may_have_fits() -> Outcome {
    memory_for(2 << 30)?;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let held: Vec<_> = (0..8).map(|_| client.lease(256 * MIB).unwrap()).collect();
    for len in [1 << 30, 256 * MIB, MIB] {
        let error = client.lease(len).unwrap_err();
        let limit = 2 << 30;
        assert!(
            matches!(error.kind(), Kind::Overloaded { bound: Bound::Bytes, limit: l } if *l == limit),
            "{error}"
        );
        assert_eq!(error.started(), Some(false));
    }
    // Small things go on in what the client has from its birth.
    works(&client);
    drop(client.lease(1000).unwrap());
    // What is free makes room without a wait.
    drop(held);
    let two = [client.lease(1 << 30).unwrap(), client.lease(1 << 30).unwrap()];
    assert_eq!(client.lease(1 << 30).unwrap_err().code(), Code::Overloaded);
    drop(two);
    let many: Vec<_> = (0..64).map(|_| client.lease(32 * MIB).unwrap()).collect();
    assert_eq!(fails(call(&client, "echo").args((&vec![0; MIB][..],)).execute()).code(), Code::Overloaded);
    drop(many);
    all_free(&client);
    Ok(())
}

fn a_gibibyte_there_and_back() -> Outcome {
    memory_for(2 << 30)?;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(100));
    let client = pool.client().unwrap();
    let pid = client.worker_pids();
    for len in [(1 << 30) - 1, 1 << 30] {
        there_and_back(&client, 0xa5, len);
    }
    for len in [(1 << 30) + 1, 2 << 30, i64::MAX] {
        let over = fails(call(&client, "fill").args((1, len)).execute());
        assert_eq!(over.code(), Code::BadRequest, "{over}");
        assert!(over.to_string().contains("1073741824"), "{over}");
    }
    assert_eq!(client.lease((1 << 30) + 1).unwrap_err().code(), Code::BadRequest);
    until("the memory is free", || {
        works(&client);
        none_is_left(&pool)
    });
    assert_eq!(client.worker_pids(), pid);
    Ok(())
}

/// One that drops neither a result nor a lease comes to the end of its share, and no other does.
fn a_leaky_client_harms_only_itself() -> Outcome {
    memory_for(4 << 30)?;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let (leaky, other) = (pool.client().unwrap(), pool.client().unwrap());
    let workers = other.worker_pids();
    let share = (1 << 30) + 64 * MIB;
    let fill = |len: usize| call(&leaky, "fill").args((1, len)).execute();
    let is_full = |error: &stokehold::Error| matches!(error.kind(), Kind::Overloaded { bound: Bound::Results, limit } if *limit == share as u64);
    let mut results: Vec<_> = (0..8).map(|_| fill(128 * MIB).unwrap()).collect();
    // What is left of it: 64 MiB.
    for len in [65 * MIB, 128 * MIB, 1 << 30] {
        let error = fails(fill(len));
        assert!(is_full(&error) && error.started().is_none(), "{error:?}");
        // Copied instead of lent it is no other.
        let error = fails(call(&leaky, "copy_of").args((len.min(65 * MIB),)).execute());
        assert!(is_full(&error), "{error:?}");
        there_and_back(&other, 2, 40 * MIB);
    }
    results.push(fill(64 * MIB).unwrap());
    assert!(is_full(&fails(fill(1))));
    works(&leaky); // what needs no block needs no room
    let mut leases = Vec::new();
    while let Ok(lease) = leaky.lease(512 * MIB) {
        leases.push(lease);
    }
    assert_eq!(leases.len(), 4);
    for round in 0..10 {
        works(&other);
        there_and_back(&other, round, 40 * MIB);
    }
    // What it lets go of it may have again, and the worker has not kept what did not fit.
    assert!(is_filled(results[3].as_bytes().unwrap(), 1));
    results.truncate(4);
    drop(leases);
    results.extend((0..4).map(|_| fill(128 * MIB).unwrap()));
    assert!(is_full(&fails(fill(65 * MIB))));
    drop(results);
    there_and_back(&leaky, 3, 40 * MIB);
    all_free(&leaky);
    assert_eq!(other.worker_pids(), workers);
    Ok(())
}

/// Of a worker's 256 records a client cannot have more than it has calls.
fn a_leak_of_many_small_results_harms_only_its_client() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let (leaky, other) = (pool.client().unwrap(), pool.client().unwrap());
    let leaked: Vec<_> =
        (0..64).map(|i| call(&leaky, "pattern").args((i, 1000)).execute().unwrap()).collect();
    let error = fails(call(&leaky, "pattern").args((1, 1000)).execute());
    assert!(matches!(error.kind(), Kind::Overloaded { bound: Bound::Calls, limit: 64 }), "{error}");
    for round in 0..3 {
        let held: Vec<_> =
            (0..64).map(|i| call(&other, "pattern").args((round, i)).execute().unwrap()).collect();
        for (i, response) in held.iter().enumerate() {
            assert_eq!(response.as_bytes().unwrap(), crate::app::pattern(round, i));
        }
    }
    for (i, response) in leaked.iter().enumerate() {
        assert_eq!(response.as_bytes().unwrap(), crate::app::pattern(i as i64, 1000));
    }
    Ok(())
}
