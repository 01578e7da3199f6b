//! What one sends nobody else is given who must not have it: bytes that are nowhere else are looked for wherever somebody
//! could read them.

use crate::app::{begun, builder, call, fails, open, ready, until_begun, works};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, kill, until};
use crate::harness::{Kid, Outcome, Skip};
use crate::hostile_workers::{born_again, recovers};
use crate::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::sys::process::{ExitStatus, getrandom_u128};
use stokehold::internals::wire::Kind as FrameKind;
use stokehold::{Client, Code, Error, Options, Pool};

crate::tests! {
    b15_nothing_of_one_board_is_on_another,
    b15_a_client_that_comes_finds_nothing_of_those_before,
    c16_errors_tell_nothing_of_what_others_sent,
}

/// Text that nothing else has.
fn canary() -> String {
    format!("{:032x}", getrandom_u128().unwrap())
}

/// A line of a process's map: where, what may be done there, what it is.
struct Area {
    from: usize,
    to: usize,
    line: String,
}

fn areas(pid: u32) -> Vec<Area> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let readable = maps.lines().filter(|line| {
        line.split(' ').nth(1).is_some_and(|access| access.starts_with('r')) && !line.contains("[v")
    });
    let area =
        |line: &str| crate::app::range(line).map(|(from, to)| Area { from, to, line: line.to_owned() });
    readable.filter_map(area).collect()
}

/// The areas of a process in which the text stands.
fn found(pid: u32, text: &str, which: impl Fn(&Area) -> bool) -> Result<Vec<String>, Skip> {
    let memory = File::open(format!("/proc/{pid}/mem"))
        .map_err(|error| Skip(format!("the memory of another process cannot be read: {error}")))?;
    let needle = text.as_bytes();
    let mut all = Vec::new();
    for area in areas(pid).into_iter().filter(which) {
        const STEP: usize = 1 << 16;
        // Each piece with the beginning of the next one.
        let mut piece = vec![0; STEP + needle.len()];
        let has = (area.from..area.to).step_by(STEP).any(|at| {
            let len = piece.len().min(area.to - at);
            let read = memory.read_at(&mut piece[..len], at as u64).unwrap_or(0);
            // SAFETY: both are read within their lengths.
            let place =
                unsafe { libc::memmem(piece.as_ptr().cast(), read, needle.as_ptr().cast(), needle.len()) };
            !place.is_null()
        });
        if has {
            all.push(area.line);
        }
    }
    Ok(all)
}

/// Leaves the text wherever a client and its workers put such things. What comes back keeps it there.
fn leave(client: &Client, text: &str) -> impl Sized + use<> {
    let large = text.repeat(3_000);
    let lease = client.lease_from(large.as_bytes()).unwrap();
    let answers: Vec<_> = (0..4)
        .flat_map(|_| {
            [
                call(client, "echo").args((text.as_bytes(),)).execute().unwrap(),
                call(client, "echo").args((large.as_bytes(),)).execute().unwrap(),
                call(client, "lent_echo").args((&lease,)).execute().unwrap(),
            ]
        })
        .collect();
    let mut context = call(client, "echo_context").context().unwrap();
    context.send(text.as_bytes()).unwrap();
    let item = context.next().unwrap().unwrap();
    (lease, answers, item, context)
}

/// B15, E11.
fn b15_nothing_of_one_board_is_on_another() -> Outcome {
    let mut guard = PoolGuard::new();
    let canary = canary();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let before = guard.start(builder(1));
    let held = leave(&client, &canary);
    // One that was there, and one that comes after.
    let after = guard.start(builder(2));
    let pids = |pool: &Pool| proc::session(pool.arbiter_pid()).into_iter().map(|p| p.pid).collect::<Vec<_>>();
    let ours: BTreeSet<u64> = pids(&pool).into_iter().flat_map(proc::memory_files).collect();
    for other in [&before, &after] {
        let others = other.client().unwrap();
        works(&others);
        born_again(&others);
        works(&others);
        for pid in pids(other) {
            assert_eq!(found(pid, &canary, |_| true)?, [""; 0], "in {:?}", proc::process(pid));
            assert!(proc::memory_files(pid).is_disjoint(&ours), "{:?}", proc::process(pid));
        }
    }
    // It is found where it is: its workers have read it. Their arbiter, which has it mapped, has not.
    let mut places = Vec::new();
    for pid in client.worker_pids() {
        places.extend(found(pid, &canary, |_| true)?);
    }
    assert!(!places.is_empty(), "nothing is found anywhere");
    let private = |area: &Area| !area.line.contains("memfd:stokehold");
    assert_eq!(found(pool.arbiter_pid(), &canary, private)?, [""; 0]);
    drop(held);
    Ok(())
}

