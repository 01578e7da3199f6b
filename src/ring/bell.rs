//! A call's bell: the one word that its parties sleep on, changed by every event that should end such a sleep.
//!
//! ```text
//!  31                         1   0
//! +-----------------------------+---+
//! |          sequence           | s |   s: somebody may sleep on this value
//! +-----------------------------+---+
//! ```
//!
//! Publisher: change the call word, full fence, look at `s`. Sleeper: set `s`, full fence, look at the call word
//! again, sleep while the bell is what it was with `s`. Either the publisher sees `s` or the sleeper sees the
//! change (the store-load pattern of Dekker's algorithm; fences, not `SeqCst` accesses, because loom does not
//! model the latter).
//!
//! Both ends of a stream sleep here, and several threads of a client may. So it is the *ringer* that clears `s`,
//! in the same step that ends the sleep of everybody who set it; a sleeper that woke must not, or it takes the
//! flag of another one along. A flag left behind by a sleeper that died or did not sleep after all costs one
//! system call, once. A publisher that dies between its change and the wake-up is covered by the bound on every
//! sleep, and by the arbiter, which rings for every word that names a dead life.

use super::Futex;
use super::sabotage::{self, full_fence};
use crate::primitive::{AtomicU32, Ordering};
use std::time::Duration;

/// Sequence and sleepers' flag of one call.
#[derive(Debug)]
#[repr(C)]
pub struct Bell {
    word: AtomicU32,
}

const ASLEEP: u32 = 1;
const RUNG: u32 = 2;

impl Bell {
    /// A bell that has not rung.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Bell {
        Bell { word: AtomicU32::new(0) }
    }

    /// Sleeps until the bell rings, `timeout` passes, or anything else ends the sleep; not at all if
    /// `waiting()` says after the fence that there is nothing to wait for.
    pub fn park(&self, futex: &impl Futex, timeout: Option<Duration>, waiting: impl FnOnce() -> bool) {
        let heard = self.word.fetch_or(ASLEEP, Ordering::Acquire) | ASLEEP;
        full_fence("nofence_bell_wait"); // SYNC POINT: bell
        if waiting() {
            crash_point!("bell.asleep");
            futex.wait(&self.word, heard, timeout);
            crash_point!("bell.woken");
        }
        if sabotage::on("sleeperclears") {
            self.word.fetch_and(!ASLEEP, Ordering::Relaxed);
        }
    }

    /// Ends the sleep of whoever sleeps here. To be called after the change that it announces.
    #[inline]
    pub fn ring(&self, futex: &impl Futex) {
        full_fence("nofence_bell_pub"); // SYNC POINT: bell
        if self.word.load(Ordering::Relaxed) & ASLEEP != 0 {
            // Adding the flag to itself clears it and carries into the sequence. Two ringers at once may set it
            // again: one needless wake-up later.
            self.word.fetch_add(ASLEEP, Ordering::Release);
            crash_point!("bell.taken");
            futex.wake_all(&self.word);
        }
    }

    /// The same without trust in the flag: after a death, and on ticks.
    pub fn ring_always(&self, futex: &impl Futex) {
        self.word.fetch_add(RUNG, Ordering::Release);
        futex.wake_all(&self.word);
    }
}
