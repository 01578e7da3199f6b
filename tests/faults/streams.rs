//! Streams of results: whole, in order, with one end, whoever fails when.

use crate::app::{begun, builder, call, fails, keyed, number, open, pattern, until_begun, works};
use crate::guard::{PoolGuard, until};
use crate::harness::Outcome;
use std::thread;
use std::time::Duration;
use stokehold::{Cause, Client, Code, Error, Kind, Limit, Response, Stream};

crate::tests! {
    items_come_one_by_one_in_order,
    items_of_any_size_are_read_where_they_lie,
    what_is_held_is_not_written_over,
    to_execute_a_stream_gives_a_list_of_all_items,
    a_plain_action_is_a_stream_of_one_item,
    an_error_in_mid_stream_comes_after_the_items_before_it,
    a_worker_that_dies_leaves_a_prefix_and_one_error,
    a_stream_that_is_dropped_frees_its_worker,
    a_consumer_that_takes_nothing_is_cut_off,
    a_stream_that_does_not_wait_overruns,
    a_stream_that_does_not_wait_looks_first_what_was_taken,
    an_item_that_does_not_come_is_a_deadline_of_its_own,
    a_look_at_a_stream_does_not_wait,
    streams_outlive_the_limit_of_calls,
}

fn numbers(stream: Stream) -> Vec<i64> {
    stream.map(|item| item.unwrap().parse().unwrap()).collect()
}

/// How many numbers came, each the next one, and the error behind them.
pub fn counted_until_it_fails(stream: &mut Stream) -> (i64, Error) {
    let mut count = 0;
    loop {
        match stream.next().expect("no end without the error") {
            Ok(item) => assert_eq!(number(Ok(item)), count),
            Err(error) => return (count, error),
        }
        count += 1;
    }
}

/// Items until the end or the error.
fn drained(mut stream: Stream) -> (Vec<Response>, Option<Error>) {
    let mut items = Vec::new();
    for item in &mut stream {
        match item {
            Ok(item) => items.push(item),
            Err(error) => return (items, Some(error)),
        }
    }
    assert!(stream.next().is_none(), "nothing after the end");
    (items, None)
}

fn nothing_is_left(client: &Client) {
    works(client);
    until("all calls are free", || client.free_calls() == 64);
}

fn items_come_one_by_one_in_order() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    for n in [0, 1, 10, 1000, 100_000] {
        let stream = call(&client, "count").args((n,)).stream().unwrap();
        assert!(numbers(stream).into_iter().eq(0..n), "{n}");
    }
    let mut stream = call(&client, "count").args((3,)).stream().unwrap();
    assert_eq!(stream.by_ref().count(), 3);
    assert!(stream.value().is_none());
    nothing_is_left(&client);
    stream.wait().unwrap().parse::<()>().unwrap();
    let stream = call(&client, "keyed").args((100, 500)).stream().unwrap();
    let mut count = 0;
    for item in stream {
        let (at, key): (i64, i64) = item.unwrap().parse().unwrap();
        assert_eq!((at, key), (count, keyed(count, &count.to_le_bytes())));
        count += 1;
    }
    assert_eq!(count, 100);
    nothing_is_left(&client);
    Ok(())
}

fn items_of_any_size_are_read_where_they_lie() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for len in [0, 1, 100, 430, 431, 450, 5000, 65_536, 3_000_000, 40_000_000] {
        for action in ["lent", "copied"] {
            let n = if len > 1_000_000 { 5 } else { 100 };
            let mut stream = call(&client, action).args((n, len)).stream().unwrap();
            for at in 0..n {
                let item = stream.next().unwrap().unwrap();
                assert!(item.as_bytes().unwrap() == pattern(at, len), "{action} {len} {at}");
            }
            assert!(stream.next().is_none());
            let value = stream.value().map(|value| value.parse::<i64>().unwrap());
            assert_eq!(value, (action == "lent").then_some(n));
        }
    }
    nothing_is_left(&client);
    Ok(())
}

fn what_is_held_is_not_written_over() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "lent").args((300, 10_000)).stream().unwrap();
    let (mut held, mut at) = (Vec::new(), 0);
    for item in stream.by_ref() {
        let item = item.unwrap();
        assert!(item.as_bytes().unwrap() == pattern(at, 10_000), "{at}");
        if at % 10 == 0 {
            held.push((at, item)); // dropped out of order, by and by
        }
        if held.len() > 5 {
            held.swap_remove((at % 5) as usize);
        }
        for (at, item) in &held {
            assert!(item.as_bytes().unwrap() == pattern(*at, 10_000), "{at}");
        }
        at += 1;
    }
    assert_eq!(at, 300);
    drop(stream);
    // Another stream of the same worker has its own memory while these are held.
    for item in call(&client, "lent").args((100, 10_000)).stream().unwrap() {
        item.unwrap();
    }
    for (at, item) in &held {
        assert!(item.as_bytes().unwrap() == pattern(*at, 10_000), "{at}");
    }
    assert_eq!(client.free_calls(), 63, "the items hold their call");
    drop(held);
    nothing_is_left(&client);
    // Given up while items are held.
    let mut stream = call(&client, "lent").args((100_000, 10_000)).stream().unwrap();
    let held: Vec<Response> = (0..20).map(|_| stream.next().unwrap().unwrap()).collect();
    stream.cancel();
    for _ in 0..3 {
        call(&client, "lent").args((100, 10_000)).stream().unwrap().wait().unwrap();
    }
    for (at, item) in held.iter().enumerate() {
        assert!(item.as_bytes().unwrap() == pattern(at as i64, 10_000), "{at}");
    }
    drop(held);
    nothing_is_left(&client);
    Ok(())
}

