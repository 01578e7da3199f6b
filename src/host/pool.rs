//! A running pool, held by its host.

use super::Builder;
use crate::client::{Client, Options};
use crate::conn::{Link, Message};
use crate::error::{Code, Error, Kind, Result};
use crate::sys::fd::Inheritable;
use crate::sys::fork_guard::ForkGuard;
use crate::sys::{pidfd, socket};
use crate::wire::Kind as FrameKind;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A supervised pool of worker processes. Dropping it kills them; [`shutdown`](Pool::shutdown) lets them finish.
#[derive(Debug)]
pub struct Pool {
    link: Mutex<Link>,
    arbiter: Inheritable,
    arbiter_pid: u32,
    options: Options,
    guard: ForkGuard,
}

/// How long a drop waits for the arbiter to be gone.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

impl Pool {
    /// Begins to configure a pool.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(super) fn new(link: Link, arbiter: OwnedFd, arbiter_pid: u32, options: Options) -> Result<Pool> {
        Ok(Pool {
            link: Mutex::new(link),
            arbiter: arbiter.into(),
            arbiter_pid,
            options,
            guard: ForkGuard::new()?,
        })
    }

    /// A new client of this pool. Usable from any thread; more than one is only needed past 64 calls at a time.
    ///
    /// # Errors
    /// `ArbiterDied`; `Overloaded` when the pool has 1,024 clients or no descriptors are left.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.client_socket()?, self.options).map_err(|error| {
            let lives = !pidfd::has_exited(self.arbiter.as_fd()).unwrap_or(true);
            if error.code() == Code::ArbiterDied && lives {
                let why = "the arbiter closed the connection; it may have no descriptors left";
                Error::new(Kind::Start(why.into()))
            } else {
                error
            }
        })
    }

    /// The socket of a new client, to be given to another process of this uid, which joins with
    /// [`Client::connect`].
    pub fn client_socket(&self) -> Result<OwnedFd> {
        self.check_process()?;
        let (ours, theirs) = socket::pair()?;
        let connect = Message::new(FrameKind::Connect).with_fd(theirs);
        self.lock().send(connect).map_err(|error| {
            if pidfd::has_exited(self.arbiter.as_fd()).unwrap_or(false) {
                Error::new(Kind::ArbiterDied { started: false })
            } else {
                error
            }
        })?;
        Ok(ours)
    }

    /// The arbiter's pid.
    pub fn arbiter_pid(&self) -> u32 {
        self.arbiter_pid
    }

    /// Closes the pool: takes nothing more, refuses what is queued, lets workers finish what they run within the
    /// grace that was configured, then kills them. Blocks until all processes are gone.
    pub fn shutdown(self) -> Result<()> {
        self.stop(false)?;
        self.wait(None)
    }

    /// The same without grace: what runs ends with its worker.
    pub fn shutdown_now(self) -> Result<()> {
        self.stop(true)?;
        self.wait(None)
    }

    /// Waits until the arbiter is gone. Where this process adopts orphans (it is the first of a container, say), the
    /// arbiter has become its child.
    fn wait(&self, timeout: Option<Duration>) -> Result<()> {
        if pidfd::wait_exited(self.arbiter.as_fd(), timeout)? {
            let _ = pidfd::reap(self.arbiter.as_fd());
        }
        Ok(())
    }

    fn stop(&self, now: bool) -> Result<()> {
        self.check_process()?;
        if pidfd::has_exited(self.arbiter.as_fd())? {
            return Ok(());
        }
        match self.lock().send(Message::new(FrameKind::Stop).with("now", i64::from(now))) {
            Err(_) if pidfd::wait_exited(self.arbiter.as_fd(), Some(DROP_TIMEOUT))? => Ok(()),
            other => other,
        }
    }

    /// A forked copy of the host has no say about the pool.
    fn check_process(&self) -> Result<()> {
        if self.guard.is_original() { Ok(()) } else { Err(Error::new(Kind::Forked)) }
    }

    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.stop(true).is_err() && !self.guard.is_original() {
            return; // the descriptors are closed, and the pool lives on
        }
        let _ = self.wait(Some(DROP_TIMEOUT));
    }
}
