//! A region: one sealed memfd and its mapping in this process.

use crate::error::{Error, Kind, Result};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::{Armed, CallLine, Doorbell};
use crate::sys::fd::Inheritable;
use crate::sys::map::Mapping;
use crate::sys::memfd::{self, Seals};
use crate::sys::robust::DeathMark;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a region is for. Its number stands in the region's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RegionKind {
    /// See [`Registry`](super::Registry).
    Registry = 1,
    /// See [`Board`](super::Board).
    Board = 2,
    /// See [`Control`](super::Control).
    Control = 3,
    /// See [`Requests`](super::Requests).
    Requests = 4,
    /// See [`Results`](super::Results).
    Results = 5,
    /// Payload blocks only.
    Growth = 6,
}

impl RegionKind {
    /// By its number.
    pub fn from_number(n: u32) -> Option<RegionKind> {
        Some(match n {
            1 => RegionKind::Registry,
            2 => RegionKind::Board,
            3 => RegionKind::Control,
            4 => RegionKind::Requests,
            5 => RegionKind::Results,
            6 => RegionKind::Growth,
            _ => return None,
        })
    }

    /// Whether processes other than the creator write it; then it cannot carry `FUTURE_WRITE`.
    fn is_shared_rw(self) -> bool {
        matches!(self, RegionKind::Board | RegionKind::Control)
    }

    /// Where its payload blocks begin.
    fn first_block(self) -> usize {
        match self {
            RegionKind::Requests => super::REQUEST_BLOCKS,
            RegionKind::Results => super::RESULT_BLOCKS,
            RegionKind::Growth => super::store::FIRST_BLOCK,
            _ => usize::MAX,
        }
    }

    fn needed_seals(self) -> Seals {
        let base = Seals::SHRINK | Seals::GROW | Seals::SEAL;
        if self.is_shared_rw() { base } else { base | Seals::FUTURE_WRITE }
    }

    fn name(self) -> &'static str {
        match self {
            RegionKind::Registry => "stokehold-registry",
            RegionKind::Board => "stokehold-board",
            RegionKind::Control => "stokehold-control",
            RegionKind::Requests => "stokehold-requests",
            RegionKind::Results => "stokehold-results",
            RegionKind::Growth => "stokehold-growth",
        }
    }
}

/// The first line of every region.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct RegionHeader {
    magic: AtomicU64,
    layout: AtomicU64,
    kind: AtomicU32,
    _spare: AtomicU32,
}

const MAGIC: u64 = u64::from_be_bytes(*b"STOKEHLD");

/// A fingerprint of everything about the layout of shared memory that peers must agree on: sizes, offsets and the
/// version of the protocol. Compared in the handshake and in every region's header.
pub const fn layout_hash() -> u64 {
    // FNV-1a over the numbers that define the layout.
    const PARTS: &[usize] = &[
        6, // protocol version: bump when the meaning of anything changes
        size_of::<usize>(),
        if cfg!(target_endian = "little") { 1 } else { 2 },
        crate::limits::LANE_CALLS,
        crate::limits::RING_ENTRIES,
        crate::limits::MAX_LANES,
        crate::limits::MAX_PLACES,
        crate::limits::MAX_WORKER_THREADS,
        crate::limits::MAX_DEFERRED,
        crate::limits::MAX_PARKERS,
        crate::limits::MAX_REGIONS,
        crate::limits::MAX_DEATHS,
        crate::limits::RECORD_LEN,
        crate::limits::RESULT_RECORDS,
        crate::limits::STREAM_RING,
        size_of::<CallLine>(),
        size_of::<Doorbell>(),
        size_of::<DeathMark>(),
        size_of::<super::begin::BeginRecord>(),
    ];
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut i = 0;
    while i < PARTS.len() {
        hash = (hash ^ PARTS[i] as u64).wrapping_mul(0x0100_0000_01b3);
        i += 1;
    }
    hash
}

/// A type that may be referred to where it lies in shared memory.
///
/// # Safety
///
/// Only atomics (or arrays and structs of nothing else), no padding that is read, valid for any bit pattern.
pub unsafe trait Shared {}

