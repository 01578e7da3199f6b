//! A bare call table: 64 slots in shared memory, one thread keeps all of them in flight, another process answers
//! them in order. No queue, no claim, no encoding, no supervision, and both sides spin: what `throughput` is
//! compared with.
//!
//! ```text
//! words     of each slot a line: 4 n + ASKED, CLAIMED or ANSWERED for call n
//! region    of each slot two lines: 64 bytes asked | 64 bytes answered
//! ```
//!
//! Two more say where a call's cost begins. The words alone, without bytes: the processor overlaps their transfers,
//! in bursts of up to 64. And a table whose answerer claims each call by a compare-and-swap and publishes it by
//! another, as it must where several workers take from one table: each swap waits for its line.

use super::partner::{FIRST_SLOT, Partner, REQUEST, SLOTS, STOP, Way};
use std::sync::atomic::{AtomicU64, Ordering};
use stokehold::internals::shm::{Region, RegionKind};
use stokehold::internals::sys::clock;
use stokehold::internals::sys::map::SharedWords;
use stokehold::{Error, Result};

/// The asking side.
#[derive(Debug)]
pub struct Table {
    partner: Partner,
    kind: Way,
}

impl Table {
    /// With 64 bytes there and the same 64 bytes back.
    pub fn new(partner: &Partner) -> Table {
        Table { partner: partner.clone(), kind: Way::Table }
    }

    /// With the bytes, and each call claimed and published by a swap.
    pub fn of_claims(partner: &Partner) -> Table {
        Table { partner: partner.clone(), kind: Way::Claims }
    }

    /// With nothing.
    pub fn of_words(partner: &Partner) -> Table {
        Table { partner: partner.clone(), kind: Way::Words }
    }

    /// Makes `calls` calls, 64 in flight, checks the answers, and says how many that were a second.
    pub fn block(&mut self, calls: u64) -> Result<f64> {
        let words = &*self.partner.words;
        let bytes = bytes(&self.partner.region);
        for slot in 0..SLOTS {
            words.u64(FIRST_SLOT + slot).store(0, Ordering::Relaxed);
        }
        self.partner.open(self.kind);
        let carries = self.kind != Way::Words;
        let mut wrong = 0;
        let start = clock::monotonic_ns();
        // Call n uses slot n % 64.
        for n in 0..calls + SLOTS as u64 {
            let slot = n as usize % SLOTS;
            let (asked, answered) = bytes[2 * WORDS * slot..2 * WORDS * (slot + 1)].split_at(WORDS);
            let state = words.u64(FIRST_SLOT + slot);
            if let Some(before) = n.checked_sub(SLOTS as u64) {
                while state.load(Ordering::Acquire) != 4 * before + ANSWERED {
                    std::hint::spin_loop();
                }
                if carries {
                    let right = answered.iter().all(|word| word.load(Ordering::Relaxed) == before);
                    wrong += u64::from(!right);
                }
            }
            if n < calls {
                if carries {
                    asked.iter().for_each(|word| word.store(n, Ordering::Relaxed));
                }
                state.store(4 * n + ASKED, Ordering::Release);
            }
        }
        let took = clock::monotonic_ns() - start;
        self.partner.close();
        if wrong > 0 {
            return Err(Error::bad_request(format!("{wrong} answers of the bare call table are wrong")));
        }
        Ok(calls as f64 * 1e9 / took.max(1) as f64)
    }
}

/// The answering side.
pub(super) fn serve(words: &SharedWords, region: &Region, kind: Way) {
    let bytes = bytes(region);
    for n in 0u64.. {
        let slot = n as usize % SLOTS;
        let state = words.u64(FIRST_SLOT + slot);
        let (asked, claimed, answered) = (4 * n + ASKED, 4 * n + CLAIMED, 4 * n + ANSWERED);
        while state.load(Ordering::Acquire) != asked {
            if words.u32(REQUEST).load(Ordering::Relaxed) == STOP {
                return;
            }
            std::hint::spin_loop();
        }
        if kind == Way::Claims {
            let _ = state.compare_exchange(asked, claimed, Ordering::AcqRel, Ordering::Relaxed);
        }
        if kind != Way::Words {
            let (from, to) = bytes[2 * WORDS * slot..2 * WORDS * (slot + 1)].split_at(WORDS);
            for (from, to) in from.iter().zip(to) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        if kind == Way::Claims {
            let _ = state.compare_exchange(claimed, answered, Ordering::AcqRel, Ordering::Relaxed);
        } else {
            state.store(answered, Ordering::Release);
        }
    }
}

/// Memory for the bytes of all slots. Made before the fork; the other process maps it again.
pub(super) fn region() -> Result<Region> {
    Region::create(KIND, LEN)
}

/// The same memory in the other process.
pub(super) fn region_again(region: &Region) -> Result<Region> {
    let file =
        region.fd().try_clone_to_owned().map_err(|e| Error::os("dup", e.raw_os_error().unwrap_or(0)))?;
    Region::adopt(KIND, file, LEN)
}

fn bytes(region: &Region) -> &[AtomicU64] {
    region.array(START, 2 * WORDS * SLOTS)
}

/// A kind that both sides may write.
const KIND: RegionKind = RegionKind::Control;
const ASKED: u64 = 1;
const CLAIMED: u64 = 2;
const ANSWERED: u64 = 3;
const WORDS: usize = 8;
const START: usize = 64; // after the region's own header
const LEN: usize = 128 << 10; // the rings need the rest
