//! What a host tells its arbiter at start, as one message.

use super::Counters;
use super::tick::TICK_NS;
use crate::conn::Message;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::limits::{MAX_APPS, MAX_PARKERS, MAX_PLACES, MAX_WORKER_THREADS};
use crate::pool::Config;
use crate::ring::Mode;
use crate::sys::signal::Saved;
use crate::wire::{Kind, Value};
use crate::worker::Bounds;

/// The configuration of one pool.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of its apps. With a library: none for all that it has.
    pub apps: Vec<String>,
    /// The shared object that they are in, where they are not in the program. An absolute path.
    pub library: Option<String>,
    /// App threads of each worker.
    pub threads: usize,
    /// Supervision.
    pub policy: Config,
    /// How workers wait.
    pub mode: Mode,
    /// Longest time of any call, nanoseconds; 0 for no limit.
    pub timeout_ns: u64,
    /// How long the consumer of a stream may take nothing, nanoseconds; 0 for no limit.
    pub stall_ns: u64,
    /// Bytes of result regions of one worker.
    pub worker_quota: u64,
    /// How long a region stays that nobody uses, milliseconds.
    pub warm_ms: u32,
    /// The signal state that workers get.
    pub signals: Saved,
    /// Which program the host runs.
    pub build: u64,
    /// Where its numbers begin.
    pub counters: Counters,
}

impl Settings {
    /// Whether these can be.
    ///
    /// # Errors
    /// `Config`, naming the value and its limit.
    pub fn check(&self) -> Result<()> {
        let wrong = |why: String| Err(Error::new(ErrorKind::Config(why.into())));
        self.policy.check()?;
        if self.threads == 0 || self.threads > MAX_WORKER_THREADS {
            return wrong(format!("{} threads a worker: 1 to {MAX_WORKER_THREADS}", self.threads));
        }
        if 2 * self.policy.workers * self.threads > MAX_PARKERS {
            return wrong(format!(
                "{} workers with {} threads each: workers times threads is at most {}",
                self.policy.workers,
                self.threads,
                MAX_PARKERS / 2
            ));
        }
        let all_of_a_library = self.apps.is_empty() && self.library.is_some();
        if self.apps.is_empty() && !all_of_a_library || self.apps.len() > MAX_APPS {
            return wrong(format!("{} apps: 1 to {MAX_APPS}", self.apps.len()));
        }
        let mut names: Vec<&String> = self.apps.iter().collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
            return wrong(format!("the app {:?} is named twice", twice[0]));
        }
        Ok(())
    }

    /// Longest time of any call, if there is a limit.
    pub fn timeout_ns(&self) -> Option<u64> {
        (self.timeout_ns > 0).then_some(self.timeout_ns)
    }

    /// What each worker is allowed.
    pub fn bounds(&self) -> Bounds {
        let stall_ns = (self.stall_ns > 0).then_some(self.stall_ns);
        Bounds { quota: self.worker_quota, timeout_ns: self.timeout_ns(), stall_ns, late_ns: self.late_ns() }
    }

    /// How long after its deadline a call may go on before its worker cordons itself: an app that looks at the clock now and
    /// then shall have the time to see it. Where there is a signal, it has its turn first, and the arbiter tells when it
    /// is over; the worker by itself does what an arbiter does not that is stopped.
    fn late_ns(&self) -> u64 {
        let p = &self.policy;
        match p.cancel_signal {
            None => LATE_NS,
            Some(_) => p.cancel_grace_ns.saturating_add(p.signal_grace_ns).saturating_add(2 * TICK_NS),
        }
    }

    /// How many incarnations there can be at a time.
    pub fn places(&self) -> usize {
        (MAX_PARKERS / self.threads).min(MAX_PLACES)
    }

    /// As it travels.
    pub fn to_message(&self, token: u128) -> Message {
        let p = &self.policy;
        let (blocked, ignored) = self.signals.to_bits();
        let message = Message::new(Kind::Config)
            .with("token", format!("{token:032x}"))
            .with("apps", self.apps.clone())
            .with("library", self.library.clone().map_or(Value::None, Value::from))
            .with("threads", self.threads as i64)
            .with("mode", self.mode as i64)
            .with("timeout_ns", self.timeout_ns as i64)
            .with("stall_ns", self.stall_ns as i64)
            .with("worker_quota", self.worker_quota as i64)
            .with("warm_ms", self.warm_ms)
            .with("sig_blocked", blocked as i64)
            .with("sig_ignored", ignored as i64)
            .with("build", self.build as i64)
            .with("workers", p.workers as i64)
            .with("max_restarts", p.max_restarts)
            .with("within_ns", p.within_ns as i64)
            .with("backoff_first_ns", p.backoff_first_ns as i64)
            .with("backoff_max_ns", p.backoff_max_ns as i64)
            .with("boot_timeout_ns", p.boot_timeout_ns as i64)
            .with("kill_grace_ns", p.kill_grace_ns as i64)
            .with("cancel_signal", p.cancel_signal.map_or(Value::None, Value::from))
            .with("cancel_grace_ns", p.cancel_grace_ns as i64)
            .with("signal_grace_ns", p.signal_grace_ns as i64)
            .with("stop_grace_ns", p.stop_grace_ns as i64);
        self.counters.add_to(message)
    }

    /// As it came; checked.
    pub fn from_message(m: &Message) -> Result<Settings> {
        let number = m.int("mode")?;
        let mode = Mode::from_number(number)
            .ok_or_else(|| Error::new(ErrorKind::Config(format!("{number} is no way of waiting").into())))?;
        let settings = Settings {
            apps: m.strings("apps")?,
            library: m.field("library").and_then(Value::as_str).map(str::to_owned),
            threads: m.int("threads")?,
            policy: Config {
                workers: m.int("workers")?,
                max_lives: MAX_PLACES,
                max_restarts: m.int("max_restarts")?,
                within_ns: m.int("within_ns")?,
                backoff_first_ns: m.int("backoff_first_ns")?,
                backoff_max_ns: m.int("backoff_max_ns")?,
                boot_timeout_ns: m.int("boot_timeout_ns")?,
                kill_grace_ns: m.int("kill_grace_ns")?,
                cancel_signal: m.field("cancel_signal").and_then(Value::as_int).map(|n| n as i32),
                cancel_grace_ns: m.int("cancel_grace_ns")?,
                signal_grace_ns: m.int("signal_grace_ns")?,
                stop_grace_ns: m.int("stop_grace_ns")?,
            },
            mode,
            timeout_ns: m.int("timeout_ns")?,
            stall_ns: m.int("stall_ns")?,
            worker_quota: m.int("worker_quota")?,
            warm_ms: m.int("warm_ms")?,
            signals: Saved::from_bits(m.bits("sig_blocked")?, m.bits("sig_ignored")?),
            build: m.bits("build")?,
            counters: Counters::of(m)?,
        };
        settings.check()?;
        Ok(settings)
    }
}

