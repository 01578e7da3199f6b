#![doc = include_str!("../README.md")]
//!
//! # The types
//!
//! In the host:
//!
//! * [`init`] registers the apps, first thing in `main`; [`Apps`] is the table that its closure fills.
//! * [`Pool::builder`] configures a pool ([`Builder`]), [`Builder::start`] starts it, [`Pool::shutdown`] ends it. To drop
//!   a [`Pool`] is to kill its workers.
//! * [`Client`] is a connection to a pool, for all threads of a process; [`Client::connect`] joins the pool of another
//!   process ([`Options`]), over a socket that [`Pool::client_socket`] made. [`Client::call`] begins a [`Call`], which
//!   [`execute`](Call::execute) sends and waits for, and [`submit`](Call::submit) only sends: [`Pending`] is then the
//!   handle to its outcome.
//! * [`Lease`] is memory of the client that workers read in place; [`Response`] is a result, read where its worker put it.
//!
//! In the worker:
//!
//! * [`App`] is your code, with [`Args`] to read, a [`Reply`] to give, and [`Ctx`] for what surrounds the call.
//! * [`ResultLease`], from [`Ctx::lease`], is memory in which a result is built in place.
//!
//! On both sides:
//!
//! * [`Error`] says how a call, or anything else, failed: [`Code`] for programs, [`Kind`] with the details ([`Cause`],
//!   [`Kill`], [`Absence`], [`Bound`], [`CancelledBy`], [`AppError`]).
//! * [`Encode`] and [`Decode`] are how Rust's own types become arguments and results; [`EncodeArgs`], [`EncodeKwargs`] and
//!   [`DecodeArgs`] do that for whole lists of arguments. [`Value`] holds any value, [`ValueRef`], [`ListRef`] and
//!   [`DictRef`] read one without a copy, and [`Encoder`] is for writing an `Encode` of your own.
//! * [`Mode`] is how threads wait: adaptive by default, never spinning ([`Mode::Park`]), or always ([`Mode::Spin`]).
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
