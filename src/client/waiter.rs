//! Waiting for a word to change: spin, yield, then sleep on the call's bell, by the thread's own controller.

use super::connection::Shared;
use super::lane::Lane;
use crate::primitive::spin_loop;
use crate::ring::{Adaptive, CallLine, Mode, Phase, Waited};
use crate::sys::futex::Kernel;
use crate::sys::{clock, cpu};
use std::cell::Cell;
use std::time::Duration;

thread_local! {
    /// What this thread has learnt about waiting. Lost with the thread, and remade when the mode changes.
    static LEARNT: Cell<Option<Adaptive>> = const { Cell::new(None) };
}

/// A caller's first sleep; each further one doubles.
const FIRST_SLICE_NS: u64 = 20_000_000;
/// A caller's longest sleep.
const LAST_SLICE_NS: u64 = 200_000_000;

/// One wait of one thread.
pub(super) struct Waiter<'a> {
    shared: &'a Shared,
    lane: &'a Lane,
    call: usize,
    adaptive: Adaptive,
    plan: Option<Phase>,
    slice_ns: u64,
}

/// Why a wait came back although the word did not settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Roused {
    /// The word settled.
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
        Waiter { shared, lane, call, adaptive, plan: None, slice_ns: FIRST_SLICE_NS }
    }

    /// Waits until the word settles, somebody rings, a slice is over, or `deadline` passes.
    pub(super) fn wait(&mut self, deadline: Option<u64>) -> Roused {
        let line = self.lane.line(self.call);
        let settled = || !CallLine::is_pending(line.glance());
        if settled() {
            return Roused::Settled;
        }
        let start = clock::monotonic_ns();
        // Spinning and yielding only once a call: after a sleep the work is known to be long.
        let waited = match self.plan {
            Some(_) if self.shared.mode != Mode::Spin => Waited::Slept,
            _ => {
                let plan = self.adaptive.plan(start);
                self.plan = Some(plan);
                let until = deadline.unwrap_or(u64::MAX).min(start + self.slice_ns);
                let waited = self.before_sleep(plan, start, until, settled);
                self.adaptive.ended(waited, plan);
                waited
            }
        };
        if waited != Waited::Slept {
            return Roused::Settled;
        }
        if self.shared.mode == Mode::Spin {
            return Roused::Slice;
        }
        let now = clock::monotonic_ns();
        let slice = self.slice_ns.min(deadline.map_or(u64::MAX, |d| d.saturating_sub(now)));
        if slice == 0 {
            return Roused::Slice;
        }
        line.bell.park(&Kernel, Some(Duration::from_nanos(slice)), || !settled());
        if settled() {
            return Roused::Settled;
        }
        if clock::monotonic_ns() - now >= self.slice_ns {
            self.slice_ns = (self.slice_ns * 2).min(LAST_SLICE_NS);
            return Roused::Slice;
        }
        Roused::Rung
    }

    fn before_sleep(&mut self, plan: Phase, start: u64, until: u64, settled: impl Fn() -> bool) -> Waited {
        let mut now = start;
        let spin_until = start.saturating_add(plan.spin_ns).min(until);
        while now < spin_until {
            for _ in 0..32 {
                if settled() {
                    return Waited::Spun;
                }
                spin_loop();
            }
            now = clock::monotonic_ns();
        }
        let yield_until = now.saturating_add(plan.yield_ns).min(until);
        while now < yield_until {
            cpu::yield_now();
            if settled() {
                return Waited::Yielded;
            }
            let before = std::mem::replace(&mut now, clock::monotonic_ns());
            if !self.adaptive.yielded(now - before, now) {
                break;
            }
        }
        Waited::Slept
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let _ = LEARNT.try_with(|learnt| learnt.set(Some(self.adaptive)));
    }
}
