//! Words of a lane that say what nobody did, written by whoever has it mapped: what they cost, and what they cannot do.

use crate::app::{begun, builder, call, fails, is_filled, number, open, until_begun, works};
use crate::guard::{PoolGuard, until};
use crate::harness::Outcome;
use crate::lines::{ALIVE, Lines};
use stokehold::internals::ring::{Generation, Life, State, Word};
use stokehold::{Code, Response};

crate::tests! {
    b5_a_time_to_come_puts_no_deadline_off,
    b5_a_result_that_is_read_is_not_freed_by_its_own_call,
    b5_a_call_that_was_given_up_goes_on_with_its_own_number,
}

fn b5_a_time_to_come_puts_no_deadline_off() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).timeout_ms(1_500));
    let client = pool.client().unwrap();
    let lines = Lines::of_the_first_lane();
    assert_eq!(number(call(&client, "alive").args((1, 50)).execute()), 1);
    assert!(lines.read(0, ALIVE) > 0, "it is elsewhere");
    // In the queue behind another, and with a worker.
    let runs = call(&client, "gate").args((2, "gate")).submit().unwrap();
    lines.write(1, ALIVE, u64::MAX);
    let waits = call(&client, "note").args((3,)).submit().unwrap();
    until("it runs", || begun(2) == 1 || runs.is_ready());
    lines.write(0, ALIVE, u64::MAX);
    assert_eq!(fails(runs.wait()).code(), Code::Deadline);
    assert_eq!(fails(waits.wait()).code(), Code::Deadline);
    open("gate");
    works(&client);
    Ok(())
}

fn b5_a_result_that_is_read_is_not_freed_by_its_own_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let lines = Lines::of_the_first_lane();
    open("gate");
    let held: Response = call(&client, "gate_and_fill").args((1, "gate", 3_000)).execute().unwrap();
    let times = begun(1);
    let word = lines.word(0);
    assert_eq!(word.state(), State::Done);
    lines.write(0, 0, Word::queued(word.generation()).raw());
    // The tick finds it, and has the worker look.
    until("somebody took it", || lines.word(0).state() != State::Queued);
    for _ in 0..100 {
        match call(&client, "fill").args((2, 3_000)).execute() {
            Ok(answer) => assert!(is_filled(answer.as_bytes().unwrap(), 2)),
            Err(error) => assert_eq!(error.code(), Code::Protocol, "{error}"),
        }
    }
    assert!(is_filled(held.as_bytes().unwrap(), 1));
    assert_eq!(begun(1), times, "it ran again");
    drop(held);
    works(&client);
    Ok(())
}

fn b5_a_call_that_was_given_up_goes_on_with_its_own_number() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).cancel_grace_ms(600_000));
    let client = pool.client().unwrap();
    let lines = Lines::of_the_first_lane();
    let given_up = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    assert_eq!(fails(given_up.cancel()).code(), Code::Cancelled);
    let word = lines.word(0);
    assert_eq!(word.state(), State::Abandoned);
    let life = Life::new(call_life(word)).unwrap();
    lines.write(0, 0, Word::acked(Generation(word.generation().0 - 1), life).raw());
    assert_eq!(client.free_calls(), 63, "an older submission's end is not this one's");
    open("gate");
    // When all others are in use it is found out; what is asked then, and what was under way, goes on in another lane.
    let mut all: Vec<_> = (0..63).map(|i| call(&client, "note").args((10 + i,)).submit().unwrap()).collect();
    match call(&client, "note").args((100,)).submit() {
        Err(error) => assert_eq!(error.code(), Code::Protocol, "{error}"),
        Ok(pending) => all.push(pending), // the arbiter found it first
    }
    for pending in all {
        let outcome = pending.wait();
        assert!(outcome.as_ref().err().is_none_or(|error| error.code() == Code::Protocol), "{outcome:?}");
    }
    until("calls go through again", || call(&client, "add").args((1, 2)).execute().is_ok());
    assert_eq!(client.free_calls(), 64);
    works(&client);
    Ok(())
}

fn call_life(word: Word) -> u16 {
    word.life().map_or(0, Life::get)
}
