//! The model's counterexamples to an earlier design, as far as they can be had from outside. Named after them.

use crate::app::Random;
use crate::app::{all_free, begun, builder, call, fails, keyed, number, pattern, ready, until_begun, works};
use crate::guard::{PoolGuard, kill, until};
use crate::harness::{Kid, Outcome, sleep_for_ever};
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::Duration;
use std::{fs, thread};
use stokehold::{Client, Kind, Mode, Options};

crate::tests! {
    f2_stale_entries_do_not_overflow_the_ring,
    f3_a_wake_up_taken_along_by_a_dead_client,
    f4_no_call_waits_for_workers_that_will_not_come,
    f5_a_death_beside_the_publication_wakes_the_caller,
    f7_a_result_in_a_region_that_was_never_mapped,
    f7_a_large_result_in_a_region_that_was_never_mapped,
    f8_a_slot_used_again_and_again_answers_its_own_call,
    f9_a_lane_index_is_used_again,
}

/// Cancelled calls leave entries in the submit ring; live ones must stay in it however many there are.
fn f2_stale_entries_do_not_overflow_the_ring() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    // The oldest stays at the head of the ring while many times its size pass by.
    let oldest = call(&client, "note").args((2,)).submit().unwrap();
    let mut live = Vec::new();
    for round in 0..1_000 {
        drop(call(&client, "note").args((1_000 + round,)).submit().unwrap());
        if round % 20 == 0 {
            live.push((10 + round, call(&client, "note").args((10 + round,)).submit().unwrap()));
        }
    }
    crate::app::open("gate");
    assert_eq!(number(running.wait()), 1);
    assert_eq!(number(oldest.wait()), 2);
    for (id, pending) in live {
        assert_eq!(number(pending.wait()), id);
    }
    let journal = crate::app::journal();
    assert!(journal.iter().all(|(id, times)| *id < 1_000 && *times == 1), "{journal:?}");
    all_free(&client);
    Ok(())
}

/// A client that submits and dies may have taken the idle bit of a worker that it never rang.
fn f3_a_wake_up_taken_along_by_a_dead_client() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).wait(Mode::Park));
    let client = pool.client().unwrap();
    let mut random = Random(3);
    for _ in 0..15 {
        let socket = pool.client_socket().unwrap();
        let kid = Kid::new(|| {
            let client = Client::connect(socket, Options::default()).unwrap();
            loop {
                let _ = call(&client, "add").args((1, 1)).execute();
            }
        });
        thread::sleep(Duration::from_micros(3_000 + random.below(5_000)));
        kid.kill();
        kid.end();
        for _ in 0..20 {
            works(&client);
        }
    }
    Ok(())
}

/// Calls in the queue of a pool that has just been closed or degraded, published at any moment beside it.
fn f4_no_call_waits_for_workers_that_will_not_come() -> Outcome {
    let mut guard = PoolGuard::new();
    for round in 0..10 {
        let pool = guard.start(builder(1));
        let client = pool.client().unwrap();
        let submitter = thread::spawn(move || {
            let mut outcomes = (0, 0);
            while outcomes.1 < 20 {
                match call(&client, "add").args((1, 1)).execute() {
                    Ok(_) => outcomes.0 += 1,
                    Err(error) => {
                        assert!(
                            matches!(error.kind(), Kind::ShuttingDown | Kind::WorkerDied { .. }),
                            "{error}"
                        );
                        outcomes.1 += 1;
                    }
                }
            }
        });
        thread::sleep(Duration::from_millis(round));
        if round % 2 == 0 {
            pool.shutdown().unwrap()
        } else {
            pool.shutdown_now().unwrap()
        }
        submitter.join().unwrap();
    }
    Ok(())
}

/// DONE is published, then the worker dies before it wakes its caller, who sleeps.
fn f5_a_death_beside_the_publication_wakes_the_caller() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).wait(Mode::Park));
    let client = pool.client().unwrap();
    let mut random = Random(5);
    let (mut done, mut died) = (0, 0);
    // On a busy machine the caller itself may come late: so from soon to late, and more rounds until both were seen.
    for id in 0..1000 {
        if id >= 150 && done > 0 && died > 0 {
            break;
        }
        let latest_us = 100 << (2 * (id % 4));
        let before = ready(&client, 2, &[]);
        let outcome = thread::scope(|scope| {
            let caller = scope.spawn(|| call(&client, "work").args((id, b"x".as_slice(), 0)).execute());
            thread::sleep(Duration::from_micros(random.below(latest_us)));
            before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
            caller.join().unwrap()
        });
        match outcome {
            Ok(response) => {
                assert_eq!(response.parse::<i64>().unwrap(), keyed(id, b"x"));
                done += 1;
            }
            Err(error) => {
                assert!(matches!(error.kind(), Kind::WorkerDied { .. }), "{error}");
                died += 1;
            }
        }
        assert!(begun(id) <= 1);
        ready(&client, 2, &before);
    }
    println!("{done} done, {died} died");
    assert!(done > 0 && died > 0, "each was always on one side of it: {done} done, {died} died");
    all_free(&client);
    Ok(())
}

