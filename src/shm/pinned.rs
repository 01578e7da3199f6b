//! Regions kept mapped while slices of them are lent: append-only, so that a slice may live as long as the keeper.

use super::region::Region;
use std::sync::{Arc, OnceLock};

/// Keeps regions, under the numbers by which references name them. The first costs no allocation.
#[derive(Debug, Default)]
pub struct Pinned {
    first: OnceLock<(u16, Arc<Region>)>,
    rest: OnceLock<Box<Pinned>>,
}

impl Pinned {
    /// The region of this number, if it is kept. It stays what it was when a worker's death has since taken it out of
    /// the registry.
    #[inline]
    pub fn find(&self, index: u16) -> Option<&Region> {
        let mut at = self;
        loop {
            match at.first.get()? {
                (kept, region) if *kept == index => return Some(region),
                _ => at = at.rest.get()?,
            }
        }
    }

    /// Whether none was met.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.first.get().is_none()
    }

    /// Keeps a region for as long as this lives. One of the same number that is kept already stays.
    pub fn keep(&self, index: u16, region: &Arc<Region>) -> &Region {
        let mut at = self;
        loop {
            let (kept, there) = at.first.get_or_init(|| (index, region.clone()));
            if *kept == index {
                return there;
            }
            at = at.rest.get_or_init(Box::default);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::shm::RegionKind;

    #[test]
    fn each_region_is_kept_once_and_found_by_its_number() {
        let pinned = Pinned::default();
        let regions = [(); 3].map(|()| Arc::new(Region::create(RegionKind::Growth, 4096).unwrap()));
        assert!(pinned.is_empty() && pinned.find(1).is_none());
        for (index, region) in (1..).zip(&regions) {
            assert!(std::ptr::eq(pinned.keep(index, region), &**region));
        }
        for (index, region) in (1..).zip(&regions) {
            assert!(std::ptr::eq(pinned.keep(index, &regions[0]), &**region), "the first of a number stays");
            assert!(std::ptr::eq(pinned.find(index).unwrap(), &**region));
        }
        assert!(pinned.find(4).is_none() && !pinned.is_empty());
    }
}
