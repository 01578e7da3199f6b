//! Workers that say to their arbiter what no worker says, on either socket. It costs the sender its life or nothing, and
//! neither the arbiter nor anybody else anything.

use crate::app::{Birth, builder, call, open, ready};
use crate::baseline::Baseline;
use crate::frames::{self, Fate, SAYINGS};
use crate::guard::{PoolGuard, kill, some, until};
use crate::harness::Outcome;
use crate::hostile_workers::{Elsewhere, at_rest, own_memory};
use crate::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};
use stokehold::{Cause, Client, Code, Kind, Pool};

crate::tests! {
    c1_c10_d3_what_no_worker_says_where_it_is_told_things,
    c1_c10_d3_what_no_worker_says_where_it_asks,
    c12_a_worker_with_more_threads_than_it_can_have,
    d8_a_worker_that_would_have_its_arbiter_wait,
}

/// Longer than anything takes that is not stuck.
const STUCK: Duration = Duration::from_secs(30);
/// Descriptors of the arbiter's that one worker may come to, beside its own: growth regions, a client, messages under way, one
/// message that is about to be refused.
const SHARE: usize = 136 + 40 + 253;

/// A place of the pool's that is asked for comes, whatever somebody says.
fn answers(pool: &Pool) {
    let client = pool.client().unwrap();
    // Its lane may be suspect, too.
    until("a call goes through", || call(&client, "add").args((1, 2)).execute().is_ok());
}

/// C1, C2, C5, C7, C10, C12, D3, D8.
fn c1_c10_d3_what_no_worker_says_where_it_is_told_things() -> Outcome {
    nobody_minds(0)
}

fn c1_c10_d3_what_no_worker_says_where_it_asks() -> Outcome {
    nobody_minds(1)
}

/// What is said, on the one of its two connections.
fn nobody_minds(on: usize) -> Outcome {
    let mut guard = PoolGuard::new();
    let _outlives = frames::outlive();
    let elsewhere = Elsewhere::new(&mut guard);
    let pool = guard.start(builder(2));
    let base = Baseline::without_clients(&pool);
    let (bad, good) = (pool.client().unwrap(), pool.client().unwrap());
    let had = apart_from_lanes(&pool);
    let before = own_memory(&pool);
    let (is_over, liars) = (AtomicBool::new(false), Liars::default());
    thread::scope(|scope| {
        let beside = scope.spawn(|| goes_on(&good, &liars, &is_over));
        let said = catch_unwind(AssertUnwindSafe(|| {
            let mut wrong = Vec::new();
            for (how, fate) in SAYINGS {
                wrong.extend(says(&pool, &bad, (how, on), *fate, &liars));
                let (mut has, end) = (apart_from_lanes(&pool), Instant::now() + STUCK);
                while has != had && Instant::now() < end {
                    thread::sleep(Duration::from_millis(1));
                    has = apart_from_lanes(&pool);
                }
                assert_eq!(has, had, "something is left of: {how}, {on}");
            }
            assert!(wrong.is_empty(), "not what was to come of it: {wrong:#?}");
        }));
        is_over.store(true, Ordering::Relaxed);
        beside.join().unwrap();
        said.unwrap();
    });
    at_rest(&pool);
    drop((bad, good));
    base.reached();
    assert!(own_memory(&pool) < before + 4096, "{before} KiB, and then {}", own_memory(&pool));
    elsewhere.is_as_it_was();
    fs::remove_file("port").unwrap();
    Ok(())
}

/// What the arbiter has open. A client keeps the last one of its lanes that was replaced.
fn apart_from_lanes(pool: &Pool) -> Vec<String> {
    let (mut kinds, _) = Baseline::count(pool.arbiter_pid());
    let theirs = ["/memfd:stokehold-control", "/memfd:stokehold-requests"];
    kinds.retain(|kind| !theirs.contains(&kind.as_str()));
    kinds
}

/// Those that said something.
type Liars = Mutex<BTreeSet<u32>>;

/// What a worker says may have lanes replaced, and cost itself its life. Nobody else dies of it.
fn goes_on(client: &Client, liars: &Liars, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        match call(client, "echo").args((&b"coal"[..],)).execute() {
            Ok(answer) => assert_eq!(answer.as_bytes().unwrap(), b"coal"),
            Err(error) => match error.kind() {
                Kind::Protocol(_) => {}
                Kind::WorkerDied { pid: Some(pid), .. } => {
                    assert!(liars.lock().unwrap().contains(pid), "{error:?}");
                }
                _ => panic!("{error:?}"),
            },
        }
    }
}

