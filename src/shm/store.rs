//! A store: the payload blocks of one writer, over its birth region and the growth regions that follow.
//!
//! More room is a further region. It is registered with the arbiter, and acknowledged, before the first reference
//! into it is published, so a peer that meets the reference can always fetch the region. A region in which no block has
//! been for a while is retired: the arbiter forgets it and everybody unmaps it, which is how memory comes back. What
//! nobody may do is to retire one with a block out: a reference has no serial number of its own, it is the block being
//! out that makes it mean one region.
//!
//! How large a region is ([`plan`]): its pages are taken from the system when it is made. Small blocks share regions that
//! double, so that there are few of them; a large block has one of exactly its size, so that a quota has room for what
//! it says.

use super::arena::{Arena, Block};
use super::region::{Region, RegionKind};
use super::registry::RegionId;
use crate::error::{Bound, Error, Kind, Result};
use crate::limits::{GROWTH_MAX, GROWTH_MIN, LARGE_BLOCK, MAX_MESSAGE};
use crate::sys::clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the blocks of a growth region begin, after its header.
pub(super) const FIRST_BLOCK: usize = 4096;

const PAGE: usize = 4096;

/// How a region becomes known to the arbiter, and unknown again.
pub trait Register {
    /// Passes the region on and returns its identity. Blocks until it is acknowledged.
    fn register(&self, region: &Region) -> Result<RegionId>;

    /// Says that nothing refers to this region any more, and that nothing will. Logs nothing: a store is locked.
    fn retire(&self, id: RegionId);
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
    quota: Quota,
}

/// What the growth regions of one writer may come to.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Bytes of blocks.
    pub bytes: u64,
    /// How many.
    pub regions: usize,
}

#[derive(Debug)]
struct Inner {
    /// The birth region first.
    parts: Vec<Part>,
    /// Of the growth regions.
    bytes: u64,
}

#[derive(Debug)]
struct Part {
    id: RegionId,
    region: Arc<Region>,
    arena: Arena,
    /// When its last block came back.
    idle_since_ns: u64,
}

/// A region that is not of the store any more. Unmapped when dropped; the arbiter is to be told.
#[derive(Debug)]
#[must_use = "the arbiter still has it"]
pub struct Retired {
    /// What to tell the arbiter.
    pub id: RegionId,
    region: Arc<Region>,
}

/// A further region: for how many bytes of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// For several blocks.
    Shared(usize),
    /// For one.
    Whole(usize),
}

impl Store {
    /// A store that begins with the blocks of a birth region, from `base` to its end.
    pub fn new(id: RegionId, region: Arc<Region>, base: u64, quota: Quota) -> Store {
        let arena = Arena::new(base, region.len() as u64);
        let birth = Part { id, region, arena, idle_since_ns: 0 };
        let inner = Mutex::new(Inner { parts: vec![birth], bytes: 0 });
        Store { inner, growing: Mutex::new(()), quota }
    }

