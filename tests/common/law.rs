//! The law of conservation, over what everybody wrote down: what was asked, what was done, and what was answered, make
//! one story. What may have disturbed it is for each harness to say.

use super::journal::{Event, Record};
use super::verdict::Verdict;
use std::collections::BTreeMap;
use stokehold::Code;

/// What a call is, as the journal says it.
pub const PLAIN: u64 = 0;
pub const STREAM: u64 = 1;
pub const CONTEXT: u64 = 2;
/// Its app calls another.
pub const ASKS: u64 = 3;
/// One that an app makes.
pub const ASKED: u64 = 4;
/// Flag: its caller gives it up, or it has little time.
pub const MAY_END: u64 = 8;

/// Where a call has a limit that is to be watched, its way has that above, in milliseconds.
const LIMIT_SHIFT: u32 = 8;

/// The way of a call that has so much time.
pub fn limited(way: u64, limit_ms: u64) -> u64 {
    way | limit_ms << LIMIT_SHIFT
}

/// How much time that was, in milliseconds; 0 without a limit.
pub fn limit_of(way: u64) -> u64 {
    way >> LIMIT_SHIFT
}

/// Half of what a worker may take to let a call go that was given up.
const KEPT_NS: u64 = 50_000_000;

/// What was done to those whose story it is.
pub trait Circumstances {
    /// Whether this caller may have died before it had its outcome.
    fn may_be_lost(&self, issued: &Record) -> bool;

    /// Whether anything was done of which this comes.
    fn explains(&self, id: u64, call: &Call, issued: &Record, outcome: &Record, verdict: Verdict) -> bool;
}

/// What was told of calls.
#[derive(Debug, Default)]
pub struct Told {
    pub calls: BTreeMap<u64, Call>,
    wrong: Vec<Record>,
}

impl Told {
    pub fn of(records: &[Record]) -> Told {
        let mut told = Told::default();
        for record in records {
            let call = match record.event {
                Event::Struck | Event::Closing | Event::Left | Event::Reaped | Event::Hosts => continue,
                Event::Wrong => {
                    told.wrong.push(*record);
                    continue;
                }
                _ => told.calls.entry(record.id).or_default(),
            };
            match record.event {
                Event::Issued => call.issued.push(*record),
                Event::Outcome => call.outcomes.push(*record),
                Event::Begin => call.begun.push(*record),
                Event::End => {
                    call.ended += 1;
                    call.done_ns = call.done_ns.max(record.at_ns);
                }
                Event::Send => call.sent.add(record.value),
                Event::Got => call.got.add(record.value),
                Event::SendBack => call.sent_back.add(record.value),
                _ => call.got_back.add(record.value),
            }
        }
        told
    }

