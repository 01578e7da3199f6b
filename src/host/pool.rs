//! A running pool, held by its host.

use super::Builder;
use crate::client::{Client, Options};
use crate::conn::{Link, Message};
use crate::error::{Code, Error, Kind, Result};
use crate::primitive::{AtomicU32, Ordering};
use crate::sys::fd::Inheritable;
use crate::sys::fork_guard::ForkGuard;
use crate::sys::{is_hang_up, pidfd, socket};
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
    /// What the arbiter was told: [`STOPPING`], [`KILLING`]. Written under the lock of `link`.
    ending: AtomicU32,
}

const STOPPING: u32 = 1;
const KILLING: u32 = 2;

/// How long a drop waits for the arbiter to be gone.
const DROP_TIMEOUT: Duration = Duration::from_secs(5);

/// A process that dies closes its sockets a moment before its pidfd tells.
const DEATH_TIMEOUT: Duration = Duration::from_millis(200);

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
            ending: AtomicU32::new(0),
        })
    }

    /// A new client of this pool. Usable from any thread; more than one is only needed past 64 calls at a time.
    ///
    /// # Errors
    /// `ArbiterDied`; `Overloaded` when the pool has 1,024 clients or no descriptors are left.
    pub fn client(&self) -> Result<Client> {
        Client::connect(self.client_socket()?, self.options).map_err(|error| {
            if error.code() == Code::ArbiterDied && !self.has_died() {
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
        if self.ending.load(Ordering::Relaxed) != 0 {
            return Err(Error::new(Kind::ShuttingDown));
        }
        let (ours, theirs) = socket::pair()?;
        let connect = Message::new(FrameKind::Connect).with_fd(theirs);
        self.lock().send(connect).map_err(|error| {
            if is_hang_up(&error) && self.has_died() {
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
        self.stop()
    }

    /// The same without grace: what runs ends with its worker.
    pub fn shutdown_now(self) -> Result<()> {
        self.kill()
    }

    /// What [`shutdown`](Pool::shutdown) does, for a pool that several threads hold: from any of them, any number of
    /// times, and each blocks until all processes are gone.
    pub fn stop(&self) -> Result<()> {
        self.end(STOPPING)?;
        self.wait(None).map(drop)
    }

    /// What [`shutdown_now`](Pool::shutdown_now) does, also while another thread is in [`stop`](Pool::stop), whose
    /// grace it ends.
    pub fn kill(&self) -> Result<()> {
        self.end(KILLING)?;
        self.wait(None).map(drop)
    }

    /// Waits until the arbiter is gone. Where this process adopts orphans (it is the first of a container, say), the
    /// arbiter has become its child.
    fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let is_gone = pidfd::wait_exited(self.arbiter.as_fd(), timeout)?;
        if is_gone {
            let _ = pidfd::reap(self.arbiter.as_fd());
        }
        Ok(is_gone)
    }

    /// Tells the arbiter, unless it was told as much already: to be told twice means now. What it could not be told may be
    /// tried again.
    fn end(&self, how: u32) -> Result<()> {
        self.check_process()?;
        let mut link = self.lock();
        if self.ending.load(Ordering::Relaxed) >= how || pidfd::has_exited(self.arbiter.as_fd())? {
            return Ok(());
        }
        match link.send(Message::new(FrameKind::Stop).with("now", i64::from(how == KILLING))) {
            Ok(()) => {
                self.ending.store(how, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if is_hang_up(&error) => {
                drop(link);
                if self.wait(Some(DROP_TIMEOUT))? { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }

    /// Whether a connection that ended is the end of the arbiter.
    fn has_died(&self) -> bool {
        pidfd::wait_exited(self.arbiter.as_fd(), Some(DEATH_TIMEOUT)).unwrap_or(true)
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
        if self.end(KILLING).is_err() && !self.guard.is_original() {
            return; // the descriptors are closed, and the pool lives on
        }
        let _ = self.wait(Some(DROP_TIMEOUT));
    }
}
