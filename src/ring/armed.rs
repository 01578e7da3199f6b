//! Whether a client waits at its event descriptor: then, and only then, whoever changes one of its calls' words, or sends it
//! an item, writes to the descriptor, which is a system call.
//!
//! Client: drain the descriptor, set the flag, full fence, look at items and words again, sleep in a loop of its own.
//! Publisher: change the word, or the tail of a stream, full fence, look at the flag; who takes it writes. Either the
//! publisher sees the flag or the client sees the change. A write that comes late (its writer took the flag and was held
//! up) costs an empty look; one that never comes, because its writer died or stopped in between, is made up for by the
//! arbiter: it writes for every word that names a dead life, and on ticks for every result that it had not seen before
//! and for streams whose client's flag is not set.

use super::sabotage::{self, full_fence};
use super::{Bell, Futex};
use crate::primitive::{AtomicU32, Ordering};

/// One client's flag in its lane.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Armed(AtomicU32);

impl Armed {
    /// A client that does not wait.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Armed {
        Armed(AtomicU32::new(0))
    }

    /// Client: announces that it will sleep at its descriptor, and looks once more. `flags` are those of all lanes that
    /// it has calls on; `drain` makes the descriptor unreadable. It may sleep if `look` finds nothing.
    pub fn arm<'a, T>(
        mut drain: impl FnMut(),
        flags: impl IntoIterator<Item = &'a Armed>,
        look: impl FnOnce() -> T,
    ) -> T {
        let late = sabotage::on("drainlate");
        if !late {
            drain();
        }
        for flag in flags {
            flag.0.store(1, Ordering::Relaxed);
        }
        crash_point!("client.armed");
        full_fence("nofence_arm"); // SYNC POINT: armed
        let found = look();
        if late {
            drain();
        }
        found
    }

    /// Whether the client waits, and nobody has taken that as a reason to write yet.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Publisher, after its change: rings the call's bell, and says whether the client's descriptor is to be written
    /// to as well. Of several at once one is told so.
    #[inline]
    pub fn ring(&self, bell: &Bell, futex: &impl Futex) -> bool {
        bell.ring(futex); // SYNC POINT: armed (its full fence is ours)
        self.0.load(Ordering::Relaxed) != 0 && self.0.fetch_and(0, Ordering::AcqRel) != 0
    }
}
