//! Waiting for a word to change: spin, yield, then sleep on the call's bell, by the thread's own controller.

use super::connection::Shared;
use super::lane::Lane;
use crate::limits::{FIRST_SLICE_NS, LONGEST_SLICE_NS};
use crate::ring::{Adaptive, CallLine, Mode, Waited};
use crate::sys::futex::Kernel;
use crate::sys::{awake, clock};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// What this thread has learnt about waiting. Lost with the thread, and remade when the mode changes.
    static LEARNT: Cell<Option<Adaptive>> = const { Cell::new(None) };
}

/// A sleep while something is about to be known.
const SOON_NS: u64 = 500_000;

/// One wait of one thread.
pub(super) struct Waiter<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
    call: usize,
    adaptive: Adaptive,
    slept: bool,
    slice_ns: u64,
}

/// Why a wait came back although the word did not settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Roused {
    /// The word settled, or there is news.
    Settled,
    /// Somebody rang.
    Rung,
    /// A slice is over.
    Slice,
}

impl<'a> Waiter<'a> {
    pub(super) fn new(shared: &'a Shared, lane: &'a Lane, call: usize) -> Waiter<'a> {
        let learnt = LEARNT.with(Cell::take).filter(|a| a.mode() == shared.mode);
        let adaptive = learnt.unwrap_or_else(|| Adaptive::new(shared.mode, shared.budget));
        Waiter { shared, lane, call, adaptive, slept: false, slice_ns: FIRST_SLICE_NS }
    }

    /// The next sleep is a short one.
    pub(super) fn look_soon(&mut self) {
        self.slice_ns = SOON_NS;
    }

    /// Waits until the word settles or there is `news`, somebody rings, a slice is over, or `deadline` passes.
    #[inline]
    pub(super) fn wait(&mut self, deadline: Option<u64>, news: impl Fn() -> bool) -> Roused {
        let line = self.lane.line(self.call);
        let settled = || !CallLine::is_pending(line.glance()) || news();
        if settled() {
            return Roused::Settled;
        }
        let spins_for_ever = self.shared.mode == Mode::Spin;
        // Spinning and yielding only once a call: after a sleep the work is known to be long.
        if !self.slept || spins_for_ever {
            let until = match (spins_for_ever, deadline) {
                // It must come back now and then, to look around.
                (true, deadline) => (clock::coarse_ns() + self.slice_ns).min(deadline.unwrap_or(u64::MAX)),
                (false, deadline) => deadline.unwrap_or(u64::MAX),
            };
            let waited = awake::stay_awake(&mut self.adaptive, true, until, settled);
            self.lane.set_hot(self.call, waited == Waited::Spun);
            if !matches!(waited, Waited::Slept { .. }) {
                return Roused::Settled;
            }
            if spins_for_ever {
                return self.slice();
            }
            self.slept = true;
        }
        // The cheap clock, unless the deadline comes before the slice is over.
        let mut now = clock::coarse_ns();
        if deadline.is_some_and(|d| d.saturating_sub(now) < self.slice_ns + clock::COARSE_NS) {
            now = clock::monotonic_ns();
        }
        let slice = self.slice_ns.min(deadline.map_or(u64::MAX, |d| d.saturating_sub(now)));
        if slice == 0 {
            return Roused::Slice;
        }
        line.bell.park(&Kernel, Some(Duration::from_nanos(slice)), || !settled());
        if settled() {
            return Roused::Settled;
        }
        if clock::monotonic_ns().saturating_sub(now) >= self.slice_ns {
            self.slice_ns = (self.slice_ns * 2).min(LONGEST_SLICE_NS);
            return self.slice();
        }
        Roused::Rung
    }

    /// A slice is over: there is time for what nobody else does here.
    fn slice(&self) -> Roused {
        self.shared.tidy_if_asked();
        Roused::Slice
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let _ = LEARNT.try_with(|learnt| learnt.set(Some(self.adaptive)));
    }
}
