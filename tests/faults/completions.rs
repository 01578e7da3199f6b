//! Hosts with an event loop: whatever ends a call makes the descriptor readable.

use crate::app::{
    self, all_free, begun, builder, call, fails, journal, keyed, number, open, pattern, ready, until_begun,
    works,
};
use crate::guard::{PoolGuard, Stopped, kill, until};
use crate::harness::{Kid, Outcome, Skip};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Barrier, Once};
use std::thread;
use std::time::{Duration, Instant};
use stokehold::internals::sys::{fd, poll};
use stokehold::wire::{Encode, Encoder, WireError};
use stokehold::{Bound, Builder, CancelledBy, Client, Code, Completions, Kind, Pool, Response, Result};

crate::tests! {
    a_level_triggered_loop_takes_every_outcome,
    an_edge_triggered_loop_misses_nothing,
    threads_submit_while_a_loop_waits,
    a_loop_that_waits_before_it_asks_is_woken,
    a_loop_hears_of_deadlines,
    a_loop_hears_of_cancelled_calls,
    a_loop_hears_of_dead_workers,
    a_loop_hears_of_the_arbiters_death,
    a_loop_hears_of_the_shutdown,
    a_loop_hears_of_damage,
    a_wake_up_that_was_lost_is_made_up_for_by_the_tick,
    a_worker_without_descriptors_wakes_through_the_arbiter,
    more_loops_than_a_worker_keeps_descriptors,
    f2_ten_times_overload_is_refused_at_once_and_what_is_admitted_runs,
    completions_that_are_dropped_cancel_their_calls,
    completions_belong_to_one_client_and_one_process,
    a_call_is_not_passed_over_while_others_end,
    a_loop_hears_of_calls_that_are_listed_after_the_arbiters_death,
    more_loops_than_the_kernel_lets_watch_one_descriptor,
    completions_that_are_dropped_in_a_worker_close_nothing,
}

/// How long a test waits before it calls a wake-up lost.
const LOST: Duration = Duration::from_secs(30);

/// A pool, a client of it, and what that has for a loop.
pub fn looping(guard: &mut PoolGuard, builder: Builder) -> (Pool, Client, Completions) {
    let pool = guard.start(builder);
    let client = pool.client().unwrap();
    let completions = client.completions().unwrap();
    (pool, client, completions)
}

/// Waits at the descriptor as a level-triggered loop does.
#[track_caller]
pub fn wait_readable(completions: &Completions) {
    let readiness = poll::readable(completions.as_fd(), Some(LOST)).unwrap();
    assert!(readiness.ready, "nobody woke the loop, {} are in flight", completions.in_flight());
}

pub fn is_readable(completions: &Completions) -> bool {
    poll::readable(completions.as_fd(), Some(Duration::ZERO)).unwrap().ready
}

/// All that is in flight, by token.
pub fn drain(completions: &Completions) -> BTreeMap<u64, Result<Response>> {
    let mut all = BTreeMap::new();
    while completions.in_flight() > 0 {
        while let Some(done) = completions.next_completion() {
            assert!(all.insert(done.token, done.outcome).is_none(), "two outcomes of call {}", done.token);
        }
        if completions.in_flight() > 0 {
            wait_readable(completions);
        }
    }
    all
}

