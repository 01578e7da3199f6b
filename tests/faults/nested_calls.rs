//! Apps that call apps: one call within the other, and what becomes of the one when the other ends.

use crate::app::{
    Birth, Faults, all_free, begun, builder, call, fails, number, open, patient, ready, until_begun, works,
};
use crate::guard::{PoolGuard, kill, until};
use crate::harness::Outcome;
use crate::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::{fs, thread};
use stokehold::{App, AppError, Code, Error, Kind, Limit, Pool};

crate::tests! {
    an_app_calls_apps_and_has_their_results,
    an_error_comes_from_the_innermost_through_all_others,
    eight_deep_is_allowed_and_nine_is_not,
    a_call_within_another_has_no_more_time_than_that,
    a_cancelled_call_takes_along_what_is_made_in_it,
    a_call_that_is_out_of_time_takes_along_what_is_made_in_it,
    what_is_made_in_a_call_does_not_outlive_it,
    streams_are_for_apps_as_well,
    contexts_are_for_apps_as_well,
    a_call_that_could_never_run_is_refused,
    an_answer_that_comes_later_holds_no_thread,
    a_worker_that_dies_within_a_call_leaves_nothing,
    the_death_of_the_worker_there_is_an_error_here,
    a_worker_that_is_told_to_stop_waits_for_what_it_has_made,
    an_apps_init_makes_no_calls,
    a_worker_is_one_client,
}

fn said(error: &Error) -> AppError {
    match error.kind() {
        Kind::App(said) => said.clone(),
        other => panic!("{other:?}"),
    }
}

/// What an action left in a file about a call that it made.
fn outcome_of(id: i64) -> String {
    crate::guard::some(format!("outcome of what call {id} made"), || {
        fs::read_to_string(format!("kept/outcome{id}")).ok()
    })
}

fn an_app_calls_apps_and_has_their_results() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).threads(2));
    let client = pool.client().unwrap();
    // Three at a time, so that the fourth thread runs what they make.
    thread::scope(|scope| {
        for thread in 0..3 {
            let client = &client;
            scope.spawn(move || {
                for n in 0..100 {
                    let sum = call(client, "sum_there").args((1 + thread, n, thread)).execute();
                    assert_eq!(number(sum), n + thread);
                }
            });
        }
    });
    assert_eq!((begun(1), begun(2), begun(3)), (100, 100, 100));
    assert_eq!(client.free_calls(), 64);
    Ok(())
}

fn an_error_comes_from_the_innermost_through_all_others() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).threads(2));
    let client = pool.client().unwrap();
    let error = fails(call(&client, "deep").args((1, "fail")).execute());
    let inner = said(&error);
    assert_eq!((inner.class.as_str(), inner.message.as_str()), ("Fire", "the boiler is out"));
    let workers = client.worker_pids();
    let all: Vec<_> = inner.source.iter().chain(&inner.relayed).collect();
    assert_eq!(all.len(), 3, "one raised it, two passed it on: {error}");
    assert!(all.iter().all(|from| from.app == Faults::NAME && workers.contains(&from.pid)), "{error}");
    assert!(said(&fails(call(&client, "deep").args((1, "panic")).execute())).class == "Panic");
    // What is wrong there is not wrong here.
    let error = fails(call(&client, "deep").args((0, "no such action")).execute());
    assert_eq!(said(&error).class, "BadRequest", "{error}");
    Ok(())
}

fn eight_deep_is_allowed_and_nine_is_not() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(3).threads(4));
    let client = pool.client().unwrap();
    let workers = client.worker_pids();
    for levels in 0..9 {
        let pid = number(call(&client, "deeper").args((levels,)).execute());
        assert!(workers.contains(&(pid as u32)), "{levels} deep");
    }
    let error = fails(call(&client, "deeper").args((9,)).execute());
    let refused = said(&error);
    assert!(refused.class == "BadRequest" && refused.message.contains("nested 8 deep"), "{error}");
    assert_eq!(refused.relayed.len(), AppError::MAX_RELAYS, "from the ninth worker through eight: {error}");
    works(&client);
    Ok(())
}

