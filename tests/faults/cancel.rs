//! Handles: they end a call that another thread waits for, whatever state it is in, and no other call; and they tell when
//! its worker has really let go.

use crate::app::{all_free, begun, builder, call, fails, number, open, patient, until_begun, works};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, kill, until};
use crate::harness::{Kid, Outcome, sleep_for_ever, state_of};
use nix::sys::signal::Signal;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;
use stokehold::{CancelledBy, Canceller, Client, Code, Kind, Options, Pending, Pool, Response, Result};

crate::tests! {
    a_handle_cancels_a_call_that_is_queued,
    a_handle_cancels_a_call_that_runs_and_the_waiter_has_its_answer_at_once,
    a_cancelled_call_is_acknowledged_when_the_app_has_returned,
    a_deferred_call_is_told_and_acknowledged,
    a_cancel_and_its_acknowledgement_in_one,
    a_handle_of_a_call_that_has_ended_changes_nothing,
    f8_a_handle_that_comes_late_does_not_hit_the_next_call_of_its_line,
    a_cancelled_call_whose_worker_dies_is_acknowledged,
    eight_handles_of_a_call_that_ends_make_one_outcome,
    handles_do_not_outlive_what_they_hold_on_to,
    f8_a_client_that_is_killed_cancels_its_calls_and_their_apps_are_told,
    a_client_that_leaves_cancels_its_calls_and_their_apps_are_told,
    a_client_whose_connection_ends_cancels_its_calls_and_their_apps_are_told,
    a_handle_cancels_a_stream_that_waits_on_either_side,
    f8_a_client_that_is_killed_with_a_stream_wakes_its_producer,
}

/// Long enough for anything.
const LONG: Duration = Duration::from_secs(30);

fn by_handle(outcome: Result<Response>) -> bool {
    let error = fails(outcome);
    let Kind::Cancelled { by: CancelledBy::Handle, started } = *error.kind() else { panic!("{error}") };
    started
}

/// Cancels the call while another thread sleeps for it, which has its outcome although nobody else does anything.
fn cancelled_in_its_sleep(pending: Pending, cancel: impl FnOnce(Canceller)) -> Result<Response> {
    let canceller = pending.canceller();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| pending.wait());
        thread::sleep(Duration::from_millis(100)); // it is asleep by now, or it is another case and as good
        assert!(!waiter.is_finished());
        cancel(canceller);
        waiter.join().unwrap()
    })
}

fn a_handle_cancels_a_call_that_is_queued() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let queued = call(&client, "note").args((2,)).submit().unwrap();
    let outcome = cancelled_in_its_sleep(queued, |canceller| {
        canceller.cancel();
        canceller.clone().cancel();
        assert!(canceller.wait(LONG), "nobody has it");
    });
    assert!(!by_handle(outcome), "it never started");
    assert_eq!(client.free_calls(), 63);
    open("gate");
    assert_eq!(number(running.wait()), 1);
    works(&client);
    assert_eq!(begun(2), 0);
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn a_handle_cancels_a_call_that_runs_and_the_waiter_has_its_answer_at_once() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(600_000));
    let client = pool.client().unwrap();
    let lease = client.lease_from(b"lent").unwrap();
    let running = call(&client, "hold").args((1, "gate", &lease)).submit().unwrap();
    until_begun(1);
    let again = running.canceller();
    assert!(by_handle(cancelled_in_its_sleep(running, |canceller| canceller.cancel())));
    again.cancel();
    // Its app is deaf: it has it until the gate is open.
    assert!(!again.wait(Duration::from_millis(50)));
    assert_eq!(client.free_calls(), 63);
    open("gate");
    assert!(again.wait(LONG));
    assert_eq!(client.free_calls(), 64);
    works(&client);
    Ok(())
}

