//! A descriptor that is readable from a moment on.

use super::named;
use crate::error::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// A timer on the monotonic clock. See `timerfd_create(2)`.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// One that is not set.
    pub fn new() -> Result<Timer> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map(Timer).map_err(named("timerfd_create"))
    }

    /// Readable from `at_ns` on, monotonic nanoseconds, and not before, whatever it was set to.
    pub fn set(&self, at_ns: u64) -> Result<()> {
        // Zero would unset it.
        let at = TimeSpec::from_duration(Duration::from_nanos(at_ns.clamp(1, i64::MAX as u64)));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        self.0.set(Expiration::OneShot(at), flags).map_err(named("timerfd_settime"))
    }

    /// Not readable any more until it is set again.
    pub fn drain(&self) {
        let _ = self.0.wait(); // one that is not readable says so
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{clock, poll};

    #[test]
    fn readable_when_its_time_has_come() {
        let timer = Timer::new().unwrap();
        let is_readable = |wait| poll::readable(timer.as_fd(), Some(wait)).unwrap().ready;
        assert!(!is_readable(Duration::ZERO));
        let at = clock::monotonic_ns() + 20_000_000;
        timer.set(at).unwrap();
        assert!(is_readable(Duration::from_secs(60)));
        assert!(clock::monotonic_ns() >= at, "not early");
        timer.drain();
        assert!(!is_readable(Duration::ZERO));
        timer.set(1).unwrap();
        assert!(is_readable(Duration::ZERO), "a time that has passed");
    }
}
