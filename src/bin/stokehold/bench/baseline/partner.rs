//! The other end of the shared-word baselines: a forked process that answers in one way at a time, and sleeps
//! between blocks so that it takes no processor from whoever is measured then.
//!
//! ```text
//! line 0  gate      0: sleep; otherwise the way in which to serve
//! line 1  request   counts up; STOP ends the block
//! line 2  response  the number that was answered
//! line 3+ slots     of the call table; the rings' bell
//! ```

use super::{Kid, ring, table, word};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use stokehold::Result;
use stokehold::internals::shm::Region;
use stokehold::internals::sys::map::SharedWords;
use stokehold::internals::sys::{cpu, futex};

/// How a partner serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Way {
    Futex = 1,
    Yield = 2,
    Spin = 3,
    Table = 4,
    Words = 5,
    Claims = 6,
    Ring = 7,
    SpunRing = 8,
    Rings = 9,
    SpunRings = 10,
}

/// The process and the words that it shares with us.
#[derive(Clone, Debug)]
pub struct Partner {
    pub(super) words: Rc<SharedWords>,
    pub(super) region: Rc<Region>,
    _kid: Rc<Kid>,
}

impl Partner {
    /// Forks it, onto this processor if one is given. This process must have one thread.
    pub fn new(processor: Option<usize>) -> Result<Partner> {
        let words = SharedWords::new(FIRST_SLOT + SLOTS)?;
        let region = table::region()?;
        let kid = Kid::fork(|| {
            let Ok(region) = table::region_again(&region) else { return };
            if let Some(number) = processor {
                let _ = cpu::pin(&[number]);
            }
            serve(&words, &region);
        })?;
        Ok(Partner { words: Rc::new(words), region: Rc::new(region), _kid: Rc::new(kid) })
    }

    /// A block begins: the partner wakes and serves in this way.
    pub(super) fn open(&self, way: Way) {
        self.words.u32(RESPONSE).store(0, Ordering::Relaxed);
        self.words.u32(REQUEST).store(0, Ordering::Relaxed);
        self.words.u32(GATE).store(way as u32, Ordering::Release);
        futex::wake(self.words.u32(GATE), 1);
    }

    /// A block is over: the partner goes to sleep. Waits until it does.
    pub(super) fn close(&self) {
        self.words.u32(GATE).store(0, Ordering::Release);
        self.words.u32(REQUEST).store(STOP, Ordering::Release);
        futex::wake(self.words.u32(REQUEST), 1);
        while self.words.u32(RESPONSE).load(Ordering::Acquire) != STOP {
            cpu::yield_now();
        }
    }
}

/// The partner's life.
fn serve(words: &SharedWords, region: &Region) {
    loop {
        match words.u32(GATE).load(Ordering::Acquire) {
            0 => {
                futex::wait(words.u32(GATE), 0, None);
                continue;
            }
            way if way == Way::Table as u32 => table::serve(words, region, Way::Table),
            way if way == Way::Words as u32 => table::serve(words, region, Way::Words),
            way if way == Way::Claims as u32 => table::serve(words, region, Way::Claims),
            way if way == Way::Ring as u32 => ring::serve(words, region, Way::Ring),
            way if way == Way::SpunRing as u32 => ring::serve(words, region, Way::SpunRing),
            way if way == Way::Rings as u32 => ring::serve(words, region, Way::Rings),
            way if way == Way::SpunRings as u32 => ring::serve(words, region, Way::SpunRings),
            way => word::serve(words, way),
        }
        words.u32(RESPONSE).store(STOP, Ordering::Release);
        // The gate was closed before the stop; the next block opens it again.
    }
}

pub(super) const GATE: usize = 0;
pub(super) const REQUEST: usize = 1;
pub(super) const RESPONSE: usize = 2;
pub(super) const FIRST_SLOT: usize = 3;
pub(super) const SLOTS: usize = 64;
pub(super) const STOP: u32 = u32::MAX;
