//! C5: at rest, what a pool has counted is what everybody wrote down. Equations where both sides are known; where a process took
//! its own side to its grave, or nobody wrote a thing down, between which numbers it must lie.

use super::journal::{Event, Record};
use super::law::{ASKED, Call, MAY_END, Told};
use super::plan::Action;
use super::rest::{list, number};
use super::weather::Weather;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use stokehold::{Code, Value};

/// What does not add up, of a pool at rest of whose season this is the journal.
pub fn check(records: &[Record], arbiter: u32, status: &Value) -> Vec<String> {
    match compare(records, arbiter, status) {
        Ok(amiss) => amiss,
        Err(why) => vec![format!("C5: {why}")],
    }
}

fn compare(records: &[Record], arbiter: u32, status: &Value) -> Result<Vec<String>, String> {
    let totals = status.get("totals").ok_or("no totals are told")?;
    let total = |name| number(totals, name).map(|count| count as u64);
    let (told, weather) = (Told::of(records), Weather::of(records, arbiter));
    let calls = || told.calls.values();
    let count = |which: &dyn Fn(&&Call) -> bool| calls().filter(which).count() as u64;
    let way = |call: &Call| call.issued.first().map_or(0, |issued| issued.value);
    let ended_as = |call: &Call, codes: &[Code]| {
        call.verdict().is_some_and(|verdict| codes.iter().any(|code| verdict.is(*code)))
    };
    let pids = |event: Event| -> BTreeSet<u32> {
        let all = records.iter().filter(|record| record.event == event);
        all.map(|record| if event == Event::Reaped { record.id as u32 } else { record.pid }).collect()
    };
    let mut amiss = Vec::new();
    let mut lies = |what: &str, is: u64, within: RangeInclusive<u64>| {
        if !within.contains(&is) {
            amiss.push(format!("C5: {what}: {is} are told, where {within:?} would be right"));
        }
    };

    // A call is counted when it is sent. Whoever tells of a worker, or of time that passed, has sent it; what was lost before
    // it began may have been sent once more.
    let was_sent = |call: &&Call| {
        let sent = [Code::WorkerDied, Code::Deadline, Code::Cancelled];
        !call.begun.is_empty() || ended_as(call, &sent) || call.verdict().is_some_and(|with| with.code == 0)
    };
    let (started, died) = (total("workers_started")?, total("workers_died")?);
    let unbegun = total("lost_unbegun")?;
    lies("calls", total("calls")?, count(&was_sent)..=count(&|_| true) + unbegun);

    // Each that was lost in an app is heard of by its caller: unless that one died, gave it up, or was in a call itself.
    let heard = |call: &&Call| {
        let died = call.verdict().is_some_and(|with| with.is(Code::WorkerDied) && with.started == Some(true));
        died || call.outcomes.is_empty() || way(call) & MAY_END != 0 || way(call) & 7 == ASKED
    };
    lies("calls that were lost in an app", total("lost_begun")?, 0..=count(&heard));
    lies("calls that were lost before it", unbegun, 0..=died * 64);
    let is_refused = |call: &&Call| call.outcomes.is_empty() || ended_as(call, &[Code::NoWorkers]);
    lies("calls that were refused", total("refused")?, 0..=count(&is_refused));

    // Workers are started, and are dead or there.
    let there = list(status, "workers")?.iter().filter(|worker| worker.get("pid").is_some()).count() as u64;
    lies("workers that were started", started, died + there..=died + there);
    let (begun, clients) = (pids(Event::Begin), pids(Event::Reaped));
    let struck = |some: &[Action]| -> BTreeSet<u32> {
        let all = records.iter().filter(|record| record.event == Event::Struck);
        let all = all.filter(|record| some.iter().any(|action| *action as u64 == record.value));
        all.map(|record| record.id as u32).filter(|pid| *pid != arbiter && !clients.contains(pid)).collect()
    };
    let killed = struck(&[Action::Kill, Action::Segv]).intersection(&begun).count() as u64;
    let kept = calls().filter(|call| call.is_kept());
    let kept: BTreeSet<u32> = kept.flat_map(|call| &call.begun).map(|begun| begun.pid).collect();
    let may_be_dead =
        struck(&[Action::Kill, Action::Segv, Action::Exit, Action::Stop, Action::NoFiles, Action::NoMemory]);
    let most = match weather.was_squeezed(arbiter, u64::MAX) {
        true => u64::MAX, // what it could not start died young
        false => may_be_dead.union(&kept).count() as u64,
    };
    lies("workers that died", died, killed..=most.max(killed));

    // Who called was let in. Who could not make use of that, for want of something, comes once more.
    let callers: BTreeSet<u32> =
        calls().filter(was_sent).flat_map(|call| &call.issued).map(|issued| issued.pid).collect();
    let squeezes = [Action::NoFiles, Action::NoMemory];
    let was_squeeze =
        |record: &Record| Action::of(record.value).is_some_and(|action| squeezes.contains(&action));
    let most = match records.iter().any(|record| record.event == Event::Struck && was_squeeze(record)) {
        true => u64::MAX,
        false => clients.len() as u64 + started,
    };
    lies("clients", total("clients")?, callers.len() as u64..=most);
    Ok(amiss)
}
