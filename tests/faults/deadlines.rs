//! Deadlines: the caller has its answer at its own time, the worker that does not let go is replaced.

use crate::app::{all_free, begun, builder, call, fails, number, open, ready, until_begun, works};
use crate::guard::{PoolGuard, kill, stop};
use crate::harness::Outcome;
use crate::stuck::overdue;
use nix::sys::signal::Signal;
use stokehold::{Cause, Code, Kill, Kind};

crate::tests! {
    f3_a_deadline_in_the_queue_and_the_app_never_sees_the_call,
    an_endless_call_ends_and_its_worker_is_replaced,
    queue_time_and_run_time_are_told_apart,
    a_call_that_lets_go_late_keeps_its_worker,
    a_stopped_idle_worker_leaves_calls_in_the_queue,
    impatient_callers_do_not_degrade_the_pool,
    the_pool_has_a_deadline_of_its_own,
    a_call_beside_an_endless_one_dies_of_the_others_deadline,
}

fn f3_a_deadline_in_the_queue_and_the_app_never_sees_the_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    for id in 2..5 {
        let error = fails(call(&client, "note").args((id,)).deadline_ms(20).execute());
        assert!(matches!(error.kind(), Kind::Deadline { started: false, .. }), "{error}");
        assert!(error.is_retryable());
        let spent = error.spent().unwrap();
        assert!(spent.queued.as_millis() >= 20 && spent.ran.is_none(), "{spent:?}");
        assert!(error.to_string().contains(" ms in the queue"), "{error}");
    }
    // One whose caller does not look before it has expired.
    let late = call(&client, "note").args((5,)).deadline_ms(1).submit().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    open("gate");
    assert_eq!(number(running.wait()), 1);
    let error = fails(late.wait());
    assert!(matches!(error.kind(), Kind::Deadline { started: false, .. }), "{error}");
    works(&client);
    for id in 2..6 {
        assert_eq!(begun(id), 0, "call {id} had expired and ran");
    }
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn an_endless_call_ends_and_its_worker_is_replaced() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let error = fails(call(&client, "spin").args((1,)).deadline_ms(50).execute());
    // On a busy machine it may not even have begun, also when a worker had it already.
    let Kind::Deadline { started, .. } = *error.kind() else { panic!("{error}") };
    crate::guard::until("it has begun or never will", || begun(1) == 1 || client.free_calls() == 64);
    assert!(started || begun(1) == 0, "{error}");
    works(&client);
    if begun(1) == 1 {
        crate::guard::until("the worker was replaced", || {
            client.worker_pids().iter().any(|pid| !before.contains(pid))
        });
    }
    all_free(&client);
    ready(&client, 2, &[]);
    works(&client);
    Ok(())
}

fn queue_time_and_run_time_are_told_apart() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let first = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let second = call(&client, "gate").args((2, "never")).deadline_ms(2_000).submit().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    open("gate");
    number(first.wait());
    until_begun(2);
    let error = fails(second.wait());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    let spent = error.spent().unwrap();
    let ran = spent.ran.unwrap();
    // By a clock that may be ten milliseconds behind.
    assert!(spent.queued.as_millis() >= 190 && !ran.is_zero(), "{error}");
    assert!(spent.queued + ran >= std::time::Duration::from_millis(2_000), "{error}");
    assert!(error.to_string().ends_with(" ms in a worker"), "{error}");
    Ok(())
}

fn a_call_that_lets_go_late_keeps_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(60_000));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).deadline_ms(20).submit().unwrap();
    let error = fails(running.wait());
    assert!(matches!(error.kind(), Kind::Deadline { .. }), "{error}");
    open("gate");
    all_free(&client);
    works(&client);
    Ok(())
}

fn a_stopped_idle_worker_leaves_calls_in_the_queue() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let stopped = client.worker_pids()[0];
    stop(stopped);
    let error = fails(call(&client, "note").args((1,)).deadline_ms(50).execute());
    assert!(matches!(error.kind(), Kind::Deadline { started: false, .. }), "{error}");
    let waiting = call(&client, "note").args((2,)).submit().unwrap();
    kill(stopped, Signal::SIGCONT);
    assert_eq!(number(waiting.wait()), 2);
    assert_eq!((begun(1), begun(2)), (0, 1));
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

/// Each costs the pool its worker for longer than the next takes to come.
fn impatient_callers_do_not_degrade_the_pool() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(60_000));
    let (impatient, innocent) = (pool.client().unwrap(), pool.client().unwrap());
    for id in 0..3 {
        let before = impatient.worker_pids();
        let submit = |ms| call(&impatient, "gate").args((id, "never")).deadline_ms(ms).submit().unwrap();
        let error = overdue(id, submit);
        assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
        if id < 2 {
            ready(&impatient, 1, &before);
        }
    }
    // Three are on their way out, for a minute, and a fourth would be too many: nobody takes calls, and nobody is told that nobody ever will.
    let waits = call(&innocent, "add").args((1, 2)).submit().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    assert!(!waits.is_ready(), "{:?}", waits.wait());
    assert_eq!(fails(waits.cancel()).code(), Code::Cancelled);
    Ok(())
}

fn the_pool_has_a_deadline_of_its_own() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(50));
    let client = pool.client().unwrap();
    let error = fails(call(&client, "spin").args((1,)).execute());
    assert!(matches!(error.kind(), Kind::Deadline { .. }), "{error}");
    let error = fails(call(&client, "spin").args((2,)).deadline_ms(60_000).execute());
    assert!(matches!(error.kind(), Kind::Deadline { .. }), "{error}");
    all_free(&client);
    Ok(())
}

fn a_call_beside_an_endless_one_dies_of_the_others_deadline() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(2));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let innocent = call(&client, "gate").args((1, "gate")).deadline_ms(60_000).submit().unwrap();
    until_begun(1);
    let error = overdue(2, |ms| call(&client, "spin").args((2,)).deadline_ms(ms).submit().unwrap());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    let error = fails(innocent.wait());
    let cause = Cause::KilledByUs(Kill::OthersDeadline);
    assert!(
        matches!(error.kind(), Kind::WorkerDied { cause: c, started: true, .. } if *c == cause),
        "{error}"
    );
    ready(&client, 1, &before);
    all_free(&client);
    works(&client);
    Ok(())
}
