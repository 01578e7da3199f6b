//! Workers that change what others read, while they read it: each reader has one picture of it or an error, and nothing that
//! lies outside.

use crate::app::{builder, call, ready};
use crate::flips::are_letters;
use crate::guard::PoolGuard;
use crate::harness::Outcome;
use crate::hostile_workers::{Elsewhere, Ends, at_rest, born_again, note, recovers, seed};
use std::time::{Duration, Instant};
use stokehold::{Client, Code, Error, Kind, Response};

crate::tests! {
    b7_b8_results_that_change_while_they_are_read,
    b6_b7_what_says_how_results_lie_changes,
    b7_b8_arguments_that_change_while_they_are_read,
}

/// So long.
const FLIPS_MS: u64 = 1_500;

/// A worker of one thread turns letters of its own, or what stands around them, for some time from now on.
fn flips(client: &Client, seed: u64, what: &str, place: &str) -> Instant {
    // Its own answer may be the first that is hit.
    let begun = call(client, "flip").args((seed as i64, FLIPS_MS, what, place)).execute();
    assert!(begun.map_or_else(|error| error.code() == Code::Protocol, |_| true));
    Instant::now() + Duration::from_millis(FLIPS_MS)
}

/// Read twice: what is this process's own does not change in between.
fn is_one_picture(answer: &Response, len: usize, is_own: bool) {
    let read = || answer.as_bytes().map(<[u8]>::to_vec);
    let (first, again) = (read().unwrap(), read().unwrap());
    assert_eq!(first.len(), len);
    assert!(are_letters(&first) && are_letters(&again), "other bytes");
    assert!(!is_own || first == again, "it was read where it lies");
}

fn is_mixed(bytes: &[u8]) -> bool {
    bytes.iter().any(|byte| *byte != bytes[0])
}

/// B7, B8, C12: inline, in a block, lent, as items, as errors.
fn b7_b8_results_that_change_while_they_are_read() -> Outcome {
    let mut guard = PoolGuard::new();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let (mut mixed, mut turned, mut read) = (0, 0, 0);
    let mut seen = |bytes: &[u8]| {
        read += 1;
        mixed += usize::from(is_mixed(bytes));
        turned += usize::from(bytes.contains(&b'b'));
    };
    let end = flips(&client, 1, "letters", "results growth");
    while Instant::now() < end {
        for len in [8, 160, 400, 2_000, 70_000] {
            let answer = call(&client, "letters").args((len,)).execute().unwrap();
            is_one_picture(&answer, len, true);
            seen(answer.as_bytes().unwrap());
            let lent = call(&client, "lent_letters").args((len,)).execute().unwrap();
            is_one_picture(&lent, len, false);
        }
        let stream = call(&client, "items_of_letters").args((40, 200)).stream().unwrap();
        for (at, item) in stream.enumerate() {
            let item = item.unwrap();
            is_one_picture(&item, if at % 3 == 2 { 2_000 } else { 200 }, true);
            seen(item.as_bytes().unwrap());
        }
        let all = call(&client, "items_of_letters").args((40, 200)).execute().unwrap();
        let all: Vec<Vec<u8>> = all.parse::<Vec<&[u8]>>().unwrap().iter().map(|item| item.to_vec()).collect();
        assert!(all.len() == 40 && all.iter().all(|item| are_letters(item)));
        let error = call(&client, "no_letters").args((300,)).execute().map(drop).unwrap_err();
        let Kind::App(said) = error.kind() else { panic!("{error:?}") };
        assert!(said.message.len() == 300 && are_letters(said.message.as_bytes()), "{error}");
    }
    println!("{read} read, {turned} of them turned, {mixed} in the middle");
    assert!(turned > 0, "nobody turned anything");
    recovers(&client);
    at_rest(&pool);
    elsewhere.is_as_it_was();
    Ok(())
}

/// B6, B7, B9: records, references, rings, who they are for. Whatever is read is some value, and stays what it is.
fn b6_b7_what_says_how_results_lie_changes() -> Outcome {
    let seed = seed();
    let mut guard = PoolGuard::new();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut ends = Ends::new();
    for (round, place) in ["results", "growth", "results growth"].into_iter().enumerate() {
        ready(&client, 1, &[]);
        let end = flips(&client, seed + round as u64, "shape", place);
        let mut keep = |outcome: Result<Response, Error>| match outcome {
            Ok(answer) => {
                // Lent bytes are read where they lie; all else is this process's own.
                let once = format!("{:?}", answer.value().map(|value| value.to_owned().map(drop)));
                let len = answer.as_bytes().map_or(0, <[u8]>::len);
                assert!(len <= 1 << 30, "{len}");
                assert_eq!(once, format!("{:?}", answer.value().map(|value| value.to_owned().map(drop))));
                *ends.entry("well".into()).or_default() += 1;
            }
            Err(error) => note(&mut ends, &error),
        };
        while Instant::now() < end {
            for len in [160, 2_000, 70_000] {
                keep(call(&client, "letters").args((len,)).deadline_ms(2_000).execute());
                keep(call(&client, "lent_letters").args((len,)).deadline_ms(2_000).execute());
            }
            let items = call(&client, "items_of_letters").args((30, 200)).deadline_ms(2_000);
            match items.stream() {
                Ok(stream) => stream.take(100).for_each(&mut keep),
                Err(error) => keep(Err(error)),
            }
            keep(call(&client, "items_of_letters").args((30, 200)).deadline_ms(2_000).execute());
            keep(call(&client, "no_letters").args((300,)).deadline_ms(2_000).execute());
        }
        recovers(&client);
        born_again(&client);
    }
    println!("{ends:?}");
    assert!(ends.len() > 1, "nothing was misshapen: {ends:?}");
    for never in ["ArbiterDied", "Forked", "NoWorkers", "ShuttingDown"] {
        assert!(!ends.contains_key(never), "{ends:?}");
    }
    at_rest(&pool);
    elsewhere.is_as_it_was();
    Ok(())
}

/// B7, B8: what a worker sends to another, as its client.
fn b7_b8_arguments_that_change_while_they_are_read() -> Outcome {
    let seed = seed();
    let mut guard = PoolGuard::new();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    for (round, what) in ["letters", "shape"].into_iter().enumerate() {
        let before = ready(&client, 2, &[]);
        let answer = call(&client, "have_looked").args((seed + round as u64, what)).execute();
        println!("{what}: {answer:?}");
        if what == "letters" {
            let (sent, answered, well): (i64, i64, i64) = answer.as_ref().unwrap().parse().unwrap();
            assert!(sent > 0 && sent == answered && answered == well, "{sent} {answered} {well}");
            assert_eq!(client.worker_pids(), before);
        }
        let died = match answer.map_err(|error| error.kind().clone()) {
            Err(Kind::WorkerDied { pid, .. }) => pid,
            _ => None,
        };
        recovers(&client);
        // Who was asked is none the worse for it.
        let now = client.worker_pids();
        let lost = before.iter().filter(|pid| !now.contains(pid) && Some(**pid) != died);
        assert_eq!(lost.count(), 0, "{before:?}, {now:?}, {died:?}");
    }
    at_rest(&pool);
    elsewhere.is_as_it_was();
    Ok(())
}