fn a_cancelled_call_is_acknowledged_when_the_app_has_returned() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(patient(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    for (id, gate) in [(10, "gate"), (20, "gate2"), (30, "note2")] {
        let running = call(&client, "until_told_and_open").args((id, gate)).submit().unwrap();
        until_begun(id);
        let canceller = running.canceller();
        let outcome = cancelled_in_its_sleep(running, |canceller| canceller.cancel());
        assert_eq!(begun(id + 1), 0, "the outcome does not wait for the app");
        assert!(by_handle(outcome));
        open(gate);
        assert!(canceller.wait(LONG));
        assert_eq!(begun(id + 1), 1, "acknowledged before the app has returned");
        let said = std::fs::read_to_string("note").unwrap();
        assert!(said.contains("cancelled by the caller"), "{said}");
    }
    assert_eq!(client.worker_pids(), before, "it heeds what it is told");
    works(&client);
    Ok(())
}

fn a_deferred_call_is_told_and_acknowledged() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let deferred = call(&client, "later_until_told").args((1, 100)).submit().unwrap();
    until_begun(1);
    let canceller = deferred.canceller();
    assert!(by_handle(cancelled_in_its_sleep(deferred, |canceller| canceller.cancel())));
    assert!(canceller.wait(LONG));
    assert_eq!(begun(2), 1);
    works(&client);
    Ok(())
}

fn a_cancel_and_its_acknowledgement_in_one() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "until_told").args((1, 50)).submit().unwrap();
    until_begun(1);
    let (outcome, has_ended) = running.cancel_and_wait(LONG);
    let error = fails(outcome);
    assert!(matches!(error.kind(), Kind::Cancelled { by: CancelledBy::Caller, started: true }), "{error}");
    assert!(has_ended && begun(2) == 1);
    let deaf = call(&client, "gate").args((3, "gate")).submit().unwrap();
    until_begun(3);
    let (outcome, has_ended) = deaf.cancel_and_wait(Duration::from_millis(20));
    assert_eq!((fails(outcome).code(), has_ended), (Code::Cancelled, false));
    open("gate");
    all_free(&client);
    let running = call(&client, "until_told").args((5, 50)).submit().unwrap();
    until_begun(5);
    let canceller = running.canceller();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| by_handle(running.wait()));
        assert!(canceller.cancel_and_wait(LONG) && begun(6) == 1);
        assert!(waiter.join().unwrap());
    });
    Ok(())
}

fn a_handle_of_a_call_that_has_ended_changes_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    // It has ended, and nobody took its outcome.
    let mut pending = call(&client, "add").args((2, 3)).submit().unwrap();
    let canceller = pending.canceller();
    until("it has ended", || pending.is_ready());
    canceller.cancel();
    assert!(canceller.wait(Duration::ZERO));
    let outcome = pending.wait_for(LONG).unwrap();
    // It is held, then nobody's.
    canceller.cancel();
    assert_eq!(outcome.as_ref().unwrap().parse::<i64>().unwrap(), 5);
    drop(outcome);
    assert!(canceller.cancel_and_wait(Duration::ZERO));
    // One that is made for what is over.
    let late = pending.canceller();
    assert!(late.cancel_and_wait(Duration::ZERO));
    // Nor does the first word that was said change.
    let expired = call(&client, "gate").args((1, "gate")).deadline_ms(50).submit().unwrap();
    let canceller = expired.canceller();
    assert_eq!(fails(expired.wait()).code(), Code::Deadline);
    canceller.cancel();
    open("gate");
    assert!(canceller.wait(LONG));
    let refused = call(&client, "fail").submit().unwrap();
    let canceller = refused.canceller();
    assert_eq!(fails(refused.wait()).code(), Code::App);
    canceller.cancel();
    works(&client);
    all_free(&client);
    Ok(())
}

fn f8_a_handle_that_comes_late_does_not_hit_the_next_call_of_its_line() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut late: Vec<Canceller> = Vec::new();
    for id in 1..40 {
        // One call at a time is always on the same line.
        let pending = call(&client, "work").args((id, &b""[..], 2)).submit().unwrap();
        if id % 3 == 0 {
            until_begun(id);
        }
        late.iter().for_each(Canceller::cancel);
        late.push(pending.canceller());
        assert!(pending.wait().is_ok(), "a handle of an earlier call ended call {id}");
        assert_eq!(begun(id), 1);
    }
    all_free(&client);
    Ok(())
}

