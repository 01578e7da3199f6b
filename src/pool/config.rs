//! What a user may set about supervision, and what is allowed.

use crate::error::{Error, Kind, Result};
use crate::limits::{MAX_PLACES, MAX_WORKERS};

/// How a pool is supervised. [`Config::default`] is a good start; [`Policy::new`](super::Policy::new) checks it.
///
/// An *early death* below is one of a worker that never became ready, or was ready for less than
/// `backoff_max_ns`. Only these are held against a pool: a worker that served for so long is replaced at once,
/// which can happen no more often than the longest back-off would allow anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Worker slots: 0 to [`MAX_WORKERS`].
    pub workers: usize,
    /// Processes at a time, those on their way out among them: where the board has no place for one more, a slot
    /// waits until one is gone.
    pub max_lives: usize,
    /// Early deaths that the pool takes within `within_ns`; with one more, and nobody ready, it is degraded.
    /// At most 10,000.
    pub max_restarts: u32,
    /// The time over which early deaths are counted.
    pub within_ns: u64,
    /// Wait before a slot's next start, after the second early death in a row. The first is replaced at once;
    /// from the second on the wait doubles each time.
    pub backoff_first_ns: u64,
    /// Longest wait before a slot's next start; the rule of a pool degraded by early deaths. Actual waits are
    /// drawn from the upper half of what is computed, so that slots which fell together do not rise together.
    pub backoff_max_ns: u64,
    /// From the order to start a worker until it must be ready.
    pub boot_timeout_ns: u64,
    /// What a call that was given up and is still run after `cancel_grace_ns` is answered with, if anything.
    pub cancel_signal: Option<i32>,
    /// From when a call is found to be given up to the signal or, without one, to the cordon.
    pub cancel_grace_ns: u64,
    /// From the signal to the cordon.
    pub signal_grace_ns: u64,
    /// From a cordon, and from SIGTERM, to SIGKILL.
    pub kill_grace_ns: u64,
    /// How long a worker that is drained may finish what it runs, before SIGTERM.
    pub stop_grace_ns: u64,
}

impl Default for Config {
    /// One worker; five early deaths in ten seconds; back-off from 100 ms to 10 s; a minute to boot, no signal, one second
    /// for each step from a call that is given up to SIGKILL, 30 to drain.
    fn default() -> Config {
        Config {
            workers: 1,
            max_lives: MAX_PLACES,
            max_restarts: 5,
            within_ns: 10 * SECOND,
            backoff_first_ns: SECOND / 10,
            backoff_max_ns: 10 * SECOND,
            boot_timeout_ns: 60 * SECOND,
            cancel_signal: None,
            cancel_grace_ns: SECOND,
            signal_grace_ns: SECOND,
            kill_grace_ns: SECOND,
            stop_grace_ns: 30 * SECOND,
        }
    }
}

impl Config {
    /// Whether it can be worked with; says what is wrong, the value and the limit.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Error::new(Kind::Config(why.into())));
        if self.workers > MAX_WORKERS {
            return wrong(format!("{} workers exceed the limit of {MAX_WORKERS}", self.workers));
        }
        if self.max_lives < self.workers || self.max_lives > MAX_PLACES {
            return wrong(format!(
                "max_lives of {} is less than the {} workers or exceeds the limit of {MAX_PLACES}",
                self.max_lives, self.workers
            ));
        }
        if self.max_restarts > MAX_RESTARTS {
            return wrong(format!(
                "max_restarts of {} exceeds the limit of {MAX_RESTARTS}",
                self.max_restarts
            ));
        }
        if self.backoff_first_ns == 0 {
            return wrong("backoff_first of 0 ns would restart a broken worker without pause".into());
        }
        if self.backoff_first_ns > self.backoff_max_ns {
            return wrong(format!(
                "backoff_first of {} ns exceeds backoff_max of {} ns",
                self.backoff_first_ns, self.backoff_max_ns
            ));
        }
        if let Some(number) = self.cancel_signal
            && !CANCEL_SIGNALS.contains(&number)
        {
            return wrong(format!(
                "signal {number} cannot cancel a call: HUP, INT, QUIT, USR1, USR2, ALRM, TERM, URG, VTALRM, PROF, WINCH, IO \
                 and PWR can"
            ));
        }
        if self.within_ns == 0 || self.boot_timeout_ns == 0 {
            return wrong("within and boot_timeout must be longer than 0 ns".into());
        }
        Ok(())
    }
}

/// Signals that are an app's to handle. The others stop or kill whatever is done, tell of crashes, or mean something to the
/// kernel; those of real time have no names.
const CANCEL_SIGNALS: [i32; 13] = [1, 2, 3, 10, 12, 14, 15, 23, 26, 27, 28, 29, 30];
const SECOND: u64 = 1_000_000_000;
const MAX_RESTARTS: u32 = 10_000;