/// A published result whose region the client never mapped, and the worker is dead and replaced by now.
fn f7_a_result_in_a_region_that_was_never_mapped() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let watcher = pool.client().unwrap();
    for id in 0..5 {
        let client = pool.client().unwrap();
        let before = ready(&watcher, 1, &[]);
        let pending: Vec<_> = (0..10)
            .map(|i| call(&client, "work").args((id * 10 + i, b"f7".as_slice(), 0)).submit().unwrap())
            .collect();
        until("all results are published", || pending.iter().all(|p| p.is_ready()));
        kill(before[0], Signal::SIGKILL);
        ready(&watcher, 1, &before);
        // Longer than the arbiter's tick, which buries what is not needed any more.
        if id == 0 {
            thread::sleep(Duration::from_millis(1_100));
        }
        for (i, pending) in (id * 10..).zip(pending) {
            assert_eq!(number(pending.wait()), keyed(i, b"f7"));
        }
        assert_eq!(client.free_calls(), 64);
    }
    Ok(())
}

/// The same with the result itself in a second region, of which the client knows nothing yet.
fn f7_a_large_result_in_a_region_that_was_never_mapped() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let watcher = pool.client().unwrap();
    for id in 0..4 {
        let client = pool.client().unwrap();
        let before = ready(&watcher, 1, &[]);
        let len = 1_000_000 + id as usize;
        let lent = call(&client, "pattern").args((id, len)).submit().unwrap();
        let bytes = pattern(id, len);
        let copied = call(&client, "echo").args((&bytes[..],)).submit().unwrap();
        until("the results are published", || lent.is_ready() && copied.is_ready());
        kill(before[0], Signal::SIGKILL);
        ready(&watcher, 1, &before);
        let (lent, copied) = (lent.wait().unwrap(), copied.wait().unwrap());
        works(&client);
        assert_eq!(lent.as_bytes().unwrap(), bytes);
        assert_eq!(copied.as_bytes().unwrap(), bytes);
        // They stay readable whatever becomes of their worker's regions elsewhere.
        drop(client);
        assert_eq!(lent.as_bytes().unwrap(), bytes);
    }
    Ok(())
}

/// The late answer of an expired call is not the next call's.
fn f8_a_slot_used_again_and_again_answers_its_own_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).kill_grace_ms(60_000));
    let client = pool.client().unwrap();
    let mut late_answers = 0;
    for id in 0..300 {
        let late = call(&client, "work").args((10_000 + id, b"late".as_slice(), 3)).deadline_ms(1).execute();
        match late {
            Ok(response) => assert_eq!(response.parse::<i64>().unwrap(), keyed(10_000 + id, b"late")),
            Err(error) => {
                let Kind::Deadline { started, .. } = *error.kind() else { panic!("{error}") };
                late_answers += usize::from(started);
            }
        }
        let bytes = id.to_le_bytes();
        assert_eq!(number(call(&client, "work").args((id, &bytes[..], 0)).execute()), keyed(id, &bytes));
    }
    // Each line has had several: there are 64.
    println!("{late_answers} answers came late");
    assert!(late_answers > 0, "no answer came late");
    all_free(&client);
    Ok(())
}

/// A lane index that a dead client had is given to a new one while workers have the old lane mapped.
fn f9_a_lane_index_is_used_again() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(3));
    for round in 0..15 {
        let socket = pool.client_socket().unwrap();
        let kid = Kid::new(|| {
            let client = Client::connect(socket, Options::default()).unwrap();
            // All workers map its lane; some calls are in its ring when it dies.
            let pending: Vec<_> = (0..30)
                .map(|i| call(&client, "work").args((i, b"".as_slice(), 1)).submit().unwrap())
                .collect();
            fs::write("note", "").unwrap();
            let _pending = pending;
            sleep_for_ever()
        });
        until("the client has submitted", || Path::new("note").exists());
        fs::remove_file("note").unwrap();
        kid.kill();
        kid.end();
        let client = pool.client().unwrap();
        for id in 0..40 {
            let id = 1_000 + round * 100 + id;
            assert_eq!(number(call(&client, "note").args((id,)).execute()), id);
            assert_eq!(begun(id), 1);
        }
        let many: Vec<_> = (0..64)
            .map(|i| call(&client, "work").args((5_000 + i, b"y".as_slice(), 0)).submit().unwrap())
            .collect();
        for (i, pending) in (0..).zip(many) {
            assert_eq!(number(pending.wait()), keyed(5_000 + i, b"y"));
        }
        assert!(fails(client.call("no:App", "x").execute()).to_string().contains("no:App"));
    }
    Ok(())
}
