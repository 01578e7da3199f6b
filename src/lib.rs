//! stokehold: a supervised pool of worker processes, called over shared memory.
#![deny(unsafe_code)]
#![allow(dead_code, unused_imports)] // while the rooms are being built

// Under loom only `ring` and what it needs: the models build nothing else, and its atomics have no layout.

// L0
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
#[cfg(not(loom))]
pub mod sys;
// L2
#[doc(hidden)]
#[cfg(not(loom))]
pub mod conn;
#[doc(hidden)]
#[cfg(not(loom))]
pub mod shm;
// L3
#[doc(hidden)]
// pub mod arbiter;
#[doc(hidden)]
// pub mod pool;
// L4
#[doc(hidden)]
#[cfg(not(loom))]
pub mod client;
#[doc(hidden)]
#[cfg(not(loom))]
pub mod worker;

pub use error::{Code, Error, Kind, Result};
#[cfg(not(loom))]
pub use worker::{App, Apps, Args, Ctx, Lease, Reply};

/// The rooms, for this project's own benches, fuzz targets and model-checked tests. Not an interface: anything
/// in here changes without notice.
#[doc(hidden)]
pub mod internals {
    #[cfg(not(loom))]
    pub use crate::{client, conn, shm, sys, worker};
    pub use crate::{limits, primitive, ring, wire};
}
