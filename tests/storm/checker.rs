//! The conservation law over a season's journal: what was asked, what was done, and what was answered, make one story.

use super::app::NESTED;
use super::client::{HUNG_MS, UNCONNECTED};
use super::journal::{Event, Record, unpack};
use super::law::{ASKED, ASKS, Call, Circumstances, Findings, MAY_END, Told};
use super::plan::Action;
use super::verdict::*;
use super::weather::Weather;
use std::collections::{BTreeMap, BTreeSet};
use stokehold::Code;
use stokehold::internals::sys::process::ExitStatus;

/// What everybody wrote down, by whom it is about.
pub struct Story {
    pub weather: Weather,
    pub told: Told,
    /// Clients that ended by themselves.
    left: BTreeSet<u32>,
    /// How clients ended.
    ends: BTreeMap<u32, Vec<Record>>,
    /// Workers that had a call for long after its caller gave it up.
    kept: BTreeSet<u32>,
    /// How many calls all workers run at once.
    threads: usize,
}

impl Story {
    /// Everything that the journal of a season of this arbiter's has to say for itself, whose workers run so many calls at once.
    pub fn of(records: &[Record], arbiter: u32, threads: usize) -> Story {
        let mut story = Story {
            weather: Weather::of(records, arbiter),
            told: Told::of(records),
            left: BTreeSet::new(),
            ends: BTreeMap::new(),
            kept: BTreeSet::new(),
            threads,
        };
        for record in records {
            match record.event {
                Event::Left => drop(story.left.insert(record.pid)),
                Event::Reaped => story.ends.entry(record.id as u32).or_default().push(*record),
                _ => {}
            }
        }
        let kept = story.told.calls.values().filter(|call| call.is_kept());
        story.kept = kept.flat_map(|call| &call.begun).map(|begun| begun.pid).collect();
        story
    }

    pub fn judge(&self) -> Findings {
        let mut found = self.told.judge(self, 2 * HUNG_MS);
        found.violations.extend(self.clients());
        found
    }

    /// Clients end by themselves, or of what was done to them.
    fn clients(&self) -> Vec<String> {
        let mut amiss = Vec::new();
        let callers =
            self.told.calls.values().flat_map(|call| &call.issued).filter(|at| at.value & 7 != ASKED);
        let callers: BTreeSet<u32> = callers.map(|issued| issued.pid).collect();
        let unknown = callers.iter().filter(|pid| !self.ends.contains_key(pid));
        amiss.extend(unknown.map(|pid| format!("C7: nobody saw how client {pid} ended")));
        for (pid, end) in self.ends.iter().flat_map(|(pid, ends)| ends.iter().map(|end| (*pid, end))) {
            let by = end.at_ns;
            let was = |action| self.weather.was(pid, &[action], by);
            let status = unpack(end.value);
            let is_explained = match status {
                ExitStatus::Exited(0) => self.left.contains(&pid) || was(Action::Exit),
                ExitStatus::Exited(UNCONNECTED) => {
                    let is_over = self.weather.arbiter_killed(by) || self.weather.is_closing(by);
                    is_over
                        || [pid, self.weather.arbiter].iter().any(|pid| self.weather.was_squeezed(*pid, by))
                }
                ExitStatus::Signaled(libc::SIGKILL) => was(Action::Kill),
                ExitStatus::Signaled(libc::SIGSEGV) => was(Action::Segv),
                // What the kernel does to who makes a file longer than it may, and does not ignore it.
                ExitStatus::Signaled(libc::SIGXFSZ) => was(Action::NoMemory),
                _ => false,
            };
            if !is_explained {
                amiss.push(format!("C7: nothing was done to client {pid} that explains {status:?}"));
            }
        }
        amiss
    }

