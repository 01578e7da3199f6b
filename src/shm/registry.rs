//! The registry of a pool: what the arbiter tells everyone. 64 KiB, written by the arbiter only, so it can be
//! trusted whatever a worker scribbles.
//!
//! ```text
//! 0      header
//! 64     pool state, sweep count, ready workers, tidy count, how long idle regions stay
//! 4096   128 places of incarnations, 64 bytes each
//! 12288  the last 1,024 deaths, by life
//! 20480  1,024 lanes: serial 56 | state 8
//! 28672  2,048 regions of 16 bytes
//! ```

use super::region::{Region, RegionKind, Shared};
use crate::error::{Cause, Kill, Result};
use crate::limits::{MAX_DEATHS, MAX_LANES, MAX_PLACES, MAX_REGIONS};
use crate::primitive::{AtomicU32, AtomicU64, Ordering};
use crate::ring::Life;
use std::os::fd::{BorrowedFd, OwnedFd};

const POOL: usize = 64;
const SLOTS: usize = 4096;
const DEATHS: usize = 12288;
const LANES: usize = 20480;
const REGIONS: usize = 28672;
const LEN: usize = 64 * 1024;

const _: () = {
    assert!(SLOTS + MAX_PLACES * 64 <= DEATHS && DEATHS + MAX_DEATHS * 8 <= LANES);
    assert!(LANES + MAX_LANES * 8 <= REGIONS && REGIONS + MAX_REGIONS * 16 <= LEN);
};

#[derive(Debug)]
#[repr(C, align(64))]
struct PoolLine {
    state: AtomicU32,
    sweep: AtomicU32,
    ready: AtomicU32,
    workers: AtomicU32,
    threads: AtomicU32,
    tidy: AtomicU32,
    warm_ms: AtomicU32,
    _spare: [AtomicU32; 9],
}

/// One worker slot.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct SlotEntry {
    life: AtomicU32,
    state: AtomicU32,
    pid: AtomicU32,
    _spare: [AtomicU32; 13],
}

#[derive(Debug)]
#[repr(C)]
struct RegionWords {
    what: AtomicU64,
    whose: AtomicU64,
}

// SAFETY: `#[repr(C)]` of atomics only.
unsafe impl Shared for PoolLine {}
// SAFETY: `#[repr(C)]` of atomics only.
unsafe impl Shared for SlotEntry {}
// SAFETY: `#[repr(C)]` of atomics only.
unsafe impl Shared for RegionWords {}

/// Whether calls are taken, and if not why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum PoolState {
    /// Workers are booting; calls wait for them.
    Starting = 1,
    /// At least one worker is ready, or soon will be.
    Running = 2,
    /// Workers died too often: calls fail at once.
    Degraded = 3,
    /// There are no workers.
    Empty = 4,
    /// Calls that run may finish.
    ShuttingDown = 5,
    /// Nothing is left.
    Closed = 6,
}

/// Where a worker slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum SlotState {
    /// No worker.
    Empty = 0,
    /// Started, not ready.
    Booting = 1,
    /// Takes calls.
    Ready = 2,
    /// Takes nothing more.
    Cordoned = 3,
    /// Told to die.
    Dying = 4,
}

/// Whether a lane may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneState {
    /// Nobody's.
    Free,
    /// In use by the client with this serial number.
    Open(u64),
    /// Its shared memory was found damaged; its client must take a fresh lane.
    Suspect(u64),
    /// Its client is gone; its calls are being ended.
    Closing(u64),
}

impl LaneState {
    /// The serial number of the lane, whatever its state.
    pub fn serial(self) -> Option<u64> {
        match self {
            LaneState::Free => None,
            LaneState::Open(s) | LaneState::Suspect(s) | LaneState::Closing(s) => Some(s),
        }
    }

    fn pack(self) -> u64 {
        match self {
            LaneState::Free => 0,
            LaneState::Open(s) => s << 8 | 1,
            LaneState::Suspect(s) => s << 8 | 2,
            LaneState::Closing(s) => s << 8 | 3,
        }
    }

    fn unpack(raw: u64) -> LaneState {
        match raw & 0xff {
            1 => LaneState::Open(raw >> 8),
            2 => LaneState::Suspect(raw >> 8),
            3 => LaneState::Closing(raw >> 8),
            _ => LaneState::Free,
        }
    }
}

/// A registered region: its place in the table and which registration of that place it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionId {
    /// Place in the table; what references carry.
    pub index: u16,
    /// Which registration of that place; never zero.
    pub serial: u32,
}

/// Whose a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The client of the lane with this serial number (its low 32 bits).
    Lane(u32),
    /// The worker incarnation.
    Life(u16),
}

/// What the table says of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionEntry {
    /// Its identity.
    pub id: RegionId,
    /// What it is for.
    pub kind: RegionKind,
    /// Its size in bytes.
    pub len: u64,
    /// Whose it is.
    pub owner: Owner,
}

