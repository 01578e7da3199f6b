//! Deferred calls: answered from another thread, not at all, too late; and whatever happens to those who have to do
//! with one.

use crate::app::{all_free, begun, builder, call, fails, keyed, number, open, ready, until_begun, works};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, kill, until};
use crate::harness::{Kid, Outcome, sleep_for_ever};
use crate::stuck::{app_threads, have_the_grace_time, is_alive, overdue, threads_named};
use nix::sys::signal::Signal;
use std::os::unix::fs::FileExt;
use std::time::Duration;
use std::{fs, thread};
use stokehold::{Cause, Client, Code, Kill, Kind, Options, Pending};

crate::tests! {
    deferred_is_answered_from_another_thread_and_its_own_takes_the_next_call,
    deferred_is_answered_before_its_function_returns,
    deferred_reads_what_was_lent_once_more,
    deferred_and_dropped_is_an_error,
    deferred_and_dropped_by_a_panic_is_that_panic,
    deferred_but_the_app_returns_an_error,
    deferred_with_an_answer_that_bursts_is_an_error,
    deferred_past_the_limit_is_an_error_and_those_before_are_answered,
    deferred_thousands_of_times_leaves_nothing,
    deferred_and_the_worker_is_killed,
    deferred_and_the_client_cancels,
    deferred_and_the_client_is_killed,
    deferred_for_clients_that_left_and_still_write_leaves_nothing,
    deferred_and_the_deadline_passes,
    deferred_beside_a_stuck_call_has_the_grace_time,
    deferred_is_waited_for_by_a_shutdown,
    deferred_past_the_grace_of_a_shutdown_ends_with_its_worker,
    deferred_and_the_arbiter_is_killed,
    deferred_and_kept_alive_outlives_the_timeout,
    kept_alive_on_its_thread_outlives_the_timeout,
    who_waits_for_a_while_waits_on_when_the_timeout_is_put_off,
    kept_alive_does_not_outlive_what_its_caller_set,
    not_kept_alive_any_more_ends_at_the_timeout,
}

fn later<'c>(client: &'c Client, id: i64, gate: &'c str) -> Pending {
    call(client, "later").args((id, gate)).submit().unwrap()
}

fn deferred_is_answered_from_another_thread_and_its_own_takes_the_next_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let calls: Vec<_> = (1..30).map(|id| later(&client, id, "gate")).collect();
    (1..30).for_each(until_begun);
    // One worker with one thread, and 29 calls with it.
    works(&client);
    assert!(calls.iter().all(|call| !call.is_ready()));
    open("gate");
    for (call, id) in calls.into_iter().zip(1..) {
        assert_eq!(number(call.wait()), id);
        assert_eq!(begun(id), 1);
    }
    assert_eq!(client.free_calls(), 64);
    works(&client);
    Ok(())
}

fn deferred_is_answered_before_its_function_returns() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for id in 0..100 {
        assert_eq!(number(call(&client, "later_at_once").args((id,)).execute()), id);
    }
    // As an error, and as one that says that the call was wrong.
    let error = fails(call(&client, "later_fail").args((false,)).execute());
    assert!(matches!(error.kind(), Kind::App(said) if said.class == "Fire"), "{error}");
    assert_eq!(fails(call(&client, "later_fail").args((true,)).execute()).code(), Code::BadRequest);
    // By a reply that defers it again.
    let error = fails(call(&client, "later_later").execute());
    assert!(matches!(error.kind(), Kind::App(said) if said.class == "Deferred"), "{error}");
    works(&client);
    Ok(())
}

fn deferred_reads_what_was_lent_once_more() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    for (id, len) in [(1, 0), (2, 30), (3, 5_000), (4, 3 << 20)] {
        let bytes = crate::app::pattern(id, len);
        let mut lease = client.lease_from(&bytes).unwrap();
        let lent = call(&client, "later_echo").args((id, &lease, &bytes[..], "gate")).submit().unwrap();
        until_begun(id);
        // Still lent: its app has returned, and will read it.
        assert!(lease.try_as_mut().is_none());
        open("gate");
        let response = lent.wait().unwrap();
        let (hash, echo): (i64, &[u8]) = response.parse().unwrap();
        assert_eq!((hash, echo), (keyed(id, &bytes), &bytes[..]));
        drop(response);
        assert!(lease.try_as_mut().is_some());
        std::fs::remove_file("gate").unwrap();
    }
    Ok(())
}

