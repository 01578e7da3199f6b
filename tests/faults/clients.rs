//! Clients in processes of their own: killed, stopped, forked.

use crate::app::{all_free, begun, builder, call, fails, number, open, ready, until_begun, works};
use crate::baseline::{Baseline, Open};
use crate::guard::{PoolGuard, kill, stop, until};
use crate::harness::{Kid, Outcome, sleep_for_ever};
use crate::proc;
use nix::sys::signal::Signal;
use std::ops::Range;
use std::{panic, process};
use stokehold::internals::sys::process::ExitStatus;
use stokehold::{Client, Code, Mode, Options, Pool};

crate::tests! {
    a_client_in_another_process,
    a_client_killed_with_a_call_in_the_queue,
    a_client_killed_with_a_call_that_runs,
    a_client_killed_with_a_result_that_it_holds,
    a_client_stopped_with_a_call_holds_only_its_own,
    a_forked_copy_of_a_client_says_so,
    a_forked_copy_drops_its_handles_and_harms_nothing,
    clients_come_and_go,
    the_host_drops_its_clients_and_the_arbiter_keeps_nothing,
    a_client_dropped_while_a_worker_has_its_lease,
    a_worker_that_never_sleeps_lets_go_of_clients_that_left,
}

/// A client in a process of its own, which goes on with `life` after the host has let go of the socket.
fn elsewhere(pool: &Pool, life: impl FnOnce(Client)) -> Kid {
    let socket = pool.client_socket().unwrap();
    Kid::new(|| {
        life(Client::connect(socket, Options::default()).unwrap());
        0
    })
}

fn a_client_in_another_process() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let kid = elsewhere(&pool, |client| {
        works(&client);
        let lease = client.lease_from(&[7; 10_000]).unwrap();
        let echoed = call(&client, "lent_echo").args((lease,)).execute().unwrap();
        assert_eq!(echoed.as_bytes().unwrap(), [7; 10_000]);
    });
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    base.reached();
    works(&pool.client().unwrap());
    Ok(())
}

fn a_client_killed_with_a_call_in_the_queue() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let own_base = {
        let kid = elsewhere(&pool, |client| {
            let _running = call(&client, "gate").args((1, "gate2")).submit().unwrap();
            until_begun(1);
            let _queued: Vec<_> =
                (2..20).map(|i| call(&client, "note").args((i,)).submit().unwrap()).collect();
            std::fs::write("note", "").unwrap();
            sleep_for_ever()
        });
        until("the client has submitted", || std::path::Path::new("note").exists());
        kid.kill();
        kid.end()
    };
    assert_eq!(own_base, ExitStatus::Signaled(libc::SIGKILL));
    // A worker may still take a call of a client whose death the arbiter has not heard of yet.
    base.client_forgotten();
    open("gate2");
    base.reached();
    works(&pool.client().unwrap());
    for id in 2..20 {
        assert_eq!(begun(id), 0, "a dead client's call ran");
    }
    Ok(())
}

fn a_client_killed_with_a_call_that_runs() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let base = Baseline::of(&pool);
    let client = pool.client().unwrap();
    let mine = call(&client, "gate").args((100, "gate")).submit().unwrap();
    until_begun(100);
    let before = client.worker_pids();
    let kid = elsewhere(&pool, |client| drop(call(&client, "spin").args((1,)).execute()));
    until_begun(1);
    kid.kill();
    kid.end();
    // Nobody waits for it any more: its worker is replaced, the other one is left alone.
    until("one worker was replaced", || {
        let now = client.worker_pids();
        now.len() == 2 && now.iter().filter(|pid| before.contains(pid)).count() == 1
    });
    works(&client);
    open("gate");
    assert_eq!(number(mine.wait()), 100);
    drop(client);
    base.reached();
    Ok(())
}

