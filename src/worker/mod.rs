//! The worker's side: apps, what they are called with and answer with, and the runtime that takes calls.
//!
//! A worker is a process with one control thread (its first, blocked on its socket for life) and app threads, each
//! of which takes a call, runs it, publishes its result, and sleeps on its doorbell when there is nothing to take.

mod alert;
mod app;
mod args;
mod boot;
mod claimed;
mod ctx;
mod deferred;
mod dialog;
mod fault;
mod flow;
mod free;
mod held;
mod inbox;
mod interrupt;
mod job;
mod lanes;
mod lease;
mod library;
mod nested;
mod outgoing;
mod panics;
mod reply;
mod running;
mod runtime;
mod share;
mod sink;
mod watch;

pub use app::{AnyApp, App, Apps};
pub use args::Args;
pub use boot::{Boot, Bounds, Surroundings, run};
pub use ctx::Ctx;
pub use deferred::Deferred;
pub use dialog::Dialog;
pub use flow::Flow;
pub use inbox::{Inbox, Received};
pub use lease::Lease;
pub use library::{enter as enter_library, list as list_library, run_library};
pub use panics::catch as catch_panic;
pub use reply::Reply;
pub use sink::{IntoItem, Sink};
