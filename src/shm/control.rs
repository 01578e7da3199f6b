//! The control region of a lane: 64 call lines and the submit ring. 8 KiB, written by everyone.
//!
//! ```text
//! 0      header
//! 64     head of the ring          128  tail          192  whether the client waits at its descriptor
//! 1024   128 ring entries
//! 4096   64 call lines
//! ```

use super::region::{Region, RegionKind};
use crate::error::Result;
use crate::limits::{LANE_CALLS, RING_ENTRIES};
use crate::primitive::AtomicU64;
use crate::ring::{Armed, CallLine, Generation, SubmitRing};
use std::os::fd::{BorrowedFd, OwnedFd};

const HEAD: usize = 64;
const TAIL: usize = 128;
const ARMED: usize = 192;
const SLOTS: usize = 1024;
const LINES: usize = 4096;
const LEN: usize = 8192;

const _: () = assert!(SLOTS + RING_ENTRIES * 8 <= LINES && LINES + LANE_CALLS * 64 <= LEN);

/// The shared lines and ring of one lane.
#[derive(Debug)]
pub struct Control(Region);

impl Control {
    /// A fresh one with every line IDLE of this generation. Made by the arbiter.
    pub fn create(first: Generation) -> Result<Control> {
        let control = Control(Region::create(RegionKind::Control, LEN)?);
        for line in control.lines() {
            line.reset(first);
        }
        Ok(control)
    }

    /// One that came over a socket.
    pub fn adopt(fd: OwnedFd) -> Result<Control> {
        Region::adopt(RegionKind::Control, fd, LEN).map(Control)
    }

    /// To pass it on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// All call lines.
    #[inline]
    pub fn lines(&self) -> &[CallLine] {
        self.0.array(LINES, LANE_CALLS)
    }

    /// Whether the client waits at its event descriptor.
    #[inline]
    pub fn armed(&self) -> &Armed {
        self.0.at(ARMED)
    }

    /// The submit ring.
    #[inline]
    pub fn ring(&self) -> SubmitRing<'_> {
        SubmitRing {
            head: self.0.at::<AtomicU64>(HEAD),
            tail: self.0.at::<AtomicU64>(TAIL),
            slots: self.0.array(SLOTS, RING_ENTRIES),
        }
    }
}
