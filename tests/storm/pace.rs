//! How long calls take while others are struck. It is told and not judged: no test demands a time.

use super::law::{MAY_END, PLAIN, Told};
use super::weather::Weather;
use std::fmt;

/// Times of calls that were spared: nothing was done to their client or their worker, then or shortly before.
#[derive(Debug, Default)]
pub struct Pace {
    /// From the sending of a plain call to its result (C7).
    pub took_ns: Vec<u64>,
    /// From the limit that a call had to the error that says so (C8).
    pub late_ns: Vec<u64>,
}

/// Where a call has a limit that is to be watched, its way has that above, in milliseconds.
const LIMIT_SHIFT: u32 = 8;

/// The way of a call that has so much time.
pub fn limited(way: u64, limit_ms: u64) -> u64 {
    way | limit_ms << LIMIT_SHIFT
}

impl Pace {
    pub fn of(told: &Told, weather: &Weather) -> Pace {
        let mut pace = Pace::default();
        for call in told.calls.values() {
            let ([issued], [outcome], Some(verdict)) = (&call.issued[..], &call.outcomes[..], call.verdict())
            else {
                continue;
            };
            let pids = call.begun.iter().map(|begun| begun.pid).chain([issued.pid]);
            if pids.into_iter().any(|pid| weather.touches(pid, issued.at_ns, outcome.at_ns)) {
                continue;
            }
            let took_ns = outcome.at_ns.saturating_sub(issued.at_ns);
            let limit_ns = (issued.value >> LIMIT_SHIFT) * 1_000_000;
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
    }

    /// Whether it knows of a call of either kind.
    pub fn is_known(&self) -> bool {
        !self.took_ns.is_empty() && !self.late_ns.is_empty()
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "results after {}; errors {} after their limit",
            Spread(&self.took_ns),
            Spread(&self.late_ns)
        )
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
