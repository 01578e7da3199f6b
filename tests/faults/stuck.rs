//! Workers that do not let go of a call: their callers have their answers, another takes their place, they are killed.

use crate::app::{all_free, begun, builder, call, fails, number, open, ready, until_begun, works};
use crate::guard::{PoolGuard, Stopped, kill, stop, until};
use crate::harness::{Kid, Outcome, sleep_for_ever};
use crate::proc;
use nix::sys::signal::Signal;
use std::time::Duration;
use stokehold::{Builder, Cause, Client, Code, Error, Kill, Kind, Options, Pending};

crate::tests! {
    a7_a_stuck_worker_is_replaced_before_it_is_killed,
    a7_a_stuck_worker_is_killed_and_only_then_its_slot_is_reused,
    a7_a_stuck_worker_takes_nothing_more_even_if_its_arbiter_is_stopped,
    a7_a_call_that_lets_go_in_the_grace_time_is_the_last_of_its_worker,
    a7_innocent_calls_of_a_cordoned_worker_have_the_grace_time,
    a8_a_stopped_worker_is_killed,
    a8_a_stopped_worker_does_not_hold_up_a_shutdown,
    a10_a_worker_whose_first_thread_is_gone_is_replaced,
    f9_a_stopped_client_costs_a_worker_at_its_deadline_and_nobody_else_anything,
}

/// Longer than any test takes.
const NEVER_MS: u64 = 600_000;

pub fn is_alive(pid: u32) -> bool {
    proc::process(pid).is_some_and(|process| !matches!(process.state, 'Z' | 'X'))
}

/// Threads of a worker that run apps.
pub fn app_threads(pid: u32) -> usize {
    threads_named(pid, "stk-app-")
}

/// Threads whose names begin so.
pub fn threads_named(pid: u32, prefix: &str) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let name =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(name).filter(|name| name.starts_with(prefix)).count()
}

/// What becomes of a call that goes on past its deadline. A worker that came too late for that did not begin: once more,
/// with twice the time.
pub fn overdue(id: i64, send: impl Fn(u64) -> Pending) -> Error {
    let mut ms = 100;
    loop {
        let pending = send(ms);
        let canceller = pending.canceller();
        let error = fails(pending.wait());
        until("it has begun or never will", || begun(id) > 0 || canceller.wait(Duration::ZERO));
        if begun(id) > 0 || error.code() != Code::Deadline {
            return error;
        }
        ms *= 2;
    }
}

fn a7_a_stuck_worker_is_replaced_before_it_is_killed() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(NEVER_MS));
    let client = pool.client().unwrap();
    let stuck = client.worker_pids()[0];
    let error = overdue(1, |ms| call(&client, "spin").args((1,)).deadline_ms(ms).submit().unwrap());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    // Its only worker is stuck and lives: another answers.
    let answered = call(&client, "pid").execute().unwrap().parse::<u32>().unwrap();
    assert_ne!(answered, stuck);
    assert!(is_alive(stuck));
    for id in 10..200 {
        assert_eq!(number(call(&client, "note").args((id,)).execute()), id);
    }
    assert_eq!(client.free_calls(), 63, "what a worker has is not used again");
    kill(stuck, Signal::SIGKILL);
    all_free(&client);
    Ok(())
}

fn a7_a_stuck_worker_is_killed_and_only_then_its_slot_is_reused() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).kill_grace_ms(100));
    let client = pool.client().unwrap();
    for id in 1..4 {
        let before = client.worker_pids();
        let error = overdue(id, |ms| call(&client, "spin").args((id,)).deadline_ms(ms).submit().unwrap());
        assert_eq!(error.code(), Code::Deadline);
        until("the slot is free", || {
            let free = client.free_calls(); // first: a worker may die between the two
            let alive = before.iter().filter(|pid| is_alive(**pid)).count();
            assert!(free == 63 || alive < 2, "{free} calls are free, and the worker that has one lives");
            free == 64
        });
        ready(&client, 2, &[]);
        assert_eq!(client.worker_pids().iter().filter(|pid| before.contains(pid)).count(), 1);
    }
    works(&client);
    Ok(())
}

/// By itself, that is: it need not be told.
fn a7_a_stuck_worker_takes_nothing_more_even_if_its_arbiter_is_stopped() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(2).kill_grace_ms(NEVER_MS));
    let client = pool.client().unwrap();
    let stuck = client.worker_pids()[0];
    assert_eq!(app_threads(stuck), 2);
    // The worker has this one's lane, too, and must look at the right one. Both are fetched from the arbiter.
    let other = pool.client().unwrap();
    works(&other);
    works(&client);
    let stopped = Stopped::new(pool.arbiter_pid());
    let error = overdue(1, |ms| call(&client, "spin").args((1,)).deadline_ms(ms).submit().unwrap());
    assert_eq!(error.code(), Code::Deadline);
    until("the thread that is free has ended", || app_threads(stuck) == 1);
    let waits = call(&client, "note").args((2,)).submit().unwrap();
    assert_eq!(begun(2), 0);
    drop(stopped);
    assert_eq!(number(waits.wait()), 2);
    assert!(is_alive(stuck));
    Ok(())
}

