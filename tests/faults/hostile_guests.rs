//! Workers that are clients of their own pool, and mean ill: what a client may do, a worker may not, and nothing of it
//! outlives the worker.

use crate::app::{builder, call, fails, number, open, ready, until_begun, works};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, some, until};
use crate::harness::Outcome;
use std::time::Duration;
use std::{fs, process, thread};
use stokehold::Code;

crate::tests! {
    c10_a_worker_that_is_a_client_in_anothers_name_leaves_nothing,
    c10_a_worker_that_accuses_the_others_costs_them_nothing,
    c12_nonsense_that_a_worker_reads_of_another_ends_its_call_only,
}

/// Its lanes went on as long as the process that it named, and each life could take as many again.
fn c10_a_worker_that_is_a_client_in_anothers_name_leaves_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let (base, lanes) = (Baseline::of(&pool), client.lanes_in_use());
    // A process that outlives them all, and one that the pool cannot do without.
    for name in [process::id(), pool.arbiter_pid(), process::id()] {
        let before = client.worker_pids();
        assert_eq!(fails(call(&client, "grab_lanes").args((name,)).execute()).code(), Code::WorkerDied);
        let had = fs::read_to_string("note").unwrap();
        let (taken, regions) = had.split_once(' ').unwrap();
        assert_eq!(taken, "16", "it was to have all that a client can have");
        let regions: usize = regions.parse().unwrap();
        assert!((64..=128).contains(&regions), "{regions} regions of one client");
        fs::remove_file("note").unwrap();
        ready(&client, 1, &before);
        works(&client);
    }
    until("what they had is nobody's", || client.lanes_in_use() == lanes);
    base.reached();
    Ok(())
}

fn c10_a_worker_that_accuses_the_others_costs_them_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(4));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    let beside = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    call(&client, "accuse_others").execute().unwrap();
    open("gate");
    assert_eq!(number(beside.wait()), 1);
    assert_eq!(client.worker_pids(), before);
    works(&client);
    Ok(())
}

/// The worker that wrote it lives: the one that says so may be the damaged one. What a client says that is none is believed
/// (`nonsense_in_a_stream_is_one_outcome_and_costs_its_worker`).
fn c12_nonsense_that_a_worker_reads_of_another_ends_its_call_only() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let (before, lanes) = (client.worker_pids(), client.lanes_in_use());
    assert_eq!(number(call(&client, "forged_there").args(("kind",)).execute()), 3);
    let outcome = some("it heard", || fs::read_to_string("kept/outcome").ok());
    assert_eq!(outcome, "Err(Protocol)");
    until("the lane is renewed", || client.lanes_in_use() == lanes + 2);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(client.worker_pids(), before);
    works(&client);
    Ok(())
}
