//! Handles to processes. A number can be given to another process after the reap; a handle cannot.
//!
//! A pidfd becomes readable when its process has exited, and the kernel has torn the memory down by then, which
//! takes a while for a large one. Earlier news has the mark of [`robust`](super::robust).

use super::poll;
use super::process::{ExitStatus, Pid, pid};
use super::signal::Signal;
use super::{last, retry};
use crate::error::{Error, Result};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// A handle to the process that has number `pid` now.
///
/// The number must be known to be its still: a child that is not reaped, the parent, or one that is checked
/// afterwards. See `pidfd_open(2)`; the descriptor is always close-on-exec.
pub fn open(pid: Pid) -> Result<OwnedFd> {
    open_with(pid.as_raw(), 0)
}

/// A handle to one thread of a process, readable when that thread has exited (`PIDFD_THREAD`, Linux 6.9; EINVAL
/// before).
///
/// When a process is killed its memory is torn down by whichever thread is the last to leave; the others are gone
/// before that. So of two threads at least one tells of the death at once, whatever the size of the memory.
pub fn open_thread(tid: i32) -> Result<OwnedFd> {
    open_with(tid, libc::O_EXCL as u32)
}

fn open_with(number: i32, flags: u32) -> Result<OwnedFd> {
    // SAFETY: takes numbers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, number, flags) };
    if fd == -1 {
        return Err(last("pidfd_open"));
    }
    // SAFETY: the call succeeded, so `fd` is open and nobody else's; descriptors fit into a RawFd.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// A handle to this process, for others to watch.
pub fn of_self() -> Result<OwnedFd> {
    open(pid())
}

/// Sends `signal` to the process, or fails with ESRCH if it was reaped. See `pidfd_send_signal(2)`.
pub fn send_signal(fd: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed and stands for that of kill(2); no other memory is involved.
    let answer = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal as libc::c_int, info, 0u32)
    };
    if answer == 0 { Ok(()) } else { Err(last("pidfd_send_signal")) }
}

/// Whether this is a handle to a process at all, alive or not. Never waits, whatever else it is. See
/// `pidfd_send_signal(2)`.
pub fn is_one(fd: BorrowedFd<'_>) -> bool {
    let info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: takes numbers and a null; signal 0 is none.
    let answer = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), 0, info, 0u32) };
    answer == 0 || crate::sys::errno_of(&last("pidfd_send_signal")) != Some(libc::EBADF)
}

/// Whether the process has exited, reaped or not. Reaps nothing.
pub fn has_exited(fd: BorrowedFd<'_>) -> Result<bool> {
    wait_exited(fd, Some(Duration::ZERO))
}

/// Waits until the process has exited; `false` if `timeout` passed first. Reaps nothing.
pub fn wait_exited(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<bool> {
    let readiness = poll::readable(fd, timeout)?;
    Ok(readiness.ready || readiness.hangup)
}

/// Reaps the process, which must be a child of this one, and says how it ended; `None` while it runs.
///
/// ECHILD if it is no child of ours, or was reaped before. See `waitid(2)` with `P_PIDFD`.
pub fn reap(fd: BorrowedFd<'_>) -> Result<Option<ExitStatus>> {
    wait(fd, libc::WEXITED | libc::WNOHANG)
}

/// As [`reap`], and leaves it a zombie: its number and its group stay its own.
pub fn status(fd: BorrowedFd<'_>) -> Result<Option<ExitStatus>> {
    wait(fd, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// Whether a signal has stopped the process, which must be a child of this one, and nothing has let it go on since. Waits
/// for nothing, and leaves that to be seen by others.
pub fn is_stopped(fd: BorrowedFd<'_>) -> Result<bool> {
    let info = waitid(fd, libc::WSTOPPED | libc::WNOHANG | libc::WNOWAIT)?;
    // SAFETY: as in `wait`.
    Ok(unsafe { info.si_pid() } != 0)
}

fn wait(fd: BorrowedFd<'_>, options: libc::c_int) -> Result<Option<ExitStatus>> {
    let info = waitid(fd, options)?;
    // SAFETY: waitid filled the fields of SIGCHLD, or left the zeroes of before; both read as integers.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    match info.si_code {
        libc::CLD_EXITED => Ok(Some(ExitStatus::Exited(status))),
        libc::CLD_KILLED | libc::CLD_DUMPED => Ok(Some(ExitStatus::Signaled(status))),
        _ => Err(Error::os("waitid", libc::EIO)),
    }
}

fn waitid(fd: BorrowedFd<'_>, options: libc::c_int) -> Result<libc::siginfo_t> {
    // SAFETY: a siginfo_t of zeroes is a valid one, which says "no process".
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    retry("waitid", || {
        // SAFETY: `info` is valid for the write of one siginfo_t.
        unsafe { libc::waitid(libc::P_PIDFD, fd.as_raw_fd() as libc::id_t, &mut info, options).into() }
    })?;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::errno_of;
    use std::os::fd::AsFd;

    #[test]
    fn one_is_alive_and_no_child_of_oneself() {
        let me = of_self().unwrap();
        assert!(is_one(me.as_fd()) && !has_exited(me.as_fd()).unwrap());
        assert!(!is_one(std::fs::File::open("/dev/null").unwrap().as_fd()));
        assert!(!wait_exited(me.as_fd(), Some(Duration::from_millis(1))).unwrap());
        assert_eq!(errno_of(&reap(me.as_fd()).unwrap_err()), Some(libc::ECHILD));
    }

    #[test]
    fn a_child_is_seen_to_be_stopped_as_long_as_it_is() {
        let mut child = std::process::Command::new("/bin/sleep").arg("60").spawn().unwrap();
        let fd = open(Pid::from_raw(child.id() as i32).unwrap()).unwrap();
        assert!(!is_stopped(fd.as_fd()).unwrap());
        for _ in 0..2 {
            send_signal(fd.as_fd(), Signal::SIGSTOP).unwrap();
            while !is_stopped(fd.as_fd()).unwrap() {
                std::thread::yield_now();
            }
            assert!(is_stopped(fd.as_fd()).unwrap(), "it was looked at, and still is");
            send_signal(fd.as_fd(), Signal::SIGCONT).unwrap();
            while is_stopped(fd.as_fd()).unwrap() {
                std::thread::yield_now();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_child_is_seen_to_exit_and_reaped_once() {
        #[expect(clippy::zombie_processes, reason = "reaped through its pidfd")]
        let child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let fd = open(Pid::from_raw(child.id() as i32).unwrap()).unwrap();
        assert!(wait_exited(fd.as_fd(), None).unwrap());
        assert_eq!(reap(fd.as_fd()).unwrap(), Some(ExitStatus::Exited(7)));
        assert!(is_one(fd.as_fd()), "what is dead and reaped, too");
        assert_eq!(errno_of(&reap(fd.as_fd()).unwrap_err()), Some(libc::ECHILD));
        assert_eq!(errno_of(&send_signal(fd.as_fd(), Signal::SIGKILL).unwrap_err()), Some(libc::ESRCH));
    }
}