const LATE_NS: u64 = 100_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            apps: vec!["a:A".into()],
            library: Some("/lib/a.so".into()),
            threads: 2,
            policy: Config { workers: 4, cancel_signal: Some(10), ..Config::default() },
            mode: Mode::Park,
            timeout_ns: 5,
            stall_ns: 6,
            worker_quota: 1 << 30,
            warm_ms: 10_000,
            signals: Saved::from_bits(1 << 63, 5),
            build: u64::MAX,
            counters: Counters::shortly_before_the_end(3),
        }
    }

    #[test]
    fn settings_travel_whole() {
        let there = settings();
        let back = Settings::from_message(&there.to_message(7)).unwrap();
        assert_eq!(format!("{there:?}"), format!("{back:?}"));
    }

    #[test]
    fn limits_are_named() {
        let over = Settings { policy: Config { workers: 64, ..Config::default() }, threads: 3, ..settings() };
        assert!(over.check().unwrap_err().to_string().contains("at most 128"));
        let signal = |n| Config { cancel_signal: Some(n), ..Config::default() };
        for number in [-1, 0, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 18, 19, 20, 31, 32, 34, 64, 65] {
            assert!(Settings { policy: signal(number), ..settings() }.check().is_err(), "{number}");
        }
        assert!(Settings { policy: signal(libc::SIGUSR1), ..settings() }.check().is_ok());
        assert!(Settings { threads: 0, ..settings() }.check().is_err());
        assert!(Settings { apps: vec![], library: None, ..settings() }.check().is_err());
        assert!(Settings { apps: vec![], ..settings() }.check().is_ok());
        assert!(
            Settings { threads: 64, policy: Config { workers: 2, ..Config::default() }, ..settings() }
                .check()
                .is_ok()
        );
    }
}
