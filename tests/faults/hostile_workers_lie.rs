//! Workers that say of calls what is not so. Each call has one outcome all the same, and none of another's.

use crate::app::{begun, builder, call, open, ready, until_begun};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, until};
use crate::harness::Outcome;
use crate::hostile_workers::{Elsewhere, at_rest, born_again, own_memory, recovers};
use crate::lies::{MINE, OTHERS};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};
use stokehold::{Client, Code, Error, Kind, Response};

crate::tests! {
    b6_c12_a_result_that_makes_no_sense_is_no_result,
    c10_c12_what_is_said_of_others_calls,
}

/// What there is to do beside a liar, for whom it means nothing.
fn goes_on(client: &Client, is_over: &AtomicBool) {
    let mut id = 0;
    while !is_over.load(Ordering::Relaxed) || id == 0 {
        id += 1;
        crate::app::works(client);
        let bytes = crate::app::pattern(id, 3_000);
        let answer = crate::app::number(call(client, "work").args((1_000_000 + id, &bytes[..], 0)).execute());
        assert_eq!(answer, crate::app::keyed(1_000_000 + id, &bytes));
    }
}

/// B6, B9, C12: about a call of its own.
fn b6_c12_a_result_that_makes_no_sense_is_no_result() -> Outcome {
    let mut guard = PoolGuard::new();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(2));
    let base = Baseline::of(&pool);
    let before = own_memory(&pool);
    let (bad, good) = (pool.client().unwrap(), pool.client().unwrap());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let beside = scope.spawn(|| goes_on(&good, &is_over));
        let told = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (round, (how, is_protocol)) in MINE.iter().enumerate() {
                for streams in [false, true] {
                    let then = ["exits", "goes on"][(round + usize::from(streams)) % 2];
                    ready(&bad, 2, &[]);
                    let lie = call(&bad, "lie").args((*how, then));
                    let outcome = match streams {
                        false => lie.execute(),
                        true => lie.stream().and_then(last),
                    };
                    match outcome {
                        Ok(answer) => {
                            assert!(!is_protocol, "{how}, {then}: {answer:?}");
                            let is_told = answer.parse::<i64>().ok() == Some(77);
                            assert!(is_told || how.contains("nothing"), "{how}, {then}: {answer:?}");
                        }
                        Err(error) => {
                            assert!(!matches!(*how, "truth" | "twice"), "{how}, {then}: {error}");
                            let is_right = error.code() == Code::Protocol || !is_protocol;
                            assert!(is_right, "{how}, {then}, {streams}: {error:?}");
                        }
                    }
                    recovers(&bad);
                }
            }
        }));
        is_over.store(true, Ordering::Relaxed);
        beside.join().unwrap();
        told.unwrap();
    });
    at_rest(&pool);
    born_again(&bad);
    drop((bad, good));
    base.reached();
    assert!(own_memory(&pool) < before + 2048, "{before} KiB, and then {}", own_memory(&pool));
    elsewhere.is_as_it_was();
    Ok(())
}

/// The one outcome of a stream without items.
fn last(mut stream: stokehold::Stream) -> Result<Response, Error> {
    match stream.next() {
        Some(outcome) => {
            assert!(stream.next().is_none(), "two outcomes");
            outcome
        }
        None => panic!("an end, and no outcome"),
    }
}

/// B5, C10, C12: about one that another worker runs, and one that waits. Neither has a deadline.
fn c10_c12_what_is_said_of_others_calls() -> Outcome {
    let mut guard = PoolGuard::new();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(2));
    let base = Baseline::of(&pool);
    let (bad, good) = (pool.client().unwrap(), pool.client().unwrap());
    fs::create_dir("kept").unwrap();
    for (round, how) in OTHERS.iter().enumerate() {
        let id = 100 * (round as i64 + 1);
        let then = ["exits", "goes on"][round % 2];
        ready(&bad, 2, &[]);
        // Whoever waits at one may come late to it.
        let gates = ["first", "lie", "last"].map(|name| format!("kept/{id}-{name}"));
        let [first, lies, last] = gates.each_ref().map(String::as_str);
        // Each of the workers has met both clients.
        for (client, n) in [(&good, 1), (&bad, 3)] {
            let both = [n, n + 1].map(|n| call(client, "gate").args((id + n, first)).submit().unwrap());
            [n, n + 1].iter().for_each(|n| until_begun(id + n));
            open(first);
            both.into_iter().for_each(|pending| drop(pending.wait().unwrap()));
            fs::remove_file(first).unwrap();
        }
        let (running, waiting, lie) = thread::scope(|scope| {
            let running = scope.spawn(|| call(&good, "gate").args((id + 10, last)).execute());
            until_begun(id + 10);
            let lie = scope.spawn(|| call(&bad, "lie_of_others").args((id + 11, *how, lies, then)).execute());
            until_begun(id + 11);
            let waiting = call(&good, "note").args((id + 12,)).submit().unwrap();
            open(lies);
            until("the lie was told", || Path::new("note").exists());
            open(last);
            (running.join().unwrap(), waiting.wait(), lie.join().unwrap())
        });
        let said = fs::read_to_string("note").unwrap();
        let (liar, told) = said.split_once(' ').unwrap();
        assert!(told.parse::<usize>().unwrap() >= 2, "{how}: lied about {told}");
        println!("{how}, {then}: {:?}, {:?}, {:?}", ended(&running), ended(&waiting), ended(&lie));
        for (at, outcome) in [(10, &running), (12, &waiting)] {
            match outcome {
                Ok(answer) if answer.life().to_string() == liar => {}
                Ok(answer) => assert_eq!(answer.parse::<i64>().unwrap(), id + at, "{how}"),
                Err(error) => assert!(is_allowed(how, error), "{how}: {error:?}"),
            }
            // Who says that it waits, or that he has it and dies before he began, has it run again.
            assert!(begun(id + at) <= 1 || ["waits", "mine"].contains(how), "{how}: ran twice");
        }
        drop((running, waiting, lie));
        fs::remove_file("note").unwrap();
        recovers(&good);
        recovers(&bad);
    }
    at_rest(&pool);
    born_again(&bad);
    drop((bad, good));
    base.reached();
    elsewhere.is_as_it_was();
    Ok(())
}

fn ended(outcome: &Result<Response, Error>) -> String {
    match outcome {
        Ok(answer) => format!("{:?}", answer.value()),
        Err(error) => error.to_string(),
    }
}

/// What their callers may hear of it. What has no record is believed, whoever says it: it ends the call and tells nothing else.
fn is_allowed(how: &str, error: &Error) -> bool {
    match error.kind() {
        Kind::Protocol(_) => true,
        Kind::Deadline { .. } => how == "his and too late",
        Kind::Overloaded { .. } => how == "his, and there was no room" || how == "his, and all was full",
        Kind::NoWorkers { .. } => how == "lost to nobody",
        // Of a liar who says that he has them, and dies; or of nobody, of whom a caller may know before the arbiter has looked.
        Kind::WorkerDied { .. } => ["mine", "given up by me", "nobody's"].contains(&how),
        _ => false,
    }
}
