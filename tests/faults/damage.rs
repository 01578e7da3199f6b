//! Words that somebody scribbled over, connections that were cut: what is kept, what is let go of, who pays.

use crate::app::{begun, builder, call, fails, number, open, pattern, until_begun, works};
use crate::baseline::{Baseline, Open};
use crate::guard::{PoolGuard, kill, stop, until};
use crate::harness::Outcome;
use crate::proc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use std::{process, thread};
use stokehold::Code;
use stokehold::internals::ring::{Generation, Life, Word};
use stokehold::internals::sys::process::{Fork, exit_now, fork, kill_and_reap};

crate::tests! {
    a_life_that_never_was_keeps_no_lane,
    a_stray_word_does_not_cost_the_worker_that_it_names,
    a_damaged_word_gives_no_memory_away,
    a_result_that_was_read_outlives_its_lane_and_its_worker,
    a_result_for_a_damaged_word_is_kept_for_nobody,
    a_client_without_descriptors_recovers,
    a_cut_connection_leaves_nothing_behind,
    a_client_that_left_a_copy_of_itself_is_gone,
    a_thread_that_maps_holds_up_no_other,
}

/// Where a client of this process has its call words: of all its clients the one whose lane was mapped `latest`.
fn lines(latest: bool) -> usize {
    let maps = proc::mappings(process::id());
    let mut controls = maps.iter().filter(|line| line.contains("control"));
    let line = if latest { controls.next() } else { controls.next_back() }.unwrap();
    usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap() + 4096
}

fn scribble(lines: usize, call: usize, word: u64) {
    // SAFETY: an aligned word of a mapping that this process has.
    unsafe { std::ptr::without_provenance_mut::<u64>(lines + call * 64).write_volatile(word) };
}

fn lanes(open: &Open) -> usize {
    open.0.iter().filter(|kind| kind.contains("control")).count()
}

fn a_life_that_never_was_keeps_no_lane() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let client = pool.client().unwrap();
    works(&client);
    scribble(lines(true), 40, Word::abandoned(Generation(1), Life::new(4000).unwrap()).raw());
    scribble(lines(true), 41, Word::running(Generation(1), Life::new(4001).unwrap()).raw());
    drop(client);
    base.reached();
    works(&pool.client().unwrap());
    Ok(())
}

fn a_stray_word_does_not_cost_the_worker_that_it_names() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(2));
    let base = Baseline::of(&pool);
    let client = pool.client().unwrap();
    let at = lines(true);
    let life = call(&client, "add").args((1, 2)).execute().unwrap().life();
    let other = pool.client().unwrap();
    let gate = call(&other, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    scribble(at, 40, Word::running(Generation(1), Life::new(life).unwrap()).raw());
    drop(client);
    until("the lane was freed", || lanes(&Baseline::count(base.arbiter)) == lanes(&base.open) + 1);
    open("gate");
    assert_eq!(number(gate.wait()), 1);
    Ok(())
}

/// The word alone does not decide that a result is let go of.
fn a_damaged_word_gives_no_memory_away() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let victim = pool.client().unwrap();
    let held = call(&victim, "pattern").args((1, 1000)).execute().unwrap();
    scribble(lines(true), 0, 7);
    // As many as the worker has records for, and more.
    let clients: Vec<_> = (0..5).map(|_| pool.client().unwrap()).collect();
    let calls = (0..300).map(|i| call(&clients[i % 5], "pattern").args((1000 + i as i64, 1000)).execute());
    let all: Vec<_> = calls.filter_map(|outcome| outcome.ok()).collect();
    assert!(all.len() >= 250, "{}", all.len());
    assert_eq!(held.as_bytes().unwrap(), pattern(1, 1000));
    Ok(())
}

/// No word names its worker any more, so the region leaves the registry; the response still has it.
fn a_result_that_was_read_outlives_its_lane_and_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let held = call(&client, "pattern").args((1, 100_000)).execute().unwrap();
    assert_eq!(held.as_bytes().unwrap(), pattern(1, 100_000));
    let at = lines(true);
    for call in 0..64 {
        scribble(at, call, 7);
    }
    assert_eq!(fails(call(&client, "add").args((1, 2)).execute()).code(), Code::Protocol);
    works(&client);
    let controls = proc::mappings(process::id()).iter().filter(|line| line.contains("control")).count();
    assert_eq!(controls, 2, "the lane was replaced, and the response holds the old one");
    let before = client.worker_pids();
    kill(before[0], Signal::SIGKILL);
    crate::app::ready(&client, 1, &before);
    works(&client);
    assert_eq!(held.as_bytes().unwrap(), pattern(1, 100_000));
    Ok(())
}

