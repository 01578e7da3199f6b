//! A child process that does nothing until it is killed, for a hundredth of what a fork costs.

use std::sync::OnceLock;
use stokehold::internals::error::{Error, Result};
use stokehold::internals::sys::process::Pid;

const STACK: usize = 64 * 1024;

/// A new one: a process of its own that shares this one's memory and descriptors and makes no use of either. Only SIGKILL ends
/// it. They all sleep on one stack: what each writes there before it sleeps is the same, and none comes back.
pub fn start() -> Result<Pid> {
    static PLACE: OnceLock<Box<[u128]>> = OnceLock::new();
    let stack = PLACE.get_or_init(|| vec![0; STACK / 16].into_boxed_slice());
    let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::CLONE_FS | libc::SIGCHLD;
    // SAFETY: `sleep` touches nothing but its own stack, which lives for ever, and makes one system call over and over with
    // every signal blocked, so that no handler of this process runs in it.
    let answer = unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let answer =
            libc::clone(sleep, stack.as_ptr_range().end.cast_mut().cast(), flags, std::ptr::null_mut());
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        answer
    };
    Pid::from_raw(answer).ok_or_else(|| Error::os("clone", libc::EAGAIN))
}

extern "C" fn sleep(_: *mut libc::c_void) -> libc::c_int {
    // With the target, also where that is killed: it has its memory and all its descriptors.
    // SAFETY: takes numbers.
    unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    loop {
        // SAFETY: takes nothing and gives nothing.
        unsafe { libc::syscall(libc::SYS_pause) };
    }
}
