//! The regions that others registered: their descriptors, their places in the registry's table.

use crate::error::{Bound, Error, Kind, Result};
use crate::limits::{
    ALL_CLIENT_REGIONS, CLIENT_REGIONS, GROWTH_MIN, MAX_LANES, MAX_PLACES, MAX_REGION, MAX_REGIONS,
    WORKER_REGIONS,
};
use crate::shm::{Owner, Region, RegionEntry, RegionId, RegionKind, Registry};
use crate::sys::fd;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// All of them. The arbiter owns a duplicate of each, so that a region outlives its writer while it is needed.
#[derive(Debug)]
pub struct Regions {
    places: Vec<Option<Kept>>,
    serial: u32,
    /// Some were taken out since [`take_gone`](Regions::take_gone).
    gone: bool,
}

#[derive(Debug)]
struct Kept {
    entry: RegionEntry,
    region: Arc<Region>,
}

impl Regions {
    /// None yet; the first will have this serial number.
    pub fn new(first: u32) -> Regions {
        Regions { places: Vec::new(), serial: first.wrapping_sub(1), gone: false }
    }

    /// Checks, maps and registers a region. `kin` are all lanes of the client whose lane the owner is.
    ///
    /// # Errors
    /// `Protocol` for one that is not sealed or of the wrong size, `Incompatible` for another layout; `Overloaded` when the
    /// table is full, or the owner has as many as it may have.
    pub fn register(
        &mut self,
        registry: &Registry,
        kind: RegionKind,
        fd: OwnedFd,
        len: usize,
        owner: Owner,
        kin: &[Owner],
    ) -> Result<(RegionId, Arc<Region>)> {
        if len > MAX_REGION {
            return Err(Error::new(Kind::Overloaded { bound: Bound::Bytes, limit: MAX_REGION as u64 }));
        }
        let free = self.places.iter().position(Option::is_none).unwrap_or(self.places.len());
        if let Some(limit) = self.limit_reached(kind, owner, kin) {
            return Err(Error::new(Kind::Overloaded { bound: Bound::Regions, limit: limit as u64 }));
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
        crash_point!("arbiter.register");
        registry.set_region(entry);
        Ok((id, region))
    }

    /// A descriptor of a region, to pass on.
    pub fn descriptor(&self, id: RegionId) -> Result<(RegionEntry, OwnedFd)> {
        match self.places.get(id.index as usize) {
            Some(Some(kept)) if kept.entry.id == id => Ok((kept.entry, fd::duplicate(kept.region.fd())?)),
            _ => Err(Error::bad_request(format!("region {} (registration {}) is gone", id.index, id.serial))),
        }
    }

    /// How many there are, and their bytes.
    pub fn totals(&self) -> (usize, u64) {
        let kept = self.places.iter().flatten();
        kept.fold((0, 0), |(count, bytes), kept| (count + 1, bytes + kept.entry.len))
    }

    /// Whose it is, if it is there.
    pub fn owner_of(&self, id: RegionId) -> Option<Owner> {
        self.entry(id).map(|entry| entry.owner)
    }

    /// Whose growth region this is, if it is one.
    pub fn growth_of(&self, id: RegionId) -> Option<Owner> {
        self.entry(id).filter(|entry| entry.kind == RegionKind::Growth).map(|entry| entry.owner)
    }

    fn entry(&self, id: RegionId) -> Option<RegionEntry> {
        let entry = self.places.get(id.index as usize)?.as_ref()?.entry;
        (entry.id == id).then_some(entry)
    }

    /// Forgets a region.
    pub fn retire(&mut self, registry: &Registry, id: RegionId) {
        self.forget(registry, |entry| entry.id == id);
    }

    /// Forgets all regions of an owner.
    pub fn drop_owner(&mut self, registry: &Registry, owner: Owner) {
        self.forget(registry, |entry| entry.owner == owner);
    }

    fn forget(&mut self, registry: &Registry, which: impl Fn(&RegionEntry) -> bool) {
        for place in &mut self.places {
            if let Some(kept) = place.take_if(|kept| which(&kept.entry)) {
                registry.clear_region(kept.entry.id.index);
                self.gone = true;
            }
        }
    }

    /// Whether any was forgotten since this was asked last: those who have it mapped are to be told.
    pub fn take_gone(&mut self) -> bool {
        std::mem::take(&mut self.gone)
    }

    /// The owners, each once, of growth that would be retired if it was idle: more than one region of the smallest size.
    pub fn grown(&self) -> Vec<Owner> {
        let mut small = Vec::new();
        let mut grown = Vec::new();
        for entry in self.growth() {
            let known = if entry.len > GROWTH_MIN as u64 || small.contains(&entry.owner) {
                &mut grown
            } else {
                &mut small
            };
            if !known.contains(&entry.owner) {
                known.push(entry.owner);
            }
        }
        grown
    }

    fn growth(&self) -> impl Iterator<Item = RegionEntry> + '_ {
        let entries = self.places.iter().flatten().map(|kept| kept.entry);
        entries.filter(|entry| entry.kind == RegionKind::Growth)
    }

    /// The limit that leaves no room for one more region of this kind and owner.
    fn limit_reached(&self, kind: RegionKind, owner: Owner, kin: &[Owner]) -> Option<usize> {
        // The last places are kept for results, those before them for requests: growth must not be able to keep
        // clients from joining, nor clients keep workers from being born.
        let all = || self.places.iter().flatten();
        let (limit, taken) = match kind {
            RegionKind::Growth => (MAX_REGIONS - MAX_PLACES - MAX_LANES, self.growth().count()),
            RegionKind::Results => (MAX_REGIONS, all().count()),
            _ => {
                let others = all().filter(|kept| kept.entry.kind != RegionKind::Results);
                (MAX_REGIONS - MAX_PLACES, others.count())
            }
        };
        if taken >= limit || all().count() >= MAX_REGIONS {
            return Some(limit);
        }
        let own = match owner {
            Owner::Lane(_) => CLIENT_REGIONS,
            Owner::Life(_) => WORKER_REGIONS,
        };
        let owned = |by: &[Owner]| self.growth().filter(|entry| by.contains(&entry.owner)).count();
        let is_enough = owned(&[owner]) >= own || owned(kin) >= ALL_CLIENT_REGIONS;
        (kind == RegionKind::Growth && is_enough).then_some(own)
    }
}