/// The call ends when its worker has let go of the lane already.
fn a_result_for_a_damaged_word_is_kept_for_nobody() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(2).keep_warm_ms(50));
    let other = pool.client().unwrap();
    works(&other);
    let base = Baseline::of(&pool);
    let client = pool.client().unwrap();
    let pending = call(&client, "gate_and_fill").args((1, "gate", 40 << 20)).submit().unwrap();
    until_begun(1);
    scribble(lines(true), 0, 7);
    assert_eq!(fails(pending.wait()).code(), Code::Protocol);
    drop(client);
    until("the lanes were freed", || lanes(&Baseline::count(base.arbiter)) == lanes(&base.open));
    // The other thread sweeps, once a second.
    let end = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < end {
        works(&other);
        thread::sleep(Duration::from_millis(10));
    }
    open("gate");
    until("the memory of the result is free", || {
        works(&other);
        begun(2) == 1 && crate::regions::none_is_left(&pool)
    });
    Ok(())
}

/// It cannot have a fresh lane for a while: that passes.
fn a_client_without_descriptors_recovers() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
    let first = call(&client, "scribble_control").execute();
    let codes: Vec<Code> = (0..70)
        .filter_map(|_| call(&client, "add").args((1, 2)).execute().err().map(|error| error.code()))
        .collect();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(!codes.is_empty() && codes.iter().all(|code| *code == Code::Protocol), "{codes:?}");
    drop(first);
    works(&client);
    Ok(())
}

fn a_cut_connection_leaves_nothing_behind() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let before = proc::descriptors(process::id());
    let client = pool.client().unwrap();
    let now = proc::descriptors(process::id());
    let mut new = now.iter().filter(|(n, to)| !before.contains_key(n) && to.starts_with("socket"));
    let socket = *new.next().unwrap().0;
    works(&client);
    let gate = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    // SAFETY: takes numbers.
    unsafe { libc::shutdown(socket as i32, libc::SHUT_RDWR) };
    assert_eq!(fails(gate.wait()).code(), Code::Protocol);
    open("gate");
    for _ in 0..70 {
        let error = fails(call(&client, "add").args((1, 2)).execute());
        assert_eq!(error.code(), Code::Protocol, "{error}");
        assert!(error.to_string().contains("connection"), "{error}");
    }
    drop(client);
    base.reached();
    assert_eq!(begun(1), 1);
    works(&pool.client().unwrap());
    Ok(())
}

/// The copy keeps the socket open: the end of the connection never comes.
fn a_client_that_left_a_copy_of_itself_is_gone() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let client = pool.client().unwrap();
    works(&client);
    let copy = match fork().unwrap() {
        Fork::Child => {
            thread::sleep(Duration::from_secs(60));
            exit_now(0)
        }
        Fork::Parent(pid) => pid,
    };
    drop(client);
    base.reached();
    kill_and_reap(copy);
    Ok(())
}

/// A worker's thread that waits for the arbiter, which may be slow, does not keep the others from their calls.
fn a_thread_that_maps_holds_up_no_other() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(2));
    let (warm, fresh) = (pool.client().unwrap(), pool.client().unwrap());
    let leaving = [pool.client().unwrap(), pool.client().unwrap()];
    for client in leaving.iter().chain([&warm]) {
        works(client);
        works(client);
    }
    // A sweep is owed, and none is due.
    thread::sleep(Duration::from_millis(1100));
    for client in leaving {
        drop(client);
        thread::sleep(Duration::from_millis(100));
    }
    stop(pool.arbiter_pid());
    let waiting = call(&fresh, "note").args((1,)).submit().unwrap();
    thread::sleep(Duration::from_millis(1200));
    for _ in 0..3 {
        assert_eq!(number(call(&warm, "add").args((1, 2)).deadline_ms(20_000).execute()), 3);
    }
    assert!(!waiting.is_ready());
    kill(pool.arbiter_pid(), Signal::SIGCONT);
    assert_eq!(number(waiting.wait()), 1);
    Ok(())
}
