//! The limit of the queue: what no worker takes in time never runs, and what was taken has all its time.

use crate::app::{all_free, begun, builder, call, fails, number, open, ready, until_begun, works};
use crate::completions::{drain, is_readable, wait_readable};
use crate::guard::PoolGuard;
use crate::harness::Outcome;
use std::thread;
use std::time::Duration;
use stokehold::{Code, Error, Kind, Limit, Response, Result};

crate::tests! {
    what_nobody_takes_ends_at_its_limit_and_never_runs,
    what_was_taken_has_all_its_time,
    a_loop_hears_of_the_queues_limit,
    taken_at_the_limit_is_one_outcome,
    a_call_that_is_sent_again_was_in_time_once,
}

fn limit(error: &Error) -> Limit {
    let Kind::Deadline { started, limit } = *error.kind() else { panic!("{error}") };
    assert!(!started && error.is_retryable(), "{error}");
    limit
}

fn what_nobody_takes_ends_at_its_limit_and_never_runs() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let note = |id| call(&client, "note").args((id,));
    let error = fails(note(2).queue_ms(20).execute());
    assert_eq!(limit(&error), Limit::Queue, "{error}");
    assert!(error.to_string().starts_with("queue deadline passed"), "{error}");
    let spent = error.spent().unwrap();
    assert!(spent.queued.as_millis() >= 20 && spent.ran.is_none(), "{spent:?}");
    assert_eq!(limit(&fails(note(3).queue_ms(20).submit().unwrap().wait())), Limit::Queue);
    let mut pending = note(4).queue_ms(1_000).submit().unwrap();
    assert!(pending.wait_for(Duration::from_millis(1)).is_none());
    let outcome = pending.wait_for(Duration::from_secs(600)).unwrap();
    assert_eq!(limit(&fails(outcome)), Limit::Queue);
    assert_eq!(fails(pending.wait()).code(), Code::BadRequest, "one outcome");
    let mut pending = note(5).queue_ms(30).submit().unwrap();
    let mut polled = None;
    crate::guard::until("it is over", || {
        polled = pending.try_wait();
        polled.is_some()
    });
    assert_eq!(limit(&fails(polled.unwrap())), Limit::Queue);
    // The first of two limits is the one.
    assert_eq!(limit(&fails(note(6).queue_ms(10).deadline_ms(600_000).execute())), Limit::Queue);
    assert_eq!(limit(&fails(note(7).queue_ms(600_000).deadline_ms(10).execute())), Limit::Call);
    // Not looked at in time, and not taken yet: it is a cancelled one's turn as well.
    let late = note(8).queue_ms(1).submit().unwrap();
    let cancelled = note(9).queue_ms(1).submit().unwrap();
    thread::sleep(Duration::from_millis(5));
    assert_eq!(limit(&fails(late.wait())), Limit::Queue);
    assert_eq!(fails(cancelled.cancel()).code(), Code::Cancelled);
    assert_eq!(client.free_calls(), 63, "they are free at once, no worker has them");
    open("gate");
    assert_eq!(number(running.wait()), 1);
    works(&client);
    for id in 2..10 {
        assert_eq!(begun(id), 0, "call {id} was taken back and ran");
    }
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn what_was_taken_has_all_its_time() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(3));
    let client = pool.client().unwrap();
    let completions = client.completions().unwrap();
    const LIMIT: u64 = 2_000; // all three are taken within it, on any machine
    let gate = |id| call(&client, "gate").args((id, "gate")).queue_ms(LIMIT);
    let waits = gate(1).submit().unwrap();
    let mut looks = gate(2).submit().unwrap();
    gate(3).submit_to(&completions, 3).unwrap();
    (1..4).for_each(until_begun);
    assert!(completions.next_completion().is_none());
    let waiter = thread::spawn(|| number(waits.wait()));
    assert!(looks.wait_for(Duration::from_millis(LIMIT + 50)).is_none(), "the limit means nothing any more");
    open("gate");
    assert_eq!(waiter.join().unwrap(), 1);
    assert_eq!(number(looks.wait()), 2);
    assert_eq!(number(drain(&completions).remove(&3).unwrap()), 3);
    Ok(())
}