fn a_client_killed_with_a_result_that_it_holds() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let base_lanes = Baseline::of(&pool);
    for _ in 0..3 {
        let kid = elsewhere(&pool, |client| {
            let held: Vec<_> =
                (0..64).map(|i| call(&client, "pattern").args((i, 1000)).execute().unwrap()).collect();
            std::fs::write("note", "").unwrap();
            let _held = held;
            sleep_for_ever()
        });
        until("the client holds results", || std::path::Path::new("note").exists());
        std::fs::remove_file("note").unwrap();
        kid.kill();
        kid.end();
        base_lanes.reached();
    }
    // 192 of the worker's 256 records were held by the dead: all of them must come back.
    let held: Vec<_> = (0..64).map(|i| call(&client, "pattern").args((i, 1000)).execute().unwrap()).collect();
    let other = pool.client().unwrap();
    let more: Vec<_> = (0..64).map(|i| call(&other, "pattern").args((i, 1000)).execute().unwrap()).collect();
    for (i, response) in held.iter().enumerate().chain(more.iter().enumerate()) {
        assert_eq!(response.as_bytes().unwrap(), crate::app::pattern(i as i64, 1000));
    }
    Ok(())
}

fn a_client_stopped_with_a_call_holds_only_its_own() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let kid = elsewhere(&pool, |client| {
        let error = fails(call(&client, "spin").args((1,)).deadline_ms(1_500).execute());
        assert!([Code::WorkerDied, Code::Deadline].contains(&error.code()), "{error}");
        works(&client);
    });
    until_begun(1);
    let pid = kid.pid.as_raw() as u32;
    stop(pid);
    // It cannot end its own call: the arbiter does, and the only worker comes back for the others.
    ready(&client, 1, &before);
    works(&client);
    kill(pid, Signal::SIGCONT);
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    works(&client);
    all_free(&client);
    Ok(())
}

fn a_forked_copy_of_a_client_says_so() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let copy = Kid::new(|| {
        assert_eq!(fails(call(&client, "add").args((1, 1)).execute()).code(), Code::Forked);
        assert_eq!(call(&client, "add").args((1, 1)).submit().unwrap_err().code(), Code::Forked);
        assert_eq!(client.lease(100).unwrap_err().code(), Code::Forked);
        assert!(client.worker_pids().is_empty());
        0
    });
    assert_eq!(copy.end(), ExitStatus::Exited(0));
    works(&client);
    Ok(())
}

fn a_forked_copy_drops_its_handles_and_harms_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let other = pool.client().unwrap();
    let held = call(&client, "pattern").args((1, 1000)).execute().unwrap();
    let lease = client.lease_from(&[5; 1000]).unwrap();
    let pending = call(&client, "gate").args((2, "gate")).submit().unwrap();
    until_begun(2);
    let waited = call(&client, "note").args((3,)).submit().unwrap();
    let cancelled = call(&client, "note").args((4,)).submit().unwrap();
    // What a copy maps later may lie where the original has its regions.
    let holes: Vec<Range<usize>> = proc::mappings(process::id()).iter().map(|line| range_of(line)).collect();
    assert!(holes.len() >= 4, "{holes:x?}");
    // The copy has them all, and drops them each.
    let mine = (client, other, held, lease, pending, waited, cancelled, pool);
    let mut copies = Some(mine);
    let copy = {
        let copies = &mut copies;
        Kid::new(move || {
            // First of all: a panic below maps files for its backtrace.
            let own: Vec<&[u8]> = holes.iter().map(|hole| map_at(hole.clone())).collect();
            let (client, other, held, lease, pending, waited, cancelled, pool) = copies.take().unwrap();
            assert!(waited.is_ready(), "it would not block");
            assert_eq!(fails(waited.wait()).code(), Code::Forked);
            assert!(held.as_bytes().is_err(), "the worker's memory is not here");
            assert_eq!(fails(cancelled.cancel()).code(), Code::Forked);
            assert_eq!(client.free_calls(), 0);
            let reads = panic::AssertUnwindSafe(|| lease.first().copied());
            assert!(panic::catch_unwind(reads).is_err(), "the client's memory is not here either");
            drop((held, lease, pending));
            drop((client, other, pool));
            assert!(own.iter().all(|own| own.iter().all(|byte| *byte == 0)), "still there");
            0
        })
    };
    assert_eq!(copy.end(), ExitStatus::Exited(0));
    let (client, other, held, lease, pending, waited, cancelled, pool) = copies.take().unwrap();
    assert_eq!(held.as_bytes().unwrap(), crate::app::pattern(1, 1000));
    open("gate");
    assert_eq!(number(pending.wait()), 2);
    assert_eq!(number(waited.wait()), 3);
    assert_eq!(number(cancelled.wait()), 4);
    let echoed = call(&client, "echo").args((lease,)).execute().unwrap();
    assert_eq!(echoed.as_bytes().unwrap(), [5; 1000]);
    works(&other);
    drop((held, echoed));
    assert_eq!(client.free_calls(), 64);
    drop(pool);
    Ok(())
}

