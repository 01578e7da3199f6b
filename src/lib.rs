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
//!   process ([`Options`]), over a socket that [`Pool::client_socket`] made.
//! * [`Builder::serve`] makes this process the supervisor of a pool under a path, [`Client::connect_path`] joins it there,
//!   and [`status`] asks how it is. [`Client::call`] begins a [`Call`], which
//!   [`execute`](Call::execute) sends and waits for, and [`submit`](Call::submit) only sends: [`Pending`] is then the
//!   handle to its outcome. For a host with an event loop there are [`Completions`]: a descriptor to watch, behind which
//!   each [`Completion`] is one outcome.
//! * [`Call::stream`] takes what an action answers item by item: [`Stream`]. [`Call::context`] opens a call with items both ways:
//!   [`Context`], whose halves are a [`Sender`] and a [`Stream`].
//! * [`Canceller`] ends a call that another thread waits for.
//! * [`Lease`] is memory of the client that workers read in place; [`Response`] is a result, read where its worker put it.
//!
//! In the worker:
//!
//! * [`App`] is your code ([`AnyApp`] where its name is only known at run time), with [`Args`] to read, a [`Reply`] to
//!   give, and [`Ctx`] for what surrounds the call.
//! * [`Ctx::call`] is a call of another app, made in the call that the app is in.
//! * [`ResultLease`], from [`Ctx::lease`], is memory in which a result is built in place.
//! * [`Reply::stream`] answers with an iterator's items; [`Sink`], from [`Ctx::sink`], is where an app puts them itself
//!   ([`IntoItem`]), within the bounds of a [`Flow`]. [`Dialog`], from [`Ctx::started`], is the app's end of a context, with an
//!   [`Inbox`] of what it has [`Received`].
//! * [`Deferred`], from [`Ctx::defer`], is a call that is answered later, from any thread.
//!
//! * [`app_library!`] makes a shared object of apps, for [`Builder::app_library`] and `stokehold serve`.
//!
//! On both sides:
//!
//! * [`Error`] says how a call, or anything else, failed: [`Code`] for programs, [`Kind`] with the details ([`Cause`],
//!   [`Kill`], [`Absence`], [`Bound`], [`Limit`], [`CancelledBy`], [`AppError`] with its [`Source`]),
//!   and where the time of a call went whose deadline passed ([`Spent`]).
//! * [`Encode`] and [`Decode`] are how Rust's own types become arguments and results; [`EncodeArgs`], [`EncodeKwargs`] and
//!   [`DecodeArgs`] do that for whole lists of arguments. [`Value`] holds any value, [`ValueRef`], [`ListRef`] and
//!   [`DictRef`] read one without a copy ([`ListIter`], [`DictIter`]), and [`Encoder`] ([`Open`], [`WireError`]) is for
//!   writing an `Encode` of your own. A [`Draft`] is arguments or a result that are put together piece by piece.
//! * [`Mode`] is how threads wait: adaptive by default, never spinning ([`Mode::Park`]), or always ([`Mode::Spin`]).
//!
//! What can go wrong, what holds all the same, and the test that shows it: the table of [`faults`].
#![deny(unsafe_code)]

// The rooms, each of which imports only from those above it. Under the model checker there is only what it checks:
// loom's atomics have no layout that could lie in shared memory.
#[macro_use]
mod crash;
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
#[cfg(not(loom))]
#[doc(hidden)]
pub mod sys;
// L2
#[cfg(not(loom))]
#[doc(hidden)]
pub mod conn;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod shm;
// L3
#[cfg(not(loom))]
#[doc(hidden)]
pub mod arbiter;
#[doc(hidden)]
pub mod pool;
// L4
#[cfg(not(loom))]
#[doc(hidden)]
pub mod client;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod host;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod library;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod worker;

#[cfg(not(loom))]
pub use client::{
    Call, Canceller, Client, Completion, Completions, Context, Lease, Options, Pending, Response, Sender,
    Stream, status,
};
pub use error::{
    Absence, AppError, Bound, CancelledBy, Cause, Code, Error, Kill, Kind, Limit, Result, Source, Spent,
};
#[cfg(not(loom))]
pub use host::{Builder, Pool, init};
pub use ring::Mode;
#[cfg(feature = "serde")]
pub use wire::Serde;
pub use wire::{
    Decode, DecodeArgs, DictIter, DictRef, Draft, Encode, EncodeArgs, EncodeKwargs, Encoder, ListIter,
    ListRef, Open, Value, ValueRef, WireError,
};
#[cfg(not(loom))]
pub use worker::{
    AnyApp, App, Apps, Args, Ctx, Deferred, Dialog, Flow, Inbox, IntoItem, Lease as ResultLease, Received,
    Reply, Sink,
};

#[cfg(doc)]
#[doc = include_str!("../docs/faults.md")]
pub mod faults {}

/// The rooms, for this project's own benches, fuzz targets and model-checked tests. Not an interface: anything
/// in here changes without notice.
#[doc(hidden)]
pub mod internals {
    #[cfg(not(loom))]
    pub use crate::{arbiter, client, conn, host, shm, sys, worker};
    pub use crate::{error, limits, pool, primitive, ring, wire};
    /// Named crash points.
    #[cfg(crash_points)]
    pub mod crash {
        pub use crate::crash::{Action, Cell, NAMES, index, share};
    }
}