    /// A block of `len` bytes; creates and registers a further region when no present one has room. Regions that
    /// nobody uses are retired for that where the quota is short.
    ///
    /// # Errors
    /// `BadRequest` for more than 1 GiB; `Overloaded` past the quota; `Os` when the memory file system is full.
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
        let mut unused = Vec::new();
        let plan = loop {
            if let Some(plan) = self.plan(&inner, len) {
                break Some(plan);
            }
            match inner.take_largest_unused() {
                Some(retired) => unused.push(retired),
                None => break None,
            }
        };
        let taken = inner.bytes;
        drop(inner);
        for retired in unused {
            register.retire(retired.id);
        }
        let plan = plan.ok_or_else(|| self.full(len, taken))?;
        crash_point!("grow.create", "memfd_create");
        // Where there is no room for the generous one there may be for the exact one.
        let (plan, region) = create(plan).map(|region| (plan, region)).or_else(|error| {
            let exact = Plan::whole(len);
            if plan == exact { Err(error) } else { create(exact).map(|region| (exact, region)) }
        })?;
        let (base, end) = (FIRST_BLOCK as u64, region.len() as u64);
        let mut arena = match plan {
            Plan::Shared(_) => Arena::try_new(base, end).ok_or_else(Error::out_of_memory)?,
            Plan::Whole(_) => Arena::whole(base, end),
        };
        let region = Arc::new(region);
        crash_point!("grow.created");
        let id = register.register(&region)?;
        crash_point!("grow.registered");
        let mut inner = self.lock();
        inner.bytes += arena.size();
        let block = arena.allocate(len as u64);
        let placed = block.map(|block| Placed { id, region: region.clone(), block });
        inner.parts.push(Part { id, region, arena, idle_since_ns: clock::coarse_ns() });
        placed.ok_or_else(|| self.full(len, taken))
    }

    /// Takes a block back.
    pub fn free(&self, placed: Placed) {
        let mut inner = self.lock();
        if let Some(part) = inner.parts.iter_mut().find(|part| part.id == placed.id) {
            part.arena.free(placed.block);
            if part.arena.is_unused() {
                part.idle_since_ns = clock::coarse_ns();
            }
        }
    }

    /// Takes out the growth regions in which no block has been for `warm_ns`, but for one of the smallest size.
    pub fn retire_idle(&self, warm_ns: u64) -> Vec<Retired> {
        let now = clock::coarse_ns();
        let mut inner = self.lock();
        let mut kept = false;
        let mut at = 1;
        let mut retired = Vec::new();
        while at < inner.parts.len() {
            let part = &inner.parts[at];
            let is_kept = !kept && part.region.len() == GROWTH_MIN;
            kept |= is_kept;
            if !is_kept && part.arena.is_unused() && now.saturating_sub(part.idle_since_ns) >= warm_ns {
                retired.push(inner.take(at));
            } else {
                at += 1;
            }
        }
        retired
    }

    /// Whether no block is out.
    pub fn is_unused(&self) -> bool {
        self.lock().parts.iter().all(|part| part.arena.is_unused())
    }

    /// The next region: for twice what is asked, and twice the last one, as long as the quota can afford that, then for
    /// just as much as is asked. `None` if there is no room for that either.
    fn plan(&self, inner: &Inner, len: usize) -> Option<Plan> {
        let left = self.quota.bytes.saturating_sub(inner.bytes).min(usize::MAX as u64) as usize / PAGE * PAGE;
        let regions_left = (self.quota.regions + 1).saturating_sub(inner.parts.len());
        if regions_left == 0 {
            return None;
        }
        if len < LARGE_BLOCK {
            let shared = inner.parts[1..].iter().filter(|part| !part.arena.is_whole());
            let last = shared.map(|part| part.region.len()).max().unwrap_or(0);
            let wanted = (2 * len).max(2 * last).max(1).next_multiple_of(GROWTH_MIN).min(GROWTH_MAX);
            if wanted <= left / 4 {
                return Some(Plan::Shared(wanted - FIRST_BLOCK));
            }
            // With the eighth that the arena's bins may waste, and what alignment may.
            let least = (len + len / 8 + 4 * PAGE).next_multiple_of(PAGE);
            let modest = least.next_multiple_of(GROWTH_MIN).min(left);
            // As many as there may be of the exact ones would use up the bytes: then they are the better ones.
            if len.saturating_mul(regions_left) < left && least <= modest {
                return Some(Plan::Shared(modest));
            }
        }
        Some(Plan::whole(len)).filter(|plan| plan.bytes() <= left)
    }

    fn full(&self, len: usize, taken: u64) -> Error {
        let Quota { bytes, regions } = self.quota;
        if self.lock().parts.len() > regions {
            return Error::new(Kind::Overloaded { bound: Bound::Regions, limit: regions as u64 })
                .context(format!("no room for {len} bytes more"));
        }
        Error::new(Kind::Overloaded { bound: Bound::Bytes, limit: bytes })
            .context(format!("no room for {len} bytes more, {taken} are taken in regions"))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn place(&mut self, len: usize) -> Option<Placed> {
        let shared = self.parts.iter_mut().filter(|part| !part.arena.is_whole() && len < LARGE_BLOCK);
        let placed = shared.into_iter().find_map(|part| part.place(len));
        placed.or_else(|| {
            let whole = self.parts.iter_mut().filter(|part| part.arena.is_whole());
            let fits = whole.filter(|part| part.arena.is_unused() && part.arena.size() >= len as u64);
            fits.min_by_key(|part| part.arena.size())?.place(len)
        })
    }

    fn take_largest_unused(&mut self) -> Option<Retired> {
        let growth = self.parts.iter().enumerate().skip(1);
        let unused = growth.filter(|(_, part)| part.arena.is_unused());
        let (at, _) = unused.max_by_key(|(_, part)| part.arena.size())?;
        Some(self.take(at))
    }

    fn take(&mut self, at: usize) -> Retired {
        let part = self.parts.remove(at);
        self.bytes -= part.arena.size();
        Retired { id: part.id, region: part.region }
    }
}

