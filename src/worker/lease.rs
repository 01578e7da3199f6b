//! A result that is built in place, in the worker's own shared memory.

use super::runtime::Worker;
use crate::error::Result;
use crate::shm::Placed;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A block of the worker's memory, writable until it is returned. Dereferences to its bytes.
///
/// `ctx.lease(n)`, fill it, `Ok(lease.into())`: the caller reads it where it lies. A lease that is dropped instead
/// goes back. Its bytes are not cleared: they may hold what an earlier result of this worker held.
pub struct Lease {
    placed: Option<Placed>,
    worker: Arc<Worker>,
}

impl Lease {
    /// A block of `len` bytes.
    pub(super) fn of(worker: &Arc<Worker>, len: usize) -> Result<Lease> {
        let placed = worker.allocate(len)?;
        Ok(Lease { placed: Some(placed), worker: worker.clone() })
    }

    /// Shortens it to its first `len` bytes; nothing if it is not longer. For results whose size is known last.
    pub fn truncate(&mut self, len: usize) {
        if let Some(placed) = &mut self.placed {
            placed.block.len = placed.block.len.min(len as u64);
        }
    }

    /// Gives the block away: it is written no more.
    pub(super) fn into_placed(mut self) -> Option<Placed> {
        self.placed.take()
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.placed.as_ref().map_or(&[], |placed| placed.bytes())
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.placed {
            Some(placed) => placed.bytes_mut(),
            None => &mut [],
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(placed) = self.placed.take() {
            self.worker.free_block(placed);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} bytes)", self.len())
    }
}
