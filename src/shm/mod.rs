//! Shared memory: sealed regions, what lies in each, and who may write it.
//!
//! | region | written by | holds |
//! |---|---|---|
//! | [`Registry`] | arbiter | what the arbiter tells everyone |
//! | [`Board`] | all | hints only |
//! | [`Control`], one a lane | client, workers, arbiter | call lines and the submit ring: they arbitrate, they hold no truth alone |
//! | [`Requests`], one a lane | its client | request records with the client's own record of each call, payload blocks |
//! | [`Results`], one a life | that worker | result records, begin records, the death mark, payload blocks |
//!
//! Read-only is enforced by the kernel: the writer creates, allocates and maps, then seals, then passes the
//! descriptor on. Receivers check seals, size and header before they map. A region's size is a local constant from
//! then on, every offset from a peer is checked against it, and every word that another process may write is an
//! atomic that is read once.
//!
//! # Safety
//!
//! This room turns mapped memory into references. That is sound because a [`Region`] keeps its mapping for as long
//! as anything borrows it, its memory cannot shrink or have holes punched (the seals), and every type that is
//! referred to in place is [`Shared`]: atomics only, valid for any bit pattern. Payload bytes are the exception;
//! see [`Region::lend`].
#![allow(unsafe_code)]

mod arena;
mod begin;
mod board;
mod chain;
mod control;
mod foreign;
#[cfg(all(test, not(loom)))]
mod hostile;
pub mod item;
mod outflow;
mod pinned;
mod record;
mod region;
mod registry;
mod requests;
mod results;
mod store;
mod stream;
#[cfg(all(test, not(loom)))]
mod tests;

pub use arena::{Arena, Block};
pub use begin::{BeginRecord, Begun};
pub use board::Board;
pub use chain::Chain;
pub use control::Control;
pub use foreign::{Fetch, Foreign};
pub use outflow::{Outflow, Packed};
pub use pinned::Pinned;
pub use record::{Body, Record};
pub use region::{Region, RegionKind, Shared, layout_hash};
pub use registry::{
    Death, LaneState, Owner, PoolState, RegionEntry, RegionId, Registry, SlotEntry, SlotState,
};
pub use requests::{BLOCKS as REQUEST_BLOCKS, CONTEXT, Deadline, IDEMPOTENT, OwnRecord, Requests, STREAM};
pub use results::{
    BAD_REQUEST, BLOCKS as RESULT_BLOCKS, DEADLINE, LEN as RESULTS_LEN, OVERRUN, Place, ResultKey, Results,
    STALLED, STREAMED,
};
pub use store::{Placed, Quota, Register, Retired, Store};
pub use stream::{STREAM_START, StreamBlock};