impl Part {
    fn place(&mut self, len: usize) -> Option<Placed> {
        let block = self.arena.allocate(len as u64)?;
        Some(Placed { id: self.id, region: self.region.clone(), block })
    }
}

impl Plan {
    fn whole(len: usize) -> Plan {
        Plan::Whole(len.max(1).next_multiple_of(PAGE))
    }

    fn bytes(self) -> usize {
        let (Plan::Shared(bytes) | Plan::Whole(bytes)) = self;
        bytes
    }
}

fn create(plan: Plan) -> Result<Region> {
    Region::create(RegionKind::Growth, FIRST_BLOCK + plan.bytes())
}

impl Retired {
    /// Its size.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.region.len()
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const MIB: usize = 1 << 20;

    /// An arbiter that numbers what it gets.
    #[derive(Default)]
    struct Table {
        next: RefCell<u32>,
        sizes: RefCell<Vec<usize>>,
        retired: RefCell<Vec<RegionId>>,
    }

    impl Register for Table {
        fn register(&self, region: &Region) -> Result<RegionId> {
            *self.next.borrow_mut() += 1;
            self.sizes.borrow_mut().push(region.len());
            Ok(RegionId { index: *self.next.borrow() as u16, serial: *self.next.borrow() })
        }

        fn retire(&self, id: RegionId) {
            self.retired.borrow_mut().push(id);
        }
    }

    fn store(quota: usize) -> Store {
        let birth = Arc::new(Region::create(RegionKind::Requests, 64 * 1024).unwrap());
        let quota = Quota { bytes: quota as u64, regions: 64 };
        Store::new(RegionId { index: 0, serial: 1 }, birth, 32 * 1024, quota)
    }

    #[test]
    fn small_blocks_share_regions_that_double_and_a_large_one_has_its_own() {
        let (store, table) = (store(200 * MIB), Table::default());
        let small: Vec<_> = (0..3).map(|_| store.allocate(3 * MIB, &table).unwrap()).collect();
        let large = store.allocate(LARGE_BLOCK, &table).unwrap();
        assert_eq!(*table.sizes.borrow(), [8 * MIB, 16 * MIB, LARGE_BLOCK + FIRST_BLOCK]);
        assert_eq!((large.block.offset, large.block.len), (FIRST_BLOCK as u64, LARGE_BLOCK as u64));
        small.into_iter().chain([large]).for_each(|placed| store.free(placed));
        // Warm: all of it is used again.
        let again =
            [20, 3 * MIB, LARGE_BLOCK - 1000, 5 * MIB].map(|len| store.allocate(len, &table).unwrap());
        assert_eq!(table.sizes.borrow().len(), 3);
        again.into_iter().for_each(|placed| store.free(placed));
        assert!(store.is_unused());
    }