fn a_cancelled_call_whose_worker_dies_is_acknowledged() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(600_000));
    let client = pool.client().unwrap();
    let worker = client.worker_pids()[0];
    let running = call(&client, "spin").args((1,)).submit().unwrap();
    until_begun(1);
    let canceller = running.canceller();
    canceller.cancel();
    assert!(by_handle(running.wait()));
    assert!(!canceller.wait(Duration::from_millis(20)));
    thread::scope(|scope| {
        let waits = scope.spawn(|| canceller.wait(LONG));
        kill(worker, Signal::SIGKILL);
        assert!(waits.join().unwrap());
    });
    all_free(&client);
    works(&client);
    Ok(())
}

/// Of eight threads with a handle, the holder of the call and the worker that ends it one decides, and the call has its
/// outcome.
fn eight_handles_of_a_call_that_ends_make_one_outcome() -> Outcome {
    const THREADS: usize = 8;
    const ROUNDS: usize = 3_000;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let (start, end) = (Barrier::new(THREADS + 1), Barrier::new(THREADS + 1));
    let target = std::sync::Mutex::new(None::<Canceller>);
    let done = AtomicBool::new(false);
    let mut seen = [0usize; 4];
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (start, end, target, done) = (&start, &end, &target, &done);
            scope.spawn(move || {
                loop {
                    start.wait();
                    if done.load(Ordering::Acquire) {
                        return;
                    }
                    let canceller = target.lock().unwrap().clone().unwrap();
                    for _ in 0..thread * 40 {
                        std::hint::spin_loop();
                    }
                    canceller.cancel();
                    end.wait();
                }
            });
        }
        for round in 0..ROUNDS {
            let pending = call(&client, "add").args((round as i64, 1)).submit().unwrap();
            *target.lock().unwrap() = Some(pending.canceller());
            start.wait();
            let outcome = if round % 5 == 4 { pending.cancel() } else { pending.wait() };
            match outcome {
                Ok(sum) => {
                    assert_eq!(sum.parse::<i64>().unwrap(), round as i64 + 1);
                    seen[0] += 1;
                }
                Err(error) => match *error.kind() {
                    Kind::Cancelled { by: CancelledBy::Caller, .. } => seen[1] += 1,
                    Kind::Cancelled { by: CancelledBy::Handle, started: false } => seen[2] += 1,
                    Kind::Cancelled { by: CancelledBy::Handle, started: true } => seen[3] += 1,
                    _ => panic!("round {round}: {error}"),
                },
            }
            end.wait();
        }
        done.store(true, Ordering::Release);
        start.wait();
    });
    println!("ended {}, by the caller {}, queued {}, running {}", seen[0], seen[1], seen[2], seen[3]);
    assert!(seen[0] > 0 && seen[2] + seen[3] > 0, "nothing was decided between them: {seen:?}");
    all_free(&client);
    works(&client);
    Ok(())
}

/// A handle keeps no call and no memory of one: what was lent comes back, and the client may be dropped before it.
fn handles_do_not_outlive_what_they_hold_on_to() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let (send, receive) = channel();
    {
        let client: Client = pool.client().unwrap();
        let pending = call(&client, "add").args((2, 3)).submit().unwrap();
        send.send(pending.canceller()).unwrap();
        assert_eq!(number(pending.wait()), 5);
    }
    let canceller = receive.recv().unwrap();
    assert!(canceller.cancel_and_wait(Duration::ZERO));
    drop(pool);
    assert!(canceller.cancel_and_wait(Duration::ZERO), "nobody has it, and nobody has to be asked");
    Ok(())
}

/// A client in a process of its own, with a call of a plain app, a deferred one and one in the queue.
fn elsewhere(pool: &Pool, then: impl FnOnce(UnixStream)) -> Kid {
    let socket = pool.client_socket().unwrap();
    let copy = UnixStream::from(socket.try_clone().unwrap());
    let kid = Kid::new(|| {
        let client = Client::connect(socket, Options::default()).unwrap();
        let submit = |action, id: i64| call(&client, action).args((id, 1)).submit().unwrap();
        let deferred = submit("later_until_told", 20);
        until_begun(20);
        let running = submit("until_told", 10);
        until_begun(10);
        let queued = call(&client, "work").args((30, &b""[..], 1)).submit().unwrap();
        std::mem::forget((deferred, running, queued)); // they would be cancelled
        then(copy);
        sleep_for_ever()
    });
    until_begun(10);
    kid
}

