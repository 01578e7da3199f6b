//! How streams end in a host's event loop: by a death, a limit or a cancel, once, and behind all items or with an error.

use crate::app::{begun, builder, call, number, open, patient, ready, until_begun, works};
use crate::completions::{looping, wait_readable};
use crate::guard::{PoolGuard, kill, until};
use crate::harness::Outcome;
use crate::stream_events::{Taken, failed, is_keyed, is_nothing, is_number, nothing_is_left, take_all};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;
use stokehold::{CancelledBy, Cause, Code, Kind, Limit, Result, Value};

crate::tests! {
    a_loop_hears_of_streams_whose_worker_died,
    a_loop_hears_of_the_limits_of_streams,
    an_end_that_comes_at_the_deadline_hides_no_item,
    streams_of_a_loop_are_cancelled_by_token,
    an_end_behind_items_that_nobody_took_is_not_given_away,
    completions_that_are_dropped_cancel_their_streams,
}

/// A4, in a loop.
fn a_loop_hears_of_streams_whose_worker_died() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2).restart_limit(1000, 1000));
    for n in [0, 1, 100, 3000] {
        call(&client, "dies").args((n,)).stream_to(&completions, n as u64).unwrap();
        let mut taken = take_all(&completions, is_number);
        assert!(taken.items(n as u64) <= n as usize);
        let error = failed(taken.end(n as u64));
        let Kind::WorkerDied { started: true, cause: Cause::Signal(6), .. } = error.kind() else {
            panic!("{error:?}")
        };
    }
    for round in 0..10 {
        ready(&client, 2, &[]);
        for token in 0..2 {
            call(&client, "endless")
                .args((10 * round + 2 * token,))
                .stream_to(&completions, token as u64)
                .unwrap();
        }
        let (mut taken, mut is_killed) = (Taken::default(), false);
        while taken.ends.len() < 2 {
            taken.next(&completions, is_number);
            if !is_killed && taken.items(0) > 100 && taken.items(1) > 100 {
                client.worker_pids().into_iter().for_each(|pid| kill(pid, Signal::SIGKILL));
                is_killed = true;
            }
        }
        for token in 0..2 {
            let error = failed(taken.end(token));
            assert!(matches!(error.kind(), Kind::WorkerDied { started: true, .. }), "{error:?}");
        }
    }
    nothing_is_left(&client);
    Ok(())
}

fn a_loop_hears_of_the_limits_of_streams() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, patient(2).timeout_ms(1_000));
    let pids = client.worker_pids();
    let limit = |end: Result<Value>| match *failed(end).kind() {
        Kind::Deadline { started, limit } => (started, limit),
        ref other => panic!("{other:?}"),
    };
    // Between two items; for the whole, of one that is slow and of one that always has an item; none of the pool's.
    call(&client, "plenty").args((1, 0, "gate2")).item_ms(1_000).stream_to(&completions, 1).unwrap();
    call(&client, "keyed").args((10_000, 10_000)).deadline_ms(1_000).stream_to(&completions, 2).unwrap();
    let mut taken = take_all(&completions, is_keyed);
    assert_eq!((taken.items(1), limit(taken.end(1))), (0, (true, Limit::Item)));
    assert_eq!(limit(taken.end(2)), (true, Limit::Call));
    open("gate2");
    until("their workers let go", || client.free_calls() == 64);
    call(&client, "endless").args((10,)).deadline_ms(1_000).stream_to(&completions, 3).unwrap();
    call(&client, "keyed").args((20, 60_000)).item_ms(5_000).stream_to(&completions, 4).unwrap();
    let mut taken = take_all(&completions, |token, at, item| match token {
        3 => {
            is_number(token, at, item);
            thread::sleep(Duration::from_micros(200)); // slower than the app: there is always one more
        }
        _ => is_keyed(token, at, item),
    });
    assert_eq!(limit(taken.end(3)), (true, Limit::Call));
    until_begun(11);
    assert!(taken.items(4) == 20 && is_nothing(taken.end(4)));
    // The same where the items are gathered: into lists, which have an end as well, so that there is not that much time. Once
    // more, with twice as much, if a worker came too late for it.
    let mut ms = 50;
    while begun(12) == 0 || begun(14) == 0 {
        ms *= 2;
        let before = [12, 14].map(begun);
        call(&client, "endless").args((12,)).deadline_ms(ms).submit_to(&completions, 3).unwrap();
        let error = call(&client, "endless").args((14,)).deadline_ms(ms).execute().map(drop).unwrap_err();
        let end = limit(take_all(&completions, is_number).end(3));
        for (at, (id, end)) in [(12, end), (14, limit(Err(error)))].into_iter().enumerate() {
            assert!(end == (true, Limit::Call) || begun(id) == before[at], "{id}: {end:?}");
        }
    }
    until_begun(13);
    until_begun(15);
    // In the queue.
    for token in [5, 6] {
        call(&client, "plenty").args((token, 1, "gate")).stream_to(&completions, token as u64).unwrap();
        until_begun(token);
    }
    call(&client, "endless").args((20,)).queue_ms(20).stream_to(&completions, 7).unwrap();
    let mut taken = Taken::default();
    while !taken.ends.contains_key(&7) {
        taken.next(&completions, is_number);
    }
    assert_eq!(limit(taken.end(7)), (false, Limit::Queue));
    open("gate");
    drop(take_all(&completions, is_number));
    nothing_is_left(&client);
    assert_eq!((begun(20), client.worker_pids()), (0, pids), "no worker was killed for it");
    Ok(())
}

