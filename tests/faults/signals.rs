//! The stages after the word: a call that was given up and is still run gets the pool's signal, then its worker is replaced,
//! then killed. Each has its grace, and other calls of the worker have theirs.

use crate::app::{all_free, begun, builder, call, fails, number, open, ready, until_begun, works};
use crate::guard::{PoolGuard, until};
use crate::harness::Outcome;
use crate::stuck::is_alive;
use std::time::Duration;
use stokehold::{Cause, Client, Code, Kill, Kind, Pending, Pool};

crate::tests! {
    the_signal_ends_a_system_call_of_the_thread_that_runs_the_call_and_of_no_other,
    the_signal_comes_after_the_grace_of_the_word_and_not_to_who_heeds_that,
    the_signal_follows_a_deadline_and_the_worker_stays,
    a_call_that_ignores_word_and_signal_costs_its_worker_and_others_have_the_grace_time,
    a_worker_without_a_handler_dies_of_the_signal_and_the_pool_is_not_degraded,
    a_deferred_call_that_is_cancelled_signals_the_process,
    a_worker_whose_control_thread_is_stuck_gets_the_signal_as_a_process,
    signals_that_cannot_be_handled_are_refused,
}

/// Longer than any test takes.
const NEVER_MS: u64 = 600_000;
const LONG: Duration = Duration::from_secs(30);

fn signalling(threads: usize) -> stokehold::Builder {
    let pool = builder(1).threads(threads).cancel_signal(libc::SIGUSR1);
    pool.cancel_grace_ms(100).signal_grace_ms(NEVER_MS).kill_grace_ms(NEVER_MS)
}

fn submit(client: &Client, action: &'static str, id: i64) -> Pending {
    let pending = call(client, action).args((id,)).submit().unwrap();
    until_begun(id);
    pending
}

fn started(pool: &Pool) -> (Client, u32) {
    let client = pool.client().unwrap();
    let worker = client.worker_pids()[0];
    (client, worker)
}

/// Each sleeps in `pause`, which only a signal of its own thread ends.
fn the_signal_ends_a_system_call_of_the_thread_that_runs_the_call_and_of_no_other() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(signalling(4));
    let (client, worker) = started(&pool);
    let mut sleepers: Vec<(i64, Pending)> =
        [10, 20, 30, 40].map(|id| (id, submit(&client, "pause", id))).into_iter().collect();
    for turn in [2, 0, 1, 0] {
        let (id, pending) = sleepers.remove(turn);
        let (outcome, has_ended) = pending.cancel_and_wait(LONG);
        assert_eq!((fails(outcome).code(), has_ended), (Code::Cancelled, true));
        assert_eq!(begun(id + 1), 1, "it was not interrupted");
        for (other, pending) in &sleepers {
            assert!(
                begun(other + 1) == 0 && !pending.is_ready(),
                "call {other} was interrupted for call {id}"
            );
        }
        works(&client); // the thread is free for others
    }
    assert_eq!(client.worker_pids(), [worker], "no worker pays for a call that the signal ends");
    all_free(&client);
    Ok(())
}

fn the_signal_comes_after_the_grace_of_the_word_and_not_to_who_heeds_that() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(signalling(1).cancel_grace_ms(3_000));
    let (client, worker) = started(&pool);
    // It takes its time, more than two looks of the supervisor, but less than the grace.
    let heeds = call(&client, "until_told").args((1, 1_200)).submit().unwrap();
    until_begun(1);
    let (_, has_ended) = heeds.cancel_and_wait(LONG);
    assert!(has_ended && begun(2) == 1);
    // The default action would have ended it: this app has no handler yet.
    works(&client);
    assert_eq!(client.worker_pids(), [worker]);
    let since = std::time::Instant::now();
    let (_, has_ended) = submit(&client, "pause", 10).cancel_and_wait(LONG);
    assert!(has_ended && begun(11) == 1);
    assert!(since.elapsed() >= Duration::from_millis(3_000), "{:?}", since.elapsed());
    assert_eq!(client.worker_pids(), [worker]);
    Ok(())
}

fn the_signal_follows_a_deadline_and_the_worker_stays() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(signalling(1).signal_grace_ms(10_000));
    let (client, worker) = started(&pool);
    for id in [10, 20] {
        let pending = call(&client, "pause").args((id,)).deadline_ms(1_000).submit().unwrap();
        until_begun(id);
        let canceller = pending.canceller();
        assert_eq!(fails(pending.wait()).code(), Code::Deadline);
        assert!(canceller.wait(LONG));
        assert_eq!(begun(id + 1), 1);
    }
    works(&client);
    assert_eq!(client.worker_pids(), [worker]);
    Ok(())
}

