//! Workers, arbiters and hosts that die.

use crate::app::{
    Random, all_free, begun, builder, call, fails, keyed, number, pattern, ready, until_begun, works,
};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, kill, some, stop, until};
use crate::harness::{Kid, Outcome, sleep_for_ever};
use crate::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;
use stokehold::{Cause, Client, Code, Kind};

crate::tests! {
    each_way_to_die_is_told_with_its_cause,
    an_exit_that_takes_long_is_told_with_its_status,
    an_idle_worker_dies_and_no_caller_sees_it,
    killed_before_it_looks_and_the_call_is_run_by_another,
    killed_in_its_first_call_is_no_failed_boot,
    killed_while_it_runs,
    a_published_result_wins_over_the_death_after_it,
    idempotent_calls_run_again_once_and_no_others,
    all_eight_workers_at_once,
    the_arbiter_dies_and_every_call_ends,
    the_host_dies_and_nothing_is_left,
    a_worker_leaves_a_process_behind,
    a11_a_copy_that_a_worker_leaves_hides_no_death,
}

fn each_way_to_die_is_told_with_its_cause() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for _ in 0..3 {
        causes_are_told(&client);
    }
    works(&client);
    Ok(())
}

/// By a worker's death in each way, in a pool at rest.
pub fn causes_are_told(client: &Client) {
    let ways = [
        ("segfault", None, Cause::Signal(libc::SIGSEGV)),
        ("abort", None, Cause::Signal(libc::SIGABRT)),
        ("exit", Some(0), Cause::Exit(0)),
        ("exit", Some(3), Cause::Exit(3)),
        ("kill", None, Cause::Signal(libc::SIGKILL)),
    ];
    for (action, status, cause) in ways {
        let before = client.worker_pids();
        let outcome = match status {
            Some(status) => call(client, action).args((status,)).execute(),
            None => call(client, action).execute(),
        };
        let error = fails(outcome);
        let Kind::WorkerDied { pid: Some(pid), cause: said, started } = *error.kind() else {
            panic!("{action}: {error}")
        };
        assert!(before.contains(&pid), "{error}; the workers were {before:?}");
        assert!(started, "{action} {status:?}: {error}");
        assert_eq!(said, cause, "{action} {status:?}");
        ready(client, before.len(), &[pid]);
        all_free(client);
    }
}

fn an_exit_that_takes_long_is_told_with_its_status() -> Outcome {
    const LARGE: usize = 512 << 20;
    crate::regions::memory_for(LARGE)?;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for status in [0, 3, 0] {
        let before = ready(&client, 1, &[]);
        let error = fails(call(&client, "exit_large").args((LARGE, status)).execute());
        let Kind::WorkerDied { pid, cause, started: true } = *error.kind() else { panic!("{error}") };
        assert_eq!((pid, cause), (Some(before[0]), Cause::Exit(status)), "{error}");
        ready(&client, 1, &before);
    }
    Ok(())
}

fn an_idle_worker_dies_and_no_caller_sees_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    for _ in 0..10 {
        let before = client.worker_pids();
        kill(before[0], Signal::SIGKILL);
        works(&client);
        ready(&client, 2, &before[..1]);
        works(&client);
    }
    Ok(())
}

fn killed_before_it_looks_and_the_call_is_run_by_another() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(4));
    let client = pool.client().unwrap();
    for round in 0..5 {
        let before = ready(&client, 4, &[]);
        before.iter().for_each(|pid| stop(*pid));
        let pending = call(&client, "note").args((round,)).submit().unwrap();
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        assert_eq!(number(pending.wait()), round);
        assert_eq!(begun(round), 1);
        ready(&client, 4, &before);
    }
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

