//! How long calls take while others are struck. It is told and not judged: no test demands a time.

use super::law::{Call, MAY_END, PLAIN, Told, limit_of};
use super::weather::Weather;
use std::fmt;

/// Times of calls that were spared: nothing was done to their client or their worker, then or shortly before.
#[derive(Debug, Default)]
pub struct Pace {
    /// From the sending of a plain call to its result (C7).
    pub took_ns: Vec<u64>,
    /// From the limit that a call had to the error that says so (C8).
    pub late_ns: Vec<u64>,
    /// Calls that nobody had begun in a second, when a worker began one that was sent after them (C8). The arbiter was
    /// spared as well: a call may need memory of it before it is sent.
    pub passed_over: usize,
}

const SECOND_NS: u64 = 1_000_000_000;

impl Pace {
    pub fn of(told: &Told, weather: &Weather) -> Pace {
        let mut pace = Pace::default();
        let begun = |call: &Call| Some((call.begun.first()?.at_ns, call.issued.first()?.at_ns));
        let begun: Vec<(u64, u64)> = told.calls.values().filter_map(begun).collect();
        for call in told.calls.values() {
            let ([issued], [outcome], Some(verdict)) = (&call.issued[..], &call.outcomes[..], call.verdict())
            else {
                continue;
            };
            let pids = call.begun.iter().map(|begun| begun.pid).chain([issued.pid]);
            if pids.into_iter().any(|pid| weather.touches(pid, issued.at_ns, outcome.at_ns)) {
                continue;
            }
            let (sent_ns, until_ns) = (issued.at_ns, call.begun.first().unwrap_or(outcome).at_ns);
            let since_ns = sent_ns + SECOND_NS;
            if since_ns < until_ns && !weather.touches(weather.arbiter, sent_ns, until_ns) {
                let is_later = |(at, sent): &(u64, u64)| *sent > sent_ns && (since_ns..until_ns).contains(at);
                pace.passed_over += usize::from(begun.iter().any(is_later));
            }
            let took_ns = outcome.at_ns.saturating_sub(issued.at_ns);
            let limit_ns = limit_of(issued.value) * 1_000_000;
            if limit_ns > 0 && verdict.is(stokehold::Code::Deadline) {
                pace.late_ns.push(took_ns.saturating_sub(limit_ns));
            } else if issued.value & 7 == PLAIN && issued.value & MAY_END == 0 && verdict.code == 0 {
                pace.took_ns.push(took_ns);
            }
        }
        pace
    }

    pub fn add(&mut self, other: Pace) {
        self.took_ns.extend(other.took_ns);
        self.late_ns.extend(other.late_ns);
        self.passed_over += other.passed_over;
    }

    /// Whether it knows of a call of either kind.
    pub fn is_known(&self) -> bool {
        !self.took_ns.is_empty() && !self.late_ns.is_empty()
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (took, late) = (Spread(&self.took_ns), Spread(&self.late_ns));
        write!(f, "results after {took}; errors {late} after their limit; {} passed over", self.passed_over)
    }
}

struct Spread<'t>(&'t [u64]);

impl fmt::Display for Spread<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = self.0.to_vec();
        all.sort_unstable();
        let ms = |per_mille: usize| all.get(all.len() * per_mille / 1_000).map_or(0.0, |ns| *ns as f64 / 1e6);
        let longest = all.last().map_or(0.0, |ns| *ns as f64 / 1e6);
        write!(f, "{:.2} ms (p99 {:.1}, longest {longest:.1}, of {})", ms(500), ms(990), all.len())
    }
}
