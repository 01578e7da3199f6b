//! The C interface of stokehold. Its manual is `include/stokehold.h`, which is made from this source.
//!
//! One file a noun of the interface; [`guard`] is the way in and out of each function (pointers checked, panics
//! caught, errors handed over), [`fault`] what goes wrong on it. Only the public interface of the `stokehold` crate is
//! used.
//!
//! # Safety
//! Everything here is called by C, which can hand over anything. What can be checked is checked: NULL, alignment,
//! numbers, lengths, text, lease ids, the size of structs. What cannot is the caller's promise, stated at the top of
//! the header: a pointer that is not NULL points to what its type says, which was not freed, for as long as the call
//! takes; of a `T *` nobody else makes use meanwhile. Each `unsafe` block here stands on that promise, or says on what
//! else.

// In the order in which the header tells of them; the blank lines keep it.
mod version;

mod status;

mod text;

mod error;

mod log;

mod init;

mod app;

mod reply;

mod deferred;

mod sink;

mod inbox;

mod config;

mod pool;

mod client;

mod args;

mod execute;

mod timeout;

mod pending;

mod stream;

mod context;

mod sender;

mod canceller;

mod completions;

mod result;

mod value;

mod lease;

mod library;

// What C does not see.
mod fault;
mod guard;
mod lent;
mod parts;
mod stdio;

#[cfg(feature = "test-hooks")]
mod hooks;
#[cfg(feature = "rust-twin")]
mod twin;