fn says(pool: &Pool, client: &Client, (how, on): (&str, usize), fate: Fate, liars: &Liars) -> Option<String> {
    let what = format!("{how}, {on}");
    ready(client, 2, &[]);
    let descriptors = proc::descriptors(pool.arbiter_pid()).len();
    let is_over = AtomicBool::new(false);
    let (outcome, liar) = thread::scope(|scope| {
        let said = scope.spawn(|| call(client, "say").args((how, on, "waits")).execute());
        let most = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::Relaxed) {
                most = most.max(proc::descriptors(pool.arbiter_pid()).len());
                thread::sleep(Duration::from_millis(1));
            }
            most
        });
        let answered = catch_unwind(AssertUnwindSafe(|| {
            let liar = some("somebody speaks", || fs::read_to_string("note").ok()).parse().unwrap();
            liars.lock().unwrap().insert(liar);
            answers(pool);
            until("it was said", || Path::new("note2").exists() || !client.worker_pids().contains(&liar));
            thread::sleep(Duration::from_millis(5));
            answers(pool);
            liar
        }));
        open("gate");
        let outcome = said.join().unwrap().map(drop);
        is_over.store(true, Ordering::Relaxed);
        let most = most.join().unwrap();
        let liar = answered.unwrap_or_else(|why| {
            println!("while somebody said: {what}");
            resume_unwind(why)
        });
        assert!(most <= descriptors + SHARE, "{what}: {most} descriptors, and {descriptors} before");
        (outcome, liar)
    });
    let cause = outcome.as_ref().err().map(|error| error.kind());
    let fate = match (fate, on) {
        (Fate::Stuck, 1) => Fate::Death,
        (Fate::Stuck, _) => Fate::Either,
        (fate, _) => fate,
    };
    let is_right = match (fate, cause) {
        // On a busy machine the cause may come later than a caller waits for it.
        (Fate::Death, Some(Kind::WorkerDied { cause: Cause::Corrupt | Cause::Unknown, .. })) => true,
        // Its lane may be suspect then.
        (Fate::Nothing, None | Some(Kind::Protocol(_))) | (Fate::Either, _) => true,
        _ => false,
    };
    assert!(proc::process(pool.arbiter_pid()).is_some_and(|p| p.state != 'Z'), "{what}");
    let is_right = is_right && (fate != Fate::Nothing || client.worker_pids().contains(&liar));
    // Half of a message of its may still be there.
    kill(liar, Signal::SIGKILL);
    ready(client, 2, &[liar]);
    ["gate", "note", "note2"].iter().for_each(|file| drop(fs::remove_file(file)));
    if is_right { None } else { Some(format!("{what}: {:?}", outcome)) }
}

/// Each would cost the arbiter a descriptor, and it is the first message that may name any.
fn c12_a_worker_with_more_threads_than_it_can_have() -> Outcome {
    let _guard = PoolGuard::new();
    fs::write("boot", "many threads").unwrap();
    let error = builder(1).app::<Birth>().start().map(drop).unwrap_err();
    assert_eq!(error.code(), Code::Start, "{error}");
    Ok(())
}

/// Clients, deaths and the end of the pool are served all the same.
fn d8_a_worker_that_would_have_its_arbiter_wait() -> Outcome {
    for how in ["connect and have the arbiter wait for more", "connect and have the arbiter wait for room"] {
        let mut guard = PoolGuard::new();
        let pool = guard.start(builder(3));
        let client = pool.client().unwrap();
        let workers = ready(&client, 3, &[]);
        let said = call(&client, "say").args((how, 1, "waits")).submit().unwrap();
        let liar: u32 = some("somebody speaks", || fs::read_to_string("note").ok()).parse().unwrap();
        until("it was said", || Path::new("note2").exists());
        thread::sleep(Duration::from_millis(50));
        answers(&pool);
        let other = *workers.iter().find(|pid| **pid != liar).unwrap();
        kill(other, Signal::SIGKILL);
        ready(&client, 3, &[other]);
        open("gate");
        said.wait().unwrap();
        drop(client);
        pool.stop().unwrap();
        ["gate", "note", "note2"].iter().for_each(|file| drop(fs::remove_file(file)));
    }
    Ok(())
}
