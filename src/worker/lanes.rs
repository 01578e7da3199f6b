//! The lanes that a worker has mapped, by their place on the board.

use super::alert::KeptEvent;
use super::held::Held;
use super::share::Share;
use crate::limits::MAX_LANES;
use crate::primitive::{AtomicU64, AtomicUsize, Ordering, fence};
use crate::ring::Queue;
use crate::shm::{Board, Control, LaneState, Registry, Requests};
use arc_swap::ArcSwapOption;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// One mapped lane.
#[derive(Debug)]
pub struct Lane {
    /// Its place on the board.
    pub index: usize,
    /// Which client's; a place is given to another client under another serial number.
    pub serial: u64,
    /// Lines and ring.
    pub control: Control,
    /// The client's records.
    pub requests: Requests,
    /// Results of this worker that the client has not let go of.
    pub held: Held,
    /// What it has of this worker's memory.
    pub share: Arc<Share>,
    /// What its client's event loop watches, once that was needed.
    pub event: OnceLock<KeptEvent>,
}

impl Lane {
    /// Its calls as a queue.
    #[inline]
    pub fn queue<'a>(&'a self, board: &'a Board) -> Queue<'a> {
        Queue {
            lines: self.control.lines(),
            ring: self.control.ring(),
            pending: board.pending(),
            index: self.index,
        }
    }
}

/// All of them. Looked up without a lock.
#[derive(Debug)]
pub struct Lanes {
    mapped: Box<[ArcSwapOption<Lane>]>,
    /// Nothing was ever mapped at this place or behind it.
    end: AtomicUsize,
    /// Serial numbers that this worker will not look at again: damaged, or refused by the arbiter.
    shunned: Box<[AtomicU64]>,
    /// Taken out, and still with a call: what that holds in the end is to be given back, too.
    leaving: Mutex<Vec<Arc<Lane>>>,
}

impl Lanes {
    /// None yet.
    pub fn new() -> Lanes {
        Lanes {
            mapped: (0..MAX_LANES).map(|_| ArcSwapOption::empty()).collect(),
            end: AtomicUsize::new(0),
            shunned: (0..MAX_LANES).map(|_| AtomicU64::new(0)).collect(),
            leaving: Mutex::default(),
        }
    }

    /// The serial number of the lane at this place if this worker may take calls from it.
    #[inline]
    pub fn open(&self, registry: &Registry, index: usize) -> Option<u64> {
        match registry.lane(index) {
            LaneState::Open(serial) if self.shunned[index].load(Ordering::Relaxed) != serial => Some(serial),
            _ => None,
        }
    }

    /// The mapping, if there is one and it is this client's.
    #[inline]
    pub fn mapped(&self, index: usize, serial: u64) -> Option<Arc<Lane>> {
        self.mapped[index].load().as_ref().filter(|lane| lane.serial == serial).cloned()
    }

    /// Keeps a mapping; the one that was there before leaves.
    pub fn keep(&self, lane: Arc<Lane>) {
        self.end.fetch_max(lane.index + 1, Ordering::Relaxed);
        let old = self.mapped[lane.index].swap(Some(lane));
        self.leaving().extend(old);
    }

    /// Never looks at this lane again.
    pub fn shun(&self, index: usize, serial: u64) {
        self.shunned[index].store(serial, Ordering::Relaxed);
    }

    /// Takes out the mappings of lanes that are nobody's any more.
    pub fn take_stale(&self, registry: &Registry) {
        let mut leaving = self.leaving();
        for (index, place) in self.places().enumerate() {
            let gone = place.load().as_ref().is_some_and(|l| registry.lane(index).serial() != Some(l.serial));
            if gone {
                leaving.extend(place.swap(None));
            }
        }
    }

    /// Gives back with `forget` what is held for lanes that were taken out, and lets go of those that no call is on any
    /// more. Whether that is all of them.
    pub fn forget(&self, forget: impl Fn(&Lane)) -> bool {
        let mut leaving = self.leaving();
        leaving.retain(|lane| {
            // This first: whoever had it then is through with it.
            let is_used = Arc::strong_count(lane) > 1;
            fence(Ordering::Acquire);
            forget(lane);
            is_used
        });
        leaving.is_empty()
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<Arc<Lane>>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mappings there are.
    pub fn all(&self) -> impl Iterator<Item = Arc<Lane>> + '_ {
        self.places().filter_map(|place| place.load_full())
    }

    /// The mapping with this serial number, wherever it is.
    pub fn of(&self, serial: u64) -> Option<Arc<Lane>> {
        self.all().find(|lane| lane.serial == serial)
    }

    fn places(&self) -> std::slice::Iter<'_, ArcSwapOption<Lane>> {
        self.mapped[..self.end.load(Ordering::Relaxed)].iter()
    }
}
