//! Streams whose worker, client or consumer fails, lies, stops or goes on for ever.

use crate::app::{
    Random, all_free, begun, builder, call, fails, keyed, number, open, patient, pattern, ready, until_begun,
    works,
};
use crate::baseline::Baseline;
use crate::forgery;
use crate::guard::{PoolGuard, kill, stop, until};
use crate::harness::{Kid, Outcome, sleep_for_ever};
use crate::proc;
use crate::streams::counted_until_it_fails;
use crate::stuck::overdue;
use nix::sys::signal::Signal;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, process, thread};
use stokehold::{Cause, Client, Code, Error, Kind, Limit, Options, Pool, Response, Stream};

crate::tests! {
    workers_killed_at_random_in_mid_stream,
    nonsense_in_a_stream_is_one_outcome_and_costs_its_worker,
    whoever_writes_nonsense_dies_as_corrupt,
    a_deadline_ends_what_never_ends,
    what_never_ends_is_given_up_by_who_gathers_it,
    who_takes_little_at_a_time_is_not_cut_off,
    a_client_that_is_stopped_holds_nobody_up,
    clients_killed_with_streams_leave_nothing_behind,
    what_is_held_outlives_its_worker,
    what_is_held_outlives_a_handle_that_cancels,
    what_is_held_outlives_a_cut_connection,
    a_sink_that_is_forgotten_and_an_iterator_that_bursts,
    a_pool_that_stops_waits_for_its_streams_and_then_does_not,
    a_forked_copy_has_no_stream,
}

/// What came of a stream of `keyed` items: how many, each the next one, and how it ended.
fn checked(stream: &mut Stream) -> (i64, Option<Error>) {
    let mut count = 0;
    for item in stream.by_ref() {
        match item {
            Ok(item) => {
                let (at, key): (i64, i64) = item.parse().unwrap();
                assert_eq!((at, key), (count, keyed(count, &count.to_le_bytes())), "not the next item");
                count += 1;
            }
            Err(error) => {
                assert!(stream.next().is_none(), "something after {error}");
                return (count, Some(error));
            }
        }
    }
    (count, None)
}

fn elsewhere(pool: &Pool, life: impl FnOnce(Client)) -> Kid {
    let socket = pool.client_socket().unwrap();
    Kid::new(|| {
        life(Client::connect(socket, Options::default()).unwrap());
        0
    })
}

fn noted() {
    until("the client says so", || Path::new("note").exists());
    fs::remove_file("note").unwrap();
}

fn held_are_whole(held: &[Response], len: usize) {
    for (at, item) in held.iter().enumerate() {
        assert!(item.as_bytes().unwrap() == pattern(at as i64, len), "item {at} was written over");
    }
}

/// A4 and C4.
fn workers_killed_at_random_in_mid_stream() -> Outcome {
    const ITEMS: i64 = 4000;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let mut random = Random(u64::from(process::id()));
    let (mut cut, mut whole) = (0, 0);
    for round in 0..300 {
        ready(&client, 2, &[]);
        let pids = client.worker_pids();
        let delay = Duration::from_micros(random.below(6000));
        let killer = thread::spawn(move || {
            thread::sleep(delay);
            pids.into_iter().for_each(|pid| kill(pid, Signal::SIGKILL));
        });
        if round % 5 == 4 {
            match call(&client, "keyed").args((ITEMS, 0)).execute() {
                Ok(all) => assert_eq!(all.parse::<Vec<(i64, i64)>>().unwrap().len() as i64, ITEMS),
                Err(error) => assert_eq!(error.code(), Code::WorkerDied, "{error}"),
            }
        } else {
            let mut stream = call(&client, "keyed").args((ITEMS, 0)).stream().unwrap();
            match checked(&mut stream) {
                (count, None) => {
                    assert_eq!(count, ITEMS, "an end before the end");
                    whole += 1;
                }
                (count, Some(error)) => {
                    let Kind::WorkerDied { started, .. } = *error.kind() else { panic!("{error:?}") };
                    assert!(count == 0 || started, "{count} items of a call that did not start");
                    cut += usize::from(count > 0 && count < ITEMS);
                }
            }
        }
        killer.join().unwrap();
    }
    println!("{cut} streams were cut in the middle, {whole} ended");
    assert!(cut > 20, "hardly any was hit: {cut}");
    all_free(&client);
    until("the pool works", || call(&client, "add").args((1, 2)).execute().is_ok());
    Ok(())
}