fn a_call_within_another_has_no_more_time_than_that() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).timeout_ms(100_000));
    let client = pool.client().unwrap();
    let times = |mine: Option<u64>, inner: Option<u64>| -> (i64, i64) {
        let outer = call(&client, "times").args((inner,));
        let outer = mine.into_iter().fold(outer, |call, ms| call.deadline_ms(ms));
        outer.execute().unwrap().parse().unwrap()
    };
    // The caller's own, or the pool's, where that is earlier than what the app wants.
    let (mine, theirs) = times(Some(50_000), None);
    assert_eq!(mine, theirs);
    let (mine, theirs) = times(Some(50_000), Some(60_000));
    assert_eq!(mine, theirs);
    let (mine, theirs) = times(None, None);
    assert_eq!(mine, theirs, "not the pool's whole time once more");
    let (mine, theirs) = times(Some(50_000), Some(20_000));
    assert!(mine - theirs > 20_000_000_000, "{mine} {theirs}");
    // The outcome is the caller's deadline, however soon the app there hears of its own.
    for _ in 0..20 {
        let late = call(&client, "gate_there").args((1, "never")).deadline_ms(20).execute();
        assert!(matches!(fails(late).kind(), Kind::Deadline { limit: Limit::Call, .. }));
        open("never");
        all_free(&client);
        ready(&client, 2, &[]);
        fs::remove_file("never").unwrap();
    }
    Ok(())
}

fn a_cancelled_call_takes_along_what_is_made_in_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).kill_grace_ms(60_000));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let outer = call(&client, "told_there").args((1, "")).submit().unwrap();
    until_begun(2);
    assert_eq!(fails(outer.cancel()).code(), Code::Cancelled);
    until_begun(3); // the inner app was told
    let told = outcome_of(1);
    assert!(
        told.contains("Cancelled") && told.contains("Parent") && told.contains("started: true"),
        "{told}"
    );
    all_free(&client);
    assert_eq!(client.worker_pids(), before, "both let go by themselves");
    // One that waits in the queue is taken back.
    let gate = call(&client, "gate").args((10, "gate")).submit().unwrap();
    until_begun(10);
    let outer = call(&client, "gate_there").args((20, "gate")).submit().unwrap();
    until_begun(20);
    assert_eq!(fails(outer.cancel()).code(), Code::Cancelled);
    let told = outcome_of(20);
    assert!(told.contains("Parent") && told.contains("started: false"), "{told}");
    open("gate");
    assert_eq!(number(gate.wait()), 10);
    all_free(&client);
    assert_eq!(begun(21), 0);
    works(&client);
    Ok(())
}

fn a_call_that_is_out_of_time_takes_along_what_is_made_in_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(patient(2));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let outcome = call(&client, "told_there").args((1, "")).deadline_ms(1_000).execute();
    assert!(matches!(fails(outcome).kind(), Kind::Deadline { started: true, .. }));
    until_begun(3);
    all_free(&client);
    assert_eq!(client.worker_pids(), before);
    works(&client);
    Ok(())
}

fn what_is_made_in_a_call_does_not_outlive_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).kill_grace_ms(60_000));
    let client = pool.client().unwrap();
    assert_eq!(number(call(&client, "leave_there").args((1,)).execute()), 1);
    let told = outcome_of(1);
    assert!(told.contains("Cancelled") && told.contains("has ended"), "{told}");
    until_begun(2);
    works(&client);
    Ok(())
}

fn streams_are_for_apps_as_well() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).kill_grace_ms(60_000));
    let client = pool.client().unwrap();
    let sums: (i64, i64) = call(&client, "stream_there").args((1000,)).execute().unwrap().parse().unwrap();
    assert_eq!(sums, (499_500, 499_500));
    // One that is never at a loss for an item, so that who takes them never waits.
    let before = client.worker_pids();
    let outer = call(&client, "endless_there").args((1,)).submit().unwrap();
    until_begun(1);
    assert_eq!(fails(outer.cancel()).code(), Code::Cancelled);
    let told = outcome_of(1);
    assert!(told.contains("has ended"), "{told}");
    until_begun(2);
    all_free(&client);
    assert_eq!(client.worker_pids(), before, "both let go by themselves");
    Ok(())
}

fn contexts_are_for_apps_as_well() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).kill_grace_ms(60_000));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    // Who only sends, and has no room, is told as well that the call that it is made in is over.
    let outer = call(&client, "context_there").args((1,)).submit().unwrap();
    until_begun(2); // before, it would be the opening that ends
    assert_eq!(fails(outer.cancel()).code(), Code::Cancelled);
    let told = outcome_of(1);
    assert!(told.starts_with("Closed, then") && told.contains("has ended"), "{told}");
    all_free(&client);
    works(&client);
    assert_eq!(client.worker_pids(), before, "both let go by themselves");
    // One that could never start.
    drop(client);
    pool.shutdown().unwrap();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let error = fails(call(&client, "context_there").args((3,)).execute());
    assert_eq!(said(&error).class, "BadRequest", "{error}");
    all_free(&client);
    Ok(())
}

