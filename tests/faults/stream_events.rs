//! Streams in a host's event loop: whole, in order and fair, and whatever happens to one makes the descriptor readable.

use crate::app::{builder, call, keyed, number, open, until_begun, works};
use crate::completions::{is_readable, looping, wait_readable};
use crate::guard::{PoolGuard, until};
use crate::harness::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use stokehold::internals::sys::poll;
use stokehold::{Client, Code, Completion, Completions, Response, Result, Value};

crate::tests! {
    a_level_triggered_loop_takes_every_item,
    an_edge_triggered_loop_misses_no_item,
    streams_take_turns,
    a_fast_stream_starves_no_call,
    an_item_that_is_held_holds_up_its_own_stream_only,
    a_loop_hears_of_items_of_streams_that_are_listed_late,
    two_threads_take_each_item_once,
    a_list_is_gathered_while_the_loop_sleeps,
    a_plain_action_is_an_end_without_items,
    an_item_whose_wake_up_was_lost_is_found_by_the_tick,
}

pub fn nothing_is_left(client: &Client) {
    works(client);
    until("all calls are free", || client.free_calls() == 64);
}

/// What became of the streams and calls of a loop.
#[derive(Default)]
pub struct Taken {
    /// By token.
    items: BTreeMap<u64, usize>,
    /// Copied: a result that is held takes up one of the client's calls.
    pub ends: BTreeMap<u64, Result<Value>>,
}

impl Taken {
    /// `check` sees each item with its token and number.
    pub fn put(&mut self, done: Completion, mut check: impl FnMut(u64, usize, Response)) {
        let Completion { token, outcome, more } = done;
        assert!(!self.ends.contains_key(&token), "something of {token} after its end");
        match more {
            true => {
                let at = self.items.entry(token).or_default();
                check(token, *at, outcome.unwrap());
                *at += 1;
            }
            false => drop(self.ends.insert(token, outcome.and_then(Response::into_owned))),
        }
    }

    /// What comes next, or a wait for that.
    pub fn next(&mut self, completions: &Completions, check: impl FnMut(u64, usize, Response)) {
        match completions.next_completion() {
            Some(done) => self.put(done, check),
            None => wait_readable(completions),
        }
    }

    pub fn items(&self, token: u64) -> usize {
        self.items.get(&token).copied().unwrap_or(0)
    }

    pub fn end(&mut self, token: u64) -> Result<Value> {
        self.ends.remove(&token).unwrap_or_else(|| panic!("{token} has not ended"))
    }
}

/// A loop until nothing is in flight.
pub fn take_all(completions: &Completions, mut check: impl FnMut(u64, usize, Response)) -> Taken {
    let mut taken = Taken::default();
    while completions.in_flight() > 0 {
        while let Some(done) = completions.next_completion() {
            taken.put(done, &mut check);
        }
        if completions.in_flight() > 0 {
            wait_readable(completions);
        }
    }
    assert!(completions.next_completion().is_none());
    taken
}

/// An item of `count` and its like.
pub fn is_number(_: u64, at: usize, item: Response) {
    assert_eq!(number(Ok(item)), at as i64);
}

pub fn is_keyed(_: u64, at: usize, item: Response) {
    let (n, key): (i64, i64) = item.parse().unwrap();
    assert_eq!((n, key), (at as i64, keyed(n, &n.to_le_bytes())));
}

pub fn is_nothing(end: Result<Value>) -> bool {
    end.unwrap() == Value::None
}

/// The number behind the items.
fn value(end: Result<Value>) -> i64 {
    end.unwrap().as_int().unwrap()
}

pub fn failed(end: Result<Value>) -> stokehold::Error {
    end.unwrap_err()
}

fn a_level_triggered_loop_takes_every_item() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    for round in 0..10 {
        // A third each: streams of any length, some with a value at the end, and calls.
        for token in 0..60_u64 {
            let n = [0, 1, 7, 300, 5000][(token as usize + round) % 5] as i64;
            match token % 3 {
                0 => call(&client, "count").args((n,)).stream_to(&completions, token).unwrap(),
                1 => call(&client, "numbers").args((n,)).stream_to(&completions, token).unwrap(),
                _ => call(&client, "add").args((n, 1)).submit_to(&completions, token).unwrap(),
            }
        }
        let mut taken = take_all(&completions, is_number);
        for token in 0..60 {
            let n = [0, 1, 7, 300, 5000][(token as usize + round) % 5];
            let (items, end) = (taken.items(token), taken.end(token));
            match token % 3 {
                0 => assert!(items == n && is_nothing(end)),
                1 => assert!(items == n && value(end) == n as i64),
                _ => assert!(items == 0 && value(end) == n as i64 + 1),
            }
        }
        assert!(taken.ends.is_empty());
    }
    nothing_is_left(&client);
    Ok(())
}

