//! What an app may ask of its surroundings.

use super::Lease;
use super::runtime::Worker;
use crate::error::{Error, Kind, Result};
use std::sync::Arc;

/// The context of one call, or of an app's `init`.
#[derive(Debug)]
pub struct Ctx {
    worker: Arc<Worker>,
    deadline_ns: Option<u64>,
}

impl Ctx {
    pub(super) fn new(worker: Arc<Worker>, deadline_ns: Option<u64>) -> Ctx {
        Ctx { worker, deadline_ns }
    }

    /// Memory for a result of `len` bytes, in which it can be built in place. Not cleared.
    ///
    /// # Errors
    /// `BadRequest` past 1 GiB; `Overloaded{bytes}` past the worker's quota; `Os` when the memory file system is full.
    pub fn lease(&self, len: usize) -> Result<Lease> {
        let placed = self.worker.allocate(len)?;
        Ok(Lease::new(placed, self.worker.clone()))
    }

    /// A lease filled with these bytes.
    pub fn lease_from(&self, bytes: &[u8]) -> Result<Lease> {
        let mut lease = self.lease(bytes.len())?;
        lease.copy_from_slice(bytes);
        Ok(lease)
    }

    /// When the caller stops waiting: monotonic nanoseconds (`CLOCK_MONOTONIC`), if it gave a deadline.
    pub fn deadline_ns(&self) -> Option<u64> {
        self.deadline_ns
    }

    /// The number of this incarnation of the worker, from 1.
    pub fn life(&self) -> u16 {
        self.worker.life().get()
    }

    /// An error that says which thing of the app's went wrong. Shorthand for [`Error::app`].
    pub fn error(&self, class: &str, message: impl std::fmt::Display) -> Error {
        Error::app(class, message)
    }

    /// An error once the deadline has passed. For apps that can stop half-way.
    pub fn check_deadline(&self) -> Result<()> {
        match self.deadline_ns {
            Some(deadline) if crate::sys::clock::monotonic_ns() >= deadline => {
                Err(Error::new(Kind::Deadline { started: true }))
            }
            _ => Ok(()),
        }
    }
}
