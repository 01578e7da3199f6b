//! The one clock of the project: monotonic, in nanoseconds. Wall-clock time is used nowhere.

use std::mem::MaybeUninit;
use std::time::Duration;

const NANOS: u64 = 1_000_000_000;

/// How far [`coarse_ns`] may be behind: a period of the slowest timer interrupt that kernels are built with.
pub const COARSE_NS: u64 = 10_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`, comparable between the processes of one machine.
///
/// See `clock_gettime(2)`; usually answered by the vDSO without entering the kernel.
#[inline]
pub fn monotonic_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC)
}

/// The same clock as it stood at the last timer interrupt: behind by at most [`COARSE_NS`], and several times as
/// cheap. See `CLOCK_MONOTONIC_COARSE` in `clock_gettime(2)`.
#[inline]
pub fn coarse_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// Has the clock stand still for this thread, at a time that a fuzz target chooses.
#[cfg(stokehold_fuzzing)]
pub fn stand_at(ns: u64) {
    STANDS_AT.set(Some(ns));
}

#[cfg(stokehold_fuzzing)]
thread_local! {
    static STANDS_AT: std::cell::Cell<Option<u64>> = const { std::cell::Cell::new(None) };
}

#[inline]
fn read(clock: libc::clockid_t) -> u64 {
    #[cfg(stokehold_fuzzing)]
    if let Some(ns) = STANDS_AT.get() {
        return ns;
    }
    let mut now = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: `now` is valid for the write of one timespec.
    let answer = unsafe { libc::clock_gettime(clock, now.as_mut_ptr()) };
    if answer != 0 {
        // Only a bad clock number or pointer fails, and both are constants of this function.
        return 0;
    }
    // SAFETY: the call above succeeded, so it wrote the whole struct.
    let now = unsafe { now.assume_init() };
    now.tv_sec as u64 * NANOS + now.tv_nsec as u64
}

/// The earlier of two times, where there are any.
#[inline]
pub fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// The monotonic time so much later; the ones beyond 584 years become the last there is.
pub fn after(duration: Duration) -> u64 {
    monotonic_ns().saturating_add(saturating_ns(duration))
}

/// Sleeps for at least `duration`, through any number of signals.
///
/// See `clock_nanosleep(2)`; the end is absolute, so that signals do not stretch it.
pub fn sleep(duration: Duration) {
    let end = after(duration);
    let end = libc::timespec { tv_sec: (end / NANOS) as i64, tv_nsec: (end % NANOS) as i64 };
    loop {
        let flags = libc::TIMER_ABSTIME;
        // SAFETY: `end` is a valid timespec; with an absolute end the remainder pointer may be null.
        let errno =
            unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, flags, &end, std::ptr::null_mut()) };
        if errno != libc::EINTR {
            return;
        }
    }
}

/// `duration` in nanoseconds; the ones beyond 584 years become just that.
pub fn saturating_ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// `duration` as the kernel takes it.
pub(super) fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// What remains of a timeout. Holds no state but its end, so a retried call gets the time that is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remaining {
    end: Option<u64>,
}

impl Remaining {
    /// `None` never ends.
    pub(super) fn of(timeout: Option<Duration>) -> Remaining {
        Remaining { end: timeout.map(after) }
    }

    /// What is left, zero if nothing is.
    pub(super) fn left(self) -> Option<Duration> {
        self.end.map(|end| Duration::from_nanos(end.saturating_sub(monotonic_ns())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_never_too_short() {
        let before = monotonic_ns();
        sleep(Duration::from_millis(3));
        assert!(monotonic_ns() - before >= 3_000_000);
    }

    #[test]
    fn huge_durations_saturate() {
        assert_eq!(saturating_ns(Duration::MAX), u64::MAX);
        assert_eq!(timespec(Duration::MAX).tv_sec, i64::MAX);
        assert!(Remaining::of(Some(Duration::MAX)).left().unwrap() > Duration::from_secs(1 << 30));
    }

    #[test]
    fn nothing_is_left_of_a_passed_timeout() {
        let remaining = Remaining::of(Some(Duration::ZERO));
        assert_eq!(remaining.left(), Some(Duration::ZERO));
        assert_eq!(Remaining::of(None).left(), None);
    }
}
