//! The outcomes that need nobody's death.

use crate::app::{
    Birth, Faults, all_free, begun, builder, call, fails, journal, number, open, ready, until_begun, works,
};
use crate::guard::{PoolGuard, kill, some, until};
use crate::harness::Outcome;
use nix::sys::signal::Signal;
use std::time::{Duration, Instant};
use std::{fs, thread};
use stokehold::{Absence, App, Bound, CancelledBy, Code, Kind, Pool};

crate::tests! {
    results_small_large_and_lent,
    an_app_error_keeps_its_worker,
    a_panic_keeps_its_worker,
    bad_requests_say_what_is_wrong,
    the_65th_call_is_too_many,
    cancelled_while_queued,
    cancelled_while_running,
    a_dropped_pending_is_cancelled,
    a_wait_may_have_a_limit_and_a_look_has_none,
    many_threads_wait_for_many_calls,
    shutdown_ends_queued_calls_and_lets_running_ones_finish,
    shutdown_now_ends_running_calls,
    workers_that_cannot_boot_again_degrade_the_pool_until_they_can,
    damaged_words_end_their_calls_and_the_lane_is_replaced,
    a_lane_that_is_damaged_again_and_again_leaves_nothing,
}

fn results_small_large_and_lent() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    works(&client);
    for len in [0, 1, 400, 500, 70_000, 5_000_000] {
        let bytes = crate::app::pattern(len as i64, len);
        let echoed = call(&client, "echo").args((&bytes[..],)).execute().unwrap();
        assert_eq!(echoed.as_bytes().unwrap(), bytes);
        let lease = client.lease_from(&bytes).unwrap();
        let echoed = call(&client, "lent_echo").args((lease,)).execute().unwrap();
        assert_eq!(echoed.as_bytes().unwrap(), bytes);
    }
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn an_app_error_keeps_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    let error = fails(call(&client, "fail").execute());
    let Kind::App(said) = error.kind() else { panic!("{error:?}") };
    assert_eq!((said.class.as_str(), said.message.as_str()), ("Fire", "the boiler is out"));
    assert_eq!(error.started(), Some(true));
    assert_eq!(number(call(&client, "pid").execute()), before);
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn a_panic_keeps_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    let error = fails(call(&client, "panic").execute());
    let Kind::App(said) = error.kind() else { panic!("{error:?}") };
    assert_eq!(said.class, "Panic");
    assert!(said.message.contains("the fire is out") && said.message.contains("app.rs:"), "{}", said.message);
    assert!(said.traceback.contains("app.rs"), "no backtrace of the app: {:?}", said.traceback);
    assert_eq!(number(call(&client, "pid").execute()), before);
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn bad_requests_say_what_is_wrong() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let says = |error: stokehold::Error, words: &[&str]| {
        let text = error.to_string();
        assert_eq!(error.code(), Code::BadRequest, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text:?} lacks one of {words:?}");
    };
    says(fails(client.call("no:App", "add").execute()), &["no:App", Faults::NAME]);
    says(fails(call(&client, "subtract").execute()), &["\"subtract\""]);
    says(fails(call(&client, "add").args((1, "two")).execute()), &["2", "str"]);
    says(fails(call(&client, "add").args((1,)).execute()), &["1", "2"]);
    says(fails(call(&client, "add").args((1, 2, 3)).execute()), &["3", "2"]);
    let name = "a".repeat(256);
    says(fails(call(&client, &name).execute()), &["256", "255"]);
    assert_eq!(client.free_calls(), 64);
    works(&client);
    Ok(())
}

fn the_65th_call_is_too_many() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let pending: Vec<_> =
        (0..64).map(|i| call(&client, "gate").args((i, "gate")).submit().unwrap()).collect();
    assert_eq!(client.free_calls(), 0);
    let error = call(&client, "gate").args((64, "gate")).submit().unwrap_err();
    assert!(matches!(error.kind(), Kind::Overloaded { bound: Bound::Calls, limit: 64 }), "{error}");
    // Another client of the same pool has 64 of its own.
    let other = pool.client().unwrap();
    let theirs = call(&other, "note").args((100,)).submit().unwrap();
    open("gate");
    for (i, pending) in pending.into_iter().enumerate() {
        assert_eq!(number(pending.wait()), i as i64);
    }
    assert_eq!(number(theirs.wait()), 100);
    assert_eq!(begun(64), 0, "a refused call ran");
    assert_eq!(client.free_calls(), 64);
    works(&client);
    Ok(())
}