fn to_execute_a_stream_gives_a_list_of_all_items() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for n in [0, 1, 10, 20_000] {
        let all = call(&client, "count").args((n,)).execute().unwrap();
        assert!(all.parse::<Vec<i64>>().unwrap().into_iter().eq(0..n), "{n}");
    }
    // What the app returned comes last.
    let all = call(&client, "lent").args((3, 100_000)).execute().unwrap();
    let (a, b, c, count): (&[u8], &[u8], &[u8], i64) = all.parse().unwrap();
    assert!(a == pattern(0, 100_000) && b == pattern(1, 100_000) && c == pattern(2, 100_000));
    assert_eq!(count, 3);
    drop(all);
    let pending = call(&client, "count").args((20_000,)).submit().unwrap();
    assert_eq!(pending.wait().unwrap().parse::<Vec<i64>>().unwrap().len(), 20_000);
    let mut pending = call(&client, "count").args((20_000,)).submit().unwrap();
    let mut outcome = None;
    until("it has gathered all", || {
        outcome = pending.try_wait();
        outcome.is_some()
    });
    assert_eq!(outcome.unwrap().unwrap().parse::<Vec<i64>>().unwrap().len(), 20_000);
    let error = fails(call(&client, "breaks").args((5000,)).execute());
    assert_eq!(error.code(), Code::App);
    nothing_is_left(&client);
    Ok(())
}

fn a_plain_action_is_a_stream_of_one_item() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "add").args((2, 3)).stream().unwrap();
    assert_eq!(number(stream.next().unwrap()), 5);
    assert!(stream.next().is_none() && stream.next().is_none());
    let stream = call(&client, "add").args((2, 3)).stream().unwrap();
    assert_eq!(number(stream.wait()), 5);
    let mut stream = call(&client, "add").args((2, 3)).stream().unwrap();
    stream.wait_for(Duration::MAX).unwrap().unwrap();
    assert_eq!(stream.value().unwrap().parse::<i64>().unwrap(), 5);
    drop(stream); // and the call that its value holds
    let mut stream = call(&client, "keyed").args((2, 100_000)).stream().unwrap();
    assert!(stream.wait_for(Duration::from_millis(1)).is_none() && !stream.has_ended());
    stream.wait_for(Duration::from_secs(60)).unwrap().unwrap();
    assert!(stream.has_ended() && stream.value().is_none() && stream.next().is_none());
    let mut stream = call(&client, "fail").stream().unwrap();
    assert_eq!(fails(stream.next().unwrap()).code(), Code::App);
    assert!(stream.next().is_none());
    nothing_is_left(&client);
    Ok(())
}

fn an_error_in_mid_stream_comes_after_the_items_before_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for n in [0, 1, 7, 5000] {
        for (action, class) in [("breaks", "Leak"), ("bursts", "Panic")] {
            let (items, error) = drained(call(&client, action).args((n,)).stream().unwrap());
            assert_eq!(items.len(), n, "{action}");
            let error = error.unwrap();
            let Kind::App(said) = error.kind() else { panic!("{error:?}") };
            assert_eq!(said.class, class);
        }
    }
    nothing_is_left(&client);
    Ok(())
}

/// A4.
fn a_worker_that_dies_leaves_a_prefix_and_one_error() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).restart_limit(1000, 1000));
    let client = pool.client().unwrap();
    for n in [0, 1, 100, 3000] {
        let (items, error) = drained(call(&client, "dies").args((n,)).stream().unwrap());
        let items: Vec<i64> = items.into_iter().map(|item| item.parse().unwrap()).collect();
        assert!(items.len() <= n as usize && items.iter().copied().eq(0..items.len() as i64));
        let error = error.expect("never an end");
        let Kind::WorkerDied { started: true, cause, .. } = error.kind() else { panic!("{error:?}") };
        assert!(matches!(cause, Cause::Signal(6)), "{error}");
    }
    nothing_is_left(&client);
    Ok(())
}

