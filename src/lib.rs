//! stokehold: a supervised pool of worker processes, called over shared memory.
#![deny(unsafe_code)]

// L0
#[doc(hidden)]
pub mod error;
#[doc(hidden)]
pub mod limits;
#[doc(hidden)]
pub mod primitive;
#[doc(hidden)]
pub mod ring;
#[doc(hidden)]
pub mod wire;
// L1
#[doc(hidden)]
pub mod sys;
// L2
#[doc(hidden)]
pub mod conn;
#[doc(hidden)]
pub mod shm;
// L3
#[doc(hidden)]
pub mod arbiter;
#[doc(hidden)]
pub mod pool;
// L4
#[doc(hidden)]
pub mod client;
#[doc(hidden)]
pub mod host;
#[doc(hidden)]
pub mod worker;

pub use client::{Call, Client, Lease, Options, Pending, Response};
pub use error::{Absence, AppError, Bound, CancelledBy, Cause, Code, Error, Kill, Kind, Result};
pub use host::{Builder, Pool, init};
pub use ring::Mode;
pub use wire::{
    Decode, DecodeArgs, DictRef, Encode, EncodeArgs, EncodeKwargs, Encoder, ListRef, Value, ValueRef,
};
pub use worker::{App, Apps, Args, Ctx, Lease as ResultLease, Reply};

/// The rooms, for this project's own benches, fuzz targets and model-checked tests. Not an interface: anything
/// in here changes without notice.
#[doc(hidden)]
pub mod internals {
    pub use crate::{
        arbiter, client, conn, error, host, limits, pool, primitive, ring, shm, sys, wire, worker,
    };
}