fn cancelled_while_queued() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let error = fails(call(&client, "note").args((2,)).submit().unwrap().cancel());
    let by = CancelledBy::Caller;
    assert!(matches!(error.kind(), Kind::Cancelled { by: b, started: false } if *b == by), "{error}");
    assert_eq!(client.free_calls(), 63);
    open("gate");
    assert_eq!(number(running.wait()), 1);
    works(&client);
    assert_eq!(begun(2), 0, "a call that was cancelled in the queue ran");
    Ok(())
}

fn cancelled_while_running() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let error = fails(running.cancel());
    assert!(matches!(error.kind(), Kind::Cancelled { started: true, .. }), "{error}");
    assert_eq!(client.free_calls(), 63, "the worker has not let go");
    open("gate");
    all_free(&client);
    works(&client);
    // It let go by itself, or it was a tick too late for that; then it was replaced.
    let after = ready(&client, 1, &[]);
    assert!(after == before || crate::proc::process(before[0]).is_none_or(|p| p.pid != after[0]));

    // What came first wins over a cancellation that came too late.
    let pending = call(&client, "add").args((1, 1)).submit().unwrap();
    until("the result is there", || pending.is_ready());
    assert_eq!(number(pending.cancel()), 2);
    Ok(())
}

fn a_wait_may_have_a_limit_and_a_look_has_none() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(60_000));
    let client = pool.client().unwrap();
    let mut pending = call(&client, "gate").args((1, "gate")).submit().unwrap();
    for ms in [0, 1, 30] {
        let begin = Instant::now();
        assert!(pending.wait_for(Duration::from_millis(ms)).is_none());
        assert!(begin.elapsed() >= Duration::from_millis(ms), "early");
    }
    assert!(pending.try_wait().is_none() && !pending.is_ready());
    until_begun(1);
    open("gate");
    assert_eq!(number(pending.wait_for(Duration::MAX).unwrap()), 1);
    // It was given once.
    assert_eq!(fails(pending.wait_for(Duration::ZERO).unwrap()).code(), Code::BadRequest);
    assert_eq!(fails(pending.try_wait().unwrap()).code(), Code::BadRequest);
    assert_eq!(fails(pending.wait()).code(), Code::BadRequest);

    let mut pending = call(&client, "note").args((2,)).submit().unwrap();
    assert_eq!(number(some("the call is over", || pending.try_wait())), 2);
    fs::remove_file("gate").unwrap();
    let mut running = call(&client, "gate").args((3, "gate")).deadline_ms(1_500).submit().unwrap();
    until_begun(3);
    let mut queued = call(&client, "note").args((4,)).deadline_ms(30).submit().unwrap();
    let error = fails(queued.wait_for(Duration::from_secs(30)).unwrap());
    assert!(matches!(error.kind(), Kind::Deadline { started: false, .. }), "{error}");
    let error = fails(some("the deadline is noticed by a look", || running.try_wait()));
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    open("gate");
    all_free(&client);

    // Whoever only ever looks for a moment hears of deaths, too.
    fs::remove_file("gate").unwrap();
    let mut running = call(&client, "gate").args((5, "gate")).submit().unwrap();
    until_begun(5);
    kill(client.worker_pids()[0], Signal::SIGKILL);
    let error = fails(some("the death", || running.wait_for(Duration::from_micros(50))));
    assert!(matches!(error.kind(), Kind::WorkerDied { started: true, .. }), "{error}");
    ready(&client, 1, &[]);
    let mut running = call(&client, "gate").args((6, "gate")).submit().unwrap();
    until_begun(6);
    kill(pool.arbiter_pid(), Signal::SIGKILL);
    assert_eq!(fails(some("the arbiter's death", || running.try_wait())).code(), Code::ArbiterDied);
    Ok(())
}

fn many_threads_wait_for_many_calls() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    thread::scope(|scope| {
        for t in 0..8i64 {
            let client = &client;
            scope.spawn(move || {
                for round in 0..100 {
                    let numbers = (0..8).map(|i| t * 10_000 + round * 8 + i);
                    let submit = |n| (n, call(client, "add").args((n, 1)).submit().unwrap());
                    let pending: Vec<_> = numbers.map(submit).collect();
                    for (n, mut pending) in pending.into_iter().rev() {
                        let outcome = some("the outcome", || pending.wait_for(Duration::from_millis(5)));
                        assert_eq!(number(outcome), n + 1);
                    }
                }
            });
        }
    });
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn a_dropped_pending_is_cancelled() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    drop(call(&client, "note").args((2,)).submit().unwrap());
    drop(running);
    open("gate");
    all_free(&client);
    works(&client);
    assert_eq!(journal().into_iter().collect::<Vec<_>>(), [(1, 1)]);
    Ok(())
}

