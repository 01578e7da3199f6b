//! Waiting for one descriptor, or a few. Many at a time are the arbiter's business and mio's.

use super::clock::{Remaining, timespec};
use crate::error::{Error, Result};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// What a descriptor is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Readiness {
    /// Reading will not block; it may still find the end.
    pub ready: bool,
    /// The other side has closed, or will send no more. There may be bytes left to read.
    pub hangup: bool,
}

/// Waits until `fd` can be read or its other side is gone; neither, if `timeout` passes first.
///
/// See `ppoll(2)`. `None` waits for ever; an interrupted wait goes on with the time that remains.
pub fn readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<Readiness> {
    any([fd], timeout).map(|[readiness]| readiness)
}

/// The same for several: waits until one of them is ready or hung up.
pub fn any<const N: usize>(fds: [BorrowedFd<'_>; N], timeout: Option<Duration>) -> Result<[Readiness; N]> {
    let remaining = Remaining::of(timeout);
    loop {
        let mut entries = fds.map(|fd| libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN | libc::POLLRDHUP,
            revents: 0,
        });
        let left = remaining.left().map(timespec);
        let left = left.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: `entries` are so many valid pollfds, `left` is null or points to the local above, and a null mask
        // leaves the thread's own in place.
        let answer = unsafe { libc::ppoll(entries.as_mut_ptr(), N as libc::nfds_t, left, ptr::null()) };
        if answer == -1 {
            match Errno::last() {
                Errno::EINTR => continue,
                errno => return Err(Error::os("ppoll", errno as i32)),
            }
        }
        if entries.iter().any(|entry| entry.revents & libc::POLLNVAL != 0) {
            return Err(Error::os("ppoll", libc::EBADF));
        }
        return Ok(entries.map(|entry| Readiness {
            ready: entry.revents & libc::POLLIN != 0,
            hangup: entry.revents & (libc::POLLHUP | libc::POLLRDHUP | libc::POLLERR) != 0,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    #[test]
    fn ready_and_hangup_are_told_apart() {
        let now = Some(Duration::ZERO);
        let (a, b) = socket::pair().unwrap();
        assert_eq!(readable(a.as_fd(), now).unwrap(), Readiness::default());
        socket::send(b.as_fd(), &[IoSlice::new(b"x")], &[]).unwrap();
        assert_eq!(readable(a.as_fd(), None).unwrap(), Readiness { ready: true, hangup: false });
        drop(b);
        assert_eq!(readable(a.as_fd(), None).unwrap(), Readiness { ready: true, hangup: true });
    }
}