    /// Whether for half the time of a call all threads were in apps that waited for calls of their own, which nobody could take
    /// then. That is no fault of the pool's; limits of time end it.
    fn is_jammed(&self, by: u64) -> bool {
        let since = by.saturating_sub(HUNG_MS * 1_000_000 / 2);
        let waited = |call: &&Call| {
            let asks = call.issued.first().is_some_and(|issued| issued.value & 7 == ASKS);
            let begun = call.begun.first().is_some_and(|begun| begun.at_ns < since);
            // All of them end at about the same time, whoever writes it down first.
            asks && begun && call.outcomes.first().is_none_or(|outcome| outcome.at_ns + 1_000_000_000 > by)
        };
        self.told.calls.values().filter(waited).count() >= self.threads
    }

    fn explains_death(&self, verdict: Verdict, by: u64) -> bool {
        let weather = &self.weather;
        let was = |some: &[Action]| weather.was(verdict.pid, some, by);
        match verdict.cause {
            // Not known yet, whatever it was, or what its arbiter did not live to see.
            UNKNOWN => {
                was(&[Action::Kill, Action::Segv, Action::Exit, Action::Stop, Action::NoMemory])
                    || self.kept.contains(&verdict.pid)
                    || weather.cuts_short(by)
                    || weather.arbiter_killed(by)
            }
            // Who ends with status 0 while it is being closed ends as it was told to, whatever it was in.
            CLOSED => weather.cuts_short(by) || weather.is_closing(by) && was(&[Action::Exit]),
            EXIT => was(&[Action::Exit]),
            LATE => was(&[Action::Stop]) || self.kept.contains(&verdict.pid),
            HUNG => was(&[Action::Stop]) || weather.was(weather.arbiter, &[Action::Stop], by),
            cause if cause == SIGNAL | libc::SIGXFSZ as u8 => was(&[Action::NoMemory]),
            cause if cause == SIGNAL | libc::SIGSEGV as u8 => was(&[Action::Segv]),
            cause if cause == SIGNAL | libc::SIGKILL as u8 => {
                was(&[Action::Kill]) || weather.arbiter_killed(by)
            }
            _ => false,
        }
    }
}

impl Circumstances for Story {
    fn may_be_lost(&self, issued: &Record) -> bool {
        use Action::*;
        if issued.value & 7 != ASKED {
            return !self.left.contains(&issued.pid);
        }
        // Workers say nothing when they end.
        let was_struck = self.weather.was(issued.pid, &[Kill, Segv, Exit, Stop, NoMemory], u64::MAX);
        was_struck
            || self.kept.contains(&issued.pid)
            || self.weather.arbiter_killed(u64::MAX)
            || self.weather.cuts_short(u64::MAX)
    }

    fn explains(&self, id: u64, call: &Call, issued: &Record, outcome: &Record, verdict: Verdict) -> bool {
        let (weather, by) = (&self.weather, outcome.at_ns);
        let (way, may_end) = (issued.value & 7, issued.value & MAY_END != 0);
        // The other one of a call and the call that is made for it.
        let partner_failed = || self.told.calls.get(&(id ^ NESTED)).is_some_and(|other| other.failed());
        // What a process says that may open, or write, no more.
        let lacks = [Code::Os, Code::Start, Code::Frame, Code::App, Code::BadRequest, Code::Overloaded];
        let squeezed = || {
            let pids =
                call.begun.iter().map(|begun| begun.pid).chain([issued.pid, verdict.pid, weather.arbiter]);
            lacks.iter().any(|code| verdict.is(*code))
                && pids.into_iter().any(|pid| weather.was_squeezed(pid, by))
        };
        match verdict.code {
            0 => true,
            _ if verdict.is(Code::WorkerDied) => self.explains_death(verdict, by),
            _ if verdict.is(Code::ArbiterDied) => weather.arbiter_killed(by),
            _ if verdict.is(Code::ShuttingDown) => weather.is_closing(by),
            _ if verdict.is(Code::Cancelled) => may_end || way == ASKED && partner_failed(),
            _ if verdict.is(Code::Deadline) => may_end || self.is_jammed(by),
            _ if verdict.is(Code::App) && verdict.cause == PANIC => false,
            _ if verdict.is(Code::App) && verdict.cause == ORPHANED => weather.arbiter_killed(by),
            _ if verdict.is(Code::App) => way == ASKS && partner_failed() || squeezed(),
            _ => squeezed(),
        }
    }
}
