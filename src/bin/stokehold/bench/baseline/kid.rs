//! A forked copy of this program that does one thing until it is killed.

use std::os::fd::{AsFd, OwnedFd};
use stokehold::Result;
use stokehold::internals::sys::pidfd;
use stokehold::internals::sys::process::{self, Fork};
use stokehold::internals::sys::signal::Signal;

/// Killed and reaped when dropped; it also dies with this process.
#[derive(Debug)]
pub struct Kid {
    handle: OwnedFd,
}

impl Kid {
    /// Runs `body` in a copy of this process, which must have one thread.
    pub fn fork(body: impl FnOnce()) -> Result<Kid> {
        let parent = process::pid();
        match process::fork()? {
            Fork::Parent(pid) => Ok(Kid { handle: pidfd::open(pid)? }),
            Fork::Child => {
                if process::die_with_parent(Signal::SIGKILL, parent).is_ok() {
                    body();
                }
                process::exit_now(0)
            }
        }
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        let _ = pidfd::send_signal(self.handle.as_fd(), Signal::SIGKILL);
        let _ = pidfd::wait_exited(self.handle.as_fd(), None);
        let _ = pidfd::reap(self.handle.as_fd());
    }
}
