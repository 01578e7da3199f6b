//! How deep a call is nested: what a request's flags say of the calls that it is made in.
//!
//! ```text
//! bits 0-7     how it is to be run: see `requests.rs`
//! bits 8-11    depth: how many calls it is made in, one in the other; 0 for one that no app made
//! bits 12-15   held: how many of these certainly hold an app thread until it ends
//! ```
//!
//! Workers write them for calls that their apps make. What any other client writes there counts against that client's own
//! calls alone.

/// The calls that a call is made in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// How many there are.
    pub depth: u32,
    /// How many of them wait for it on an app thread.
    pub held: u32,
}

const DEPTH_AT: u32 = 8;
const HELD_AT: u32 = 12;
const MASK: u64 = 0xf;

impl Chain {
    /// As a request's flags say it.
    pub fn of(flags: u64) -> Chain {
        let field = |at: u32| (flags >> at & MASK) as u32;
        Chain { depth: field(DEPTH_AT), held: field(HELD_AT) }
    }

    /// In a request's flags.
    #[inline]
    pub fn flags(self) -> u64 {
        let field = |n: u32, at: u32| u64::from(n).min(MASK) << at;
        field(self.depth, DEPTH_AT) | field(self.held, HELD_AT)
    }

    /// Of a call that is made in one of this chain.
    pub fn inner(self) -> Chain {
        Chain { depth: self.depth + 1, ..self }
    }

    /// Of the same call, if whoever makes it waits for it on an app thread.
    pub fn waited_for(self) -> Chain {
        Chain { held: self.held + 1, ..self }
    }
}

const _: () = assert!((super::IDEMPOTENT | super::STREAM | super::CONTEXT) >> DEPTH_AT == 0);
const _: () = assert!(crate::limits::MAX_NESTING < MASK as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shm::{CONTEXT, IDEMPOTENT, STREAM};

    #[test]
    fn what_is_written_is_read_beside_other_flags() {
        for depth in 0..16 {
            for held in 0..16 {
                let chain = Chain { depth, held };
                assert_eq!(Chain::of(chain.flags() | 0xff), chain);
                assert_eq!(chain.flags() & 0xff, 0);
            }
        }
        assert_eq!(Chain::of(IDEMPOTENT | STREAM | CONTEXT), Chain::default());
        assert_eq!(Chain::of(u64::MAX).inner().waited_for(), Chain { depth: 16, held: 16 });
        assert_eq!(Chain { depth: 99, held: 16 }.flags(), 0xff00, "a field does not run into another");
    }
}
