//! Words of a lane that say what nobody did. What several processes write never decides alone: the owner's own record does.

use super::app::Storm;
use super::guard::{PoolGuard, until};
use super::harness::{Outcome, Test};
use super::journal::{Event, Journal, Record};
use super::keyed::{item, keyed};
use super::law::{Call, Circumstances, PLAIN, Told};
use super::lines::{Lines, RESULT};
use super::verdict::Verdict;
use std::ops::RangeInclusive;
use stokehold::internals::ring::{Generation, Life, State, Word};
use stokehold::{App, Client, Code, Error, Pool};

pub const TESTS: &[Test] = &[
    ("b5_a_call_that_nobody_sent_is_not_run", a_call_that_nobody_sent_is_not_run),
    ("b5_a_result_of_another_call_is_not_taken", a_result_of_another_call_is_not_taken),
];

/// Nothing but what is done here, to these calls.
struct Forged(RangeInclusive<u64>);

impl Circumstances for Forged {
    fn may_be_lost(&self, _: &Record) -> bool {
        false
    }

    fn explains(&self, id: u64, _: &Call, _: &Record, _: &Record, verdict: Verdict) -> bool {
        verdict.code == 0 || self.0.contains(&id) && verdict.is(Code::Protocol)
    }
}

fn judge(forged: RangeInclusive<u64>) {
    let found = Told::of(&Journal::ours().since(0).0).judge(&Forged(forged), 60_000);
    found.violations.iter().for_each(|what| println!("{what}"));
    assert!(found.violations.is_empty(), "{} violations", found.violations.len());
}

fn pool(guard: &mut PoolGuard) -> Pool {
    Journal::create();
    guard.start(Pool::builder().app::<Storm>().workers(1))
}

fn begun(id: u64) -> usize {
    let all = Journal::ours().since(0).0;
    all.iter().filter(|record| record.event == Event::Begin && record.id == id).count()
}

fn ended(id: u64, bytes: &[u8], outcome: Result<i64, Error>) {
    if outcome.as_ref().is_ok_and(|result| *result != keyed(id, bytes)) {
        Journal::ours().add(Event::Wrong, id, 0);
    }
    Journal::ours().add(Event::Outcome, id, Verdict::of(&outcome).pack());
}

/// Whether it had a result.
fn executed(client: &Client, id: u64) -> bool {
    let bytes = item(id, 0, 100);
    Journal::ours().add(Event::Issued, id, PLAIN);
    let outcome = client.call(Storm::NAME, "work").args((id as i64, &bytes[..], 0)).execute();
    let outcome = outcome.and_then(|response| response.parse());
    let is_well = outcome.is_ok();
    ended(id, &bytes, outcome);
    is_well
}

fn a_call_that_nobody_sent_is_not_run() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = pool(&mut guard);
    let client = pool.client().unwrap();
    let lines = Lines::of_the_first_lane();
    assert!(executed(&client, 1));
    assert_eq!(lines.word(0).state(), State::Idle);
    let never = Generation(lines.word(0).generation().0 + 5);
    lines.write(0, 0, Word::queued(never).raw());
    // The tick finds it, and has the worker look.
    until("somebody took it", || lines.word(0).state() != State::Queued);
    // By the only worker, when it is through with that; the lane is damaged, and replaced.
    let last = (2..).find(|id| executed(&client, *id)).unwrap();
    judge(2..=last);
    Ok(())
}

fn a_result_of_another_call_is_not_taken() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = pool(&mut guard);
    let client = pool.client().unwrap();
    let lines = Lines::of_the_first_lane();
    let work = |id: u64, bytes: &[u8], us: u64| {
        Journal::ours().add(Event::Issued, id, PLAIN);
        client.call(Storm::NAME, "work").args((id as i64, bytes, us)).submit().unwrap()
    };
    let [first, second] = [1, 2].map(|id| item(id, 0, 100));
    let held = work(1, &first, 0).wait().unwrap();
    let life = Life::new(held.life()).unwrap();
    assert_eq!(lines.word(0), Word::done(lines.word(0).generation(), life));
    let pending = work(2, &second, 1_000_000);
    until("the second one runs", || begun(2) == 1);
    let generation = lines.word(1).generation();
    assert_eq!(lines.word(1), Word::running(generation, life));
    lines.write(1, RESULT, lines.read(0, RESULT));
    lines.write(1, 0, Word::done(generation, life).raw());
    ended(2, &second, pending.wait().and_then(|response| response.parse()));
    ended(1, &first, held.parse());
    // The one that it belongs to is none the worse for it.
    until("the worker is through with it", || Told::of(&Journal::ours().since(0).0).calls[&2].ended == 1);
    drop(held);
    executed(&client, 3);
    judge(2..=2);
    Ok(())
}
