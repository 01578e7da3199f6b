//! Ways for a process to end or stop itself, some of them on purpose bad: for the demo app and the tests.

use crate::error::Result;
use crate::sys::named;
use crate::sys::signal::Signal;
use std::ptr;

/// Ends this process at once: no destructor, no `atexit` handler, no flush of a buffer that a fork has doubled.
/// See `_exit(2)`.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(status) }
}

/// Sends `signal` to the calling thread. See `raise(3)`.
pub fn raise(signal: Signal) -> Result<()> {
    nix::sys::signal::raise(signal).map_err(named("raise"))
}

/// Stops this process until somebody continues it. See `SIGSTOP` in `signal(7)`.
pub fn stop_self() -> Result<()> {
    nix::sys::signal::kill(nix::unistd::getpid(), Signal::SIGSTOP).map_err(named("kill"))
}

/// Ends this process as a stray pointer does: by an access to a page that may not be accessed.
pub fn segfault() -> ! {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses changes nothing that exists.
    let page = unsafe { libc::mmap(ptr::null_mut(), 1, libc::PROT_NONE, flags, -1, 0) };
    // SAFETY: none is claimed: the page cannot be written, so this is a SIGSEGV, which is what the function is
    // for. Unlike a null pointer, the compiler has no opinion on this one.
    unsafe { page.cast::<u8>().write_volatile(0) };
    // Here only if a handler made the page accessible.
    std::process::abort()
}