fn deferred_and_dropped_is_an_error() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    for _ in 0..10 {
        let error = fails(call(&client, "later_drop").execute());
        assert!(matches!(error.kind(), Kind::App(said) if said.class == "Dropped"), "{error}");
        assert_eq!(error.started(), Some(true));
    }
    assert_eq!((client.free_calls(), client.worker_pids()), (64, before));
    Ok(())
}

fn deferred_and_dropped_by_a_panic_is_that_panic() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    for elsewhere in [false, true] {
        let error = fails(call(&client, "later_panic").args((elsewhere,)).execute());
        let Kind::App(said) = error.kind() else { panic!("{error}") };
        assert_eq!(said.class, "Panic");
        assert!(said.message.starts_with("panicked: the ash is hot at "), "{}", said.message);
        assert!(!said.traceback.is_empty());
    }
    works(&client);
    assert_eq!(client.worker_pids(), before);
    Ok(())
}

fn deferred_but_the_app_returns_an_error() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for _ in 0..1000 {
        let error = fails(call(&client, "later_or_not").execute());
        assert!(matches!(error.kind(), Kind::App(said) if said.class == "Fire"), "{error}");
    }
    works(&client);
    Ok(())
}

/// What cannot be the answer is dropped before there is one.
fn deferred_with_an_answer_that_bursts_is_an_error() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let worker = client.worker_pids();
    for (streams, says) in [(false, "cannot be a stream"), (true, "cannot be deferred")] {
        let error = fails(call(&client, "later_bursts").args((streams,)).deadline_ms(20_000).execute());
        assert!(error.code() == Code::App && error.to_string().contains(says), "{error:?}");
        works(&client);
    }
    assert_eq!(client.worker_pids(), worker);
    all_free(&client);
    Ok(())
}

fn deferred_past_the_limit_is_an_error_and_those_before_are_answered() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let clients: Vec<_> = (0..3).map(|_| pool.client().unwrap()).collect();
    let calls: Vec<_> =
        (0..128).map(|id| call(&clients[id / 64], "later_keep").args((id,)).submit().unwrap()).collect();
    (0..128).for_each(until_begun);
    let client = &clients[2];
    for _ in 0..3 {
        let error = fails(call(client, "later_keep").args((1000,)).execute());
        let Kind::App(said) = error.kind() else { panic!("{error}") };
        assert_eq!(said.class, "Overloaded");
        assert!(said.message.contains("128"), "{}", said.message);
    }
    // What does not defer goes on.
    works(client);
    assert_eq!(number(call(client, "answer_kept").args((0,)).execute()), 128);
    for (call, id) in calls.into_iter().zip(0..) {
        assert_eq!(number(call.wait()), id);
    }
    let again = call(client, "later_keep").args((1001,)).submit().unwrap();
    until_begun(1001);
    assert_eq!(number(call(client, "answer_kept").args((0,)).execute()), 1);
    assert_eq!(number(again.wait()), 1001);
    Ok(())
}

fn deferred_thousands_of_times_leaves_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).threads(2));
    let client = pool.client().unwrap();
    let base = Baseline::of(&pool);
    thread::scope(|scope| {
        for thread in 0..4 {
            let client = &client;
            scope.spawn(move || {
                for i in 0..1000 {
                    let id = thread * 1000 + i;
                    // Large enough for a block now and then.
                    let len = if i % 10 == 0 { 2000 } else { 10 };
                    let response = call(client, "later_bytes").args((id, len)).execute().unwrap();
                    assert_eq!(response.as_bytes().unwrap(), crate::app::pattern(id, len as usize));
                }
            });
        }
    });
    assert_eq!(client.free_calls(), 64);
    base.reached();
    Ok(())
}