/// The news that it was ready must not be overtaken by the news of its end.
fn killed_in_its_first_call_is_no_failed_boot() -> Outcome {
    for _ in 0..10 {
        let mut guard = PoolGuard::new();
        let pool = guard.start(builder(1).restart_limit(5, 60_000).backoff_ms(1, 1000));
        let client = pool.client().unwrap();
        for _ in 0..5 {
            let error = fails(call(&client, "kill").execute());
            let Kind::WorkerDied { cause: Cause::Signal(9), started: true, .. } = error.kind() else {
                panic!("{error}")
            };
        }
        works(&client);
    }
    Ok(())
}

fn killed_while_it_runs() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    for id in 0..10 {
        let pending = call(&client, "spin").args((id,)).submit().unwrap();
        until_begun(id);
        let before = client.worker_pids();
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        let error = fails(pending.wait());
        let cause = Cause::Signal(libc::SIGKILL);
        assert!(
            matches!(error.kind(), Kind::WorkerDied { cause: c, started: true, .. } if *c == cause),
            "{error}"
        );
        assert_eq!(begun(id), 1);
        ready(&client, 2, &before);
    }
    all_free(&client);
    works(&client);
    Ok(())
}

fn a_published_result_wins_over_the_death_after_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for id in 0..5 {
        let pending = call(&client, "work").args((id, b"coal".as_slice(), 0)).submit().unwrap();
        until("the result is published", || pending.is_ready());
        let before = client.worker_pids();
        kill(before[0], Signal::SIGKILL);
        ready(&client, 1, &before);
        assert_eq!(number(pending.wait()), keyed(id, b"coal"));
    }
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn idempotent_calls_run_again_once_and_no_others() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    // It dies once and runs again.
    assert_eq!(number(call(&client, "die_first").args((1, 1)).idempotent().execute()), 1);
    assert_eq!(begun(1), 2);
    // It dies each time: once more, and no more.
    let error = fails(call(&client, "die_first").args((2, 9)).idempotent().execute());
    assert!(matches!(error.kind(), Kind::WorkerDied { started: true, .. }), "{error}");
    assert_eq!(begun(2), 2);
    // Not asked for, not done.
    let error = fails(call(&client, "die_first").args((3, 1)).execute());
    assert!(matches!(error.kind(), Kind::WorkerDied { started: true, .. }), "{error}");
    // A lease goes with both runs.
    let bytes = pattern(4, 100_000);
    let lease = client.lease_from(&bytes).unwrap();
    let hash = call(&client, "work").args((4, &lease, 0)).idempotent().execute();
    assert_eq!(number(hash), keyed(4, &bytes));
    works(&client);
    assert_eq!(begun(3), 1);
    all_free(&client);
    Ok(())
}

fn all_eight_workers_at_once() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(8));
    let client = pool.client().unwrap();
    let mut random = Random(8);
    let mut id = 0;
    for _ in 0..5 {
        let first = id;
        let submit = |id: &i64| call(&client, "work").args((*id, b"x".as_slice(), 5)).submit().unwrap();
        let pending: Vec<_> = (first..first + 40).map(|i| submit(&i)).collect();
        id += 40;
        std::thread::sleep(std::time::Duration::from_millis(random.below(12)));
        let before = client.worker_pids();
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        for (i, pending) in (first..).zip(pending) {
            match pending.wait() {
                Ok(response) => assert_eq!(response.parse::<i64>().unwrap(), keyed(i, b"x")),
                Err(error) => match *error.kind() {
                    // Told at the death mark, where a claim counts as begun: only `false` is certain.
                    Kind::WorkerDied { started: true, .. } => {}
                    Kind::WorkerDied { started: false, .. } => assert_eq!(begun(i), 0),
                    _ => panic!("{error}"),
                },
            }
            assert!(begun(i) <= 1);
        }
        ready(&client, 8, &before);
    }
    all_free(&client);
    works(&client);
    Ok(())
}