    #[test]
    fn a_quota_has_room_for_what_it_says() {
        for sizes in [[LARGE_BLOCK; 4], [96 * MIB, 16 * MIB, 15 * MIB, MIB], [MIB, 20, 4 * MIB, 110 * MIB]] {
            let (store, table) = (store(4 * LARGE_BLOCK), Table::default());
            let all: Vec<_> = sizes.iter().map(|len| store.allocate(*len, &table).unwrap()).collect();
            let taken: usize = table.sizes.borrow().iter().map(|size| size - FIRST_BLOCK).sum();
            assert!(taken <= 4 * LARGE_BLOCK, "{sizes:?}: {:?}", table.sizes);
            let error = store.allocate(4 * LARGE_BLOCK, &table).unwrap_err();
            let limit = 4 * LARGE_BLOCK as u64;
            let is_bytes = |kind: &Kind| matches!(kind, Kind::Overloaded { bound: Bound::Bytes, limit: l } if *l == limit);
            assert!(is_bytes(error.kind()), "{error}");
            assert!(table.retired.borrow().is_empty(), "nothing was unused");
            all.into_iter().for_each(|placed| store.free(placed));
            // What is unused makes room, the largest first, and no more of it than it takes.
            store.free(store.allocate(4 * LARGE_BLOCK - 2 * MIB, &table).unwrap());
            assert!(!table.retired.borrow().is_empty());
        }
    }

    #[test]
    fn where_bytes_are_scarce_small_blocks_still_share() {
        let (mut store, table) = (store(12 * MIB), Table::default());
        store.quota.regions = 2;
        // A quarter of the quota is less than the least shared region, and one for each block would use up the regions.
        let held = [MIB, MIB].map(|len| store.allocate(len, &table).unwrap());
        assert_eq!(*table.sizes.borrow(), [GROWTH_MIN + FIRST_BLOCK]);
        let own = store.allocate(5 * MIB, &table).unwrap();
        assert_eq!(table.sizes.borrow().len(), 2);
        held.into_iter().chain([own]).for_each(|placed| store.free(placed));
        assert!(store.is_unused());
    }

    #[test]
    fn regions_can_run_out_before_bytes() {
        let (mut store, table) = (store(1 << 30), Table::default());
        store.quota.regions = 2;
        let held: Vec<_> = (0..2).map(|_| store.allocate(LARGE_BLOCK, &table).unwrap()).collect();
        let error = store.allocate(LARGE_BLOCK, &table).unwrap_err();
        assert!(matches!(error.kind(), Kind::Overloaded { bound: Bound::Regions, limit: 2 }), "{error}");
        held.into_iter().for_each(|placed| store.free(placed));
        store.free(store.allocate(2 * LARGE_BLOCK, &table).unwrap());
        assert_eq!(table.retired.borrow().len(), 1);
    }

    #[test]
    fn what_is_idle_is_retired_but_one_of_the_smallest() {
        let (store, table) = (store(1 << 30), Table::default());
        let held = store.allocate(MIB, &table).unwrap();
        let sizes = [MIB, 20 * MIB, LARGE_BLOCK];
        let others = sizes.map(|len| store.allocate(len, &table).unwrap());
        assert!(store.retire_idle(u64::MAX).is_empty());
        let [first, second, third] = others;
        store.free(second);
        store.free(third);
        assert!(store.retire_idle(3_600_000_000_000).is_empty(), "warm");
        let retired: Vec<usize> = store.retire_idle(0).iter().map(Retired::len).collect();
        assert_eq!(retired, [40 * MIB, LARGE_BLOCK + FIRST_BLOCK]);
        store.free(first);
        store.free(held);
        assert!(store.retire_idle(0).is_empty(), "one of 4 MiB is kept");
        let bytes = store.lock().bytes;
        assert_eq!(bytes as usize, GROWTH_MIN - FIRST_BLOCK, "the quota is free again");
    }
}
