//! The arena of a region: which of its bytes are in which block. Its state is in the writer's private memory, so
//! no peer can damage it, and a region can be thrown away whole.
//!
//! A block may need up to an eighth more room than its size, since free ranges are kept in bins of eighths of a power
//! of two. The allocator is `offset-allocator` (two-level bins, constant time, after Aaltonen's), in units of 64 bytes.
//! An arena of one block ([`Arena::whole`]) wastes nothing: it is for blocks so large that an eighth matters.

use crate::limits::BLOCK_ALIGN;
use offset_allocator::{Allocation, Allocator};

/// A block: a range of a region that one owner holds. Returned to its arena with [`Arena::free`].
pub struct Block {
    /// Where it starts in the region; 64-byte aligned, page-aligned from 64 KiB.
    pub offset: u64,
    /// How many bytes were asked for.
    pub len: u64,
    /// None in an arena of one block.
    allocation: Option<Allocation>,
}

/// The free and taken blocks of one region.
pub struct Arena {
    /// None in an arena of one block.
    allocator: Option<Allocator>,
    base: u64,
    end: u64,
    taken: usize,
}

const PAGE: u64 = 4096;
/// From this size on a block starts at a page.
const PAGE_ALIGN_FROM: u64 = 64 * 1024;
/// Most blocks of one arena; bounds the private memory for its bookkeeping.
const MAX_BLOCKS: u32 = 64 * 1024;
/// What the allocator keeps of each.
const BYTES_A_BLOCK: usize = 32;

impl Arena {
    /// Of the bytes from `base` (64-byte aligned) to `end`.
    pub fn new(base: u64, end: u64) -> Arena {
        debug_assert!(base.is_multiple_of(BLOCK_ALIGN as u64) && base < end);
        let units = (end - base) / BLOCK_ALIGN as u64;
        let blocks = (units.clamp(16, MAX_BLOCKS as u64)) as u32;
        Arena { allocator: Some(Allocator::with_max_allocs(units as u32, blocks)), base, end, taken: 0 }
    }

    /// The same, unless there is no memory for its bookkeeping, up to 2 MiB. The allocator cannot be refused any, so this looks
    /// first: another thread may take what was there.
    pub fn try_new(base: u64, end: u64) -> Option<Arena> {
        let blocks = ((end - base) / BLOCK_ALIGN as u64).clamp(16, MAX_BLOCKS as u64) as usize;
        Vec::<u8>::new().try_reserve_exact(blocks * BYTES_A_BLOCK).ok()?;
        Some(Arena::new(base, end))
    }

    /// Of one block at a time, which may be as large as all of it. `base` is page-aligned.
    pub fn whole(base: u64, end: u64) -> Arena {
        debug_assert!(base.is_multiple_of(PAGE) && base < end);
        Arena { allocator: None, base, end, taken: 0 }
    }

    /// The bytes that blocks may lie in.
    pub fn size(&self) -> u64 {
        self.end - self.base
    }

    /// Whether it is of one block at a time.
    pub fn is_whole(&self) -> bool {
        self.allocator.is_none()
    }

    /// A block of `len` bytes, at least one unit; `None` when there is no room.
    pub fn allocate(&mut self, len: u64) -> Option<Block> {
        let Some(allocator) = &mut self.allocator else {
            // Not for one that needs less than half of more than a page: it would keep the rest from everybody.
            let size = self.end - self.base;
            if self.taken > 0 || len > size || 2 * len + PAGE < size {
                return None;
            }
            self.taken = 1;
            return Some(Block { offset: self.base, len, allocation: None });
        };
        let align = if len >= PAGE_ALIGN_FROM { PAGE } else { BLOCK_ALIGN as u64 };
        let padded = len
            .max(1)
            .checked_add(align - BLOCK_ALIGN as u64)?
            .checked_next_multiple_of(BLOCK_ALIGN as u64)?;
        let units = u32::try_from(padded / BLOCK_ALIGN as u64).ok()?;
        let allocation = allocator.allocate(units)?;
        let start = self.base + allocation.offset as u64 * BLOCK_ALIGN as u64;
        self.taken += 1;
        Some(Block { offset: start.next_multiple_of(align), len, allocation: Some(allocation) })
    }

    /// Takes a block back.
    pub fn free(&mut self, block: Block) {
        self.taken -= 1;
        if let (Some(allocator), Some(allocation)) = (&mut self.allocator, block.allocation) {
            allocator.free(allocation);
        }
    }

    /// Whether no block is out.
    pub fn is_unused(&self) -> bool {
        self.taken == 0
    }
}

impl std::fmt::Debug for Block {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Block({} + {})", self.offset, self.len)
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arena").field("base", &self.base).field("taken", &self.taken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_apart_and_come_back() {
        let mut arena = Arena::new(33_280, 1 << 20);
        let mut blocks = Vec::new();
        for len in [0, 1, 63, 64, 65, 1000, 65_535, 65_536, 100_000] {
            let block = arena.allocate(len).unwrap();
            assert!(block.offset.is_multiple_of(if len >= 65_536 { 4096 } else { 64 }));
            assert!(block.offset >= 33_280 && block.offset + len <= 1 << 20);
            for other in &blocks {
                let other: &Block = other;
                assert!(
                    block.offset + len.max(1) <= other.offset
                        || other.offset + other.len.max(1) <= block.offset
                );
            }
            blocks.push(block);
        }
        blocks.drain(..).for_each(|b| arena.free(b));
        assert!(arena.is_unused());
        // Its bins are eighths of a power of two, rounded up: that much of a whole arena cannot be had at once.
        let whole = (1 << 20) - 33_280;
        assert!(arena.allocate(whole - whole / 8 - 4096).is_some(), "everything came back");
    }

    #[test]
    fn an_arena_of_one_block_has_all_of_it() {
        let mut arena = Arena::whole(4096, 1 << 20);
        let all = (1 << 20) - 4096;
        assert!(arena.allocate(all + 1).is_none());
        assert!(arena.allocate(all / 2 - 4096).is_none(), "too small for it");
        let block = arena.allocate(all).unwrap();
        assert_eq!((block.offset, block.len), (4096, all));
        assert!(arena.allocate(all).is_none() && !arena.is_unused());
        arena.free(block);
        assert!(arena.is_unused());
        assert!(arena.allocate(all / 2).is_some());
        assert!(Arena::whole(4096, 8192).allocate(0).is_some());
    }

    #[test]
    fn sizes_that_cannot_be_are_refused() {
        let mut arena = Arena::new(0, 4096);
        assert!(arena.allocate(4097).is_none());
        assert!(arena.allocate(u64::MAX).is_none());
        assert!(arena.allocate(u64::MAX - 63).is_none());
        assert!(arena.allocate(1 << 38).is_none());
    }
}