/// C12.
fn nonsense_in_a_stream_is_one_outcome_and_costs_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let mine = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    for how in forgery::WAYS {
        for (waits, gathers) in [(false, false), (true, false), (false, true), (true, true)] {
            let before = ready(&client, 2, &[]);
            let sent = call(&client, "forges").args((*how, waits));
            if gathers {
                assert_eq!(fails(sent.execute()).code(), Code::Protocol, "{how} {waits}");
            } else {
                let mut stream = sent.stream().unwrap();
                let mut items = 0;
                let error = loop {
                    match stream.next().expect("no end without the error") {
                        Ok(_) => items += 1,
                        Err(error) => break error,
                    }
                };
                assert_eq!(error.code(), Code::Protocol, "{how} {waits}: {error}");
                assert!(stream.next().is_none() && stream.value().is_none());
                assert!(items <= 4, "{how}: {items}");
            }
            until(format!("the worker is replaced: {how} {waits} {gathers}"), || {
                let now = client.worker_pids();
                now.len() == 2 && now.iter().filter(|pid| before.contains(pid)).count() == 1
            });
        }
    }
    open("gate");
    assert_eq!(number(mine.wait()), 1, "another call of the client is not hurt");
    works(&client);
    all_free(&client);
    Ok(())
}

fn whoever_writes_nonsense_dies_as_corrupt() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(2));
    let client = pool.client().unwrap();
    let other = pool.client().unwrap();
    let beside = call(&other, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let mut stream = call(&client, "forges").args(("kind", false)).stream().unwrap();
    assert_eq!(stream.by_ref().filter(Result::is_ok).count(), 4);
    let error = fails(beside.wait());
    assert!(matches!(error.kind(), Kind::WorkerDied { cause: Cause::Corrupt, .. }), "{error:?}");
    until("the pool works", || call(&client, "add").args((1, 2)).execute().is_ok());
    Ok(())
}

/// Whoever finds an item at each look has to look at the time all the same.
fn a_deadline_ends_what_never_ends() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(patient(1));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    let mut stream = call(&client, "endless").args((0,)).deadline_ms(1_000).stream().unwrap();
    let (_, error) = counted_until_it_fails(&mut stream);
    assert!(matches!(error.kind(), Kind::Deadline { started: true, limit: Limit::Call }), "{error:?}");
    assert!(stream.next().is_none());
    until_begun(1);
    assert_eq!(number(call(&client, "pid").execute()), before, "its worker was told, and not killed");
    // A stream that ended in time may be read later.
    let mut limit = Duration::from_millis(200);
    let mut stream = loop {
        let begin = Instant::now();
        let ms = limit.as_millis() as u64;
        let stream = call(&client, "keyed").args((500, 0)).deadline_ms(ms).stream().unwrap();
        works(&client); // the worker is through with it
        let took = begin.elapsed();
        thread::sleep(limit + Duration::from_millis(50));
        if took < limit {
            break stream;
        }
        limit *= 2;
    };
    let (count, error) = checked(&mut stream);
    assert!(count == 500 && error.is_none(), "{count} {error:?}");
    all_free(&client);
    Ok(())
}

fn what_never_ends_is_given_up_by_who_gathers_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(patient(1));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    // A list has an end as well, which optimised code reaches in a third of a second.
    let error = overdue(0, |ms| call(&client, "endless").args((0,)).deadline_ms(ms).submit().unwrap());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, limit: Limit::Call }), "{error:?}");
    until_begun(1);
    let error = fails(call(&client, "endless").args((2,)).execute());
    assert!(matches!(error.kind(), Kind::Overloaded { .. }), "{error:?}");
    until_begun(3);
    let mut pending = call(&client, "endless").args((10,)).submit().unwrap();
    until_begun(10);
    for _ in 0..20 {
        assert!(pending.try_wait().is_none());
    }
    assert!(pending.wait_for(Duration::from_millis(50)).is_none());
    assert_eq!(fails(pending.cancel()).code(), Code::Cancelled);
    until_begun(11);
    let pending = call(&client, "endless").args((20,)).submit().unwrap();
    let handle = pending.canceller();
    thread::scope(|scope| {
        scope.spawn(|| {
            until_begun(20);
            thread::sleep(Duration::from_millis(50));
            handle.cancel();
        });
        assert_eq!(fails(pending.wait()).code(), Code::Cancelled);
    });
    until_begun(21);
    assert_eq!(number(call(&client, "pid").execute()), before);
    all_free(&client);
    Ok(())
}