fn a_loop_hears_of_the_queues_limit() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let completions = client.completions().unwrap();
    call(&client, "gate").args((1, "gate")).submit_to(&completions, 1).unwrap();
    until_begun(1);
    let note = |id: i64, ms| {
        call(&client, "note").args((id,)).queue_ms(ms).submit_to(&completions, id as u64).unwrap();
    };
    // Submitted while nobody waits; then while somebody does, who is not to be woken by what it was set to before.
    note(2, 2_000);
    assert!(completions.next_completion().is_none() && !is_readable(&completions));
    thread::scope(|scope| {
        scope.spawn(|| note(3, 10));
        wait_readable(&completions);
    });
    // Over when it is submitted: it is looked at, and its outcome is not lost by that.
    assert!(completions.next_completion().is_none_or(|done| done.token == 3));
    note(4, 0);
    note(5, 0);
    completions.cancel(5);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        wait_readable(&completions);
        while let Some(done) = completions.next_completion() {
            match (done.token, fails(done.outcome)) {
                (2 | 4, error) => assert_eq!(limit(&error), Limit::Queue, "{error}"),
                (3, error) => {
                    assert_eq!(limit(&error), Limit::Queue, "{error}");
                    continue;
                }
                (5, error) => assert!(matches!(error.code(), Code::Deadline | Code::Cancelled), "{error}"),
                (token, error) => panic!("{token}: {error}"),
            }
            seen.push(done.token);
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, [2, 4, 5]);
    open("gate");
    assert_eq!(number(drain(&completions).remove(&1).unwrap()), 1);
    works(&client);
    assert_eq!((2..6).map(begun).sum::<usize>(), 0);
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

/// Calls whose limit comes just when the worker is free again, however they are waited for.
fn taken_at_the_limit_is_one_outcome() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let completions = client.completions().unwrap();
    let (mut ran, mut late) = (0, 0);
    for id in 1..100_000 {
        let busy = call(&client, "nap").args((1,)).submit().unwrap();
        let race = call(&client, "note").args((id,)).queue_ms(1 + id as u64 % 2);
        let outcome: Result<Response> = match id % 4 {
            0 => race.execute(),
            1 => race.submit().unwrap().wait(),
            2 => {
                let mut pending = race.submit().unwrap();
                loop {
                    match pending.try_wait() {
                        Some(outcome) => break outcome,
                        None => thread::yield_now(),
                    }
                }
            }
            _ => {
                race.submit_to(&completions, id as u64).unwrap();
                drain(&completions).remove(&(id as u64)).unwrap()
            }
        };
        number(busy.wait());
        match outcome {
            Ok(response) => {
                assert_eq!(response.parse::<i64>().unwrap(), id);
                ran += 1;
                assert_eq!(begun(id), 1);
            }
            Err(error) => {
                assert_eq!(limit(&error), Limit::Queue, "{error}");
                late += 1;
                works(&client); // it would have run before this
                assert_eq!(begun(id), 0, "call {id} was taken back and ran");
            }
        }
        if id > 400 && ran > 20 && late > 20 {
            break;
        }
    }
    assert!(ran > 20 && late > 20, "{ran} ran, {late} did not: no race");
    all_free(&client);
    Ok(())
}

/// The worker dies with it, and its successor is ready only long after the limit.
fn a_call_that_is_sent_again_was_in_time_once() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).backoff_ms(5_000, 5_000));
    let client = pool.client().unwrap();
    // The first to die is replaced at once, the second after half of that or more.
    let first = client.worker_pids();
    assert_eq!(fails(call(&client, "kill").execute()).code(), Code::WorkerDied);
    ready(&client, 1, &first);
    let outcome = call(&client, "die_first").args((1, 1)).idempotent().queue_ms(2_000).execute();
    assert_eq!(number(outcome), 1);
    assert_eq!(begun(1), 2);
    // One that is not in time does not get more of it.
    assert_eq!(fails(call(&client, "kill").execute()).code(), Code::WorkerDied);
    assert_eq!(
        limit(&fails(call(&client, "note").args((2,)).idempotent().queue_ms(50).execute())),
        Limit::Queue
    );
    Ok(())
}