fn a_level_triggered_loop_takes_every_outcome() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    assert!(completions.next_completion().is_none() && !is_readable(&completions));
    for round in 0..50 {
        for token in 0..64u64 {
            call(&client, "add").args((round, token as i64)).submit_to(&completions, token).unwrap();
        }
        let mut all = drain(&completions);
        assert_eq!(all.len(), 64);
        for token in 0..64 {
            assert_eq!(number(all.remove(&token).unwrap()), round + token as i64);
        }
    }
    let bytes = pattern(1, 3_000_000);
    let lease = client.lease_from(&bytes).unwrap();
    call(&client, "lent_echo").args((lease,)).submit_to(&completions, 1).unwrap();
    assert_eq!(drain(&completions).remove(&1).unwrap().unwrap().as_bytes().unwrap(), bytes);
    assert!(completions.next_completion().is_none() && !is_readable(&completions));
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn an_edge_triggered_loop_misses_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    let mut poll = mio::Poll::new().unwrap();
    let fd = completions.as_raw_fd();
    let source = &mut mio::unix::SourceFd(&fd);
    poll.registry().register(source, mio::Token(0), mio::Interest::READABLE).unwrap();
    let mut events = mio::Events::with_capacity(4);
    let (mut next, mut left) = (0u64, 5_000u64);
    while left > 0 {
        while next < 5_000 && completions.in_flight() < 1 + (next % 7) as usize {
            call(&client, "add").args((next as i64, 1)).submit_to(&completions, next).unwrap();
            next += 1;
        }
        while let Some(done) = completions.next_completion() {
            assert_eq!(number(done.outcome), done.token as i64 + 1);
            left -= 1;
        }
        if completions.in_flight() > 0 {
            poll.poll(&mut events, Some(LOST)).unwrap();
            assert!(!events.is_empty(), "no edge, {left} to come");
        }
    }
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn threads_submit_while_a_loop_waits() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    let (threads, each) = (4, 1_000);
    let mut seen = vec![0; threads * each];
    thread::scope(|scope| {
        for thread in 0..threads {
            let (client, completions) = (&client, &completions);
            scope.spawn(move || {
                for i in 0..each {
                    let token = (thread * each + i) as u64;
                    let submit = || call(client, "add").args((token as i64, 0)).submit_to(completions, token);
                    while let Err(error) = submit() {
                        assert_eq!(error.code(), Code::Overloaded, "{error}");
                        thread::yield_now();
                    }
                }
            });
        }
        let mut left = seen.len();
        while left > 0 {
            while let Some(done) = completions.next_completion() {
                assert_eq!(number(done.outcome), done.token as i64);
                seen[done.token as usize] += 1;
                left -= 1;
            }
            if left > 0 {
                wait_readable(&completions);
            }
        }
    });
    assert!(seen.iter().all(|count| *count == 1));
    assert_eq!((completions.in_flight(), client.free_calls()), (0, 64));
    Ok(())
}

fn a_loop_that_waits_before_it_asks_is_woken() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let [busy, client, other] = [(); 3].map(|()| pool.client().unwrap());
    // Lanes, results and descriptors are met for the first time with the supervising process's help.
    works(&busy);
    works(&client);
    let completions = other.completions().unwrap();
    for _ in 0..3 {
        call(&other, "note").args((0,)).submit_to(&completions, 0).unwrap();
        wait_readable(&completions);
        assert!(drain(&completions).remove(&0).unwrap().is_ok());
    }
    drop(completions);
    let running = call(&busy, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    // Of a deadline: nobody but itself knows of it, since the only worker has something else.
    let completions = client.completions().unwrap();
    call(&client, "note").args((2,)).deadline_ms(50).submit_to(&completions, 2).unwrap();
    while completions.in_flight() > 0 {
        wait_readable(&completions);
        while let Some(done) = completions.next_completion() {
            assert_eq!((done.token, fails(done.outcome).code()), (2, Code::Deadline));
        }
    }
    // And of a result, however the supervising process is.
    let completions = other.completions().unwrap();
    call(&other, "note").args((3,)).submit_to(&completions, 3).unwrap();
    let stopped = Stopped::new(pool.arbiter_pid());
    open("gate");
    assert_eq!(number(running.wait()), 1);
    wait_readable(&completions);
    until("it is there", || completions.next_completion().is_some_and(|done| done.token == 3));
    drop(stopped);
    Ok(())
}

fn a_loop_hears_of_deadlines() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(1).kill_grace_ms(60_000));
    call(&client, "gate").args((1, "gate")).deadline_ms(2_000).submit_to(&completions, 1).unwrap();
    until_begun(1);
    // Later in the list and earlier in time; submitted while somebody waits, and before.
    call(&client, "note").args((2,)).deadline_ms(800).submit_to(&completions, 2).unwrap();
    thread::scope(|scope| {
        assert!(completions.next_completion().is_none());
        scope.spawn(|| {
            call(&client, "note").args((3,)).deadline_ms(20).submit_to(&completions, 3).unwrap();
        });
        wait_readable(&completions);
    });
    let mut all = drain(&completions);
    let mut fails_at = |token| match *fails(all.remove(&token).unwrap()).kind() {
        Kind::Deadline { started, .. } => started,
        ref other => panic!("{other:?}"),
    };
    assert!(fails_at(1) && !fails_at(2) && !fails_at(3));
    open("gate");
    all_free(&client);
    works(&client);
    assert_eq!((begun(2), begun(3)), (0, 0));
    assert!(!is_readable(&completions) || completions.next_completion().is_none());
    Ok(())
}