fn a_call_that_could_never_run_is_refused() -> Outcome {
    let mut guard = PoolGuard::new();
    for (workers, threads) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        let pool = guard.start(builder(workers).threads(threads));
        let client = pool.client().unwrap();
        let all = (workers * threads) as i64;
        number(call(&client, "deeper").args((all - 1,)).execute());
        let error = fails(call(&client, "deeper").args((all,)).execute());
        let refused = said(&error);
        assert_eq!(refused.class, "BadRequest", "{error}");
        assert!(refused.message.contains(&format!("all {all} app threads")), "{error}");
        works(&client);
        assert_eq!(client.free_calls(), 64);
    }
    Ok(())
}

fn an_answer_that_comes_later_holds_no_thread() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for n in 0..20 {
        assert_eq!(number(call(&client, "later_sum_there").args((n, 3)).execute()), n + 3);
    }
    Ok(())
}

fn a_worker_that_dies_within_a_call_leaves_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).threads(2));
    let client = pool.client().unwrap();
    works(&client);
    let descriptors = || proc::descriptors(pool.arbiter_pid()).len();
    let (before, lanes) = (descriptors(), client.lanes_in_use());
    number(call(&client, "sum_there").args((1, 2, 3)).execute());
    let each = descriptors() - before;
    assert!(each > 0 && client.lanes_in_use() == lanes + 1, "one worker is a client");
    for round in 0..5 {
        let (id, gate) = (100 * (round + 1), format!("kept/gate{round}"));
        let outer = call(&client, "gate_there").args((id, gate.as_str())).submit().unwrap();
        until_begun(id + 1);
        let pid = fs::read_to_string(format!("kept/pid{id}")).unwrap().parse().unwrap();
        kill(pid, Signal::SIGKILL);
        let error = fails(outer.wait());
        assert!(matches!(error.kind(), Kind::WorkerDied { started: true, .. }), "{error}");
        open(&gate); // the other one did not listen
        ready(&client, 2, &[pid]);
        works(&client);
        until("only living workers are clients", || client.lanes_in_use() <= lanes + 2);
    }
    all_free(&client);
    until("the arbiter has what two such workers need", || descriptors() <= before + 2 * each);
    number(call(&client, "sum_there").args((1, 2, 3)).execute());
    Ok(())
}

fn the_death_of_the_worker_there_is_an_error_here() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let workers: BTreeSet<u32> = client.worker_pids().into_iter().collect();
    let error = fails(call(&client, "deep").args((0, "kill")).execute());
    let died = said(&error);
    assert!(died.class == "WorkerDied" && died.relayed.is_empty(), "{error}");
    let survivor = died.source.unwrap().pid;
    assert!(workers.contains(&survivor));
    until("the dead one is replaced", || {
        let now = client.worker_pids();
        now.len() == 2 && now.contains(&survivor)
    });
    works(&client);
    Ok(())
}

fn a_worker_that_is_told_to_stop_waits_for_what_it_has_made() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).stop_grace_ms(60_000));
    let client = pool.client().unwrap();
    let outer = call(&client, "gate_there").args((1, "gate")).submit().unwrap();
    until_begun(2);
    thread::scope(|scope| {
        let closing = scope.spawn(|| pool.shutdown());
        until("the pool takes no more", || {
            call(&client, "note").args((9,)).execute().is_err_and(|e| e.code() == Code::ShuttingDown)
        });
        open("gate");
        assert_eq!(number(outer.wait()), 2);
        closing.join().unwrap().unwrap();
    });
    Ok(())
}

fn an_apps_init_makes_no_calls() -> Outcome {
    let _guard = PoolGuard::new();
    fs::write("boot", "call").unwrap();
    let error = Pool::builder().app::<Birth>().restart_limit(0, 1_000).start().map(drop).unwrap_err();
    assert!(error.code() == Code::Start && error.to_string().contains("init makes no calls"), "{error}");
    Ok(())
}

fn a_worker_is_one_client() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).threads(8));
    let client = pool.client().unwrap();
    let before = client.lanes_in_use();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(number(call(&client, "connect_again").execute()), 16));
        }
    });
    assert_eq!(client.lanes_in_use(), before + 1, "whichever thread was first");
    Ok(())
}
