//! What was done in a case, and what may come of it: of that, and of nothing else.

use super::app::NESTED;
use super::client::{HUNG_MS, UNCONNECTED};
use super::journal::{Event, Record, unpack};
use super::law::{ASKED, ASKS, Call, Circumstances, Findings, MAY_END, Told};
use super::verdict::*;
use std::collections::{BTreeMap, BTreeSet};
use stokehold::Code;
use stokehold::internals::sys::process::ExitStatus;

/// What was done, as the journal has it.
pub const KILL: u64 = 1;
pub const STOP: u64 = 2;
pub const SLEEP: u64 = 3;
pub const EXIT: u64 = 4;
pub const PANIC: u64 = 5;
pub const ERRNO: u64 = 6;

struct Story {
    told: Told,
    arbiter: u32,
    struck: BTreeMap<u32, Vec<(u64, u64)>>,
    closes_ns: Option<u64>,
    left: BTreeSet<u32>,
    ends: Vec<(u32, Record)>,
    /// Workers that had a call for long after its caller gave it up.
    kept: BTreeSet<u32>,
}

/// The law over these records, of a pool with this arbiter.
pub fn judge(records: &[Record], arbiter: u32) -> Findings {
    let mut story = Story {
        told: Told::of(records),
        arbiter,
        struck: BTreeMap::new(),
        closes_ns: None,
        left: BTreeSet::new(),
        ends: Vec::new(),
        kept: BTreeSet::new(),
    };
    for record in records {
        match record.event {
            Event::Struck => {
                story.struck.entry(record.id as u32).or_default().push((record.at_ns, record.value));
            }
            Event::Closing => story.closes_ns = Some(record.at_ns),
            Event::Left => drop(story.left.insert(record.pid)),
            Event::Reaped => story.ends.push((record.id as u32, *record)),
            _ => {}
        }
    }
    let kept = story.told.calls.values().filter(|call| call.is_kept());
    story.kept = kept.flat_map(|call| &call.begun).map(|begun| begun.pid).collect();
    let mut found = story.told.judge(&story, 2 * HUNG_MS);
    found.violations.extend(story.ends.iter().filter_map(|(pid, end)| story.client(*pid, end)));
    found
}

impl Story {
    /// Whether one of these was done to a process before this moment.
    fn was(&self, pid: u32, some: &[u64], by_ns: u64) -> bool {
        let struck = self.struck.get(&pid).into_iter().flatten();
        struck.into_iter().any(|(at_ns, what)| *at_ns <= by_ns && some.contains(what))
    }

    fn no_arbiter(&self, by_ns: u64) -> bool {
        self.was(self.arbiter, &[KILL, EXIT, PANIC], by_ns)
    }

    fn is_closing(&self, by_ns: u64) -> bool {
        self.closes_ns.is_some_and(|at_ns| at_ns <= by_ns)
    }

    /// Whether a system call was made to fail, of anybody: what of that is felt elsewhere is told there.
    fn failed(&self, by_ns: u64) -> bool {
        self.struck.keys().any(|pid| self.was(*pid, &[ERRNO], by_ns))
    }

    fn client(&self, pid: u32, end: &Record) -> Option<String> {
        let by = end.at_ns;
        let status = unpack(end.value);
        let is_explained = match status {
            ExitStatus::Exited(0) => self.left.contains(&pid) || self.was(pid, &[EXIT], by),
            ExitStatus::Exited(UNCONNECTED) => self.no_arbiter(by) || self.is_closing(by) || self.failed(by),
            ExitStatus::Exited(101) => self.was(pid, &[PANIC], by),
            ExitStatus::Signaled(libc::SIGKILL) => self.was(pid, &[KILL], by),
            _ => false,
        };
        (!is_explained).then(|| format!("C7: nothing was done to client {pid} that explains {status:?}"))
    }

    fn explains_death(&self, verdict: Verdict, by: u64) -> bool {
        let was = |some: &[u64]| self.was(verdict.pid, some, by);
        match verdict.cause {
            // Not known yet, whatever it was, or what its arbiter did not live to see.
            UNKNOWN => {
                was(&[KILL, EXIT, PANIC, STOP])
                    || self.kept.contains(&verdict.pid)
                    || self.is_closing(by)
                    || self.no_arbiter(by)
            }
            EXIT_0 => was(&[EXIT]),
            FAILED => was(&[PANIC]),
            CLOSED => self.is_closing(by),
            LATE => was(&[STOP]) || self.kept.contains(&verdict.pid),
            HUNG => was(&[STOP]),
            cause if cause == SIGNAL | libc::SIGKILL as u8 => was(&[KILL]) || self.no_arbiter(by),
            _ => false,
        }
    }
}

/// [`EXIT`] is what was done; this is the cause of it.
const EXIT_0: u8 = super::verdict::EXIT;

impl Circumstances for Story {
    fn may_be_lost(&self, issued: &Record) -> bool {
        let fatal = [KILL, EXIT, PANIC];
        if issued.value & 7 != ASKED {
            return !self.left.contains(&issued.pid) && self.was(issued.pid, &fatal, u64::MAX);
        }
        // A worker, which says nothing when it ends: by itself, for a call that it kept, or with its arbiter.
        self.was(issued.pid, &fatal, u64::MAX)
            || self.was(issued.pid, &[STOP], u64::MAX)
            || self.kept.contains(&issued.pid)
            || self.no_arbiter(u64::MAX)
    }

    fn explains(&self, id: u64, call: &Call, issued: &Record, outcome: &Record, verdict: Verdict) -> bool {
        let by = outcome.at_ns;
        let (way, may_end) = (issued.value & 7, issued.value & MAY_END != 0);
        // The other one of a call and the call that is made for it.
        let partner_failed = || self.told.calls.get(&(id ^ NESTED)).is_some_and(|other| other.failed());
        let lacks = [Code::Os, Code::Start, Code::App, Code::BadRequest, Code::Overloaded];
        let refused = || lacks.iter().any(|code| verdict.is(*code)) && self.failed(by);
        match verdict.code {
            0 => true,
            _ if verdict.is(Code::WorkerDied) => self.explains_death(verdict, by),
            _ if verdict.is(Code::ArbiterDied) => self.no_arbiter(by),
            _ if verdict.is(Code::ShuttingDown) => self.is_closing(by),
            _ if verdict.is(Code::Cancelled) => may_end || way == ASKED && partner_failed(),
            _ if verdict.is(Code::Deadline) => may_end,
            _ if verdict.is(Code::App) && verdict.cause == super::verdict::PANIC => {
                call.begun.iter().any(|begun| self.was(begun.pid, &[PANIC], by))
            }
            _ if verdict.is(Code::App) && verdict.cause == ORPHANED => self.no_arbiter(by),
            _ if verdict.is(Code::App) => way == ASKS && partner_failed() || refused(),
            _ => refused(),
        }
    }
}
