//! Regions kept mapped while slices of them are lent: append-only, so that a slice may live as long as the keeper.

use super::region::Region;
use std::sync::{Arc, OnceLock};

/// Keeps regions. The first costs no allocation.
#[derive(Debug, Default)]
pub struct Pinned {
    first: OnceLock<Arc<Region>>,
    rest: OnceLock<Box<Pinned>>,
}

impl Pinned {
    /// Keeps a region for as long as this lives.
    pub fn keep(&self, region: Arc<Region>) -> &Region {
        let mut at = self;
        loop {
            let kept = at.first.get_or_init(|| region.clone());
            if Arc::ptr_eq(kept, &region) {
                return kept;
            }
            at = at.rest.get_or_init(Box::default);
        }
    }
}