/// Each takes something within the limit, but not enough for the next item.
fn who_takes_little_at_a_time_is_not_cut_off() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).stall_ms(2_000));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "small_then_large").args((16, 10_000)).stream().unwrap();
    for at in 0..16 {
        thread::sleep(Duration::from_millis(150));
        let item = stream.next().unwrap().unwrap();
        assert!(item.as_bytes().unwrap() == pattern(at, 10_000));
    }
    assert_eq!(stream.next().unwrap().unwrap().as_bytes().unwrap().len(), 160_000);
    assert!(stream.next().is_none());
    all_free(&client);
    Ok(())
}

/// C13 and D8: one that reads nothing, with a full ring.
fn a_client_that_is_stopped_holds_nobody_up() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).stall_ms(2_000).keep_warm_ms(200));
    // Each worker keeps the region that its first stream needs.
    let warm = pool.client().unwrap();
    let streams = [30, 40].map(|id| call(&warm, "lends").args((id, 100_000, 1_u64 << 20)).stream().unwrap());
    [30, 40].into_iter().for_each(until_begun);
    drop(streams);
    [31, 41].into_iter().for_each(until_begun);
    drop(warm);
    let base = Baseline::without_clients(&pool);
    let kid = elsewhere(&pool, |client| {
        let _unread: Vec<Stream> =
            (0..2).map(|at| call(&client, "endless").args((at * 10,)).stream().unwrap()).collect();
        fs::write("note", "").unwrap();
        sleep_for_ever()
    });
    noted();
    until_begun(0);
    until_begun(10);
    stop(kid.pid.as_raw() as u32);
    // Both workers are its until the limit of a stall is reached; nobody else is asked for anything.
    let client = pool.client().unwrap();
    works(&client);
    until_begun(1);
    until_begun(11);
    for _ in 0..1000 {
        works(&client);
    }
    // One of two.
    let kid_of_one = elsewhere(&pool, |client| {
        let _unread = call(&client, "lends").args((20, 100_000, 1_u64 << 20)).stream().unwrap();
        fs::write("note", "").unwrap();
        sleep_for_ever()
    });
    noted();
    until_begun(20);
    stop(kid_of_one.pid.as_raw() as u32);
    assert_eq!(begun(21), 0);
    let mut others = 0;
    while begun(21) == 0 {
        works(&client);
        others += 1;
    }
    assert!(others > 100, "{others} calls went on beside it");
    drop(client);
    for kid in [kid, kid_of_one] {
        kid.kill();
        kid.end();
    }
    base.reached();
    works(&pool.client().unwrap());
    Ok(())
}

