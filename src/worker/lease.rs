//! A result that is built in place, in the worker's own shared memory.

use super::runtime::Worker;
use super::share::{Charged, Share};
use crate::error::Result;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A block of the worker's memory, writable until it is returned. Dereferences to its bytes.
///
/// `ctx.lease(n)`, fill it, `Ok(lease.into())`: the caller reads it where it lies. A lease that is dropped instead
/// goes back. Its bytes are not cleared: they may hold what an earlier result of this worker held.
pub struct Lease {
    block: Option<Charged>,
    worker: Arc<Worker>,
}

impl Lease {
    /// A block of `len` bytes, which counts for this share.
    pub(super) fn of(worker: &Arc<Worker>, len: usize, share: Option<&Arc<Share>>) -> Result<Lease> {
        let block = worker.allocate(len, share)?;
        Ok(Lease { block: Some(block), worker: worker.clone() })
    }

    /// Shortens it to its first `len` bytes; nothing if it is not longer. For results whose size is known last.
    pub fn truncate(&mut self, len: usize) {
        if let Some(block) = &mut self.block {
            let len = block.placed.block.len.min(len as u64);
            block.placed.block.len = len;
        }
    }

    /// Gives the block away: it is written no more.
    pub(super) fn into_block(mut self) -> Option<Charged> {
        self.block.take()
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.block.as_ref().map_or(&[], |block| block.placed.bytes())
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.block {
            Some(block) => block.placed.bytes_mut(),
            None => &mut [],
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.worker.free_block(block);
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({} bytes)", self.len())
    }
}