fn a_loop_hears_of_cancelled_calls() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(1).kill_grace_ms(60_000));
    call(&client, "gate").args((1, "gate")).submit_to(&completions, 1).unwrap();
    until_begun(1);
    call(&client, "note").args((2,)).submit_to(&completions, 2).unwrap();
    call(&client, "note").args((3,)).submit_to(&completions, 3).unwrap();
    assert!(completions.next_completion().is_none() && !is_readable(&completions));
    completions.cancel(77);
    assert!(!is_readable(&completions), "nothing has that token");
    thread::scope(|scope| {
        scope.spawn(|| (completions.cancel(2), completions.cancel(1)));
        wait_readable(&completions);
    });
    let mut cancelled = BTreeMap::new();
    while let Some(done) = completions.next_completion() {
        let error = fails(done.outcome);
        let Kind::Cancelled { by: CancelledBy::Caller, started } = *error.kind() else { panic!("{error}") };
        cancelled.insert(done.token, started);
    }
    assert_eq!(cancelled, [(1, true), (2, false)].into());
    open("gate");
    assert_eq!(number(drain(&completions).remove(&3).unwrap()), 3);
    // It came first: its outcome stays what it is.
    call(&client, "note").args((4,)).submit_to(&completions, 4).unwrap();
    until_begun(4);
    until("the call is over", || is_readable(&completions) || client.free_calls() == 63 && begun(4) == 1);
    completions.cancel(4);
    let outcome = drain(&completions).remove(&4).unwrap();
    assert!(outcome.as_ref().map_or_else(|error| error.code() == Code::Cancelled, |_| true));
    drop(outcome);
    all_free(&client);
    assert_eq!(begun(2), 0);
    Ok(())
}

fn a_loop_hears_of_dead_workers() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    for round in 0..10 {
        ready(&client, 2, &[]);
        for id in [2 * round, 2 * round + 1] {
            call(&client, "gate").args((id, "gate")).submit_to(&completions, id as u64).unwrap();
        }
        until_begun(2 * round);
        until_begun(2 * round + 1);
        assert!(completions.next_completion().is_none() && !is_readable(&completions));
        let victims = client.worker_pids();
        for pid in &victims {
            kill(*pid, Signal::SIGKILL);
        }
        for (_, outcome) in drain(&completions) {
            let error = fails(outcome);
            let Kind::WorkerDied { pid, started: true, .. } = *error.kind() else { panic!("{error}") };
            assert!(victims.contains(&pid.unwrap()));
        }
        ready(&client, 2, &victims);
    }
    // One that leaves with status 0, which cannot be told before its end.
    call(&client, "exit").args((0,)).submit_to(&completions, 99).unwrap();
    assert_eq!(fails(drain(&completions).remove(&99).unwrap()).code(), Code::WorkerDied);
    all_free(&client);
    works(&client);
    Ok(())
}

fn a_loop_hears_of_the_arbiters_death() -> Outcome {
    let mut guard = PoolGuard::new();
    let (pool, client, completions) = looping(&mut guard, builder(2));
    for id in 0..5 {
        call(&client, "gate").args((id, "gate")).submit_to(&completions, id as u64).unwrap();
    }
    until_begun(0);
    until_begun(1);
    assert!(completions.next_completion().is_none() && !is_readable(&completions));
    kill(pool.arbiter_pid(), Signal::SIGKILL);
    let all = drain(&completions);
    assert_eq!(all.len(), 5);
    for (_, outcome) in all {
        assert_eq!(fails(outcome).code(), Code::ArbiterDied);
    }
    assert!(completions.next_completion().is_none());
    assert!(!is_readable(&completions), "a loop would spin for ever");
    let error = call(&client, "add").args((1, 2)).submit_to(&completions, 9).unwrap_err();
    assert_eq!(error.code(), Code::ArbiterDied);
    Ok(())
}

