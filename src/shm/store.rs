//! A store: the payload blocks of one writer, over its birth region and the growth regions that follow.
//!
//! More room is a further region. It is registered with the arbiter, and acknowledged, before the first reference
//! into it is published, so a peer that meets the reference can always fetch the region.

use super::arena::{Arena, Block};
use super::region::{Region, RegionKind};
use super::registry::RegionId;
use crate::error::{Bound, Error, Kind, Result};
use crate::limits::{GROWTH_MIN, MAX_MESSAGE, MAX_REGION};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the blocks of a growth region begin, after its header.
pub(super) const FIRST_BLOCK: usize = 4096;

/// How a region becomes known to the arbiter. Blocks until it is acknowledged.
pub trait Register {
    /// Passes the region on and returns its identity.
    fn register(&self, region: &Region) -> Result<RegionId>;
}

/// A block and the region it lies in.
#[derive(Debug)]
pub struct Placed {
    /// The region's identity, for references.
    pub id: RegionId,
    /// The region.
    pub region: Arc<Region>,
    /// The block in it.
    pub block: Block,
}

/// The blocks of one writer.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    /// Held by the one thread that makes a further region. The others go on with the room that there is.
    growing: Mutex<()>,
    quota: u64,
}

#[derive(Debug)]
struct Inner {
    parts: Vec<Part>,
    bytes: u64,
}

#[derive(Debug)]
struct Part {
    id: RegionId,
    region: Arc<Region>,
    arena: Arena,
}

impl Store {
    /// A store that begins with the blocks of a birth region, from `base` to its end. `quota`: bytes in regions.
    pub fn new(id: RegionId, region: Arc<Region>, base: u64, quota: u64) -> Store {
        let bytes = region.len() as u64;
        let arena = Arena::new(base, bytes);
        let inner = Mutex::new(Inner { parts: vec![Part { id, region, arena }], bytes });
        Store { inner, growing: Mutex::new(()), quota }
    }

    /// A block of `len` bytes; creates and registers a further region when no present one has room.
    ///
    /// # Errors
    /// `BadRequest` for more than 1 GiB; `Overloaded{bytes}` past the quota; `Os` when the memory file system is full.
    pub fn allocate(&self, len: usize, register: &impl Register) -> Result<Placed> {
        if len > MAX_MESSAGE {
            let why = format!("a block of {len} bytes exceeds the limit of {MAX_MESSAGE}");
            return Err(Error::new(Kind::BadRequest(why.into())));
        }
        if let Some(placed) = self.lock().place(len) {
            return Ok(placed);
        }
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.lock();
        // Another thread may have made room while this one waited.
        if let Some(placed) = inner.place(len) {
            return Ok(placed);
        }
        // With the eighth that the arena's bins may waste.
        let least = (len + len / 8 + 8192).next_multiple_of(GROWTH_MIN).min(MAX_REGION);
        let left = self.quota.saturating_sub(inner.bytes);
        if least as u64 > left {
            return Err(Error::new(Kind::Overloaded { bound: Bound::Bytes, limit: self.quota })
                .context(format!("no room for {len} bytes more, {} are taken in regions", inner.bytes)));
        }
        // Twice what is asked, and twice the last one, as far as the quota goes: but never more than the largest message
        // needs.
        let last = inner.parts.last().map_or(0, |part| part.region.len());
        let wanted = (2 * len + 8192).max(2 * last).next_multiple_of(GROWTH_MIN).min(MAX_REGION);
        let most = (left as usize) / GROWTH_MIN * GROWTH_MIN;
        let size = wanted.min(most).max(least);
        drop(inner);
        let region = Arc::new(Region::create(RegionKind::Growth, size)?);
        let id = register.register(&region)?;
        let arena = Arena::new(FIRST_BLOCK as u64, size as u64);
        let mut inner = self.lock();
        inner.bytes += size as u64;
        inner.parts.push(Part { id, region, arena });
        inner
            .place(len)
            .ok_or_else(|| Error::new(Kind::Overloaded { bound: Bound::Bytes, limit: size as u64 }))
    }

    /// Takes a block back.
    pub fn free(&self, placed: Placed) {
        let mut inner = self.lock();
        if let Some(part) = inner.parts.iter_mut().find(|part| part.id == placed.id) {
            part.arena.free(placed.block);
        }
    }

    /// Whether no block is out.
    pub fn is_unused(&self) -> bool {
        self.lock().parts.iter().all(|part| part.arena.is_unused())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn place(&mut self, len: usize) -> Option<Placed> {
        self.parts.iter_mut().find_map(|part| {
            let block = part.arena.allocate(len as u64)?;
            Some(Placed { id: part.id, region: part.region.clone(), block })
        })
    }
}

impl Placed {
    /// The bytes, before they are published.
    pub fn bytes(&self) -> &[u8] {
        // Not published yet or lent for reading only: nobody writes.
        self.region.lend(self.block.offset, self.block.len).unwrap_or_default()
    }

    /// The bytes, to be filled. Exclusive, since the block is; must not be called once a record refers to it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the block came from the arena of this process's own region and `&mut self` holds it alone. That
        // nothing published refers to it is the type state of its users: a lease gives its block away when it is
        // sent and cannot be written afterwards (`client::lease`, `worker::lease`).
        unsafe { self.region.block_mut(self.block.offset, self.block.len) }
    }

    /// The reference that a record carries.
    pub fn reference(&self) -> crate::wire::Reference {
        crate::wire::Reference { region: self.id.index, offset: self.block.offset, len: self.block.len }
    }
}
