//! When somebody who sleeps has to look at what others do: the earliest time that anybody asked for.
//!
//! Many threads write down what is to be looked at and when; one sleeps until the earliest of these times. A thread that
//! asks for a time that is not the earliest does nothing but look at one word: no lock, no system call. Times only come
//! closer until the sleeper has looked, so a thread that makes many short calls, each with a deadline a little later
//! than the last one's, sets the timer once in the length of such a deadline.
//!
//! ```text
//! asker:   what is to be looked at, fence, `next`        (and if that is later: `next`, timer)
//! sleeper: `next` = never, fence, what is to be looked at
//! ```
//!
//! One of the two sees the other: either the sleeper finds it, or the asker finds that nobody would look.

use super::sabotage::{self, full_fence};
use crate::primitive::{AtomicU64, Ordering};

/// What wakes the sleeper: `sys::timer` outside of tests, a model of it under loom.
pub trait Clock {
    /// From now on it wakes at this time, and at no other. Two settings come one after the other, as under a lock: who
    /// makes the later one sees what was written before the earlier.
    fn set(&self, at_ns: u64);
}

/// The time at which the sleeper looks next.
#[derive(Debug)]
pub struct Alarm {
    next: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Alarm {
    /// Nobody has to look.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Alarm {
        Alarm { next: AtomicU64::new(NEVER) }
    }

    /// Somebody has to look at `at_ns` at the latest, at what this thread wrote before.
    #[inline]
    pub fn ask(&self, at_ns: u64, clock: &impl Clock) {
        full_fence("nofence_alarm_ask"); // SYNC POINT: alarm
        if at_ns < self.next.load(Ordering::Relaxed) {
            self.bring_forward(at_ns, clock);
        }
    }

    /// The sleeper, awake, before it looks: it will have looked at everything that was asked for up to now.
    pub fn rest(&self) {
        self.next.store(NEVER, Ordering::Relaxed);
        full_fence("nofence_alarm_rest"); // SYNC POINT: alarm
    }

    #[cold]
    fn bring_forward(&self, at_ns: u64, clock: &impl Clock) {
        let mut next = self.next.load(Ordering::Relaxed);
        while at_ns < next {
            match self.next.compare_exchange(next, at_ns, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return self.set(at_ns, clock),
                Err(now) => next = now,
            }
        }
    }

    /// Sets the clock. Two threads that set it may do so in the wrong order: the one that comes last sees the other's
    /// time, and sets that.
    fn set(&self, mut at_ns: u64, clock: &impl Clock) {
        loop {
            clock.set(at_ns);
            let next = self.next.load(Ordering::Relaxed);
            if next >= at_ns || sabotage::on("alarmsetonce") {
                return;
            }
            at_ns = next;
        }
    }
}
