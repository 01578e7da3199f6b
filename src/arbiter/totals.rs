//! What has happened since a pool began, counted: for people, their tools, and the law of conservation (C5 of
//! docs/protocol.md). Nothing is counted on the way of a call: how many there were the generations of its lanes' words say.

use super::core::Arbiter;
use crate::ring::{CallLine, Generation, Reason, State};
use crate::wire::Value;

/// Counts that only grow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Processes that were started as workers, and those whose end was seen.
    pub started: u64,
    pub died: u64,
    /// Processes that were let in as clients; workers that call others are, too.
    pub clients: u64,
    /// Calls of lanes that are gone.
    pub past: u64,
    /// Calls that were with a worker when it died, whether the app had begun with them or not.
    pub lost_begun: u64,
    pub lost_unbegun: u64,
    /// Calls that waited when the pool was degraded or closed.
    pub refused: u64,
}

impl Totals {
    /// A call was ended, for this reason.
    pub fn ended(&mut self, reason: Reason) {
        match reason {
            Reason::Begun => self.lost_begun += 1,
            Reason::NotBegun => self.lost_unbegun += 1,
            Reason::Degraded | Reason::NoWorkers | Reason::ShuttingDown => self.refused += 1,
        }
    }
}

/// How many calls a lane's words have had, whose first generation this is: as they say, so that a damaged one is not counted.
pub fn calls_of(lines: &[CallLine], first: Generation) -> u64 {
    let words = lines.iter().filter_map(|line| line.look().ok());
    words.map(|word| used(word.generation(), first) + u64::from(word.state() != State::Idle)).sum()
}

fn used(generation: Generation, first: Generation) -> u64 {
    u64::from(generation.0.wrapping_sub(first.0))
}

impl Arbiter<'_> {
    pub(super) fn tell_totals(&self) -> Value {
        let totals = &self.history.totals;
        let first = self.settings.counters.generation;
        let present: u64 =
            self.lanes.iter().flatten().map(|lane| calls_of(lane.control.lines(), first)).sum();
        let pairs = [
            ("calls", totals.past + present),
            ("lost_begun", totals.lost_begun),
            ("lost_unbegun", totals.lost_unbegun),
            ("refused", totals.refused),
            ("workers_started", totals.started),
            ("workers_died", totals.died),
            ("clients", totals.clients),
        ];
        let told = pairs.into_iter().map(|(name, count)| (name.to_owned(), Value::Int(count as i64)));
        Value::Dict(told.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Life;

    #[test]
    fn a_call_is_counted_from_when_it_is_sent_whatever_becomes_of_it() {
        let first = Generation(u32::MAX);
        let lines = [CallLine::new(first), CallLine::new(first)];
        assert_eq!(calls_of(&lines, first), 0);
        lines[0].publish(first).unwrap();
        assert_eq!(calls_of(&lines, first), 1);
        assert!(lines[0].claim(first, Life::new(1).unwrap()));
        lines[0].complete(first, Life::new(1).unwrap(), 1).unwrap();
        assert_eq!(calls_of(&lines, first), 1);
        let next = lines[0].release(lines[0].look().unwrap()).unwrap();
        assert_eq!(calls_of(&lines, first), 1);
        lines[0].publish(next).unwrap();
        lines[0].cancel(next).unwrap();
        lines[1].publish(first).unwrap();
        assert_eq!(calls_of(&lines, first), 3);
    }
}
