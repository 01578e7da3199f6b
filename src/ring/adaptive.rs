//! How long to spin, how long to yield, and when to sleep at once: by measured cost, never by a fixed recipe.
//!
//! A waiter keeps budgets in *nanoseconds*, because a pause instruction takes 4 ns on one machine and 25 on
//! another. A spin that ends without an answer halves the spin budget, one that ends with it restores it; now
//! and then a waiter with a shrunk budget tries a whole one again, rarely enough to stay outside the 99th
//! percentile. A yield that takes longer than a sleep costs was given to somebody else's time slice: yields
//! then stop for a millisecond, doubling up to 256 while they lose. The controller only decides; it reads no
//! clock and never sleeps.

/// How a waiter waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By measured cost.
    #[default]
    Adaptive,
    /// Sleep at once.
    Park,
    /// Spin for as long as it takes. For a processor of one's own.
    Spin,
}

impl Mode {
    /// The way of waiting with this number, as it travels.
    pub fn from_number(number: u8) -> Option<Mode> {
        [Mode::Adaptive, Mode::Park, Mode::Spin].into_iter().find(|mode| *mode as u8 == number)
    }
}

/// Upper bounds, set when a waiter is made.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Longest spin, nanoseconds; 0 where spinning cannot help (one processor, a processor quota).
    pub spin_ns: u64,
    /// Longest time of yielding after that, nanoseconds.
    pub yield_ns: u64,
    /// What one sleep and wake-up costs at most when nothing else runs, nanoseconds: a yield above it is a loss.
    pub park_ns: u64,
}

/// How a wait ended before sleeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// While spinning.
    Spun,
    /// While yielding.
    Yielded,
    /// Not: it went on to sleep.
    Slept {
        /// After it had yielded for the whole time that it may.
        yielded: bool,
    },
}

/// A waiter's controller.
#[derive(Clone, Copy, Debug)]
pub struct Adaptive {
    mode: Mode,
    budget: Budget,
    spin_ns: u64,
    yields_from: u64,
    pause_ns: u64,
    waits: u32,
    yields: bool,
}

const PAUSE_FIRST_NS: u64 = 1_000_000;
const PAUSE_MAX_NS: u64 = 256_000_000;
/// Below this a spin is not worth its bookkeeping.
const SPIN_FLOOR_NS: u64 = 500;
/// One wait in so many tries whole budgets again: under one per cent.
const PROBE_EVERY: u32 = 256;

impl Adaptive {
    /// A controller that has not learnt anything yet.
    pub fn new(mode: Mode, budget: Budget) -> Adaptive {
        Adaptive {
            mode,
            budget,
            spin_ns: budget.spin_ns,
            yields_from: 0,
            pause_ns: PAUSE_FIRST_NS,
            waits: 0,
            yields: budget.yield_ns > 0,
        }
    }

    /// The mode it was made with.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How long the next wait should spin first, nanoseconds; `u64::MAX` without end. Needs no clock: a wait that
    /// ends soon should not pay for one.
    #[inline]
    pub fn spin(&mut self) -> u64 {
        match self.mode {
            Mode::Park => 0,
            Mode::Spin => u64::MAX,
            Mode::Adaptive => {
                self.waits = self.waits.wrapping_add(1);
                if self.waits.is_multiple_of(PROBE_EVERY) {
                    self.spin_ns = self.budget.spin_ns;
                    self.yields = self.budget.yield_ns > 0;
                }
                self.spin_ns
            }
        }
    }

    /// Whether waits spin at present.
    #[inline]
    pub fn spins(&self) -> bool {
        match self.mode {
            Mode::Park => false,
            Mode::Spin => true,
            Mode::Adaptive => self.spin_ns > 0,
        }
    }

    /// Whether yielding is to be thought of at all; if not, no clock is needed.
    #[inline]
    pub fn may_yield(&self) -> bool {
        self.mode == Mode::Adaptive && self.yields
    }