// SAFETY: atomics are valid for any bit pattern and may change under a reference.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU64 {}
// SAFETY: `#[repr(C)]` of atomics only.
unsafe impl Shared for RegionHeader {}
// SAFETY: `#[repr(C)]` of atomics only (`ring::line`, `ring::bell`).
unsafe impl Shared for CallLine {}
// SAFETY: `#[repr(C)]` of atomics only (`ring::doorbell`).
unsafe impl Shared for Doorbell {}
// SAFETY: `#[repr(C)]` of one atomic (`ring::armed`); what pads it is never read.
unsafe impl Shared for Armed {}

// SAFETY: an atomic word and spare words that nobody reads (`sys::robust`).
unsafe impl Shared for DeathMark {}

/// One mapped region. Unmapped when dropped.
#[derive(Debug)]
pub struct Region {
    map: Mapping,
    /// Kept by who may have to pass it on: its creator and the arbiter.
    fd: Option<Inheritable>,
    kind: RegionKind,
}

impl Region {
    /// Creates, allocates, maps and seals a region of which this process is the writer.
    ///
    /// # Errors
    /// `Os` when the memory file system is full, the file-size limit is too low or no descriptors are left.
    pub fn create(kind: RegionKind, len: usize) -> Result<Region> {
        let fd = memfd::create(kind.name(), len)?;
        let map = Mapping::shared_rw(fd.as_fd(), len)?; // before the seal: it refuses later writable mappings
        let region = Region { map, fd: None, kind };
        let header = region.header();
        header.layout.store(layout_hash(), Ordering::Relaxed);
        header.kind.store(kind as u32, Ordering::Relaxed);
        header.magic.store(MAGIC, Ordering::Release);
        memfd::seal(fd.as_fd(), kind.needed_seals())?;
        Ok(Region { fd: Some(fd.into()), ..region })
    }

    /// Maps a region that a peer made, after checking its seals, size and header.
    ///
    /// # Errors
    /// `Protocol` for wrong seals or another size, `Incompatible` for a header of another layout or kind, each naming what is
    /// wrong; `Os` when it cannot be mapped.
    pub fn adopt(kind: RegionKind, fd: OwnedFd, len: usize) -> Result<Region> {
        // The descriptor is closed once it is mapped: a worker of a thousand clients would run out of them.
        Region::adopt_keeping(kind, fd, len).map(|region| Region { fd: None, ..region })
    }

    /// The same, and keeps the descriptor to pass it on: for the arbiter.
    pub fn adopt_keeping(kind: RegionKind, fd: OwnedFd, len: usize) -> Result<Region> {
        memfd::check(fd.as_fd(), kind.needed_seals(), len as u64).map_err(|e| e.context(kind.name()))?;
        if len < size_of::<RegionHeader>() {
            let why = format!("{}: {len} bytes have no room for its header", kind.name());
            return Err(Error::new(Kind::Incompatible(why.into())));
        }
        let map = if kind.is_shared_rw() {
            Mapping::shared_rw(fd.as_fd(), len)?
        } else {
            Mapping::shared_ro(fd.as_fd(), len)?
        };
        let region = Region { map, fd: Some(fd.into()), kind };
        // A header that every worker can write proves nothing, and must not keep the next worker out once one has
        // scribbled over it. That the layout is the same was settled in the handshake.
        if kind.is_shared_rw() {
            return Ok(region);
        }
        let header = region.header();
        let (magic, layout) = (header.magic.load(Ordering::Acquire), header.layout.load(Ordering::Relaxed));
        if magic != MAGIC || layout != layout_hash() || header.kind.load(Ordering::Relaxed) != kind as u32 {
            let why = format!(
                "{}: header {magic:#x}, layout {layout:#x}; this build's layout is {:#x}",
                kind.name(),
                layout_hash()
            );
            return Err(Error::new(Kind::Incompatible(why.into())));
        }
        Ok(region)
    }

    /// Its size in bytes.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether this process has its memory, and is not a forked copy of the one that has.
    pub fn is_here(&self) -> bool {
        self.map.is_here()
    }

