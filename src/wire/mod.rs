//! The wire room: frames, the tagged values inside them, and the messages that those values spell.
//!
//! Responsible for turning bytes into values and back, exactly as gunicorn's dirty protocol has them, plus
//! our extensions. Not responsible for moving bytes: nothing in here does I/O, knows a clock or allocates a
//! size that a peer chose. The same bytes travel over sockets and in shared memory:
//!
//! ```text
//!   0        2     3      4            8                       16
//!   +--------+-----+------+------------+-----------------------+----------------------+
//!   | "GD"   |  1  | kind | length u32 | id u64                | body: one TLV value  |
//!   +--------+-----+------+------------+-----------------------+----------------------+
//!   `-- Header, FrameDecoder ---------------------------------'`-- decode, Encoder ---'
//! ```
//!
//! Three ways to hold a value: [`Value`] owns it, [`ValueRef`] reads it out of validated bytes without
//! copying, and a Rust type of one's own goes in and out through [`Encode`] and [`Decode`] without either. What is put
//! together piece by piece is a [`Draft`], its bytes already.
//!
//! Everything that follows a peer's nesting is a loop, not a recursion, so depth costs at most [`MAX_DEPTH`]
//! words of memory here and never stack.
//!
//! [`MAX_DEPTH`]: crate::limits::MAX_DEPTH
#![forbid(unsafe_code)]

mod args;
mod builder;
mod bytes;
mod convert;
mod decode;
mod decoder;
mod draft;
mod encode;
mod encoded;
mod encoder;
mod error;
mod event;
mod frame;
mod header;
mod kind;
mod memory;
mod message;
mod provenance;
mod reference;
mod request;
mod response;
#[cfg(feature = "serde")]
mod serde;
mod stack;
mod tlv;
mod value;
mod view;

#[cfg(test)]
mod tests;

#[cfg(feature = "serde")]
pub use self::serde::Serde;
pub use args::{DecodeArgs, EncodeArgs, EncodeKwargs};
pub use decode::Decode;
pub use decoder::decode;
pub use draft::Draft;
pub use encode::Encode;
pub use encoded::{Encoded, request_of, response_of};
pub use encoder::{Encoder, NeedMore, Open};
pub use error::WireError;
pub use frame::{Frame, FrameDecoder};
pub use header::Header;
pub use kind::Kind;
pub(crate) use memory::copy_str;
pub use message::{Manage, ManageOp, Stash, StashOp};
pub use provenance::provenance;
pub use reference::{NoReferences, Reference, Resolve};
pub use request::{RequestRef, request};
pub use response::{ErrorDetails, ErrorRef, Outcome, ResponseRef, chunk, error, response};
pub use value::Value;
pub use view::{DictIter, DictRef, ListIter, ListRef, ValueRef};
