//! Parking of workers: idle bits, doorbells, and the rules that keep a wake-up from being lost.
//!
//! An idle bit is a token: who clears it owes its parker a ring. The parker's rules, each of which the model
//! checker showed to be needed: read the doorbell *before* setting the bit; full fence; look again; never claim
//! while the own bit is set. A token can be taken along by a process that dies or stops; so after any death, and
//! when a tick finds a call still queued, the arbiter rings *everybody*.
//!
//! Whoever sets a pending bit back after clearing it is a publisher too, and rings every idle parker: one that
//! looked while the bit was away sleeps beside the call, and nobody else will wake it.
//!
//! A parker may spin before it sleeps; `asleep` says which, and saves the ringer the system call. That pair is
//! again publish, full fence, look at the flag.

use super::sabotage::{self, full_fence};
use super::{Bits, Futex};
use crate::primitive::{AtomicU32, Ordering};
use std::time::Duration;

/// One parker's doorbell; a cache line of its own, since its owner spins on it.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Doorbell {
    sequence: AtomicU32,
    asleep: AtomicU32,
}

impl Doorbell {
    /// A doorbell that has not rung.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Doorbell {
        Doorbell { sequence: AtomicU32::new(0), asleep: AtomicU32::new(0) }
    }

    /// Announces something to the parker and wakes it if it sleeps.
    #[inline]
    pub fn ring(&self, futex: &impl Futex) {
        self.sequence.fetch_add(1, Ordering::AcqRel);
        crash_point!("doorbell.moved");
        full_fence("nofence_doorbell_ring"); // SYNC POINT: doorbell
        if self.asleep.load(Ordering::Relaxed) != 0 {
            futex.wake_all(&self.sequence);
        }
    }

    /// The same without trust in the flag.
    pub fn ring_always(&self, futex: &impl Futex) {
        self.sequence.fetch_add(1, Ordering::AcqRel);
        futex.wake_all(&self.sequence);
    }
}

/// One worker thread's place on a board.
#[derive(Clone, Copy, Debug)]
pub struct Parker<'a> {
    /// The idle bits of the board.
    pub idle: Bits<'a>,
    /// This parker's bit.
    pub me: usize,
    /// This parker's doorbell.
    pub doorbell: &'a Doorbell,
}

impl Parker<'_> {
    /// Announces idleness, unless `work()` says after the fence that there is something to do. `Some` is the
    /// doorbell's value to wait against; while it is held, nothing may be claimed.
    pub fn announce(&self, work: impl FnOnce() -> bool) -> Option<u32> {
        let heard = self.heard(); // before the bit: a ring in between is seen
        if !sabotage::on("idlelate") {
            self.idle.set(self.me);
        }
        crash_point!("worker.park.announced");
        full_fence("nofence_park"); // SYNC POINT: park
        let work = work() && !sabotage::on("norecheck_w");
        if sabotage::on("idlelate") {
            self.idle.set(self.me);
        }
        if work {
            self.retract();
            return None;
        }
        Some(if sabotage::on("lateload") { self.heard() } else { heard })
    }

    /// Whether the doorbell rang since [`announce`](Parker::announce).
    #[inline]
    pub fn rang(&self, heard: u32) -> bool {
        self.heard() != heard
    }

    /// Sleeps until the doorbell rings, `timeout` passes or anything else ends the sleep.
    pub fn sleep(&self, heard: u32, futex: &impl Futex, timeout: Option<Duration>) {
        self.doorbell.asleep.store(1, Ordering::Relaxed);
        full_fence("nofence_doorbell_sleep"); // SYNC POINT: doorbell
        if !self.rang(heard) {
            crash_point!("worker.park.asleep");
            futex.wait(&self.doorbell.sequence, heard, timeout);
            crash_point!("worker.park.woken");
        }
        self.doorbell.asleep.store(0, Ordering::Relaxed);
    }

    /// Takes the idle bit back. Before anything is claimed.
    #[inline]
    pub fn retract(&self) {
        // Nobody else sets this bit, so a look that does not see it is the taker's doing and needs no swap.
        if self.idle.is_set(self.me) && !sabotage::on("claimidle") {
            self.idle.clear(self.me);
        }
    }

    #[inline]
    fn heard(&self) -> u32 {
        self.doorbell.sequence.load(Ordering::Acquire) // SYNC POINT: doorbell
    }
}

/// Wakes one idle parker, if there is one: takes its bit, then rings. To be called after what it is woken for was
/// published and a full fence; the caller makes that fence.
///
/// `prefer` is tried first (the parker that spins, which costs no system call to wake).
pub fn wake_one(idle: Bits<'_>, prefer: Option<usize>, mut ring: impl FnMut(usize)) {
    if let Some(parker) = prefer
        && idle.is_set(parker)
        && idle.clear(parker)
    {
        return ring(parker);
    }
    // Bounded: hints that others write must not keep a client here for ever.
    for _ in 0..idle.len() {
        match idle.next_from(0) {
            None => return,
            Some(parker) => {
                if idle.clear(parker) {
                    return ring(parker);
                }
            }
        }
    }
}

/// Wakes every idle parker: for whoever set a pending bit *back*. How many went to sleep while it was away is not
/// known, and one wake-up a call was made already. Published and full fence first, as for [`wake_one`].
pub fn wake_idle(idle: Bits<'_>, mut ring: impl FnMut(usize)) {
    for (index, word) in idle.0.iter().enumerate() {
        let mut set = word.load(Ordering::Acquire);
        while set != 0 {
            let parker = index * 64 + set.trailing_zeros() as usize;
            if idle.clear(parker) {
                ring(parker);
            }
            set &= set - 1;
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::primitive::AtomicU64;

    #[test]
    fn waking_takes_each_bit_once() {
        let words: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
        let idle = Bits(&words);
        let mut rung = Vec::new();
        wake_one(idle, Some(3), |parker| rung.push(parker));
        wake_idle(idle, |parker| rung.push(parker));
        assert!(rung.is_empty());
        for parker in [0, 63, 64, 100, 127] {
            idle.set(parker);
        }
        wake_one(idle, Some(100), |parker| rung.push(parker));
        wake_one(idle, Some(5), |parker| rung.push(parker));
        wake_idle(idle, |parker| rung.push(parker));
        assert_eq!(rung, [100, 0, 63, 64, 127]);
        assert!(!idle.any());
    }
}