fn a_call_that_ignores_word_and_signal_costs_its_worker_and_others_have_the_grace_time() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(signalling(3).signal_grace_ms(1_500).kill_grace_ms(3_000));
    let (client, worker) = started(&pool);
    let quick = call(&client, "gate").args((30, "gate")).submit().unwrap();
    until_begun(30);
    let slow = call(&client, "gate").args((40, "gate2")).submit().unwrap();
    until_begun(40);
    let deaf = submit(&client, "pause_deafly", 10);
    let canceller = deaf.canceller();
    assert_eq!(fails(deaf.cancel()).code(), Code::Cancelled);
    // The stages in their order: the signal, a worker in its place while it lives, its end.
    until_begun(11);
    assert_eq!(client.worker_pids(), [worker], "it was replaced before it had time to heed the signal");
    ready(&client, 1, &[worker]);
    assert!(is_alive(worker) && !canceller.wait(Duration::ZERO));
    open("gate");
    assert_eq!(number(quick.wait()), 30);
    let error = fails(slow.wait());
    let cause = Cause::KilledByUs(Kill::OthersDeadline);
    assert!(
        matches!(error.kind(), Kind::WorkerDied { cause: c, started: true, .. } if *c == cause),
        "{error}"
    );
    assert!(canceller.wait(LONG) && !is_alive(worker));
    assert_eq!(begun(11), 1, "one signal");
    works(&client);
    all_free(&client);
    Ok(())
}

/// However often it happens.
fn a_worker_without_a_handler_dies_of_the_signal_and_the_pool_is_not_degraded() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(signalling(2).restart_limit(0, 60_000).backoff_ms(1, 60_000));
    let (client, _) = started(&pool);
    for id in [10, 20, 30] {
        let before = client.worker_pids();
        let innocent = call(&client, "gate").args((id, "gate")).submit().unwrap();
        until_begun(id);
        let deaf = call(&client, "gate").args((id + 1, "gate")).submit().unwrap();
        until_begun(id + 1);
        let (outcome, has_ended) = deaf.cancel_and_wait(LONG);
        assert_eq!((fails(outcome).code(), has_ended), (Code::Cancelled, true));
        let error = fails(innocent.wait());
        let cause = Cause::KilledByUs(Kill::OthersDeadline);
        assert!(matches!(error.kind(), Kind::WorkerDied { cause: c, .. } if *c == cause), "{error}");
        ready(&client, 1, &before);
        works(&client);
    }
    all_free(&client);
    Ok(())
}

fn a_deferred_call_that_is_cancelled_signals_the_process() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(signalling(1));
    let (client, worker) = started(&pool);
    let deferred = submit(&client, "later_until_signalled", 10);
    let (outcome, has_ended) = deferred.cancel_and_wait(LONG);
    assert_eq!((fails(outcome).code(), has_ended), (Code::Cancelled, true));
    assert_eq!(begun(11), 1);
    works(&client);
    assert_eq!(client.worker_pids(), [worker]);
    Ok(())
}

fn a_worker_whose_control_thread_is_stuck_gets_the_signal_as_a_process() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(signalling(1));
    let (client, worker) = started(&pool);
    call(&client, "hold_first_thread").execute().unwrap();
    let running = submit(&client, "until_signalled", 10);
    let (outcome, has_ended) = running.cancel_and_wait(LONG);
    assert_eq!((fails(outcome).code(), has_ended), (Code::Cancelled, true));
    assert_eq!(begun(11), 1);
    works(&client);
    assert_eq!(client.worker_pids(), [worker]);
    crate::guard::kill(worker, nix::sys::signal::Signal::SIGKILL); // it would not listen to a shutdown either
    until("it is replaced", || client.worker_pids() != [worker]);
    Ok(())
}

fn signals_that_cannot_be_handled_are_refused() -> Outcome {
    let _guard = PoolGuard::new();
    for number in [0, -1, libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGCHLD, 99, i32::MAX] {
        let error = builder(1).cancel_signal(number).start().unwrap_err();
        assert_eq!(error.code(), Code::Config, "{error}");
        assert!(error.to_string().contains(&number.to_string()), "{error}");
    }
    Ok(())
}