/// F8: queued, running, streaming, held, ended and held. More often than the worker has records for.
fn clients_killed_with_streams_leave_nothing_behind() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(200));
    flood(&pool.client().unwrap(), 20_000); // a worker keeps the region that its first stream needs
    let base = Baseline::without_clients(&pool);
    let mut pid = None;
    for round in 0..12 {
        let id = round * 10;
        let kid = elsewhere(&pool, |client| {
            let ended: Vec<Vec<Response>> = (0..25)
                .map(|_| {
                    call(&client, "lent").args((3, 5000)).stream().unwrap().map(Result::unwrap).collect()
                })
                .collect();
            let mut running = call(&client, "lends").args((id, 5000, 1_u64 << 20)).stream().unwrap();
            let held: Vec<Response> = (0..5).map(|_| running.next().unwrap().unwrap()).collect();
            let _queued = call(&client, "note").args((id + 5,)).stream().unwrap();
            fs::write("note", "").unwrap();
            let _kept = (ended, held);
            sleep_for_ever()
        });
        noted();
        kid.kill();
        kid.end();
        until_begun(id + 1); // its app is told
        base.client_forgotten();
        let client = pool.client().unwrap();
        let now = number(call(&client, "pid").execute());
        assert_eq!(*pid.get_or_insert(now), now, "nobody had to be killed for it");
        assert_eq!(begun(id + 5), 0, "a dead client's call ran");
    }
    base.reached();
    // 300 of 256 records were held by the dead.
    let client = pool.client().unwrap();
    let held: Vec<Vec<Response>> = (0..60)
        .map(|_| call(&client, "lent").args((3, 5000)).stream().unwrap().map(Result::unwrap).collect())
        .collect();
    held.iter().for_each(|items| held_are_whole(items, 5000));
    Ok(())
}

fn hold_some(stream: &mut Stream, count: usize, len: usize) -> Vec<Response> {
    let held: Vec<Response> = (0..count).map(|_| stream.next().unwrap().unwrap()).collect();
    held_are_whole(&held, len);
    held
}

/// Writes over whatever a worker takes for free.
fn flood(client: &Client, len: usize) {
    for _ in 0..3 {
        drop(call(client, "lent").args((200, len)).stream().unwrap().wait().unwrap());
    }
}

/// F1.
fn what_is_held_outlives_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(100));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "lends").args((0, 20_000, 1_u64 << 20)).stream().unwrap();
    let held = hold_some(&mut stream, 20, 20_000);
    let pids = client.worker_pids();
    kill(pids[0], Signal::SIGKILL);
    let mut more = 0;
    let error = loop {
        match stream.next().unwrap() {
            Ok(item) => {
                assert!(item.as_bytes().unwrap() == pattern(20 + more, 20_000));
                more += 1;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::WorkerDied);
    drop(stream);
    ready(&client, 1, &pids);
    flood(&client, 20_000);
    thread::sleep(Duration::from_millis(300)); // what is idle goes
    held_are_whole(&held, 20_000);
    assert_eq!(client.free_calls(), 63);
    drop(held);
    all_free(&client);
    Ok(())
}

fn what_is_held_outlives_a_handle_that_cancels() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for round in 0..20 {
        let id = round * 10;
        let mut stream = call(&client, "lends").args((id, 20_000, 1_u64 << 20)).stream().unwrap();
        let held = hold_some(&mut stream, 10, 20_000);
        let handle = stream.canceller();
        thread::scope(|scope| {
            scope.spawn(move || assert!(handle.cancel_and_wait(Duration::from_secs(30))));
        });
        until_begun(id + 1);
        // Not seen by its holder yet, then seen, then dropped.
        flood(&client, 20_000);
        held_are_whole(&held, 20_000);
        let error = stream.by_ref().find_map(Result::err).unwrap();
        assert_eq!(error.code(), Code::Cancelled, "{error}");
        flood(&client, 20_000);
        drop(stream);
        flood(&client, 20_000);
        held_are_whole(&held, 20_000);
        drop(held);
        all_free(&client);
    }
    Ok(())
}

/// The arbiter gives up what runs, in the name of a client that has not noticed yet. Nothing of it is anybody else's while
/// that client has it.
fn what_is_held_outlives_a_cut_connection() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(200));
    flood(&pool.client().unwrap(), 20_000); // a worker keeps the region that its first stream needs
    let base = Baseline::without_clients(&pool);
    let before = proc::descriptors(process::id());
    let client = pool.client().unwrap();
    let now = proc::descriptors(process::id());
    let socket = *now.iter().find(|(n, to)| !before.contains_key(n) && to.starts_with("socket")).unwrap().0;
    let mut stream = call(&client, "lends").args((0, 20_000, 1_u64 << 20)).stream().unwrap();
    let held = hold_some(&mut stream, 20, 20_000);
    // SAFETY: takes numbers.
    unsafe { libc::shutdown(socket as i32, libc::SHUT_RDWR) };
    until_begun(1); // the app is told
    let other = pool.client().unwrap();
    for _ in 0..4 {
        flood(&other, 20_000);
        thread::sleep(Duration::from_millis(700)); // the arbiter looks, the worker sweeps
        held_are_whole(&held, 20_000);
    }
    let error = stream.by_ref().find_map(Result::err).unwrap();
    assert_eq!(error.code(), Code::Protocol, "{error}");
    flood(&other, 20_000);
    held_are_whole(&held, 20_000);
    drop((stream, held, other));
    drop(client);
    base.reached();
    works(&pool.client().unwrap());
    Ok(())
}

