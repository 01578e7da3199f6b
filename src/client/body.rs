//! The private copy of a result's body, and the room that each call of a lane keeps for it.

use crate::limits::INLINE_LEN;
use crossbeam::atomic::AtomicCell;
use std::fmt;
use std::ops::Deref;

/// Room for the body of one record. In a box, so that a response is a few words to move.
type Room = Box<[u8; INLINE_LEN]>;

/// A result's TLV body, which nobody else can write.
pub enum Body {
    /// From a record.
    Inline {
        /// How much of the room it takes.
        len: usize,
        /// Goes back to its call.
        room: Room,
    },
    /// From a block.
    Owned(Vec<u8>),
}

impl Deref for Body {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Body::Inline { len, room } => &room[..*len],
            Body::Owned(bytes) => bytes,
        }
    }
}

/// The room of a call while no response has it: a call that was made before costs no allocation.
#[derive(Default)]
pub struct Spare(AtomicCell<Option<Room>>);

impl Spare {
    /// For the response of this call, of which there is one at a time.
    #[inline]
    pub fn take(&self) -> Room {
        self.0.take().unwrap_or_else(|| Box::new([0; INLINE_LEN]))
    }

    /// Back, before the call is free.
    #[inline]
    pub fn give(&self, body: Body) {
        if let Body::Inline { room, .. } = body {
            self.0.store(Some(room));
        }
    }
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spare")
    }
}

const _: () = assert!(AtomicCell::<Option<Room>>::is_lock_free());
