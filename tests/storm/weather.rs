//! What was done in a season, to whom and when: what goes wrong has to be explained by it.

use super::journal::{Event, Record};
use super::plan::{Action, LONGEST_SPAN};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug)]
pub struct Weather {
    pub arbiter: u32,
    struck: BTreeMap<u32, Vec<(u64, Action)>>,
    /// When the arbiter was told to close.
    closes_ns: Option<u64>,
    /// And when it was told not to wait for what runs, or lost its host.
    closes_now_ns: Option<u64>,
}

/// How long an arbiter that closes waits for what runs.
pub const GRACE: Duration = Duration::from_secs(5);

impl Weather {
    pub fn of(records: &[Record], arbiter: u32) -> Weather {
        let mut weather = Weather { arbiter, struck: BTreeMap::new(), closes_ns: None, closes_now_ns: None };
        for record in records {
            match (record.event, Action::of(record.value)) {
                (Event::Struck, Some(action)) => {
                    weather.struck.entry(record.id as u32).or_default().push((record.at_ns, action));
                }
                (Event::Closing, _) => {
                    weather.closes_ns.get_or_insert(record.at_ns);
                    if record.value != 0 {
                        weather.closes_now_ns = Some(record.at_ns);
                    }
                }
                _ => {}
            }
        }
        weather
    }

    /// Whether one of these was done to a process before this moment.
    pub fn was(&self, pid: u32, some: &[Action], by_ns: u64) -> bool {
        let done = self.struck.get(&pid).into_iter().flatten();
        done.into_iter().any(|(at_ns, action)| *at_ns <= by_ns && some.contains(action))
    }

    /// Whether anything was done to a process from one moment to the other, or so shortly before that it may have lasted.
    pub fn touches(&self, pid: u32, from_ns: u64, to_ns: u64) -> bool {
        let from_ns = from_ns.saturating_sub(LONGEST_SPAN.as_nanos() as u64);
        let done = self.struck.get(&pid).into_iter().flatten();
        done.into_iter().any(|(at_ns, _)| (from_ns..=to_ns).contains(at_ns))
    }

    /// What is over by then may still be felt: a descriptor that was not to be had is missing for good.
    pub fn was_squeezed(&self, pid: u32, by_ns: u64) -> bool {
        self.was(pid, &[Action::NoFiles, Action::NoMemory, Action::Quota], by_ns)
    }

    pub fn arbiter_killed(&self, by_ns: u64) -> bool {
        self.was(self.arbiter, &[Action::Kill, Action::Segv], by_ns)
    }

    pub fn is_closing(&self, by_ns: u64) -> bool {
        self.closes_ns.is_some_and(|at_ns| at_ns <= by_ns)
    }

    /// Whether what still runs is killed by then.
    pub fn cuts_short(&self, by_ns: u64) -> bool {
        let grace = GRACE.as_nanos() as u64;
        self.closes_now_ns.is_some_and(|at_ns| at_ns <= by_ns)
            || self.closes_ns.is_some_and(|at_ns| at_ns + grace <= by_ns)
    }
}