fn a_loop_hears_of_the_shutdown() -> Outcome {
    let mut guard = PoolGuard::new();
    let (pool, client, completions) = looping(&mut guard, builder(1));
    for id in 0..5 {
        call(&client, "gate").args((id, "gate")).submit_to(&completions, id as u64).unwrap();
    }
    until_begun(0);
    assert!(completions.next_completion().is_none() && !is_readable(&completions));
    thread::scope(|scope| {
        scope.spawn(|| pool.shutdown().unwrap());
        wait_readable(&completions);
        until("the queued calls are refused", || {
            let _ = completions.next_completion().map(|done| {
                assert_eq!(fails(done.outcome).code(), Code::ShuttingDown);
            });
            completions.in_flight() == 1
        });
        open("gate");
        assert_eq!(number(drain(&completions).remove(&0).unwrap()), 0);
    });
    assert_eq!(journal(), [(0, 1)].into());
    Ok(())
}

fn a_loop_hears_of_damage() -> Outcome {
    let mut guard = PoolGuard::new();
    let (pool, client, completions) = looping(&mut guard, builder(2));
    call(&client, "gate").args((1, "gate")).submit_to(&completions, 1).unwrap();
    until_begun(1);
    assert!(completions.next_completion().is_none());
    let other = pool.client().unwrap();
    call(&other, "scribble_control").execute().map(drop).unwrap_or_else(|_| {});
    // The one that scribbled has this lane mapped only if it is the one that runs the call; then it has none.
    call(&client, "scribble_control").submit_to(&completions, 2).map(drop).unwrap_or_else(|_| {});
    for (token, outcome) in drain(&completions) {
        let code = fails(outcome).code();
        assert!(matches!(code, Code::Protocol | Code::WorkerDied), "call {token}: {code:?}");
    }
    open("gate");
    // On a fresh lane.
    until("the client works again", || call(&client, "add").args((2, 3)).execute().is_ok());
    call(&client, "add").args((2, 3)).submit_to(&completions, 3).unwrap();
    assert_eq!(number(drain(&completions).remove(&3).unwrap()), 5);
    Ok(())
}

fn a_wake_up_that_was_lost_is_made_up_for_by_the_tick() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(1));
    call(&client, "mute").submit_to(&completions, 1).unwrap();
    assert!(completions.next_completion().is_none());
    open("mute");
    assert_eq!(number(drain(&completions).remove(&1).unwrap()), 1, "flags that were set");
    // A result that is held on to is news to one tick of the five, and its worker may have written late.
    call(&client, "add").args((2, 3)).submit_to(&completions, 2).unwrap();
    let held = drain(&completions);
    let mut wakes = 0;
    let end = Instant::now() + Duration::from_millis(2_800);
    while Instant::now() < end {
        let left = end.saturating_duration_since(Instant::now());
        wakes += usize::from(poll::readable(completions.as_fd(), Some(left)).unwrap().ready);
        assert!(completions.next_completion().is_none());
    }
    assert!(wakes <= 2, "{wakes} wake-ups for a result that is held");
    drop(held);
    std::fs::remove_file("mute").unwrap();
    Ok(())
}

fn a_worker_without_descriptors_wakes_through_the_arbiter() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    call(&client, "no_more_files").execute().unwrap();
    let completions = client.completions().unwrap();
    for id in 0..5 {
        let begin = Instant::now();
        call(&client, "nap").args((20,)).submit_to(&completions, id).unwrap();
        assert!(completions.next_completion().is_none());
        drain(&completions).remove(&id).unwrap().unwrap();
        println!("woken after {:?}", begin.elapsed());
    }
    Ok(())
}