    /// C1 to C4, C7 and C8, the last with this as what is longer than any limit of time.
    pub fn judge(&self, circumstances: &impl Circumstances, limit_ms: u64) -> Findings {
        let mut found = Findings::default();
        let wrong = self.wrong.iter().map(|at| format!("C3/C4: what came was not what was sent: {at:?}"));
        found.violations.extend(wrong);
        for (id, call) in &self.calls {
            let mut amiss = |law: &str| {
                found.violations.push(format!("{law}: call {id:#x}: {call:?}"));
            };
            let [issued] = &call.issued[..] else {
                amiss("C1: issued once");
                continue;
            };
            found.issued += 1;
            found.begun += call.begun.len() as u64;
            found.items += call.got.items + call.got_back.items;
            if call.begun.len() > 1 {
                amiss("C2: a call runs once at most");
            }
            for (there, here, way) in
                [(&call.sent, &call.got, "to"), (&call.sent_back, &call.got_back, "from")]
            {
                if there.is_broken || here.is_broken || here.items > there.items {
                    amiss(&format!("C4: items {way} the caller are a prefix of what was sent"));
                }
            }
            let outcome = match &call.outcomes[..] {
                [outcome] => outcome,
                [] if circumstances.may_be_lost(issued) => {
                    found.lost_with_client += 1;
                    continue;
                }
                _ => {
                    amiss("C1: exactly one outcome of a caller that lived");
                    continue;
                }
            };
            let verdict = Verdict::unpack(outcome.value);
            *found.outcomes.entry(verdict.name()).or_default() += 1;
            let took_ms = outcome.at_ns.saturating_sub(issued.at_ns) / 1_000_000;
            found.longest_ms = found.longest_ms.max(took_ms);
            if took_ms > limit_ms {
                amiss("C8: an outcome long after every limit of time");
            }
            let way = issued.value;
            let has_items = matches!(way & 7, STREAM | CONTEXT);
            let gave_up = has_items && way & MAY_END != 0;
            if verdict.code == 0 && !gave_up && (call.begun.len(), call.ended) != (1, 1) {
                amiss("C2: a result of a call that did not run to its end");
            }
            if verdict.code == 0 && !gave_up && has_items {
                let whole = call.sent.items == call.got.items && call.sent_back.items == call.got_back.items;
                if !whole {
                    amiss("C4: an end before the end");
                }
            }
            if verdict.started == Some(false) && !call.begun.is_empty() {
                amiss("C2: it was said not to have started");
            }
            if !circumstances.explains(*id, call, issued, outcome, verdict) {
                amiss(&format!("C7/C8: nothing was done that explains {verdict:?}"));
            }
        }
        found
    }
}

/// What is known of one call.
#[derive(Debug, Default)]
pub struct Call {
    pub issued: Vec<Record>,
    pub outcomes: Vec<Record>,
    pub begun: Vec<Record>,
    pub ended: usize,
    /// When its app was through with it.
    done_ns: u64,
    pub sent: Count,
    pub got: Count,
    pub sent_back: Count,
    pub got_back: Count,
}

impl Call {
    pub fn verdict(&self) -> Option<Verdict> {
        self.outcomes.first().map(|outcome| Verdict::unpack(outcome.value))
    }

    pub fn failed(&self) -> bool {
        self.verdict().is_none_or(|verdict| verdict.code != 0)
    }

    /// By its caller, with its caller, or with the call in which it was made.
    pub fn is_given_up(&self) -> bool {
        let may_end = self.issued.iter().any(|issued| issued.value & MAY_END != 0);
        may_end || self.verdict().is_none_or(|verdict| verdict.is(Code::Cancelled))
    }

    /// Whether its worker may have had it for so long after it was given up that it was replaced for that: a worker that gets
    /// no processor for a tenth of a second is no other than one that does not listen.
    pub fn is_kept(&self) -> bool {
        let first = |all: &[Record]| all.first().map_or(0, |record| record.at_ns);
        // The limit may have passed long before its caller wrote down that it had.
        let (issued, told) = (first(&self.issued), first(&self.outcomes).saturating_sub(2 * KEPT_NS));
        self.is_given_up() && (self.ended == 0 || self.done_ns > told.max(issued + KEPT_NS))
    }
}

/// Items, which come in order.
#[derive(Debug, Default)]
pub struct Count {
    pub items: u64,
    is_broken: bool,
}

impl Count {
    fn add(&mut self, at: u64) {
        self.is_broken |= at != self.items;
        self.items = self.items.max(at + 1);
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// How often each way of ending came up.
    pub outcomes: BTreeMap<String, u64>,
    pub issued: u64,
    pub lost_with_client: u64,
    pub begun: u64,
    pub items: u64,
    pub longest_ms: u64,
    pub violations: Vec<String>,
}

impl Findings {
    pub fn add(&mut self, other: Findings) {
        let Findings { outcomes, issued, lost_with_client, begun, items, longest_ms, violations } = other;
        outcomes.into_iter().for_each(|(name, count)| *self.outcomes.entry(name).or_default() += count);
        self.issued += issued;
        self.lost_with_client += lost_with_client;
        self.begun += begun;
        self.items += items;
        self.longest_ms = self.longest_ms.max(longest_ms);
        self.violations.extend(violations);
    }
}