fn deferred_and_the_worker_is_killed() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let calls: Vec<_> = (1..20).map(|id| later(&client, id, "never")).collect();
    (1..20).for_each(until_begun);
    kill(before[0], Signal::SIGKILL);
    for call in calls {
        let error = fails(call.wait());
        assert!(
            matches!(error.kind(), Kind::WorkerDied { cause: Cause::Signal(9), started: true, .. }),
            "{error}"
        );
    }
    ready(&client, 1, &before);
    all_free(&client);
    // By the thread that was to answer.
    let error = fails(call(&client, "later_exit").args((7,)).execute());
    assert!(matches!(error.kind(), Kind::WorkerDied { cause: Cause::Exit(7), started: true, .. }), "{error}");
    works(&client);
    Ok(())
}

fn deferred_and_the_client_cancels() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(600_000));
    let client = pool.client().unwrap();
    let mut lease = client.lease_from(&[7; 100_000]).unwrap();
    let waits = call(&client, "later_until_abandoned").args((1, &lease)).submit().unwrap();
    until_begun(1);
    let error = fails(waits.cancel());
    assert!(matches!(error.kind(), Kind::Cancelled { started: true, .. }), "{error}");
    until("the app has let go", || lease.try_as_mut().is_some());
    all_free(&client);
    // One that is answered nevertheless: nobody gets it, and nobody else either.
    let answered = later(&client, 2, "gate");
    until_begun(2);
    drop(answered);
    open("gate");
    all_free(&client);
    works(&client);
    Ok(())
}

fn deferred_and_the_client_is_killed() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(600_000));
    let base = Baseline::of(&pool);
    let socket = pool.client_socket().unwrap();
    let kid = Kid::new(|| {
        let client = Client::connect(socket, Options::default()).unwrap();
        let lease = client.lease_from(&[7; 100_000]).unwrap();
        let _waits = call(&client, "later_until_abandoned").args((1, &lease)).submit().unwrap();
        until_begun(1);
        std::fs::write("note", "").unwrap();
        sleep_for_ever()
    });
    until("the client has a call", || std::path::Path::new("note").exists());
    kid.kill();
    kid.end();
    base.reached();
    works(&pool.client().unwrap());
    Ok(())
}

/// A damaged word tells nobody when its lane could go, so that goes at once. Once a copy of the client, say, makes it
/// good again, the answer is published in a lane that nobody has any more.
fn deferred_for_clients_that_left_and_still_write_leaves_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let controls = || {
        let all = crate::proc::descriptors(pool.arbiter_pid()).into_iter();
        all.filter(|(_, to)| to.contains("control")).map(|(n, _)| n).collect::<Vec<_>>()
    };
    let before = controls();
    let mut id = 0;
    // More than a worker has records for.
    for gate in ["gate", "gate2", "note"] {
        let mut damaged = Vec::new();
        for _ in 0..2 {
            let leaver = pool.client().unwrap();
            let own = controls().into_iter().find(|n| !before.contains(n)).unwrap();
            let own = format!("/proc/{}/fd/{own}", pool.arbiter_pid());
            let words = fs::OpenOptions::new().read(true).write(true).open(own).unwrap();
            let first = id;
            let calls: Vec<_> = (0..60)
                .map(|_| {
                    id += 1;
                    later(&leaver, id, gate)
                })
                .collect();
            (first + 1..=id).for_each(until_begun);
            for at in (0..64).map(|call| 4096 + call * 64) {
                let mut word = [0; 8];
                words.read_exact_at(&mut word, at).unwrap();
                words.write_all_at(&7u64.to_ne_bytes(), at).unwrap();
                damaged.push((words.try_clone().unwrap(), at, word));
            }
            drop((calls, leaver));
            until("its lanes are gone", || controls() == before);
        }
        // Its worker sweeps once a second.
        for _ in 0..25 {
            thread::sleep(Duration::from_millis(100));
            works(&client);
        }
        for (words, at, word) in damaged {
            words.write_all_at(&word, at).unwrap();
        }
        open(gate);
        let worker = client.worker_pids()[0];
        until("all were answered", || threads_named(worker, "later") == 0);
        works(&client);
    }
    // As many as three clients may hold.
    let clients: Vec<_> = (0..3).map(|_| pool.client().unwrap()).collect();
    let held: Vec<_> =
        (0..180).map(|i| call(&clients[i / 60], "add").args((1, 2)).execute().unwrap()).collect();
    drop(held);
    Ok(())
}

