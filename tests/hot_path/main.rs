//! The hot path: 100,000 warm, spinning calls make no allocation and no system call, on neither side; nor do as many small items
//! to an app and back through a context, where both sides send and take.
//!
//! Allocations are counted by this program's allocator, in the host and in the worker. System calls are counted by
//! `strace`, which runs this program once more in another role (`traced`): both sides mark where the calls begin
//! and end by asking for files that do not exist. Both counters are shown to count, in a call that does both.
//!
//! A waiter that was off its processor for long may look whether its peer lives, by a system call. So on a busy
//! machine one round of calls may have a few; that *one* round of several has none is what is asserted.

#[allow(dead_code)] // shared with tests that use all of it
#[path = "../common/harness.rs"]
mod harness;

mod allocator;
mod app;
mod strace;
mod traced;

use harness::{Outcome, Skip};
use std::time::Duration;
use traced::{ARMED, By, Counts, Round};

#[global_allocator]
static ALLOCATOR: allocator::Counting = allocator::Counting;

/// How long a test may take on a machine that does something else as well; on one that does not it takes seconds.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> stokehold::Result<()> {
    stokehold::init(|apps| apps.add::<app::Hot>())?;
    if let Ok(by) = std::env::var(traced::ROLE) {
        return traced::run(&by);
    }
    // Two that spin and a third process leave each of them a slice of a processor now and then.
    harness::run_within(PATIENCE, TESTS)
}

const TESTS: &[harness::Test] = &[
    ("a_hundred_thousand_calls_allocate_nothing", a_hundred_thousand_calls_allocate_nothing),
    ("a_hundred_thousand_calls_make_no_system_call", a_hundred_thousand_calls_make_no_system_call),
    ("a_hundred_thousand_items_allocate_nothing", a_hundred_thousand_items_allocate_nothing),
    ("a_hundred_thousand_items_make_no_system_call", a_hundred_thousand_items_make_no_system_call),
];

fn a_hundred_thousand_calls_allocate_nothing() -> Outcome {
    nothing_is_allocated(By::Calls)
}

fn a_hundred_thousand_calls_make_no_system_call() -> Outcome {
    no_system_call_is_made(By::Calls)
}

fn a_hundred_thousand_items_allocate_nothing() -> Outcome {
    nothing_is_allocated(By::Context)
}

fn a_hundred_thousand_items_make_no_system_call() -> Outcome {
    no_system_call_is_made(By::Context)
}

fn nothing_is_allocated(by: By) -> Outcome {
    two_processors()?;
    let rounds = traced::rounds_of(&mut strace::this_program(), by)?;
    let (armed, rounds) = split(&rounds);
    assert!(armed.host >= 1 && armed.worker >= 1, "the allocator does not count: {armed:?}");
    for round in rounds {
        println!("round {}: allocations {:?}", round.number, round.allocations);
    }
    let least = |side: fn(&Counts) -> u64| rounds.iter().map(|round| side(&round.allocations)).min();
    assert_eq!(least(|counts| counts.host), Some(0), "in the host");
    assert_eq!(least(|counts| counts.worker), Some(0), "in the worker");
    Ok(())
}

fn no_system_call_is_made(by: By) -> Outcome {
    two_processors()?;
    let trace = strace::Trace::new()?;
    let rounds = traced::rounds_of(&mut trace.command(), by)?;
    let calls = trace.read();
    let armed = strace::between_marks(&calls, ARMED);
    let armed = armed.ok_or_else(|| Skip("strace shows no marks".into()))?;
    let saw = |calls: &[String]| calls.iter().any(|call| call.starts_with("getppid"));
    assert!(saw(&armed.host) && saw(&armed.worker), "strace does not show what there is: {armed:?}");
    let mut clean = false;
    for Round { number, .. } in rounds.iter().filter(|round| round.number != ARMED) {
        let found = strace::between_marks(&calls, *number).expect("marks of each round");
        println!("round {number}: {found}");
        clean |= found.host.is_empty() && found.worker.is_empty();
    }
    assert!(clean, "no round without a system call");
    Ok(())
}

/// Two that spin for each other on one processor get a call done in a time slice, not in a microsecond.
fn two_processors() -> Outcome {
    match stokehold::internals::sys::cpu::usable() {
        1 => Err(Skip("one usable processor".into())),
        _ => Ok(()),
    }
}

fn split(rounds: &[Round]) -> (Counts, &[Round]) {
    let (first, rest) = rounds.split_first().expect("rounds");
    assert_eq!(first.number, ARMED);
    (first.allocations, rest)
}
