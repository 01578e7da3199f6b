//! A few descriptors behind one, which a loop of somebody else's can watch.

use super::named;
use crate::error::Result;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::os::fd::{AsFd, BorrowedFd};

/// An epoll descriptor, readable while one of those that it watches is. See `epoll(7)`.
#[derive(Debug)]
pub struct WatchList(Epoll);

/// Which of its descriptors are readable, by the number that each was added with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readable(u64);

impl WatchList {
    /// An empty one.
    pub fn new() -> Result<WatchList> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(WatchList).map_err(named("epoll_create1"))
    }

    /// Watches a descriptor under a number below 64. It is readable here for as long as it is readable itself.
    pub fn add(&self, fd: BorrowedFd<'_>, number: u32) -> Result<()> {
        self.0.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number.into())).map_err(named("epoll_ctl"))
    }

    /// Watches a descriptor no more.
    pub fn remove(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.0.delete(fd).map_err(named("epoll_ctl"))
    }

    /// Which are readable now. Does not block.
    pub fn look(&self) -> Result<Readable> {
        let mut events = [EpollEvent::empty(); 8];
        loop {
            match self.0.wait(&mut events, EpollTimeout::ZERO) {
                Ok(count) => {
                    let bits = events[..count].iter().map(|event| 1 << (event.data() % 64));
                    return Ok(Readable(bits.fold(0, |all, bit: u64| all | bit)));
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(named("epoll_wait")(errno)),
            }
        }
    }
}

impl Readable {
    /// Whether the one with this number is.
    pub fn has(self, number: u32) -> bool {
        self.0 & 1 << (number % 64) != 0
    }

    /// Whether any is.
    pub fn any(self) -> bool {
        self.0 != 0
    }
}

impl AsFd for WatchList {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::event::Event;
    use crate::sys::poll;
    use std::time::Duration;

    #[test]
    fn readable_while_one_of_them_is() {
        let list = WatchList::new().unwrap();
        let (a, b) = (Event::new().unwrap(), Event::new().unwrap());
        list.add(a.as_fd(), 0).unwrap();
        list.add(b.as_fd(), 5).unwrap();
        let is_readable = || poll::readable(list.as_fd(), Some(Duration::ZERO)).unwrap().ready;
        assert!(!is_readable() && !list.look().unwrap().any());
        b.signal();
        assert!(is_readable());
        let readable = list.look().unwrap();
        assert!(readable.has(5) && !readable.has(0));
        assert!(is_readable(), "to look is not to drain");
        list.remove(b.as_fd()).unwrap();
        assert!(!is_readable());
    }

    /// What hosts whose loop is edge-triggered rest on: each signal after a drain is an edge of the list as well.
    #[test]
    fn a_loop_that_is_edge_triggered_hears_every_signal() {
        let list = WatchList::new().unwrap();
        let event = Event::new().unwrap();
        list.add(event.as_fd(), 0).unwrap();
        let outer = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
        outer.add(&list, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 0)).unwrap();
        let edges = || outer.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO).unwrap();
        for looks in [false, true, false] {
            event.signal();
            assert_eq!(edges(), 1);
            assert_eq!(edges(), 0);
            if looks {
                assert!(list.look().unwrap().any());
            }
            assert!(event.drain());
        }
        // One that comes between the edge and the drain is an edge of its own.
        event.signal();
        assert_eq!(edges(), 1);
        event.signal();
        assert_eq!(edges(), 1);
    }
}