fn deferred_and_the_deadline_passes() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(100));
    let client = pool.client().unwrap();
    // The app notices.
    let lease = client.lease_from(&[7; 100]).unwrap();
    let submit =
        |ms| call(&client, "later_until_abandoned").args((1, &lease)).deadline_ms(ms).submit().unwrap();
    let error = overdue(1, submit);
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    all_free(&client);
    // The app does not: it costs the worker, although no thread of it is busy.
    ready(&client, 1, &[]);
    let before = client.worker_pids();
    let error = overdue(2, |ms| call(&client, "later").args((2, "never")).deadline_ms(ms).submit().unwrap());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    until("the slot is free", || {
        let free = client.free_calls();
        assert!(
            free == 63 || !is_alive(before[0]),
            "{free} calls are free, and the worker that has one lives"
        );
        free == 64
    });
    ready(&client, 1, &before);
    works(&client);
    Ok(())
}

fn deferred_beside_a_stuck_call_has_the_grace_time() -> Outcome {
    have_the_grace_time(builder(1), "later")
}

fn deferred_is_waited_for_by_a_shutdown() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).stop_grace_ms(600_000));
    let client = pool.client().unwrap();
    let worker = client.worker_pids()[0];
    let calls: Vec<_> = (1..20).map(|id| later(&client, id, "gate")).collect();
    (1..20).for_each(until_begun);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| pool.stop().unwrap());
        until("its app thread has ended", || app_threads(worker) == 0);
        assert!(is_alive(worker) && !stopping.is_finished());
        open("gate");
        for (call, id) in calls.into_iter().zip(1..) {
            assert_eq!(number(call.wait()), id);
        }
    });
    Ok(())
}

fn deferred_past_the_grace_of_a_shutdown_ends_with_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).stop_grace_ms(100));
    let client = pool.client().unwrap();
    let waits = later(&client, 1, "never");
    until_begun(1);
    pool.shutdown().unwrap();
    let error = fails(waits.wait());
    let cause = Cause::KilledByUs(Kill::Shutdown);
    assert!(
        matches!(error.kind(), Kind::WorkerDied { cause: c, started: true, .. } if *c == cause),
        "{error}"
    );
    Ok(())
}

fn deferred_and_the_arbiter_is_killed() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let waits = later(&client, 1, "never");
    until_begun(1);
    kill(pool.arbiter_pid(), Signal::SIGKILL);
    let error = fails(waits.wait());
    assert!(matches!(error.kind(), Kind::ArbiterDied { started: true }), "{error}");
    Ok(())
}

fn deferred_and_kept_alive_outlives_the_timeout() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(1_500));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    assert_eq!(number(call(&client, "later_alive").args((1, 2_500)).execute()), 1);
    // A caller that allows for more than that.
    let patient = call(&client, "later_alive").args((2, 2_500)).deadline_ms(600_000);
    assert_eq!(number(patient.execute()), 2);
    assert_eq!(client.worker_pids(), before);
    Ok(())
}

fn kept_alive_on_its_thread_outlives_the_timeout() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(1_500));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    assert_eq!(number(call(&client, "alive").args((1, 2_500)).execute()), 1);
    assert_eq!(client.worker_pids(), before);
    Ok(())
}

fn who_waits_for_a_while_waits_on_when_the_timeout_is_put_off() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(1_500));
    let client = pool.client().unwrap();
    let mut pending = call(&client, "alive").args((1, 2_500)).submit().unwrap();
    let outcome = pending.wait_for(Duration::from_secs(60)).expect("a minute has not passed");
    assert_eq!(number(outcome), 1);
    Ok(())
}

fn kept_alive_does_not_outlive_what_its_caller_set() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(10_000));
    let client = pool.client().unwrap();
    for (id, action) in [(1, "alive"), (2, "later_alive")] {
        let error = fails(call(&client, action).args((id, 600_000)).deadline_ms(300).execute());
        assert!(matches!(error.kind(), Kind::Deadline { .. }), "{error}");
        all_free(&client);
    }
    Ok(())
}

fn not_kept_alive_any_more_ends_at_the_timeout() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(1_000));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let error = fails(call(&client, "alive_then_stuck").args((1, 1_500)).execute());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, .. }), "{error}");
    assert!(std::path::Path::new("note").exists(), "it was alive for longer than the timeout");
    ready(&client, 1, &before);
    all_free(&client);
    works(&client);
    Ok(())
}
