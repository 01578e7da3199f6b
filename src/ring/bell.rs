//! A call's bell: the one word that its caller sleeps on, changed by every event that should end that sleep.
//!
//! Publisher: change the call word, full fence, look at the sleeper's flag. Sleeper: read the bell, set the flag,
//! full fence, look at the call word again, sleep while the bell is what was read. Either the publisher sees the
//! flag or the sleeper sees the change (the store-load pattern of Dekker's algorithm; fences, not `SeqCst`
//! accesses, because loom does not model the latter). A publisher that dies between its change and the wake-up is
//! covered by the bound on every sleep, and by the arbiter, which rings for every word that names a dead life.

use super::Futex;
use crate::primitive::{AtomicU32, Ordering, fence};
use std::time::Duration;

/// Sequence and sleeper's flag of one call.
#[derive(Debug)]
#[repr(C)]
pub struct Bell {
    sequence: AtomicU32,
    asleep: AtomicU32,
}

impl Bell {
    /// A bell that has not rung.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Bell {
        Bell { sequence: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// Sleeps until the bell rings, `timeout` passes, or anything else ends the sleep; not at all if
    /// `waiting()` says after the fence that there is nothing to wait for.
    pub fn park(&self, futex: &impl Futex, timeout: Option<Duration>, waiting: impl FnOnce() -> bool) {
        let heard = self.sequence.load(Ordering::Acquire);
        self.asleep.store(1, Ordering::Relaxed);
        fence(Ordering::SeqCst); // SYNC POINT: bell
        if waiting() {
            futex.wait(&self.sequence, heard, timeout);
        }
        self.asleep.store(0, Ordering::Relaxed);
    }

    /// Ends the sleep of whoever sleeps here. To be called after the change that it announces.
    #[inline]
    pub fn ring(&self, futex: &impl Futex) {
        fence(Ordering::SeqCst); // SYNC POINT: bell
        if self.asleep.load(Ordering::Relaxed) != 0 {
            self.ring_always(futex);
        }
    }

    /// The same without trust in the flag: after a death, and on ticks.
    pub fn ring_always(&self, futex: &impl Futex) {
        self.sequence.fetch_add(1, Ordering::Release);
        futex.wake_all(&self.sequence);
    }
}