fn a_sink_that_is_forgotten_and_an_iterator_that_bursts() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    let mut stream = call(&client, "forgets").args((7,)).stream().unwrap();
    let items: Vec<i64> = stream.by_ref().map(number).collect();
    assert!(items.into_iter().eq(0..7));
    assert_eq!(stream.value().unwrap().parse::<i64>().unwrap(), 7);
    drop(stream);
    let mut stream = call(&client, "bursts_in_the_end").args((7,)).stream().unwrap();
    let (mut items, mut errors) = (0, Vec::new());
    for item in stream.by_ref() {
        match item {
            Ok(_) => items += 1,
            Err(error) => errors.push(error),
        }
    }
    assert_eq!((items, errors.len()), (7, 1));
    assert!(matches!(errors[0].kind(), Kind::App(said) if said.class == "Panic"), "{errors:?}");
    drop(stream);
    assert_eq!(number(call(&client, "pid").execute()), before);
    all_free(&client);
    Ok(())
}

fn a_pool_that_stops_waits_for_its_streams_and_then_does_not() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).stop_grace_ms(4_000));
    let client = pool.client().unwrap();
    let mut ends = call(&client, "keyed").args((50, 5_000)).stream().unwrap();
    let mut unread = call(&client, "endless").args((0,)).stream().unwrap();
    assert_eq!(number(unread.next().unwrap()), 0);
    assert!(ends.next_for(Duration::from_secs(30)).unwrap().is_some());
    until_begun(0);
    thread::scope(|scope| {
        let stopping = scope.spawn(|| pool.shutdown().unwrap());
        let mut count = 1;
        for item in ends {
            let (at, _): (i64, i64) = item.unwrap().parse().unwrap();
            assert_eq!(at, count);
            count += 1;
        }
        assert_eq!(count, 50, "what ends within the grace arrives");
        // Nobody reads it: its worker does not leave by itself.
        let mut count = 1;
        let mut error = None;
        until("the grace is over", || stopping.is_finished());
        for item in unread {
            match item {
                Ok(item) => {
                    assert_eq!(number(Ok(item)), count);
                    count += 1;
                }
                Err(failed) => assert!(error.replace(failed).is_none(), "one outcome"),
            }
        }
        let error = error.expect("never an end");
        assert!(matches!(error.code(), Code::WorkerDied | Code::ArbiterDied | Code::ShuttingDown), "{error}");
        assert!(count > 100, "what was sent arrives: {count}");
    });
    Ok(())
}

fn a_forked_copy_has_no_stream() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "lends").args((0, 20_000, 1_u64 << 20)).stream().unwrap();
    let mut held = hold_some(&mut stream, 10, 20_000);
    let mut small = call(&client, "count").args((10,)).stream().unwrap();
    let kid = Kid::new(|| {
        assert_eq!(fails(stream.next().unwrap()).code(), Code::Forked);
        assert!(stream.next().is_none());
        assert!(held.iter().all(|item| item.as_bytes().is_err_and(|error| error.code() == Code::Forked)));
        small.canceller().cancel();
        held.clear();
        0
    });
    assert_eq!(kid.end(), stokehold::internals::sys::process::ExitStatus::Exited(0));
    held_are_whole(&held, 20_000);
    for at in 10..50 {
        assert!(stream.next().unwrap().unwrap().as_bytes().unwrap() == pattern(at, 20_000));
    }
    held_are_whole(&held, 20_000);
    drop(stream);
    assert_eq!(small.by_ref().map(number).sum::<i64>(), 45);
    drop((small, std::mem::take(&mut held)));
    all_free(&client);
    Ok(())
}
