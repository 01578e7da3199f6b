//! Regions of others: mapped when a reference into one is first met, dropped when the table says they are gone.

use super::region::Region;
use super::registry::{Owner, RegionEntry, RegionId, Registry};
use crate::error::{Code, Error, Kind, Result};
use crate::limits::MAX_REGIONS;
use crate::primitive::{AtomicUsize, Ordering};
use arc_swap::ArcSwapOption;
use std::sync::Arc;

/// How a region that another process registered is fetched. Blocks until the arbiter answered.
pub trait Fetch {
    /// Fetches, checks and maps it.
    fn fetch(&self, entry: RegionEntry) -> Result<Region>;
}

/// A mapped region of another process.
#[derive(Debug)]
struct Mapped {
    id: RegionId,
    region: Arc<Region>,
}

/// The mapped regions of others, by their place in the registry's table. Looked up without a lock.
#[derive(Debug)]
pub struct Foreign {
    places: Box<[ArcSwapOption<Mapped>]>,
    /// Nothing was ever mapped at this place or behind it: most of them stay empty, and a sweep looks at each.
    end: AtomicUsize,
}

impl Foreign {
    /// None yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Foreign {
        let places = (0..MAX_REGIONS).map(|_| ArcSwapOption::empty()).collect();
        Foreign { places, end: AtomicUsize::new(0) }
    }

    /// Runs `f` on the region at a place if it is `owner`'s, fetching it first if need be.
    ///
    /// # Errors
    /// `Protocol` if nothing of that owner is registered there, or its owner has spoilt it; what `fetch` says.
    #[inline]
    pub fn get(
        &self,
        registry: &Registry,
        index: u16,
        owner: Owner,
        fetch: &impl Fetch,
    ) -> Result<Arc<Region>> {
        let entry = registry.region(index).filter(|entry| entry.owner == owner).ok_or_else(|| {
            Error::new(Kind::Protocol(format!("region {index} is not one of {owner:?}").into()))
        })?;
        let place = &self.places[index as usize];
        if let Some(mapped) = &*place.load()
            && mapped.id == entry.id
        {
            return Ok(mapped.region.clone());
        }
        let region = Arc::new(fetch.fetch(entry).map_err(spoilt)?);
        crash_point!("fetch.mapped");
        self.put(Mapped { id: entry.id, region: region.clone() });
        // Where there is a new one there may be some that are gone: of workers that died, say. Their memory comes
        // back only when nobody maps them any more, and a client has no other moment to look.
        self.sweep(registry);
        Ok(region)
    }

    /// Adds a region that came another way (a lane's requests).
    pub fn insert(&self, id: RegionId, region: Arc<Region>) {
        self.put(Mapped { id, region });
    }

    fn put(&self, mapped: Mapped) {
        let index = mapped.id.index as usize;
        if let Some(place) = self.places.get(index) {
            self.end.fetch_max(index + 1, Ordering::Relaxed);
            place.store(Some(Arc::new(mapped)));
        }
    }

    /// Unmaps what the table no longer lists; what is still lent stays mapped until it is dropped.
    pub fn sweep(&self, registry: &Registry) {
        for (index, place) in self.places[..self.end.load(Ordering::Relaxed)].iter().enumerate() {
            let mapped = place.load();
            let is_gone = |m: &Arc<Mapped>| registry.region(index as u16).map(|entry| entry.id) != Some(m.id);
            if mapped.as_ref().is_some_and(is_gone) {
                // Only that one: another thread may have mapped the next one of this place.
                place.compare_and_swap(&mapped, None);
            }
        }
    }
}

/// The arbiter has seen a sound header when the region was registered: if it is none now, its owner has written over it since.
fn spoilt(error: Error) -> Error {
    match error.code() {
        Code::Incompatible => Error::new(Kind::Protocol(error.to_string().into())),
        _ => error,
    }
}
