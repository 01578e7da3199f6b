//! When a slot may be filled again: how often workers may die early, and how long to wait after they did.
//!
//! [`Intensity`] is the rule of OTP's supervisors (so many deaths within such a time), [`Backoff`] the exponential
//! wait of systemd's `RestartSteps`, with jitter. The first looks at the pool, the second at one slot.

use std::collections::VecDeque;

use super::Config;

/// Counts early deaths over a sliding time.
#[derive(Clone, Debug)]
pub(super) struct Intensity {
    /// Times of the latest deaths, at most one more than is allowed.
    deaths: VecDeque<u64>,
    allowed: usize,
    within_ns: u64,
}

impl Intensity {
    pub(super) fn new(config: &Config) -> Intensity {
        let allowed = config.max_restarts as usize;
        Intensity { deaths: VecDeque::with_capacity(allowed + 1), allowed, within_ns: config.within_ns }
    }

    pub(super) fn record(&mut self, now: u64) {
        if self.deaths.len() > self.allowed {
            self.deaths.pop_front();
        }
        self.deaths.push_back(now);
    }

    /// Whether there were more deaths than allowed in the time up to `now`.
    pub(super) fn exceeded(&self, now: u64) -> bool {
        self.deaths.len() > self.allowed && self.deaths.front().is_some_and(|&t| now - t <= self.within_ns)
    }
}

/// Draws the wait before a slot is filled again.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    first_ns: u64,
    max_ns: u64,
    /// State of a splitmix64 generator.
    random: u64,
}

impl Backoff {
    pub(super) fn new(config: &Config, seed: u64) -> Backoff {
        Backoff { first_ns: config.backoff_first_ns, max_ns: config.backoff_max_ns, random: seed }
    }

    /// The wait after `streak` early deaths in a row: none after the first, `first_ns` after the second, then
    /// doubling up to `max_ns`; drawn from the upper half of that.
    pub(super) fn wait_ns(&mut self, streak: u32) -> u64 {
        let Some(doublings) = streak.checked_sub(2) else { return 0 };
        let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let wait_ns = self.first_ns.saturating_mul(factor).min(self.max_ns);
        self.jitter(wait_ns)
    }

    /// The wait of a pool that is past its intensity: the longest.
    pub(super) fn longest_ns(&mut self) -> u64 {
        self.jitter(self.max_ns)
    }

    /// From half of `wait_ns` to all of it.
    fn jitter(&mut self, wait_ns: u64) -> u64 {
        wait_ns - self.draw() % (wait_ns / 2 + 1)
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intensity_is_exceeded_by_one_more_and_for_so_long() {
        let mut deaths = Intensity::new(&Config { max_restarts: 2, within_ns: 100, ..Config::default() });
        deaths.record(0);
        deaths.record(50);
        assert!(!deaths.exceeded(50));
        deaths.record(100);
        assert!(deaths.exceeded(100));
        assert!(!deaths.exceeded(101));
        deaths.record(150);
        assert!(deaths.exceeded(150));
    }

    #[test]
    fn no_restarts_allowed_means_none() {
        let mut deaths = Intensity::new(&Config { max_restarts: 0, ..Config::default() });
        assert!(!deaths.exceeded(0));
        deaths.record(5);
        assert!(deaths.exceeded(5));
    }

    #[test]
    fn waits_double_up_to_the_longest_and_stay_in_their_upper_half() {
        let config = Config { backoff_first_ns: 100, backoff_max_ns: 1000, ..Config::default() };
        for seed in 0..100 {
            let mut backoff = Backoff::new(&config, seed);
            assert_eq!(backoff.wait_ns(0), 0);
            assert_eq!(backoff.wait_ns(1), 0);
            for (streak, most) in
                [(2, 100), (3, 200), (4, 400), (5, 800), (6, 1000), (66, 1000), (u32::MAX, 1000)]
            {
                let wait_ns = backoff.wait_ns(streak);
                assert!((most / 2..=most).contains(&wait_ns), "{wait_ns} after {streak}");
            }
        }
    }
}