    /// How long the same wait should yield after that, nanoseconds; then it sleeps.
    pub fn yields(&self, now_ns: u64) -> u64 {
        if self.may_yield() && now_ns >= self.yields_from { self.budget.yield_ns } else { 0 }
    }

    /// One yield took this long: `false` when no more should follow in this wait.
    #[inline]
    pub fn yielded(&mut self, took_ns: u64, now_ns: u64) -> bool {
        if took_ns <= self.budget.park_ns {
            return true;
        }
        self.yields_from = now_ns + self.pause_ns;
        self.pause_ns = (self.pause_ns * 2).min(PAUSE_MAX_NS);
        false
    }

    /// How the wait ended.
    #[inline]
    pub fn ended(&mut self, waited: Waited) {
        if self.mode != Mode::Adaptive {
            return;
        }
        match waited {
            Waited::Spun => self.spin_ns = self.budget.spin_ns,
            Waited::Yielded => {
                self.shrink();
                self.yields = true;
                self.pause_ns = PAUSE_FIRST_NS;
            }
            Waited::Slept { yielded } => {
                self.shrink();
                // A whole round of cheap yields without an answer: the work is long, sleep at once from now on.
                if yielded {
                    self.yields = false;
                }
            }
        }
    }

    fn shrink(&mut self) {
        self.spin_ns = if self.spin_ns / 2 < SPIN_FLOOR_NS { 0 } else { self.spin_ns / 2 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget { spin_ns: 16_000, yield_ns: 20_000, park_ns: 50_000 };
    const SLEPT: Waited = Waited::Slept { yielded: false };

    #[test]
    fn spins_that_lose_shrink_and_one_that_wins_restores() {
        let mut a = Adaptive::new(Mode::Adaptive, BUDGET);
        for expected in [16_000, 8_000, 4_000, 2_000, 1_000, 500, 0, 0] {
            assert_eq!(a.spin(), expected);
            a.ended(SLEPT);
        }
        a.ended(Waited::Spun);
        assert_eq!(a.spin(), 16_000);
    }

    #[test]
    fn a_shrunk_budget_is_tried_again_in_fewer_than_one_wait_of_a_hundred() {
        let mut a = Adaptive::new(Mode::Adaptive, BUDGET);
        let mut whole = 0;
        for _ in 0..10_000 {
            whole += u32::from(a.spin() == BUDGET.spin_ns);
            a.ended(SLEPT);
        }
        assert!((10..100).contains(&whole), "{whole}");
    }

    #[test]
    fn a_yield_that_costs_more_than_a_sleep_stops_yields_for_longer_each_time() {
        let mut a = Adaptive::new(Mode::Adaptive, BUDGET);
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 64, 128, 256, 256] {
            assert_eq!(a.yields(now), BUDGET.yield_ns);
            assert!(!a.yielded(4_000_000, now));
            now += pause * 1_000_000 - 1;
            assert_eq!(a.yields(now), 0);
            now += 1;
        }
        assert!(a.yielded(3_000, now));
    }

    #[test]
    fn work_that_outlasts_the_yields_is_slept_for_until_the_next_probe() {
        let mut a = Adaptive::new(Mode::Adaptive, BUDGET);
        a.ended(Waited::Slept { yielded: true });
        assert_eq!(a.yields(0), 0);
        for _ in 0..PROBE_EVERY {
            a.spin();
        }
        assert_eq!(a.yields(0), BUDGET.yield_ns);
    }

    #[test]
    fn modes_are_what_they_say() {
        let mut a = Adaptive::new(Mode::Park, BUDGET);
        assert_eq!((a.spin(), a.yields(0)), (0, 0));
        for waited in [Waited::Spun, Waited::Yielded, Waited::Slept { yielded: false }] {
            a.ended(waited);
            assert_eq!((a.spin(), a.yields(0)), (0, 0), "nothing is learned");
        }
        let mut a = Adaptive::new(Mode::Spin, BUDGET);
        assert_eq!((a.spin(), a.yields(0)), (u64::MAX, 0));
    }
}
