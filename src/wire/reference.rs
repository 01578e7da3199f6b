//! [`Reference`]: bytes that lie in a region instead of the body, and [`Resolve`], who knows regions.
//!
//! Our one addition to TLV. It never travels over a socket: there [`NoReferences`] refuses its code in the
//! words that any peer uses for a code it does not know.

use super::WireError;
use crate::limits::{MAX_MESSAGE, MAX_SOCKET_BYTES};

/// Where a bytes value lies. On the wire: code 0x30, then the three fields, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The region's number in its pool.
    pub region: u16,
    /// Where in the region the bytes begin.
    pub offset: u64,
    /// How many there are.
    pub len: u64,
}

/// Turns references into the bytes that they stand for.
///
/// An implementation checks every field: they come from another process. While it is borrowed it must answer
/// the same reference in the same way, because a body is checked once and read afterwards.
pub trait Resolve {
    /// The bytes, which live as long as the borrow of the resolver.
    ///
    /// # Errors
    /// [`WireError::BadReference`] for anything that is not wholly inside of a known region.
    fn resolve(&self, reference: Reference) -> Result<&[u8], WireError>;

    /// The longest string or bytes value that a body may hold inline. [`MAX_MESSAGE`] where there are
    /// regions.
    fn max_inline(&self) -> usize {
        MAX_MESSAGE
    }

    /// Whether there are regions at all. Where there are none, the code of a reference is an unknown code.
    fn has_references(&self) -> bool {
        true
    }
}

/// For sockets: knows no regions, and allows inline values of [`MAX_SOCKET_BYTES`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoReferences;

impl Resolve for NoReferences {
    fn resolve(&self, _: Reference) -> Result<&[u8], WireError> {
        Err(WireError::UnknownType(super::tlv::code::REF))
    }

    fn max_inline(&self) -> usize {
        MAX_SOCKET_BYTES
    }

    fn has_references(&self) -> bool {
        false
    }
}
