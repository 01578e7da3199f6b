//! The client's own side of its lane: which calls are free, what is lent with each, the tail of the ring.

use super::body::Spare;
use super::canceller::{Act, Handles};
use super::lease::Lent;
use crate::error::{Bound, Error, Kind, Result};
use crate::limits::{CLIENT_REGIONS, LANE_CALLS};
use crate::primitive::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::ring::{CallLine, Generation, Illegal, Producer, Queue, State, Word, sabotage};
use crate::shm::{Board, Control, Placed, Quota, REQUEST_BLOCKS, RegionId, Requests, Store};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One lane, in the memory of its client. The shared parts are `control` and `requests`.
#[derive(Debug)]
pub struct Lane {
    /// Its place on the board.
    pub index: usize,
    /// Which client's it is.
    pub serial: u64,
    /// Lines and ring.
    pub control: Control,
    /// Our records.
    pub requests: Requests,
    /// Our payload blocks.
    pub store: Store,
    /// The ring has one producer: threads of this process take turns. Private memory, so no other process can be
    /// stopped inside it.
    pub producer: Mutex<Producer>,
    /// Calls that may be submitted.
    free: AtomicU64,
    /// Calls whose caller has its answer while their worker has not let go.
    abandoned: AtomicU64,
    /// Private: the truth about each call's generation.
    calls: [Call; LANE_CALLS],
}

#[derive(Debug)]
struct Call {
    generation: AtomicU32,
    /// What the worker may read until it lets go.
    lent: Mutex<Vec<Held>>,
    /// What handles of this process did to it, where there are any.
    handles: Mutex<Option<Arc<Handles>>>,
    /// There is something of either, to be undone when the call is free again.
    tied: AtomicBool,
    /// A worker answered the last call on this line so soon that it probably watches it.
    hot: AtomicBool,
    /// Where its result is copied to.
    spare: Spare,
}

/// Memory that is lent with a call.
#[derive(Debug)]
pub enum Held {
    /// A lease of the user's.
    Lease(Arc<Lent>),
    /// The body of the request itself, or of an item; the ring of a context.
    Body(Placed),
}

impl Held {
    /// How many.
    pub fn bytes(&self) -> u64 {
        match self {
            Held::Lease(lent) => lent.bytes(),
            Held::Body(placed) => placed.block.len,
        }
    }
}

impl Lane {
    /// A lane whose control region is fresh: its lines are IDLE of the generation `first`.
    #[allow(clippy::too_many_arguments)] // made in one place, from one message
    pub fn new(
        index: usize,
        serial: u64,
        control: Control,
        requests: Requests,
        id: RegionId,
        quota: u64,
        first: Generation,
    ) -> Lane {
        let quota = Quota { bytes: quota, regions: CLIENT_REGIONS };
        let store = Store::new(id, requests.region().clone(), REQUEST_BLOCKS as u64, quota);
        Lane {
            index,
            serial,
            control,
            requests,
            store,
            producer: Mutex::new(Producer::default()),
            free: AtomicU64::new(u64::MAX),
            abandoned: AtomicU64::new(0),
            calls: std::array::from_fn(|_| Call {
                generation: AtomicU32::new(first.0),
                lent: Mutex::new(Vec::new()),
                handles: Mutex::new(None),
                tied: AtomicBool::new(false),
                hot: AtomicBool::new(false),
                spare: Spare::default(),
            }),
        }
    }

    /// The line of a call.
    #[inline]
    pub fn line(&self, call: usize) -> &CallLine {
        &self.control.lines()[call]
    }

    /// Room for the result of a call.
    #[inline]
    pub fn spare(&self, call: usize) -> &Spare {
        &self.calls[call].spare
    }

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

