//! Every system call that the project makes, each behind a small safe function.
//!
//! A call in here keeps these promises, so that the rooms above need not know the manual pages:
//!
//! - **One function, one call.** It is named for what it does, and its manual page is named in its documentation.
//!   Nothing in this room decides anything; what to do about an outcome is the caller's business.
//! - **errno is captured at the call** and travels in [`Error::os`] together with the call's name. Outcomes that
//!   are no failures have types of their own: `None` where a call would block, [`futex::Wait`] for how a wait
//!   ended, `false` for a process that still runs.
//! - **EINTR is not seen by callers.** A call that a signal interrupted is made again, with the time that remains
//!   of its timeout. The one exception is [`futex::wait`], whose callers look at their own word and at their own
//!   deadline after each return anyhow, and are told.
//! - **Descriptors are [`OwnedFd`] and [`BorrowedFd`]**, never a bare `int` and never `-1`. Each is born
//!   close-on-exec in the call that makes it, so that no other thread's `exec` can slip in between.
//! - **Sockets never raise SIGPIPE**, and nothing here changes the signal state of a process but [`signal`] and
//!   those functions that say so.
//! - **Nothing panics**, whatever the kernel answers: an error number that the manual page does not know is an
//!   error like the others.
//! - [`futex`] and [`clock`] are on the path of every call: they neither allocate nor block for longer than asked.
//!
//! The kernel is Linux 5.10 or later. A newer call is used where it is present, with a fallback beside it:
//! `MFD_NOEXEC_SEAL` (6.3), `close_range` where a sandbox answers ENOSYS.
//!
//! # What a forked child may do
//!
//! [`process::fork`] refuses a process with more than one task, so a child may do what its parent might have
//! done: no lock can be held by a thread that was not copied. It must still let go of what it inherited
//! ([`fd::close_all_except`]), since the kernel's objects behind the descriptors are shared with the parent.
//!
//! # Safety
//!
//! This module and the ones below it may use `unsafe`. Each block names the invariant it rests on and where that
//! was established. Of the types below, [`map::Mapping`] hands out raw pointers and no references; who
//! dereferences them vouches for what is behind.
//!
//! [`OwnedFd`]: std::os::fd::OwnedFd
//! [`BorrowedFd`]: std::os::fd::BorrowedFd
#![allow(unsafe_code)]

pub mod awake;
pub mod clock;
pub mod cpu;
pub mod dir;
pub mod event;
pub mod fd;
pub mod fork_guard;
pub mod futex;
pub mod library;
pub mod map;
pub mod memfd;
pub mod pidfd;
pub mod poll;
pub mod prefetch;
pub mod process;
pub mod robust;
pub mod signal;
pub mod socket;
pub mod timer;
pub mod watch_list;
pub mod words;

use crate::error::{Error, Kind};
use nix::errno::Errno;
use std::io;

/// The error number of `error`, if it is a system call's.
pub fn errno_of(error: &Error) -> Option<i32> {
    match error.kind() {
        Kind::Os { errno, .. } => Some(*errno),
        _ => None,
    }
}

/// Whether this error says that the process at the other end of a socket is gone.
pub fn is_hang_up(error: &Error) -> bool {
    matches!(errno_of(error), Some(libc::EPIPE | libc::ECONNRESET))
}

/// The failure of `call` that errno tells right now. To be called before anything else can change it.
fn last(call: &'static str) -> Error {
    Error::os(call, Errno::last_raw())
}

/// Names the call that a nix error comes from.
fn named(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::os(call, errno as i32)
}

/// Names the call that an error of the standard library's, or of mio's, comes from.
pub(crate) fn named_io(call: &'static str) -> impl Fn(io::Error) -> Error {
    move |e| Error::os(call, e.raw_os_error().unwrap_or(libc::EIO))
}

/// Makes `call` until it is not interrupted. For calls without a timeout, which answer -1 and set errno.
fn retry(name: &'static str, mut call: impl FnMut() -> libc::c_long) -> Result<libc::c_long, Error> {
    loop {
        let answer = call();
        if answer != -1 {
            return Ok(answer);
        }
        let errno = Errno::last_raw();
        if errno != libc::EINTR {
            return Err(Error::os(name, errno));
        }
    }
}