/// The addresses in a line of `/proc/PID/maps`.
fn range_of(line: &str) -> Range<usize> {
    let (range, _) = line.split_once(' ').unwrap();
    let (start, end) = range.split_once('-').unwrap();
    let address = |text| usize::from_str_radix(text, 16).unwrap();
    address(start)..address(end)
}

/// Fresh memory where nothing is mapped.
fn map_at(range: Range<usize>) -> &'static [u8] {
    let (access, kind) =
        (libc::PROT_READ, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE);
    // SAFETY: replaces nothing, as it says; what it makes is never written, and never unmapped by this test.
    unsafe {
        let at = libc::mmap(range.start as *mut libc::c_void, range.len(), access, kind, -1, 0);
        assert_eq!(
            at as usize,
            range.start,
            "the copy has something there: {}",
            std::io::Error::last_os_error()
        );
        std::slice::from_raw_parts(at.cast(), range.len())
    }
}

fn clients_come_and_go() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let base = Baseline::of(&pool);
    for round in 0..50 {
        let client = pool.client().unwrap();
        works(&client);
        let pending = call(&client, "note").args((round,)).submit().unwrap();
        if round % 2 == 0 {
            drop(client); // before its last call
            drop(pending);
        } else {
            assert_eq!(number(pending.wait()), round);
        }
    }
    base.reached();
    // Many at a time, more than one word of lanes.
    let clients: Vec<_> = (0..100).map(|_| pool.client().unwrap()).collect();
    clients.iter().for_each(works);
    drop(clients);
    base.reached();
    Ok(())
}

fn the_host_drops_its_clients_and_the_arbiter_keeps_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let client = pool.client().unwrap();
    let copy = client.clone();
    let lease = client.lease_from(&vec![1; 20_000_000]).unwrap();
    let response = call(&client, "echo").args((&lease,)).execute().unwrap();
    drop(client);
    works(&copy);
    drop(copy);
    // A response outlives every handle.
    assert_eq!(response.as_bytes().unwrap().len(), 20_000_000);
    drop(response);
    drop(lease);
    // The worker's own growth region stays with the worker.
    let growth = |open: &Open| open.0.iter().filter(|kind| kind.contains("growth")).count();
    until("the arbiter has nothing of the client", || {
        let (kinds, mappings) = Baseline::count(base.arbiter);
        growth(&(kinds.clone(), 0)) == 1
            && kinds.len() == base.open.0.len() + 1
            && mappings == base.open.1 + 1
    });
    Ok(())
}

/// The lane owns the calls, a call owns what was lent with it, and a lease knows its lane: once that was a circle.
fn a_client_dropped_while_a_worker_has_its_lease() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let lease = client.lease_from(&[3; 70_000]).unwrap();
    let running = call(&client, "hold").args((1, "gate", lease)).submit().unwrap();
    until_begun(1);
    let unsent = client.lease_from(&[4; 70_000]).unwrap();
    drop(running);
    drop(client);
    assert_eq!(unsent[69_999], 4, "a lease outlives its client");
    open("gate");
    works(&pool.client().unwrap());
    Ok(())
}

/// It drops mappings at most once a second, and once forgot those of clients that left sooner after another.
fn a_worker_that_never_sleeps_lets_go_of_clients_that_left() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).wait(Mode::Spin));
    let client = pool.client().unwrap();
    works(&client);
    let worker = client.worker_pids()[0];
    let before = proc::mappings(worker).len();
    for _ in 0..3 {
        works(&pool.client().unwrap());
    }
    until("the worker has mapped what it had before", || proc::mappings(worker).len() <= before);
    assert_eq!(client.worker_pids(), [worker]);
    Ok(())
}
