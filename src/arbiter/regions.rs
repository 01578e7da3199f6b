//! The regions that others registered: their descriptors, their places in the registry's table.

use crate::error::{Bound, Error, Kind, Result};
use crate::limits::{MAX_PLACES, MAX_REGION, MAX_REGIONS};
use crate::shm::{Owner, Region, RegionEntry, RegionId, RegionKind, Registry};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// All of them. The arbiter owns a duplicate of each, so that a region outlives its writer while it is needed.
#[derive(Debug, Default)]
pub struct Regions {
    places: Vec<Option<Kept>>,
    serial: u32,
}

#[derive(Debug)]
struct Kept {
    entry: RegionEntry,
    region: Arc<Region>,
}

impl Regions {
    /// Checks, maps and registers a region.
    ///
    /// # Errors
    /// `Incompatible` for one that is not sealed, of the wrong size or of another layout; `Overloaded` when the
    /// table is full.
    pub fn register(
        &mut self,
        registry: &Registry,
        kind: RegionKind,
        fd: OwnedFd,
        len: usize,
        owner: Owner,
    ) -> Result<(RegionId, Arc<Region>)> {
        if len > MAX_REGION {
            return Err(Error::new(Kind::Overloaded { bound: Bound::Bytes, limit: MAX_REGION as u64 }));
        }
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        // The last places are kept for results: clients must not be able to keep workers from being born.
        let places = if kind == RegionKind::Results { MAX_REGIONS } else { MAX_REGIONS - MAX_PLACES };
        if free >= places {
            return Err(Error::new(Kind::Overloaded { bound: Bound::Regions, limit: MAX_REGIONS as u64 }));
        }
        let region = Arc::new(Region::adopt_keeping(kind, fd, len)?);
        self.serial = self.serial.wrapping_add(1).max(1);
        let id = RegionId { index: free as u16, serial: self.serial };
        let entry = RegionEntry { id, kind, len: len as u64, owner };
        let kept = Some(Kept { entry, region: region.clone() });
        if free == self.places.len() {
            self.places.push(kept);
        } else {
            self.places[free] = kept;
        }
        registry.set_region(entry);
        Ok((id, region))
    }

    /// A descriptor of a region, to pass on.
    pub fn descriptor(&self, id: RegionId) -> Result<(RegionEntry, OwnedFd)> {
        match self.places.get(id.index as usize) {
            Some(Some(kept)) if kept.entry.id == id => {
                Ok((kept.entry, kept.region.fd().as_fd().try_clone_to_owned()?))
            }
            _ => Err(Error::bad_request(format!("region {} (registration {}) is gone", id.index, id.serial))),
        }
    }

    /// How many there are, and their bytes.
    pub fn totals(&self) -> (usize, u64) {
        let kept = self.places.iter().flatten();
        kept.fold((0, 0), |(count, bytes), kept| (count + 1, bytes + kept.entry.len))
    }

    /// Forgets all regions of an owner.
    pub fn drop_owner(&mut self, registry: &Registry, owner: Owner) {
        for place in &mut self.places {
            if let Some(kept) = place
                && kept.entry.owner == owner
            {
                registry.clear_region(kept.entry.id.index);
                *place = None;
            }
        }
    }
}