/// B15: not in memory that was another's, either; nor in what anybody may ask.
fn b15_a_client_that_comes_finds_nothing_of_those_before() -> Outcome {
    let mut guard = PoolGuard::new();
    let canary = canary();
    let pool = guard.start(builder(1));
    let shared = |area: &Area| area.line.contains("memfd:stokehold");
    let base = Baseline::of(&pool);
    for stays in [true, false] {
        let client = pool.client().unwrap();
        let held = leave(&client, &canary);
        let before = stays.then_some((client, held));
        if !stays {
            base.client_forgotten();
        }
        let socket = pool.client_socket().unwrap();
        let came = Kid::new(|| {
            let client = Client::connect(socket, Options::default()).unwrap();
            let lease = client.lease(3 << 20).unwrap();
            let found = found(std::process::id(), &canary, shared).unwrap();
            assert_eq!(found, [""; 0]);
            assert!(lease.iter().all(|byte| *byte == 0), "memory that somebody had");
            0
        });
        assert_eq!(came.end(), ExitStatus::Exited(0));
        let mut asking = Link::new(pool.client_socket().unwrap());
        let told = asking.ask(Message::new(FrameKind::Status), FrameKind::Response, None).unwrap();
        tells_nothing(&format!("{:?}", told.field("result")), &canary);
        drop(before);
    }
    Ok(())
}

/// Not even a part of it.
fn tells_nothing(text: &str, canary: &str) {
    for at in 0..canary.len() - 8 {
        assert!(!text.contains(&canary[at..at + 8]), "{text:?}");
    }
    let bytes = format!("{:?}", &canary.as_bytes()[..8]);
    assert!(!text.contains(bytes.trim_matches(['[', ']'])), "{text:?}");
}

/// C16.
fn c16_errors_tell_nothing_of_what_others_sent() -> Outcome {
    let mut guard = PoolGuard::new();
    let canary = canary();
    let pool = guard.start(builder(1).threads(4));
    let (other, client) = (pool.client().unwrap(), pool.client().unwrap());
    let said = |error: Error| {
        println!("{error}");
        tells_nothing(&format!("{error} {error:?} {:?}", error.kind()), &canary);
    };
    let mut id = 0;
    for how in ["lie", "kill", "segfault", "panic", "fail", "abort", "scribble_control", "spin", "no one"] {
        id += 10;
        // In the same worker, on the same board, with all that it sent where others can read it.
        ready(&client, 1, &[]);
        let held = leave(&other, &canary);
        let beside = call(&other, "hold").args((id, "kept", canary.as_bytes())).submit().unwrap();
        until_begun(id);
        let outcome = match how {
            "lie" => call(&client, "lie").args(("what others said", "exits")).execute(),
            "spin" => call(&client, "spin").args((id + 1,)).deadline_ms(50).execute(),
            how => call(&client, how).execute(),
        };
        if let Err(error) = outcome {
            // Whoever hears of the lie, or of the liar's end.
            let is_known = matches!(error.code(), Code::Protocol | Code::WorkerDied);
            assert!(how != "lie" || is_known, "{error}");
            said(error);
        }
        for error in [
            fails(call(&client, "add").args(("x", 1)).execute()),
            fails(call(&client, &"x".repeat(300)).execute()),
        ] {
            said(error);
        }
        open("kept");
        // What its owner hears of it is its own.
        drop((beside.wait(), held));
        fs::remove_file("kept").unwrap();
        recovers(&client);
        recovers(&other);
    }
    // Of one who dies with another's call.
    let beside = call(&other, "spin").args((900,)).submit().unwrap();
    let mine = call(&client, "hold").args((901, "kept", b"coal")).submit().unwrap();
    until("both have begun", || begun(900) == 1 && begun(901) == 1);
    client.worker_pids().iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
    said(fails(mine.wait()));
    drop(beside);
    Ok(())
}
