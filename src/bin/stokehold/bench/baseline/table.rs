//! A bare call table: 64 slots in shared memory, one thread keeps all of them in flight, another process answers
//! them in order. No records, no bytes, no supervision: what `throughput` is compared with.

use super::partner::{FIRST_SLOT, Partner, REQUEST, SLOTS, STOP, Way};
use std::sync::atomic::Ordering;
use stokehold::internals::sys::clock;
use stokehold::internals::sys::map::SharedWords;

/// The asking side.
#[derive(Debug)]
pub struct Table {
    partner: Partner,
}

impl Table {
    pub fn new(partner: &Partner) -> Table {
        Table { partner: partner.clone() }
    }

    /// Makes `calls` calls, 64 in flight, and says how many that were a second.
    pub fn block(&mut self, calls: u64) -> f64 {
        let words = &*self.partner.words;
        for slot in 0..SLOTS {
            words.u64(FIRST_SLOT + slot).store(0, Ordering::Relaxed);
        }
        self.partner.open(Way::Table);
        let start = clock::monotonic_ns();
        // Call n uses slot n % 64: odd is asked, even is answered.
        for n in 0..calls + SLOTS as u64 {
            let word = words.u64(FIRST_SLOT + (n as usize) % SLOTS);
            if n >= SLOTS as u64 {
                let answer = 2 * (n - SLOTS as u64) + 2;
                while word.load(Ordering::Acquire) != answer {
                    std::hint::spin_loop();
                }
            }
            if n < calls {
                word.store(2 * n + 1, Ordering::Release);
            }
        }
        let took = clock::monotonic_ns() - start;
        self.partner.close();
        calls as f64 * 1e9 / took.max(1) as f64
    }
}

/// The answering side.
pub(super) fn serve(words: &SharedWords) {
    for n in 0u64.. {
        let word = words.u64(FIRST_SLOT + (n as usize) % SLOTS);
        let asked = 2 * n + 1;
        while word.load(Ordering::Acquire) != asked {
            if words.u32(REQUEST).load(Ordering::Relaxed) == STOP {
                return;
            }
            std::hint::spin_loop();
        }
        word.store(asked + 1, Ordering::Release);
    }
}
