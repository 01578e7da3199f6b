//! Waiting without sleeping: spinning and yielding, as a controller says.

use super::{clock, cpu};
use crate::primitive::spin_loop;
use crate::ring::{Adaptive, Waited};

/// Spins before the clock is read for the first time: an answer that is on its way already should not pay for it.
const FREE_SPINS: u32 = 64;
/// Spins between two looks at the clock after that.
const SPINS: u32 = 32;

/// Waits until `ready()`, as long as the controller thinks that worth its while, at most until `until_ns`
/// (monotonic). [`Waited::Slept`] means that the caller should sleep now; it tells the controller so when it does.
#[inline]
pub fn stay_awake(
    adaptive: &mut Adaptive,
    may_spin: bool,
    until_ns: u64,
    ready: impl Fn() -> bool,
) -> Waited {
    let spin_ns = if may_spin { adaptive.spin() } else { 0 };
    if spin_ns > 0 {
        for _ in 0..FREE_SPINS {
            if ready() {
                adaptive.ended(Waited::Spun);
                return Waited::Spun;
            }
            spin_loop();
        }
    }
    let waited = if spin_ns > 0 || adaptive.may_yield() {
        by_the_clock(adaptive, spin_ns, until_ns, ready)
    } else {
        Waited::Slept { yielded: false }
    };
    adaptive.ended(waited);
    waited
}

fn by_the_clock(adaptive: &mut Adaptive, spin_ns: u64, until_ns: u64, ready: impl Fn() -> bool) -> Waited {
    let mut now = clock::monotonic_ns();
    let spin_until = now.saturating_add(spin_ns).min(until_ns);
    while now < spin_until {
        for _ in 0..SPINS {
            if ready() {
                return Waited::Spun;
            }
            spin_loop();
        }
        now = clock::monotonic_ns();
    }
    let yield_ns = adaptive.yields(now);
    let yield_until = now.saturating_add(yield_ns).min(until_ns);
    while now < yield_until {
        cpu::yield_now();
        if ready() {
            return Waited::Yielded;
        }
        let before = std::mem::replace(&mut now, clock::monotonic_ns());
        if !adaptive.yielded(now - before, now) {
            return Waited::Slept { yielded: false };
        }
    }
    Waited::Slept { yielded: yield_ns > 0 }
}