fn the_arbiter_dies_and_every_call_ends() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    works(&client);
    let running: Vec<_> = (1..3).map(|i| call(&client, "spin").args((i,)).submit().unwrap()).collect();
    until_begun(1);
    until_begun(2);
    let queued = call(&client, "note").args((3,)).submit().unwrap();
    kill(pool.arbiter_pid(), Signal::SIGKILL);
    for pending in running {
        let error = fails(pending.wait());
        assert!(matches!(error.kind(), Kind::ArbiterDied { started: true }), "{error}");
    }
    let error = fails(queued.wait());
    assert!(matches!(error.kind(), Kind::ArbiterDied { started: false }), "{error}");
    until("no process is left", || proc::session(pool.arbiter_pid()).is_empty());
    assert_eq!(begun(3), 0);
    assert_eq!(fails(call(&client, "note").args((4,)).execute()).code(), Code::ArbiterDied);
    assert_eq!(client.lease(1_000_000).unwrap_err().code(), Code::ArbiterDied);
    assert_eq!(pool.client().unwrap_err().code(), Code::ArbiterDied);
    pool.shutdown().unwrap();
    Ok(())
}

fn the_host_dies_and_nothing_is_left() -> Outcome {
    let mut guard = PoolGuard::new();
    for busy in [false, true] {
        let host = Kid::new(|| {
            let pool = builder(4).start().unwrap();
            let client = pool.client().unwrap();
            let pending: Vec<_> = (0..if busy { 8 } else { 0 })
                .map(|i| call(&client, "spin").args((i,)).submit().unwrap())
                .collect();
            if busy {
                until_begun(0);
            }
            fs::write("note2", pool.arbiter_pid().to_string()).unwrap();
            fs::rename("note2", "note").unwrap();
            let _keep = (pending, client);
            sleep_for_ever()
        });
        let arbiter: u32 = some("the host has its pool", || fs::read_to_string("note").ok()).parse().unwrap();
        guard.adopt(arbiter);
        assert_eq!(proc::session(arbiter).len(), 5, "arbiter and workers");
        host.kill();
        host.end();
        until("no process is left", || proc::session(arbiter).is_empty());
        fs::remove_file("note").unwrap();
    }
    Ok(())
}

fn a_worker_leaves_a_process_behind() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let worker = client.worker_pids()[0];
    let child = number(call(&client, "leave_behind").execute()) as u32;
    assert!(proc::process(child).is_some());
    kill(worker, Signal::SIGKILL);
    ready(&client, 1, &[worker]);
    until("the worker's child is gone, too", || proc::process(child).is_none());
    works(&client);
    Ok(())
}

/// A11: what a fork leaves it, which no exec has closed, are the worker's sockets, so that their end does not come with the
/// worker's; and nothing of what others have mapped.
fn a11_a_copy_that_a_worker_leaves_hides_no_death() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let base = Baseline::of(&pool);
    for (action, cause) in [("kill", Cause::Signal(libc::SIGKILL)), ("exit", Cause::Exit(3))] {
        let worker = client.worker_pids()[0];
        let copy = number(call(&client, "leave_copy").execute()) as u32;
        let sockets = |pid| {
            let all = proc::descriptors(pid).into_values().filter(|to| to.starts_with("socket:"));
            all.collect::<BTreeSet<_>>()
        };
        assert_eq!(sockets(copy), sockets(worker));
        assert!(!sockets(copy).is_empty(), "what is looked for is there");
        assert!(!proc::mappings(worker).is_empty());
        assert_eq!(proc::mappings(copy), [""; 0], "it has what the worker shares");
        let ends = match cause {
            Cause::Exit(status) => call(&client, action).args((status,)).execute(),
            _ => call(&client, action).execute(),
        };
        let error = fails(ends);
        let Kind::WorkerDied { pid, cause: said, started: true } = *error.kind() else { panic!("{error}") };
        assert_eq!((pid, said), (Some(worker), cause), "{error}");
        ready(&client, 1, &[worker]);
        until("the copy is gone, too", || proc::process(copy).is_none());
        works(&client);
    }
    base.reached();
    Ok(())
}