/// A death that the registry remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// Who died.
    pub life: Life,
    /// Its process, 0 if that is not known any more.
    pub pid: u32,
    /// Why.
    pub cause: Cause,
}

const LIVE: u64 = 1;
const LIFE_OWNER: u64 = 1 << 31;

/// What the arbiter tells everyone.
#[derive(Debug)]
pub struct Registry(Region);

impl Registry {
    /// A fresh one. Made by the arbiter, which alone may use the functions that change it: elsewhere the mapping is
    /// read-only and they fault.
    pub fn create() -> Result<Registry> {
        Region::create(RegionKind::Registry, LEN).map(Registry)
    }

    /// One that came over a socket.
    pub fn adopt(fd: OwnedFd) -> Result<Registry> {
        Region::adopt(RegionKind::Registry, fd, LEN).map(Registry)
    }

    /// To pass it on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd()
    }

    /// The pool's state.
    #[inline]
    pub fn state(&self) -> PoolState {
        match self.pool().state.load(Ordering::Acquire) {
            2 => PoolState::Running,
            3 => PoolState::Degraded,
            4 => PoolState::Empty,
            5 => PoolState::ShuttingDown,
            6 => PoolState::Closed,
            _ => PoolState::Starting,
        }
    }

    /// Arbiter: changes the pool's state.
    pub fn set_state(&self, state: PoolState) {
        self.pool().state.store(state as u32, Ordering::Release);
    }

    /// How often the arbiter asked workers to walk the words.
    #[inline]
    pub fn sweep(&self) -> u32 {
        self.pool().sweep.load(Ordering::Acquire)
    }

    /// Arbiter: asks workers to walk the words, before it rings them.
    pub fn bump_sweep(&self) {
        self.pool().sweep.fetch_add(1, Ordering::AcqRel);
    }

    /// How often the arbiter asked everybody to let go of regions that are gone, and of one's own that are idle.
    #[inline]
    pub fn tidy(&self) -> u32 {
        self.pool().tidy.load(Ordering::Acquire)
    }

    /// Arbiter: asks for that.
    pub fn bump_tidy(&self) {
        self.pool().tidy.fetch_add(1, Ordering::AcqRel);
    }

    /// How long a region stays in which there is no block, nanoseconds.
    pub fn warm_ns(&self) -> u64 {
        u64::from(self.pool().warm_ms.load(Ordering::Relaxed)) * 1_000_000
    }

    /// Arbiter: how long that is, milliseconds. Once, before anybody has the registry.
    pub fn set_warm_ms(&self, ms: u32) {
        self.pool().warm_ms.store(ms, Ordering::Relaxed);
    }

    /// Workers that are ready.
    pub fn ready(&self) -> u32 {
        self.pool().ready.load(Ordering::Relaxed)
    }

    /// Arbiter: how many workers are ready.
    pub fn set_ready(&self, ready: u32) {
        self.pool().ready.store(ready, Ordering::Relaxed);
    }

    /// A worker slot's life, state and pid; `None` for a slot without a worker.
    pub fn slot(&self, slot: usize) -> Option<(Life, SlotState, u32)> {
        let entry = self.slots().get(slot)?;
        let state = match entry.state.load(Ordering::Acquire) {
            1 => SlotState::Booting,
            2 => SlotState::Ready,
            3 => SlotState::Cordoned,
            4 => SlotState::Dying,
            _ => return None,
        };
        let life = Life::new(entry.life.load(Ordering::Relaxed) as u16)?;
        Some((life, state, entry.pid.load(Ordering::Relaxed)))
    }

    /// The pids of the workers, ready ones only.
    pub fn ready_pids(&self) -> Vec<u32> {
        (0..MAX_PLACES)
            .filter_map(|slot| self.slot(slot))
            .filter(|(_, state, _)| *state == SlotState::Ready)
            .map(|(_, _, pid)| pid)
            .collect()
    }

    /// State, pid and slot of this life, while it is in one.
    pub fn slot_of(&self, life: Life) -> Option<(SlotState, u32, usize)> {
        (0..MAX_PLACES).find_map(|slot| match self.slot(slot) {
            Some((found, state, pid)) if found == life => Some((state, pid, slot)),
            _ => None,
        })
    }

    /// Arbiter: what is in a slot.
    pub fn set_slot(&self, slot: usize, life: Option<Life>, state: SlotState, pid: u32) {
        let Some(entry) = self.slots().get(slot) else { return };
        entry.life.store(life.map_or(0, |l| l.get().into()), Ordering::Relaxed);
        entry.pid.store(pid, Ordering::Relaxed);
        entry.state.store(state as u32, Ordering::Release);
    }

    /// Why a life died, if it is one of the last deaths.
    pub fn death(&self, life: Life) -> Option<Death> {
        let word = self.deaths()[life.get() as usize % MAX_DEATHS].load(Ordering::Acquire);
        if word as u16 != life.get() {
            return None;
        }
        let detail = i32::from((word >> 24) as u8);
        let cause = match (word >> 16) as u8 {
            1 => Cause::Exit(detail),
            2 => Cause::Signal(detail),
            3 => Cause::Oom,
            4 => Cause::Hung,
            5 => Cause::Recycled,
            6 => Cause::Corrupt,
            7 => Cause::BootFailed,
            8 => Cause::KilledByUs(Kill::Deadline),
            9 => Cause::KilledByUs(Kill::OthersDeadline),
            10 => Cause::KilledByUs(Kill::Shutdown),
            _ => Cause::Unknown,
        };
        Some(Death { life, pid: (word >> 32) as u32, cause })
    }

    /// Arbiter: a life of this number begins; what was remembered of an earlier one is of no use any more.
    pub fn forget_death(&self, life: Life) {
        self.deaths()[life.get() as usize % MAX_DEATHS].store(0, Ordering::Release);
    }

    /// Arbiter: remembers a death, before it repairs the words that name it.
    pub fn record_death(&self, death: Death) {
        // Exit statuses have 8 bits, signals fewer.
        let (kind, detail): (u64, i32) = match death.cause {
            Cause::Exit(n) => (1, n),
            Cause::Signal(n) => (2, n),
            Cause::Oom => (3, 0),
            Cause::Hung => (4, 0),
            Cause::Recycled => (5, 0),
            Cause::Corrupt => (6, 0),
            Cause::BootFailed => (7, 0),
            Cause::KilledByUs(Kill::Deadline) => (8, 0),
            Cause::KilledByUs(Kill::OthersDeadline) => (9, 0),
            Cause::KilledByUs(Kill::Shutdown) => (10, 0),
            Cause::Unknown => (0, 0),
        };
        let (pid, detail) = (u64::from(death.pid), u64::from(detail as u8));
        let word = pid << 32 | detail << 24 | kind << 16 | u64::from(death.life.get());
        self.deaths()[death.life.get() as usize % MAX_DEATHS].store(word, Ordering::Release);
    }

    /// What may be done with the lane at this index. A worker compares the serial with its mapping's before it
    /// looks at the lane *or clears its pending bit* (docs/protocol.md, F9).
    #[inline]
    pub fn lane(&self, index: usize) -> LaneState {
        match self.lanes().get(index) {
            Some(word) => LaneState::unpack(word.load(Ordering::Acquire)),
            None => LaneState::Free,
        }
    }

    /// Arbiter: changes a lane's state.
    pub fn set_lane(&self, index: usize, state: LaneState) {
        self.lanes()[index].store(state.pack(), Ordering::Release);
    }

    /// What is registered at this place; `None` if nothing is.
    #[inline]
    pub fn region(&self, index: u16) -> Option<RegionEntry> {
        let words = self.regions().get(index as usize)?;
        let what = words.what.load(Ordering::Acquire);
        let whose = words.whose.load(Ordering::Acquire);
        if what & 0xff != LIVE {
            return None;
        }
        let kind = RegionKind::from_number((what >> 8) as u8 as u32)?;
        let serial = (whose >> 32) as u32;
        let owner = whose & 0xffff_ffff;
        let owner =
            if owner & LIFE_OWNER != 0 { Owner::Life(owner as u16) } else { Owner::Lane(owner as u32) };
        Some(RegionEntry { id: RegionId { index, serial }, kind, len: what >> 16, owner })
    }

    /// Arbiter: registers a region at its place.
    pub fn set_region(&self, entry: RegionEntry) {
        let words = &self.regions()[entry.id.index as usize];
        let owner = match entry.owner {
            Owner::Lane(serial) => serial as u64 & (LIFE_OWNER - 1),
            Owner::Life(life) => LIFE_OWNER | life as u64,
        };
        words.whose.store((entry.id.serial as u64) << 32 | owner, Ordering::Release);
        words.what.store(entry.len << 16 | (entry.kind as u64) << 8 | LIVE, Ordering::Release);
    }

    /// Arbiter: the place is free again.
    pub fn clear_region(&self, index: u16) {
        self.regions()[index as usize].what.store(0, Ordering::Release);
    }

    fn pool(&self) -> &PoolLine {
        self.0.at(POOL)
    }

    fn slots(&self) -> &[SlotEntry] {
        self.0.array(SLOTS, MAX_PLACES)
    }

    fn deaths(&self) -> &[AtomicU64] {
        self.0.array(DEATHS, MAX_DEATHS)
    }

    fn lanes(&self) -> &[AtomicU64] {
        self.0.array(LANES, MAX_LANES)
    }

    fn regions(&self) -> &[RegionWords] {
        self.0.array(REGIONS, MAX_REGIONS)
    }
}

impl Owner {
    /// The owner that a lane's regions carry.
    pub fn of_lane(serial: u64) -> Owner {
        Owner::Lane(serial as u32 & (LIFE_OWNER as u32 - 1))
    }
}