/// Whether it came in time is decided once: an end that says that all is well has all items before it.
fn an_end_that_comes_at_the_deadline_hides_no_item() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    let (mut whole, mut late) = ([0, 0], [0, 0]);
    // How long an item takes, and the deadline: so that, on this machine and now, all items take about as long as that.
    let mut times = [(100, 2); 2];
    for round in 0..3_000_u64 {
        let way = round as usize % 2;
        let (us, ms) = &mut times[way];
        let keyed = call(&client, "keyed").args((10, *us)).deadline_ms(*ms);
        let (items, end) = if way == 0 {
            keyed.stream_to(&completions, round).unwrap();
            let mut taken = take_all(&completions, is_keyed);
            (taken.items(round), taken.end(round).err())
        } else {
            let mut items = 0;
            let end = keyed.stream().unwrap().map(|item| item.map(|_| items += 1)).find_map(Result::err);
            (items, end)
        };
        match end {
            None => {
                assert_eq!(items, 10);
                whole[way] += 1;
                *us += *us / 16 + 1;
            }
            Some(error) => {
                assert_eq!(error.code(), Code::Deadline);
                late[way] += 1;
                *us -= *us / 16 + 1;
                if *us < 20 {
                    (*us, *ms) = (100, 2 * *ms); // it takes longer than that without any wait
                }
            }
        }
        if round > 600 && whole.iter().chain(&late).all(|count| *count > 20) {
            break;
        }
    }
    println!("{whole:?} were whole, {late:?} late, at last with {times:?}");
    assert!(whole.iter().chain(&late).all(|count| *count > 20), "no race: {whole:?} {late:?}");
    nothing_is_left(&client);
    Ok(())
}

fn streams_of_a_loop_are_cancelled_by_token() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    // One whose app waits for room, one that waits for its app, one in the queue.
    call(&client, "endless").args((10,)).stream_to(&completions, 1).unwrap();
    call(&client, "plenty").args((20, 0, "gate")).stream_to(&completions, 2).unwrap();
    until_begun(10);
    until_begun(20);
    call(&client, "endless").args((30,)).stream_to(&completions, 3).unwrap();
    let mut taken = Taken::default();
    while taken.items(1) < 1000 {
        taken.next(&completions, is_number);
    }
    thread::sleep(Duration::from_millis(50));
    thread::scope(|scope| {
        scope.spawn(|| [3, 2, 1].map(|token| completions.cancel(token)));
        while taken.ends.len() < 3 {
            taken.next(&completions, is_number);
        }
    });
    for (token, started) in [(1, true), (2, true), (3, false)] {
        let error = failed(taken.end(token));
        let Kind::Cancelled { by: CancelledBy::Caller, started: was } = *error.kind() else {
            panic!("{error}")
        };
        assert_eq!(was, started, "{token}");
    }
    until_begun(11); // it was told, and woken
    open("gate");
    nothing_is_left(&client);
    assert_eq!(begun(30), 0);
    assert!(completions.next_completion().is_none() && completions.in_flight() == 0);
    Ok(())
}

/// Cancelled after its end, before its items were taken: that it ended well would pass for all items.
fn an_end_behind_items_that_nobody_took_is_not_given_away() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(1));
    for taken in [0, 1, 9, 10] {
        call(&client, "numbers").args((10,)).stream_to(&completions, 1).unwrap();
        works(&client); // the worker is through with it
        for at in 0..taken {
            is_number(1, at, completions.next_completion().unwrap().outcome.unwrap());
        }
        completions.cancel(1);
        let done = completions.next_completion().unwrap();
        assert!(!done.more);
        match done.outcome {
            Ok(end) => assert!(taken == 10 && number(Ok(end)) == 10, "{taken} were taken"),
            Err(error) => assert!(taken < 10 && error.code() == Code::Cancelled, "{error}"),
        }
        nothing_is_left(&client);
    }
    Ok(())
}

fn completions_that_are_dropped_cancel_their_streams() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    for round in 0..3 {
        let completions = client.completions().unwrap();
        for id in [10 * round, 10 * round + 2] {
            call(&client, "endless").args((id,)).stream_to(&completions, id as u64).unwrap();
            until_begun(id);
        }
        let mut held = Vec::new();
        while (held.len() as i64) < 10 * round {
            match completions.next_completion() {
                Some(done) => held.push(done),
                None => wait_readable(&completions),
            }
        }
        drop(completions);
        until_begun(10 * round + 1);
        until_begun(10 * round + 3);
        // What was taken stays what it is.
        let mut next = BTreeMap::<u64, i64>::new();
        for done in held {
            let next = next.entry(done.token).or_default();
            assert_eq!(number(done.outcome), *next);
            *next += 1;
        }
        nothing_is_left(&client);
    }
    Ok(())
}