    /// What it is for.
    pub fn kind(&self) -> RegionKind {
        self.kind
    }

    /// To pass it on.
    ///
    /// # Panics
    /// If it was adopted without keeping it.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect("the descriptor of this region was kept").as_fd()
    }

    /// A shared value at a constant offset of this project's layout.
    ///
    /// # Panics
    /// If it does not fit: offsets are constants, a wrong one is a bug here, not a peer's doing.
    pub fn at<T: Shared>(&self, offset: usize) -> &T {
        &self.array::<T>(offset, 1)[0]
    }

    /// The same for several in a row.
    pub fn array<T: Shared>(&self, offset: usize, count: usize) -> &[T] {
        let end = count.checked_mul(size_of::<T>()).and_then(|n| n.checked_add(offset));
        assert!(end.is_some_and(|end| end <= self.len()) && offset.is_multiple_of(align_of::<T>()));
        // SAFETY: in bounds and aligned (asserted just now; mappings are page-aligned), mapped for as long as
        // `self` lives, and `T: Shared` may lie in memory that others change.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(offset).cast::<T>(), count) }
    }

    /// Payload bytes of a peer, lent in place; `None` if they are not inside the region.
    ///
    /// The slice is sound on the premise that is stated at `Pool::start`: the peers of a board are programs of
    /// this uid that use this library, and one does not write a block after it lent it. [`copy`](Region::copy) is
    /// sound against any writer.
    pub fn lend(&self, offset: u64, len: u64) -> Option<&[u8]> {
        // Records, marks and headers change under a reader; blocks do not.
        let range = self.range(offset, len).filter(|range| range.start >= self.kind.first_block())?;
        // SAFETY: in bounds (checked by `range`), mapped while `self` lives; not written while lent (premise
        // above, established where the block was published: `client` and `worker` free a block only after the
        // call word moved on).
        Some(unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(range.start), range.len()) })
    }

    /// Copies payload bytes out; `false` if they are not inside the region. Sound against any writer.
    pub fn copy(&self, offset: u64, to: &mut [u8]) -> bool {
        let Some(range) = self.range(offset, to.len() as u64) else { return false };
        // SAFETY: in bounds, and `to` is private memory that cannot overlap the mapping. A concurrent writer
        // yields a mixture of bytes; the copy is by raw pointer, no reference to the source exists.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.as_ptr().add(range.start), to.as_mut_ptr(), to.len())
        };
        true
    }

    /// The same into memory of its own: an allocation of a size that lies inside a region that exists, and which may fail.
    pub fn copied(&self, offset: u64, len: usize) -> Option<Result<Vec<u8>>> {
        let range = self.range(offset, len as u64)?;
        let mut copy = Vec::new();
        if copy.try_reserve_exact(len).is_err() {
            return Some(Err(Error::out_of_memory()));
        }
        // SAFETY: in bounds, and there is room for `len` bytes, as was just established, in private memory that cannot
        // overlap the mapping. As in `copy`, by raw pointer; after it so many bytes are initialised.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.as_ptr().add(range.start), copy.as_mut_ptr(), len);
            copy.set_len(len);
        }
        Some(Ok(copy))
    }

    /// The bytes of a block of one's own region, to be filled before it is published.
    ///
    /// # Safety
    /// The region is this process's own (made by [`create`](Region::create)), and the range is a block that the
    /// caller alone holds and that no published record refers to.
    #[allow(clippy::mut_from_ref)] // the arena's bookkeeping, not the borrow of the region, makes it exclusive
    pub unsafe fn block_mut(&self, offset: u64, len: u64) -> &mut [u8] {
        let range = self.range(offset, len).expect("a block of our own arena lies in its region");
        // SAFETY: in bounds; exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_ptr().add(range.start), range.len()) }
    }

    fn range(&self, offset: u64, len: u64) -> Option<std::ops::Range<usize>> {
        let end = offset.checked_add(len)?;
        (end <= self.len() as u64).then_some(offset as usize..end as usize)
    }

    fn header(&self) -> &RegionHeader {
        self.at(0)
    }
}
