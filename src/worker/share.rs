//! How much of a worker's memory is for one client: what its calls build, and the results that it holds. A client that
//! lets go of nothing uses up its share, and no other's.

use crate::error::{Bound, Error, Kind, Result};
use crate::limits::{CLIENT_SHARE, MAX_MESSAGE};
use crate::primitive::{AtomicU64, Ordering};
use crate::shm::Placed;
use std::sync::Arc;

/// What one client has of this worker's memory, in bytes of blocks.
#[derive(Debug, Default)]
pub struct Share(AtomicU64);

/// Bytes that count for a share until this is dropped.
#[derive(Debug)]
struct Charge {
    share: Arc<Share>,
    bytes: u64,
}

/// A block, and for whose share it counts: nobody's, if it was made in an app's `init`.
#[derive(Debug)]
pub struct Charged {
    pub placed: Placed,
    charge: Option<Charge>,
}

impl Charged {
    /// A block of `len` bytes from `allocate`, for this share.
    ///
    /// # Errors
    /// `Overloaded` past the share; what `allocate` says.
    pub fn new(
        share: Option<&Arc<Share>>,
        len: usize,
        allocate: impl FnOnce() -> Result<Placed>,
    ) -> Result<Charged> {
        // More than a message may have is no want of room: `allocate` says so.
        let share = share.filter(|_| len <= MAX_MESSAGE);
        let charge = share.map(|share| Charge::new(share, len as u64)).transpose()?;
        Ok(Charged { placed: allocate()?, charge })
    }

    /// Has it count for this share from now on.
    ///
    /// # Errors
    /// `Overloaded` past the share; it counts for the old one then.
    pub fn move_to(&mut self, share: &Arc<Share>) -> Result<()> {
        if self.charge.as_ref().is_none_or(|charge| !Arc::ptr_eq(&charge.share, share)) {
            self.charge = Some(Charge::new(share, self.placed.block.len)?);
        }
        Ok(())
    }
}

impl Charge {
    fn new(share: &Arc<Share>, bytes: u64) -> Result<Charge> {
        let limit = CLIENT_SHARE as u64;
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= limit);
        let taken = share.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|taken| {
            Error::new(Kind::Overloaded { bound: Bound::Results, limit })
                .context(format!("no room for {bytes} bytes more for a client that has {taken}"))
        })?;
        Ok(Charge { share: share.clone(), bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.share.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_share_has_an_end_and_comes_back() {
        let (one, other) = (Arc::new(Share::default()), Arc::new(Share::default()));
        let all = Charge::new(&one, CLIENT_SHARE as u64).unwrap();
        let error = Charge::new(&one, 1).unwrap_err();
        let limit = CLIENT_SHARE as u64;
        assert!(
            matches!(error.kind(), Kind::Overloaded { bound: Bound::Results, limit: l } if *l == limit),
            "{error}"
        );
        assert!(Charge::new(&one, u64::MAX).is_err());
        drop(Charge::new(&other, CLIENT_SHARE as u64).unwrap());
        drop(all);
        assert!(Charge::new(&one, limit).is_ok());
    }
}
