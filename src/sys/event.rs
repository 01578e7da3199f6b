//! A descriptor that is readable once somebody signalled it, for hosts that sleep in a loop of their own.

use super::named;
use crate::error::Result;
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// An eventfd that never blocks. See `eventfd(2)`.
#[derive(Debug)]
pub struct Event(OwnedFd);

impl Event {
    /// A new one, not signalled.
    pub fn new() -> Result<Event> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        EventFd::from_flags(flags).map(|event| Event(event.into())).map_err(named("eventfd"))
    }

    /// One that its maker passed on.
    pub fn adopt(fd: OwnedFd) -> Event {
        Event(fd)
    }

    /// Makes it readable. One whose count is at its end is readable already.
    pub fn signal(&self) {
        while let Err(Errno::EINTR) = unistd::write(&self.0, &1u64.to_ne_bytes()) {}
    }

    /// Makes it not readable; whether it was.
    pub fn drain(&self) -> bool {
        loop {
            match unistd::read(&self.0, &mut [0; 8]) {
                Ok(_) => return true,
                Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::poll;
    use std::time::Duration;

    #[test]
    fn readable_from_the_first_signal_to_the_drain() {
        let event = Event::new().unwrap();
        let is_readable = || poll::readable(event.as_fd(), Some(Duration::ZERO)).unwrap().ready;
        assert!(!is_readable() && !event.drain());
        event.signal();
        event.signal();
        assert!(is_readable() && event.drain());
        assert!(!is_readable() && !event.drain());
    }
}