fn an_edge_triggered_loop_misses_no_item() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    let mut poll = mio::Poll::new().unwrap();
    let fd = completions.as_raw_fd();
    let source = &mut mio::unix::SourceFd(&fd);
    poll.registry().register(source, mio::Token(0), mio::Interest::READABLE).unwrap();
    let mut events = mio::Events::with_capacity(4);
    let (mut next, mut taken) = (0_u64, Taken::default());
    const ALL: u64 = 600;
    while taken.ends.len() < ALL as usize {
        while next < ALL && completions.in_flight() < 1 + (next % 7) as usize {
            // Slow ones, and such whose items come in heaps.
            let us = [0, 50, 200, 3000][next as usize % 4];
            let n = (next % 11) as i64;
            call(&client, "keyed").args((n, us)).stream_to(&completions, next).unwrap();
            next += 1;
        }
        while let Some(done) = completions.next_completion() {
            taken.put(done, is_keyed);
        }
        if completions.in_flight() > 0 {
            poll.poll(&mut events, Some(Duration::from_secs(30))).unwrap();
            assert!(!events.is_empty(), "no edge; {} have ended", taken.ends.len());
        }
    }
    for token in 0..ALL {
        assert_eq!(taken.items(token), token as usize % 11);
        assert!(is_nothing(taken.end(token)));
    }
    nothing_is_left(&client);
    Ok(())
}

fn streams_take_turns() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(3));
    // All that these send before the gate opens is there before the first look.
    for token in 0..3_u64 {
        call(&client, "plenty").args((token as i64, 100, "gate")).stream_to(&completions, token).unwrap();
        until_begun(token as i64);
    }
    let mut tokens = Vec::new();
    for _ in 0..300 {
        let done = completions.next_completion().expect("it is there");
        assert!(done.more);
        tokens.push(done.token);
    }
    for three in tokens.chunks(3) {
        assert_eq!(three.iter().collect::<BTreeSet<_>>().len(), 3, "{tokens:?}");
    }
    assert!(completions.next_completion().is_none());
    open("gate");
    let taken = take_all(&completions, is_number);
    assert!(taken.items.is_empty() && taken.ends.into_values().all(|end| value(end) == 100));
    nothing_is_left(&client);
    Ok(())
}

fn a_fast_stream_starves_no_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    call(&client, "endless").args((1,)).stream_to(&completions, 0).unwrap();
    let (mut taken, mut calls) = (Taken::default(), 1);
    call(&client, "add").args((1, 1)).submit_to(&completions, calls).unwrap();
    // A deadline that passes is no less of an end.
    call(&client, "nap").args((1_000,)).deadline_ms(20).submit_to(&completions, 1000).unwrap();
    while calls < 100 || !taken.ends.contains_key(&1000) {
        match completions.next_completion() {
            Some(done) => {
                let answered = done.token == calls;
                taken.put(done, is_number);
                if answered {
                    calls += 1;
                    call(&client, "add").args((1, 1)).submit_to(&completions, calls).unwrap();
                }
            }
            None => wait_readable(&completions),
        }
    }
    println!("{} items beside {calls} calls", taken.items(0));
    assert_eq!(failed(taken.end(1000)).code(), Code::Deadline);
    assert!(taken.items(0) > 0);
    completions.cancel(0);
    drop(take_all(&completions, |_, _, _| ()));
    until_begun(2);
    until("all calls are free", || client.free_calls() == 64);
    Ok(())
}

fn an_item_that_is_held_holds_up_its_own_stream_only() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    call(&client, "lent").args((1_000_000, 1000)).stream_to(&completions, 0).unwrap();
    let next = || loop {
        match completions.next_completion() {
            Some(done) => break done,
            None => wait_readable(&completions),
        }
    };
    let held = next();
    assert!(held.more);
    let is_quiet = || !poll::readable(completions.as_fd(), Some(Duration::from_millis(200))).unwrap().ready;
    let mut more = 0;
    loop {
        match completions.next_completion() {
            Some(done) => more += usize::from(done.more),
            None if is_quiet() => break,
            None => {}
        }
    }
    println!("{more} items behind one that is held");
    assert!(more < 1_000_000 - 1);
    // Others go on, and so does this one when the item is dropped. Its worker may have been slow for a while before.
    call(&client, "count").args((1000,)).stream_to(&completions, 1).unwrap();
    let mut others = Taken::default();
    while others.ends.is_empty() {
        let done = next();
        match done.token {
            0 => assert!(done.more, "all in spite of one that is held"),
            _ => others.put(done, is_number),
        }
    }
    assert_eq!(others.items(1), 1000);
    assert!(held.outcome.unwrap().as_bytes().unwrap() == crate::app::pattern(0, 1000)); // dropped
    assert!(next().more);
    completions.cancel(0);
    drop(take_all(&completions, |_, _, _| ()));
    nothing_is_left(&client);
    Ok(())
}