fn shutdown_ends_queued_calls_and_lets_running_ones_finish() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let queued: Vec<_> = (2..10).map(|i| call(&client, "note").args((i,)).submit().unwrap()).collect();
    thread::scope(|scope| {
        let closing = scope.spawn(|| pool.shutdown());
        for pending in queued {
            assert_eq!(fails(pending.wait()).code(), Code::ShuttingDown);
        }
        assert_eq!(fails(call(&client, "note").args((10,)).execute()).code(), Code::ShuttingDown);
        open("gate");
        assert_eq!(number(running.wait()), 1);
        closing.join().unwrap().unwrap();
    });
    // The arbiter closed the pool and left; it did not die, also for a call that wants memory of it.
    let large = fails(call(&client, "note").args((11, &[0_u8; 5_000_000][..])).execute());
    let small = fails(call(&client, "note").args((11,)).execute());
    let context = call(&client, "echo_context").context().unwrap_err();
    let lease = client.lease_from(&[0; 5_000_000]).unwrap_err();
    let completions = client.completions().unwrap_err();
    for error in [large, small, context, lease, completions] {
        assert_eq!((error.code(), error.started()), (Code::ShuttingDown, Some(false)), "{error}");
    }
    assert_eq!(journal().into_iter().collect::<Vec<_>>(), [(1, 1)]);
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn shutdown_now_ends_running_calls() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let running: Vec<_> = (1..3).map(|i| call(&client, "spin").args((i,)).submit().unwrap()).collect();
    until_begun(1);
    until_begun(2);
    let queued = call(&client, "note").args((3,)).submit().unwrap();
    pool.shutdown_now().unwrap();
    for pending in running {
        let error = fails(pending.wait());
        let cause = stokehold::Cause::KilledByUs(stokehold::Kill::Shutdown);
        assert!(
            matches!(error.kind(), Kind::WorkerDied { cause: c, started: true, .. } if *c == cause),
            "{error}"
        );
    }
    assert_eq!(fails(queued.wait()).code(), Code::ShuttingDown);
    assert_eq!(begun(3), 0);
    Ok(())
}

fn workers_that_cannot_boot_again_degrade_the_pool_until_they_can() -> Outcome {
    let mut guard = PoolGuard::new();
    let builder = Pool::builder().app::<Birth>().workers(2).restart_limit(2, 10_000).backoff_ms(1, 20);
    let pool = guard.start(builder);
    let client = pool.client().unwrap();
    let ask = || client.call(Birth::NAME, "pid").deadline_ms(10_000).execute();
    number(ask());
    for how in ["error", "panic", "exit"] {
        fs::write("boot", how).unwrap();
        let before = client.worker_pids();
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        let error = some(format!("calls fail at once when init says {how}"), || {
            let error = ask().err()?;
            (error.code() == Code::NoWorkers).then_some(error)
        });
        assert!(matches!(error.kind(), Kind::NoWorkers { reason: Absence::Degraded }), "{error}");
        assert!(error.to_string().contains("degraded"), "{error}");
        assert_eq!(error.started(), Some(false));
        fs::remove_file("boot").unwrap();
        ready(&client, 2, &before);
        number(ask());
    }
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn damaged_words_end_their_calls_and_the_lane_is_replaced() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let gated = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    // Its own word is damaged with all others, so that it has no result, either.
    let outcomes = [call(&client, "scribble_control").execute(), gated.wait()];
    for outcome in outcomes {
        assert_eq!(fails(outcome).code(), Code::Protocol);
    }
    open("gate");
    works(&client);
    let held: Vec<_> = (0..64).map(|i| call(&client, "note").args((i,)).execute().unwrap()).collect();
    assert_eq!(held.len(), 64, "the fresh lane has all its calls");
    Ok(())
}

/// A pool has 1,024 lanes. One that was replaced goes back once nothing of the client's is on it any more.
fn a_lane_that_is_damaged_again_and_again_leaves_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let held = call(&client, "pattern").args((1, 1000)).execute().unwrap();
    let base = crate::baseline::Baseline::of(&pool);
    for _ in 0..50 {
        assert_eq!(fails(call(&client, "scribble_control").execute()).code(), Code::Protocol);
        works(&client);
    }
    let lanes = |kinds: &[String]| kinds.iter().filter(|kind| kind.contains("control")).count();
    // The present one, the one of the result that is held, one whose end is told with the next, and a few in which a
    // random word reads as a call that some worker has not let go of: the tick ends those.
    until("most of the 50 lanes have gone back", || {
        lanes(&crate::baseline::Baseline::count(base.arbiter).0) <= lanes(&base.open.0) + 2
    });
    assert_eq!(held.as_bytes().unwrap(), crate::app::pattern(1, 1000));
    Ok(())
}