fn more_loops_than_a_worker_keeps_descriptors() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let clients: Vec<_> = (0..80).map(|_| pool.client().unwrap()).collect();
    let loops: Vec<_> = clients.iter().map(|client| client.completions().unwrap()).collect();
    let mut most = 0;
    for round in 0..2 {
        for (i, (client, completions)) in clients.iter().zip(&loops).enumerate() {
            call(client, "gate").args((i as i64, format!("gate{round}"))).submit_to(completions, 1).unwrap();
            assert!(completions.next_completion().is_none());
        }
        open(&format!("gate{round}"));
        for (i, completions) in loops.iter().enumerate() {
            assert_eq!(number(drain(completions).remove(&1).unwrap()), i as i64);
        }
        let files = call(&clients[0], "open_files").execute().unwrap();
        let files: Vec<String> = files.parse().unwrap();
        std::fs::remove_file(format!("gate{round}")).unwrap();
        most = files.iter().filter(|file| file.contains("eventfd")).count();
    }
    assert_eq!(most, 64);
    // Those of clients that left make room for others.
    drop((loops, clients));
    let client = pool.client().unwrap();
    until("the worker let go of their descriptors", || {
        let files = call(&client, "open_files").execute().unwrap();
        files.parse::<Vec<String>>().unwrap().iter().all(|file| !file.contains("eventfd"))
    });
    Ok(())
}

fn f2_ten_times_overload_is_refused_at_once_and_what_is_admitted_runs() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    // Two workers with 1 ms of work each: 2,000 a second. Ten times as much is asked for, whatever the answers.
    let (mut admitted, mut refused, mut ended) = (0i64, 0, 0);
    let begin = Instant::now();
    for tick in 0..10_000u32 {
        let due = begin + tick * Duration::from_micros(50);
        loop {
            while let Some(done) = completions.next_completion() {
                assert_eq!(number(done.outcome), keyed(done.token as i64, b""));
                ended += 1;
            }
            if Instant::now() >= due {
                break;
            }
        }
        match call(&client, "work").args((admitted, &b""[..], 1)).submit_to(&completions, admitted as u64) {
            Ok(()) => admitted += 1,
            Err(error) => {
                assert!(
                    matches!(error.kind(), Kind::Overloaded { bound: Bound::Calls, limit: 64 }),
                    "{error}"
                );
                refused += 1;
            }
        }
        assert!(completions.in_flight() <= 64);
    }
    ended += drain(&completions).into_values().map(number).count() as i64;
    println!("{admitted} admitted, {refused} refused in {:?}", begin.elapsed());
    assert!(refused > 0 && admitted > 0 && admitted + refused == 10_000);
    assert_eq!(ended, admitted);
    let counts = journal();
    assert!(counts.len() as i64 == admitted && counts.values().all(|count| *count == 1));
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn completions_that_are_dropped_cancel_their_calls() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(1).kill_grace_ms(60_000));
    for id in 0..5 {
        call(&client, "gate").args((id, "gate")).submit_to(&completions, id as u64).unwrap();
    }
    until_begun(0);
    drop(completions);
    open("gate");
    all_free(&client);
    assert_eq!(journal(), [(0, 1)].into(), "only the one that ran already");
    let again = client.completions().unwrap();
    call(&client, "add").args((2, 3)).submit_to(&again, 1).unwrap();
    assert_eq!(number(drain(&again).remove(&1).unwrap()), 5);
    Ok(())
}

fn completions_belong_to_one_client_and_one_process() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let (client, other) = (pool.client().unwrap(), pool.client().unwrap());
    let completions = client.completions().unwrap();
    assert_eq!(client.clone().completions().unwrap_err().code(), Code::BadRequest);
    let theirs = other.completions().unwrap();
    let error = call(&client, "add").args((1, 2)).submit_to(&theirs, 1).unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    call(&client, "gate").args((1, "gate")).submit_to(&completions, 1).unwrap();
    until_begun(1);
    let mut completions = Some(completions);
    let kid = Kid::new(|| {
        let copy = completions.take().unwrap();
        let error = call(&client, "add").args((1, 2)).submit_to(&copy, 2).unwrap_err();
        assert_eq!(error.code(), Code::Forked);
        copy.cancel(1);
        assert!(copy.next_completion().is_none());
        assert_eq!(copy.in_flight(), 0);
        drop(copy);
        0
    });
    assert!(matches!(kid.end(), stokehold::internals::sys::process::ExitStatus::Exited(0)));
    open("gate");
    assert_eq!(number(drain(&completions.unwrap()).remove(&1).unwrap()), 1);
    Ok(())
}