fn a_stream_that_is_dropped_frees_its_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    for (round, taken) in [0, 1, 5000].into_iter().enumerate() {
        let id = round as i64 * 10;
        let mut stream = call(&client, "endless").args((id,)).stream().unwrap();
        until_begun(id);
        for at in 0..taken {
            assert_eq!(number(stream.next().unwrap()), at);
        }
        // Asleep for want of room, or about to be.
        thread::sleep(Duration::from_millis(50));
        drop(stream);
        until_begun(id + 1);
        assert_eq!(number(call(&client, "pid").execute()), before);
    }
    nothing_is_left(&client);
    Ok(())
}

fn a_consumer_that_takes_nothing_is_cut_off() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).stall_ms(200));
    let client = pool.client().unwrap();
    let before = number(call(&client, "pid").execute());
    let mut stream = call(&client, "endless").args((0,)).stream().unwrap();
    until_begun(1); // cut off
    assert_eq!(number(call(&client, "pid").execute()), before, "the worker is free");
    let (count, error) = counted_until_it_fails(&mut stream);
    assert!(count > 100, "what was sent arrives: {count}");
    assert!(matches!(error.kind(), Kind::Stalled { after } if after.as_millis() >= 200), "{error:?}");
    assert!(stream.next().is_none());
    nothing_is_left(&client);
    Ok(())
}

fn a_stream_that_does_not_wait_overruns() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "overruns").args((10,)).stream().unwrap();
    until_begun(1010);
    for at in 0..10 {
        assert_eq!(number(stream.next().unwrap()), at);
    }
    let error = fails(stream.next().unwrap());
    assert!(matches!(error.kind(), Kind::Overrun { limit: 10 }), "{error:?}");
    assert_eq!(begun(1010), 1);
    nothing_is_left(&client);
    Ok(())
}

fn a_stream_that_does_not_wait_looks_first_what_was_taken() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "large_then_small").args(("gate",)).stream().unwrap();
    let large = stream.next().unwrap().unwrap();
    assert_eq!(large.as_bytes().unwrap(), pattern(1, 1_000_000));
    drop(large);
    open("gate");
    assert_eq!(number(stream.next().unwrap()), 7);
    assert!(stream.next().is_none());
    nothing_is_left(&client);
    Ok(())
}

fn an_item_that_does_not_come_is_a_deadline_of_its_own() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "keyed").args((10, 20_000)).item_ms(5000).stream().unwrap();
    assert_eq!((&mut stream).map(Result::unwrap).count(), 10);
    let mut stream = call(&client, "plenty").args((1, 0, "gate")).item_ms(1_000).stream().unwrap();
    let error = fails(stream.next().unwrap());
    assert!(matches!(error.kind(), Kind::Deadline { started: true, limit: Limit::Item }), "{error:?}");
    assert!(stream.has_ended() && stream.next().is_none(), "it is given up");
    open("gate");
    // A limit of the consumer's own patience ends nothing.
    let mut stream = call(&client, "keyed").args((2, 100_000)).stream().unwrap();
    let error = stream.next_for(Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error.kind(), Kind::Deadline { limit: Limit::Item, .. }), "{error:?}");
    assert!(!stream.has_ended());
    let first = stream.next_for(Duration::from_secs(60)).unwrap().unwrap();
    assert_eq!(first.parse::<(i64, i64)>().unwrap().0, 0);
    drop(first);
    assert_eq!(stream.count(), 1);
    // One for the whole.
    let stream = call(&client, "keyed").args((1000, 10_000)).deadline_ms(1_000).stream().unwrap();
    let (items, error) = drained(stream);
    assert!(items.len() < 1000);
    assert!(matches!(error.unwrap().kind(), Kind::Deadline { started: true, limit: Limit::Call }));
    drop(items);
    nothing_is_left(&client);
    Ok(())
}

fn a_look_at_a_stream_does_not_wait() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut stream = call(&client, "keyed").args((5, 50_000)).stream().unwrap();
    let (mut items, mut looks) = (0, 0);
    until("the stream ends", || match stream.try_next() {
        None => {
            looks += 1;
            false
        }
        Some(Ok(Some(_))) => {
            items += 1;
            false
        }
        Some(Ok(None)) => true,
        Some(Err(error)) => panic!("{error}"),
    });
    assert!(items == 5 && looks > 5, "{items} {looks}");
    nothing_is_left(&client);
    Ok(())
}

fn streams_outlive_the_limit_of_calls() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(1_000));
    let client = pool.client().unwrap();
    let stream = call(&client, "keyed").args((20, 60_000)).stream().unwrap();
    assert_eq!(stream.map(Result::unwrap).count(), 20);
    let error = fails(call(&client, "keyed").args((1000, 20_000)).execute());
    assert!(matches!(error.kind(), Kind::Deadline { limit: Limit::Call, .. }), "{error:?}");
    nothing_is_left(&client);
    Ok(())
}
