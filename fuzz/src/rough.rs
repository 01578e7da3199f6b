//! Shared memory as a peer that keeps to nothing sees it: words.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use stokehold::internals::primitive::{AtomicU64, Ordering};
use stokehold::internals::ring::{Generation, Life, Reason, Word};
use stokehold::internals::shm::{Region, RegionKind};

/// A region that is written word by word.
#[derive(Clone)]
pub struct Rough(Arc<Region>);

impl Rough {
    /// One that this process made.
    pub fn of(region: &Arc<Region>) -> Rough {
        Rough(region.clone())
    }

    /// A control region or a board, of which a descriptor came: everybody writes those.
    pub fn adopt(kind: RegionKind, fd: OwnedFd, len: usize) -> Option<Rough> {
        Region::adopt(kind, fd, len).ok().map(|region| Rough(Arc::new(region)))
    }

    /// How many words it has.
    pub fn words(&self) -> usize {
        self.0.len() / 8
    }

    /// Writes one, wherever that comes round to.
    pub fn write(&self, at: usize, value: u64) {
        let words = self.0.array::<AtomicU64>(0, self.words());
        words[at % words.len()].store(value, Ordering::Relaxed);
    }

    /// What stands there.
    pub fn read(&self, at: usize) -> u64 {
        let words = self.0.array::<AtomicU64>(0, self.words());
        words[at % words.len()].load(Ordering::Relaxed)
    }
}

/// A word of a call that is well made, whether it makes sense or not.
pub fn word(generation: Generation, life: u8, state: u8) -> Word {
    let Some(lives) = Life::new(life.into()) else { return Word::idle(generation) };
    match state % 8 {
        0 => Word::idle(generation),
        1 => Word::queued(generation),
        2 => Word::running(generation, lives),
        3 => Word::done(generation, lives),
        4 => Word::abandoned(generation, lives),
        5 => Word::acked(generation, lives),
        6 => Word::lost(generation, Some(lives), Reason::Begun),
        _ => Word::lost(generation, None, Reason::Degraded),
    }
}
