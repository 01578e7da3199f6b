//! What was covered, and what came of it.

use crate::edges::Edge;
use crate::positions::Walk;
use crate::scene::{Outcome, Wrong};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};
use stokehold::internals::ring::State;

/// Counts of one path.
#[derive(Debug)]
pub struct Tally {
    /// Where the victim of the last round was; `None` in the kernel.
    pub pc: Option<u64>,
    /// Positions that there are.
    pub positions: usize,
    /// Every how manieth of them was a kill point, and how many were left out before the first.
    pub stride: usize,
    pub first: usize,
    /// Rounds in which the way was another one than in the walk before, and the victim was killed at its end.
    pub missed: u64,
    /// Rounds that were repeated because a breakpoint hit the wrong thread.
    pub trapped: u64,
    /// Rounds.
    pub kills: u64,
    states: BTreeMap<&'static str, u64>,
    outcomes: BTreeMap<Cow<'static, str>, u64>,
    /// Places between edges, and what they were chosen by.
    pub random: u64,
    pub seed: Option<u64>,
    calls: usize,
    stores: usize,
    longest: Duration,
    slow: u64,
    since: Instant,
}

/// An outcome that takes longer than this was not brought about by the death but by a tick. No failure: ticks are
/// there for that; but it should be rare.
const SLOW: Duration = Duration::from_millis(300);

/// No path has fewer positions.
const FEWEST_EDGES: usize = 5;
const FEWEST_STEPS: usize = 100;

impl Tally {
    pub fn new() -> Tally {
        Tally {
            pc: None,
            positions: 0,
            stride: 1,
            first: 0,
            missed: 0,
            trapped: 0,
            kills: 0,
            states: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            random: 0,
            seed: None,
            calls: 0,
            stores: 0,
            longest: Duration::ZERO,
            slow: 0,
            since: Instant::now(),
        }
    }

    /// A path on which most victims went another way shows little of it; and one that was over when it began, nothing.
    pub fn is_armed(&self) -> Result<(), Wrong> {
        let least = if self.calls + self.stores > 0 { FEWEST_EDGES } else { FEWEST_STEPS };
        if self.positions < least {
            return Err(format!("a path of {} positions", self.positions));
        }
        match self.missed * 2 > self.kills && self.kills > 10 {
            true => Err(format!("{} of {} victims went another way", self.missed, self.kills)),
            false => Ok(()),
        }
    }

    /// The word at the moment of the kill.
    pub fn saw(&mut self, state: State, begun: bool) {
        let name = match state {
            State::Idle => "idle",
            State::Queued => "queued",
            State::Running if begun => "begun",
            State::Running => "claimed",
            State::Done if begun => "done",
            State::Done => "done and ended",
            State::Abandoned => "abandoned",
            State::Lost => "lost",
            State::Acked => "acked",
        };
        *self.states.entry(name).or_default() += 1;
    }

    /// What the caller got.
    pub fn outcome(&mut self, outcome: Outcome) {
        let name = match outcome {
            Outcome::Ok(..) => "ok",
            Outcome::Died(true) => "died, started",
            Outcome::Died(false) => "died, not started",
            Outcome::Cancelled(_) => "cancelled",
            Outcome::Deadline(_) => "deadline",
            Outcome::Other(_) => "other",
        };
        self.ended(name);
    }

    /// What became of a call, in other words.
    pub fn ended(&mut self, how: impl Into<Cow<'static, str>>) {
        *self.outcomes.entry(how.into()).or_default() += 1;
    }

    /// What the longest walk met.
    pub fn edges(&mut self, walk: &Walk) {
        let calls = walk.edges.iter().filter(|edge| **edge != Edge::Store).count();
        if walk.edges.len() > self.calls + self.stores {
            (self.calls, self.stores) = (calls, walk.edges.len() - calls);
        }
    }

    /// How long the outcome took from the kill on.
    pub fn took(&mut self, time: Duration) {
        self.longest = self.longest.max(time);
        self.slow += u64::from(time > SLOW);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list(counts: &BTreeMap<impl fmt::Display, u64>) -> String {
            counts.iter().map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ")
        }
        let time = self.since.elapsed();
        write!(f, "{} kill points", self.kills)?;
        if self.stride > 1 {
            let (stride, first) = (ordinal(self.stride), ordinal(self.first + 1));
            write!(f, " (every {stride} of {}, from the {first} on)", self.positions)?;
        }
        write!(f, " in {:.1} s", time.as_secs_f64())?;
        if self.kills > 0 {
            write!(f, " ({:.1} ms each)", time.as_secs_f64() * 1e3 / self.kills as f64)?;
        }
        if self.trapped > 0 {
            write!(f, "; {} repeated by single steps", self.trapped)?;
        }
        write!(f, "; {} went another way", self.missed)?;
        if self.calls + self.stores > 0 {
            write!(f, "; {} system calls, {} stores to shared memory", self.calls, self.stores)?;
            write!(f, "; {} places between them", self.random)?;
            if let Some(seed) = self.seed {
                write!(f, " (--seed {seed})")?;
            }
        } else {
            write!(f, "; word: {}", list(&self.states))?;
        }
        if !self.outcomes.is_empty() {
            write!(f, "; outcome: {}", list(&self.outcomes))?;
        }
        write!(
            f,
            "; longest {:.0} ms, {} over {} ms",
            self.longest.as_secs_f64() * 1e3,
            self.slow,
            SLOW.as_millis()
        )
    }
}

fn ordinal(n: usize) -> String {
    let ending = match (n % 10, n % 100) {
        (1, tens) if tens != 11 => "st",
        (2, tens) if tens != 12 => "nd",
        (3, tens) if tens != 13 => "rd",
        _ => "th",
    };
    format!("{n}{ending}")
}