fn told(pool: &Pool, before: &[u32]) {
    until("the apps are told", || begun(11) == 1 && begun(21) == 1);
    let client = pool.client().unwrap();
    assert_eq!(client.worker_pids(), before, "no worker pays for it");
    works(&client);
    let said = std::fs::read_to_string("note").unwrap();
    assert!(said.contains("its client is gone"), "{said}");
    assert_eq!(begun(30), 0, "a call of a client that is gone was begun");
}

fn f8_a_client_that_is_killed_cancels_its_calls_and_their_apps_are_told() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let before = pool.client().unwrap().worker_pids();
    let base = Baseline::of(&pool);
    let kid = elsewhere(&pool, |_| sleep_for_ever());
    kid.kill();
    kid.end();
    told(&pool, &before);
    base.reached();
    Ok(())
}

fn a_client_that_leaves_cancels_its_calls_and_their_apps_are_told() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let before = pool.client().unwrap().worker_pids();
    let base = Baseline::of(&pool);
    let kid = elsewhere(&pool, |_| stokehold::internals::sys::process::exit_now(0));
    told(&pool, &before);
    kid.end();
    base.reached();
    Ok(())
}

/// Its process lives on.
fn a_client_whose_connection_ends_cancels_its_calls_and_their_apps_are_told() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let before = pool.client().unwrap().worker_pids();
    let base = Baseline::of(&pool);
    let kid = elsewhere(&pool, |socket| socket.shutdown(Shutdown::Both).unwrap());
    told(&pool, &before);
    assert_eq!(state_of(kid.pid), 'S');
    kid.kill();
    kid.end();
    base.reached();
    Ok(())
}

/// Its consumer waits for an item, or holds some while its producer waits for room.
fn a_handle_cancels_a_stream_that_waits_on_either_side() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    // One that sends nothing.
    let mut silent = call(&client, "until_told").args((10, 50)).stream().unwrap();
    until_begun(10);
    let canceller = silent.canceller();
    thread::scope(|scope| {
        let consumer = scope.spawn(|| silent.next().unwrap());
        thread::sleep(Duration::from_millis(50));
        assert!(canceller.cancel_and_wait(LONG) && begun(11) == 1);
        assert!(by_handle(consumer.join().unwrap()));
    });
    assert!(silent.next().is_none());
    // One that has filled its ring and sleeps.
    let mut endless = call(&client, "endless").args((20,)).stream().unwrap();
    until_begun(20);
    let held: Vec<Response> = (0..3).map(|_| endless.next().unwrap().unwrap()).collect();
    thread::sleep(Duration::from_millis(50));
    let canceller = endless.canceller();
    canceller.cancel();
    until_begun(21);
    assert!(canceller.wait(LONG), "what is held is not the worker's business");
    // What was sent before comes before, then the one error.
    let mut at = held.len() as i64;
    let error = loop {
        match endless.next().unwrap() {
            Ok(item) => assert_eq!(item.parse::<i64>().unwrap(), at),
            Err(error) => break Err(error),
        }
        at += 1;
    };
    assert!(by_handle(error) && endless.next().is_none());
    for (at, item) in held.iter().enumerate() {
        assert_eq!(item.parse::<i64>().unwrap(), at as i64);
    }
    drop((held, endless, silent));
    assert_eq!(client.worker_pids(), before);
    all_free(&client);
    works(&client);
    Ok(())
}

fn f8_a_client_that_is_killed_with_a_stream_wakes_its_producer() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let before = pool.client().unwrap().worker_pids();
    let base = Baseline::of(&pool);
    for id in [10, 20] {
        let socket = pool.client_socket().unwrap();
        let kid = Kid::new(|| {
            let client = Client::connect(socket, Options::default()).unwrap();
            let mut stream = call(&client, "endless").args((id,)).stream().unwrap();
            let _held = stream.next().unwrap().unwrap();
            sleep_for_ever()
        });
        until_begun(id);
        thread::sleep(Duration::from_millis(50)); // its ring is full, or will be
        kid.kill();
        kid.end();
        until_begun(id + 1);
        base.reached();
        let client = pool.client().unwrap();
        assert_eq!(client.worker_pids(), before);
        works(&client);
    }
    Ok(())
}