    /// A free call and the generation it may be submitted with. The lowest number first, so that a client with one
    /// call at a time uses the same line always.
    #[inline]
    pub fn take(&self) -> Result<(usize, Generation)> {
        self.reclaim_abandoned();
        let mut bits = self.free.load(Ordering::Relaxed);
        while bits != 0 {
            let call = bits.trailing_zeros() as usize;
            match self.free.compare_exchange_weak(
                bits,
                bits & !(1 << call),
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Ok((call, Generation(self.calls[call].generation.load(Ordering::Relaxed))));
                }
                Err(now) => bits = now,
            }
        }
        Err(Error::new(Kind::Overloaded { bound: Bound::Calls, limit: LANE_CALLS as u64 }))
    }

    /// The call is free again, with this generation; what was lent with it is the lender's again, and its handles are
    /// without effect.
    #[inline]
    pub fn put_back(&self, call: usize, generation: Generation) {
        self.untie(call);
        self.calls[call].generation.store(generation.0, Ordering::Relaxed);
        self.free.fetch_or(1 << call, Ordering::Release);
    }

    /// Moves an ended call's word to IDLE and frees the call. A word that resists is damaged.
    #[inline]
    pub fn release(&self, call: usize, word: Word) -> Result<(), Illegal> {
        let generation = self.line(call).release(word)?;
        crash_point!("client.release.moved");
        self.put_back(call, generation);
        Ok(())
    }

    /// The caller has its answer; the call waits until its worker lets go.
    pub fn abandon(&self, call: usize) {
        if sabotage::on("reusefenced") {
            self.untie(call);
        }
        self.abandoned.fetch_or(1 << call, Ordering::Release);
    }

    /// How many calls are free right now; those that wait for their worker are looked at again.
    pub fn free_calls(&self) -> u32 {
        self.reclaim_abandoned();
        self.free.load(Ordering::Relaxed).count_ones()
    }

    /// Whether a worker probably watches this call's line: it did when it answered, and has had no other since.
    #[inline]
    pub fn is_hot(&self, call: usize) -> bool {
        let alone = self.free.load(Ordering::Relaxed) == !(1 << call);
        alone && self.calls[call].hot.load(Ordering::Relaxed)
    }

    /// Remembers whether it does.
    #[inline]
    pub fn set_hot(&self, call: usize, hot: bool) {
        if self.calls[call].hot.load(Ordering::Relaxed) != hot {
            self.calls[call].hot.store(hot, Ordering::Relaxed);
        }
    }

    /// Keeps memory that goes with a call until the call is free again.
    pub fn lend(&self, call: usize, held: Held) {
        let call = &self.calls[call];
        call.tied.store(true, Ordering::Relaxed);
        lock(&call.lent).push(held);
    }

    /// What was lent is the lender's again.
    pub fn take_back(&self, held: Held) {
        match held {
            Held::Lease(lease) => drop(lease),
            Held::Body(placed) => self.store.free(placed),
        }
    }

    /// The record of what handles do to this call, which is its holder's to ask for.
    pub fn handles(&self, call: usize) -> Arc<Handles> {
        let call = &self.calls[call];
        call.tied.store(true, Ordering::Relaxed);
        lock(&call.handles).get_or_insert_with(|| Arc::new(Handles::new())).clone()
    }

    /// What they did.
    pub fn act(&self, call: usize) -> Act {
        lock(&self.calls[call].handles).as_ref().map_or(Act::Nothing, |handles| handles.act())
    }

    /// Its line is damaged: they do nothing more.
    pub fn lose(&self, call: usize) {
        if let Some(handles) = lock(&self.calls[call].handles).as_ref() {
            handles.lose();
        }
    }

    #[inline]
    fn untie(&self, call: usize) {
        if self.calls[call].tied.load(Ordering::Relaxed) {
            self.untie_some(&self.calls[call]);
        }
    }

    fn untie_some(&self, call: &Call) {
        call.tied.store(false, Ordering::Relaxed);
        let handles = lock(&call.handles).take();
        if let Some(handles) = handles {
            handles.close();
        }
        for held in lock(&call.lent).drain(..) {
            self.take_back(held);
        }
    }

    /// Frees the abandoned calls whose workers let go, with all that was lent with them.
    #[inline]
    pub fn reclaim_abandoned(&self) {
        if self.abandoned.load(Ordering::Relaxed) != 0 {
            self.reclaim_some();
        }
    }

    /// Whether a call that was abandoned will never be free, since its word was written over.
    #[cold]
    pub fn is_spoilt(&self) -> bool {
        let bits = self.abandoned.load(Ordering::Acquire);
        (0..LANE_CALLS).filter(|call| bits & 1 << call != 0).any(|call| {
            let generation = self.calls[call].generation.load(Ordering::Relaxed);
            self.line(call).look().map_or(true, |word| word.generation().0 != generation)
        })
    }

    #[cold]
    fn reclaim_some(&self) {
        let mut bits = self.abandoned.load(Ordering::Acquire);
        while bits != 0 {
            let call = bits.trailing_zeros() as usize;
            bits &= bits - 1;
            let Ok(word) = self.line(call).look() else { continue };
            // Which submission it is of is not for the word to say: a result of an older one would be the next one's.
            let is_its = word.generation().0 == self.calls[call].generation.load(Ordering::Relaxed);
            if word.state() != State::Acked || !is_its {
                continue;
            }
            // One thread of this process frees it.
            if self.abandoned.fetch_and(!(1 << call), Ordering::AcqRel) & 1 << call != 0 {
                crash_point!("client.acked.taken");
                if self.release(call, word).is_err() {
                    self.abandon(call); // it was written over in between
                }
            }
        }
    }
}

impl Drop for Lane {
    /// Workers that have not let go of a call may read what was lent with it for as long as they like; what was not is its
    /// owner's again.
    fn drop(&mut self) {
        // In a forked copy there is nothing of it, and nobody's memory to be written.
        if !self.requests.region().is_here() {
            return;
        }
        self.reclaim_abandoned();
        for call in &mut self.calls {
            for held in call.lent.get_mut().unwrap_or_else(PoisonError::into_inner) {
                if let Held::Lease(lent) = held {
                    lent.freeze();
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