/// A host that always has something to take hears of a deadline as well.
fn a_call_is_not_passed_over_while_others_end() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2).kill_grace_ms(60_000));
    call(&client, "gate").args((1, "gate")).deadline_ms(1_000).submit_to(&completions, 0).unwrap();
    until_begun(1);
    let mut took = Vec::new();
    for token in 1..500 {
        call(&client, "add").args((1, 2)).submit_to(&completions, token).unwrap();
        thread::sleep(Duration::from_millis(10)); // it has ended before anybody looks
        let Some(done) = completions.next_completion() else { continue };
        took.push(done.token);
        if done.token == 0 {
            assert_eq!(fails(done.outcome).code(), Code::Deadline);
            open("gate");
            drain(&completions);
            all_free(&client);
            return Ok(());
        }
    }
    panic!("the call was passed over by {took:?}");
}

/// An argument whose encoding takes as long as the test wants.
struct Slow<'a>(&'a Barrier, &'a Once);

impl Encode for Slow<'_> {
    fn encode(&self, e: &mut Encoder<'_>) -> std::result::Result<(), WireError> {
        self.1.call_once(|| {
            self.0.wait();
            self.0.wait();
        });
        e.none()
    }
}

/// The loop has seen the alarm already when the call comes into its list: nobody else will wake it.
fn a_loop_hears_of_calls_that_are_listed_after_the_arbiters_death() -> Outcome {
    let mut guard = PoolGuard::new();
    let (pool, client, completions) = looping(&mut guard, builder(1));
    let (slow, once) = (Barrier::new(2), Once::new());
    thread::scope(|scope| {
        let argument = Slow(&slow, &once);
        scope.spawn(|| call(&client, "note").args((argument,)).submit_to(&completions, 1).unwrap());
        slow.wait();
        assert!(completions.next_completion().is_none() && !is_readable(&completions));
        kill(pool.arbiter_pid(), Signal::SIGKILL);
        wait_readable(&completions);
        assert!(completions.next_completion().is_none() && !is_readable(&completions));
        slow.wait();
        until("the call is listed", || completions.in_flight() == 1);
        wait_readable(&completions);
        assert_eq!(fails(completions.next_completion().unwrap().outcome).code(), Code::ArbiterDied);
    });
    Ok(())
}

/// All watch the arbiter, each in a set of its own, which the host's loop watches: two deep, of which the kernel allows
/// 500 for one file, whoever they are.
fn more_loops_than_the_kernel_lets_watch_one_descriptor() -> Outcome {
    const LOOPS: usize = 501;
    let (_, limit) = fd::raise_nofile().unwrap();
    if limit < 16 * LOOPS as u64 {
        return Err(Skip(format!("{LOOPS} clients need more than {limit} descriptors")));
    }
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let clients: Vec<_> = (0..LOOPS).map(|_| pool.client().unwrap()).collect();
    let loops: Vec<_> = clients.iter().map(|client| client.completions().unwrap()).collect();
    let poll = mio::Poll::new().unwrap();
    for (i, completions) in loops.iter().enumerate() {
        let fd = completions.as_raw_fd();
        let source = &mut mio::unix::SourceFd(&fd);
        if let Err(error) = poll.registry().register(source, mio::Token(i), mio::Interest::READABLE) {
            panic!("loop {i}: {error}");
        }
    }
    Ok(())
}

/// A pool by fork: its workers have closed what they inherited, and the numbers are others'.
fn completions_that_are_dropped_in_a_worker_close_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let first = guard.start(builder(1));
    let client = first.client().unwrap();
    *app::INHERITED.lock().unwrap() = Some(client.completions().unwrap());
    let second = guard.start(builder(1).by_fork());
    let other = second.client().unwrap();
    works(&other);
    let before = call(&other, "open_files").execute().unwrap().into_owned().unwrap();
    let dropped = call(&other, "drop_inherited").execute().unwrap();
    assert!(dropped.parse::<bool>().unwrap());
    let after = call(&other, "open_files").execute().unwrap().into_owned().unwrap();
    assert_eq!(before, after);
    *app::INHERITED.lock().unwrap() = None;
    Ok(())
}
