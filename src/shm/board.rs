//! The board of a pool: hints that everybody writes. 64 KiB.
//!
//! ```text
//! 0      header
//! 64     the parker that spins, plus one
//! 128    pending lanes (bitmap)      256  idle parkers (bitmap)
//! 4096   256 doorbells
//! ```

use super::region::{Region, RegionKind};
use crate::error::Result;
use crate::limits::{MAX_LANES, MAX_PARKERS};
use crate::primitive::{AtomicU32, Ordering};
use crate::ring::{Bits, Doorbell};
use std::os::fd::{BorrowedFd, OwnedFd};

const SPINNER: usize = 64;
const PENDING: usize = 128;
const IDLE: usize = 256;
const DOORBELLS: usize = 4096;
const LEN: usize = 64 * 1024;

const _: () = {
    assert!(PENDING + MAX_LANES / 8 <= IDLE && IDLE + MAX_PARKERS / 8 <= DOORBELLS);
    assert!(DOORBELLS + MAX_PARKERS * 64 <= LEN);
};

/// The shared hints of one pool.
#[derive(Debug)]
pub struct Board(Region);

impl Board {
    /// A fresh one. Made by the arbiter.
    pub fn create() -> Result<Board> {
        Region::create(RegionKind::Board, LEN).map(Board)
    }

    /// One that came over a socket.
    pub fn adopt(fd: OwnedFd) -> Result<Board> {
        Region::adopt(RegionKind::Board, fd, LEN).map(Board)
    }

    /// To pass it on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// Lanes that have something queued.
    #[inline]
    pub fn pending(&self) -> Bits<'_> {
        Bits(self.0.array(PENDING, MAX_LANES / 64))
    }

    /// Parkers that are idle.
    #[inline]
    pub fn idle(&self) -> Bits<'_> {
        Bits(self.0.array(IDLE, MAX_PARKERS / 64))
    }

    /// A parker's doorbell; `None` out of range.
    #[inline]
    pub fn doorbell(&self, parker: usize) -> Option<&Doorbell> {
        self.0.array::<Doorbell>(DOORBELLS, MAX_PARKERS).get(parker)
    }

    /// All doorbells.
    pub fn doorbells(&self) -> &[Doorbell] {
        self.0.array(DOORBELLS, MAX_PARKERS)
    }

    /// The parker that spins, if one does.
    #[inline]
    pub fn spinner(&self) -> Option<usize> {
        self.spinner_word().load(Ordering::Relaxed).checked_sub(1).map(|n| n as usize)
    }

    /// Becomes the one that spins; `false` if there is one.
    pub fn spin(&self, parker: usize) -> bool {
        let word = self.spinner_word();
        word.load(Ordering::Relaxed) == 0
            && word.compare_exchange(0, parker as u32 + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// No longer the one that spins.
    pub fn stop_spinning(&self, parker: usize) {
        let me = parker as u32 + 1;
        let _ = self.spinner_word().compare_exchange(me, 0, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Arbiter: forgets who is idle and who spins, before it rings everybody; those that are say so again. A stray
    /// write may have named parkers that do not exist: each would swallow a wake-up, and one that spins for ever
    /// would keep all others from it.
    pub fn forget_parkers(&self) {
        for word in self.idle().0 {
            word.store(0, Ordering::Release);
        }
        self.spinner_word().store(0, Ordering::Relaxed);
    }

    fn spinner_word(&self) -> &AtomicU32 {
        self.0.at(SPINNER)
    }
}