fn a7_a_call_that_lets_go_in_the_grace_time_is_the_last_of_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(NEVER_MS));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let error = overdue(1, |ms| call(&client, "gate").args((1, "gate")).deadline_ms(ms).submit().unwrap());
    assert_eq!(error.code(), Code::Deadline);
    ready(&client, 1, &before);
    assert!(is_alive(before[0]));
    open("gate");
    // It let go, left by itself, and was not killed: that would have been in ten minutes.
    all_free(&client);
    until("it has left", || !is_alive(before[0]));
    works(&client);
    Ok(())
}

fn a7_innocent_calls_of_a_cordoned_worker_have_the_grace_time() -> Outcome {
    have_the_grace_time(builder(1).threads(3), "gate")
}

/// A stuck call costs its worker. Of two calls beside it, of an action that takes a number and the gate it waits at, one
/// is answered in the grace time; the other ends with the worker.
pub fn have_the_grace_time(builder: Builder, action: &str) -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder.kill_grace_ms(3_000));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let in_time = call(&client, action).args((1, "gate")).submit().unwrap();
    let too_long = call(&client, action).args((2, "never")).submit().unwrap();
    (1..3).for_each(until_begun);
    let error = overdue(3, |ms| call(&client, "spin").args((3,)).deadline_ms(ms).submit().unwrap());
    assert_eq!(error.code(), Code::Deadline);
    ready(&client, 1, &before);
    assert!(is_alive(before[0]), "a grace of three seconds");
    open("gate");
    assert_eq!(number(in_time.wait()), 1);
    let error = fails(too_long.wait());
    let cause = Cause::KilledByUs(Kill::OthersDeadline);
    assert!(
        matches!(error.kind(), Kind::WorkerDied { cause: c, started: true, .. } if *c == cause),
        "{error}"
    );
    all_free(&client);
    works(&client);
    Ok(())
}

/// Nothing but SIGKILL ends it, and it cannot say that it is late.
fn a8_a_stopped_worker_is_killed() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let running = call(&client, "gate").args((1, "gate")).deadline_ms(2_000).submit().unwrap();
    until_begun(1);
    stop(before[0]); // before the deadline
    let error = fails(running.wait());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    ready(&client, 1, &before);
    all_free(&client);
    assert!(!is_alive(before[0]));
    works(&client);
    Ok(())
}

fn a8_a_stopped_worker_does_not_hold_up_a_shutdown() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).stop_grace_ms(50).kill_grace_ms(50));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    client.worker_pids().into_iter().for_each(stop);
    pool.shutdown().unwrap();
    let error = fails(running.wait());
    let cause = Cause::KilledByUs(Kill::Shutdown);
    assert!(
        matches!(error.kind(), Kind::WorkerDied { cause: c, started: true, .. } if *c == cause),
        "{error}"
    );
    Ok(())
}

/// The others of its threads go on, but nobody listens to the arbiter any more.
fn a10_a_worker_whose_first_thread_is_gone_is_replaced() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(2));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let running = call(&client, "gate").args((1, "never")).submit().unwrap();
    until_begun(1);
    call(&client, "end_first_thread").execute().unwrap();
    let error = fails(running.wait());
    // Its process did not exit.
    let Kind::WorkerDied { started: true, cause, .. } = *error.kind() else { panic!("{error}") };
    assert_ne!(cause, Cause::Exit(0), "{error}");
    ready(&client, 1, &before);
    assert!(!is_alive(before[0]));
    all_free(&client);
    works(&client);
    Ok(())
}

fn f9_a_stopped_client_costs_a_worker_at_its_deadline_and_nobody_else_anything() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).kill_grace_ms(100));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let socket = pool.client_socket().unwrap();
    let kid = Kid::new(|| {
        let client = Client::connect(socket, Options::default()).unwrap();
        let endless = call(&client, "spin").args((1,)).deadline_ms(2_000).submit().unwrap();
        let held = call(&client, "add").args((1, 2)).execute().unwrap();
        until_begun(1);
        std::fs::write("note", "").unwrap();
        drop(endless.wait());
        let _held = held;
        sleep_for_ever()
    });
    until("the client has a call with a worker", || std::path::Path::new("note").exists());
    stop(kid.pid.as_raw() as u32);
    // The worker that its call is with is nobody else's until its deadline, then it is replaced.
    for id in 10..100 {
        assert_eq!(number(call(&client, "note").args((id,)).execute()), id);
    }
    until("one worker was replaced", || {
        let now = client.worker_pids();
        now.len() == 2 && now.iter().filter(|pid| before.contains(pid)).count() == 1
    });
    until("it is killed", || before.iter().filter(|pid| is_alive(**pid)).count() == 1);
    works(&client);
    assert_eq!(client.free_calls(), 64);
    kid.kill();
    kid.end();
    Ok(())
}