/// The waiting thread has taken the alarm for the items already when the stream comes into its list, and its worker sends
/// no further one before these were taken.
fn a_loop_hears_of_items_of_streams_that_are_listed_late() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    // Whoever lists a stream waits for the lock again and again.
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let _ = completions.in_flight();
            }
        });
        for round in 0..300_i64 {
            let submitter = scope.spawn(|| {
                call(&client, "waits").args((2,)).stream_to(&completions, 1).unwrap();
            });
            let mut taken = Taken::default();
            while taken.ends.is_empty() {
                while let Some(done) = completions.next_completion() {
                    taken.put(done, is_number);
                    if taken.items(1) == 2 && taken.ends.is_empty() {
                        open("gate");
                    }
                }
                if taken.ends.is_empty() {
                    wait_readable(&completions);
                }
            }
            assert_eq!(value(taken.end(1)), 2, "round {round}");
            std::fs::remove_file("gate").unwrap();
            submitter.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
    nothing_is_left(&client);
    Ok(())
}

fn two_threads_take_each_item_once() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2));
    const STREAMS: u64 = 8;
    for token in 0..STREAMS {
        call(&client, "count").args((20_000,)).stream_to(&completions, token).unwrap();
    }
    let seen = Mutex::new(BTreeMap::<u64, Vec<bool>>::new());
    let ends = Mutex::new(BTreeSet::new());
    let take = || loop {
        while let Some(Completion { token, outcome, more }) = completions.next_completion() {
            if !more {
                assert!(
                    is_nothing(outcome.and_then(Response::into_owned)) && ends.lock().unwrap().insert(token),
                    "two ends of {token}"
                );
                continue;
            }
            let at = number(outcome) as usize;
            let mut seen = seen.lock().unwrap();
            let seen = seen.entry(token).or_insert_with(|| vec![false; 20_000]);
            assert!(!std::mem::replace(&mut seen[at], true), "item {at} of {token} came twice");
        }
        if ends.lock().unwrap().len() == STREAMS as usize {
            return;
        }
        // The other one may have taken what this one was woken for.
        let _ = poll::readable(completions.as_fd(), Some(Duration::from_millis(100))).unwrap();
    };
    thread::scope(|scope| {
        scope.spawn(take);
        take();
    });
    let seen = seen.into_inner().unwrap();
    assert_eq!(seen.len(), STREAMS as usize);
    assert!(seen.values().flatten().all(|seen| *seen));
    nothing_is_left(&client);
    Ok(())
}

fn a_list_is_gathered_while_the_loop_sleeps() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(2).stall_ms(20_000));
    for token in 0..10 {
        call(&client, "count").args((20_000,)).submit_to(&completions, token).unwrap();
    }
    let mut taken = take_all(&completions, |_, _, _| panic!("an item of a plain call"));
    for token in 0..10 {
        let list = taken.end(token).unwrap();
        let list = list.as_list().unwrap().iter().map(|item| item.as_int().unwrap());
        assert!(list.eq(0..20_000));
    }
    nothing_is_left(&client);
    Ok(())
}

fn a_plain_action_is_an_end_without_items() -> Outcome {
    let mut guard = PoolGuard::new();
    let (pool, client, completions) = looping(&mut guard, builder(1));
    call(&client, "add").args((2, 3)).stream_to(&completions, 1).unwrap();
    call(&client, "fail").stream_to(&completions, 2).unwrap();
    call(&client, "breaks").args((5,)).stream_to(&completions, 3).unwrap();
    let mut taken = take_all(&completions, is_number);
    assert_eq!(value(taken.end(1)), 5);
    assert_eq!(failed(taken.end(2)).code(), Code::App);
    assert_eq!((taken.items(3), failed(taken.end(3)).code()), (5, Code::App));
    let other = pool.client().unwrap();
    let theirs = other.completions().unwrap();
    let error = call(&client, "count").args((1,)).stream_to(&theirs, 1).unwrap_err();
    assert_eq!(error.code(), Code::BadRequest);
    drop(taken);
    nothing_is_left(&client);
    Ok(())
}

/// As when whoever took the client's flag was stopped before it wrote.
fn an_item_whose_wake_up_was_lost_is_found_by_the_tick() -> Outcome {
    let mut guard = PoolGuard::new();
    let (_pool, client, completions) = looping(&mut guard, builder(1));
    call(&client, "muted").stream_to(&completions, 1).unwrap();
    // The announcement of the stream is heard of.
    until_begun(1);
    until("it waits for the item", || completions.next_completion().is_none() && !is_readable(&completions));
    open("gate");
    let mut taken = Taken::default();
    while taken.items(1) == 0 {
        wait_readable(&completions);
        if let Some(done) = completions.next_completion() {
            taken.put(done, is_number);
        }
    }
    assert!(taken.ends.is_empty(), "its end comes behind the second gate");
    open("gate2");
    drop(take_all(&completions, is_number));
    nothing_is_left(&client);
    Ok(())
}
