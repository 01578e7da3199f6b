//! Arguments that are built in place, in the client's own shared memory.

use super::lane::{Held, Lane};
use crate::primitive::{AtomicBool, Ordering};
use crate::shm::Placed;
use crate::wire::{Encode, Encoder, WireError};
use std::cell::{Cell, RefCell};
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Weak};

/// A block of the client's memory. Dereferences to its bytes; as an argument of a call it is lent, not copied.
///
/// It can be written until it is first sent: sending freezes it, since a worker may read it from then on, and
/// writing afterwards panics. It may be sent again, and is given back when it was dropped and no call that carries
/// it is with a worker any more.
#[derive(Debug)]
pub struct Lease {
    lent: Arc<Lent>,
}

/// The block itself, shared with the calls that carry it.
#[derive(Debug)]
pub struct Lent {
    placed: Option<Placed>,
    /// The lane that its block is of. Not owned: the lane owns what its calls carry.
    lane: Weak<Lane>,
    /// A worker may read it, and the lane, which would have known until when, is gone.
    frozen: AtomicBool,
}

thread_local! {
    /// Leases that were encoded on this thread for calls that are being put together: for one, and for those that its
    /// arguments make while they are encoded.
    static SENT: RefCell<Vec<Arc<Lent>>> = const { RefCell::new(Vec::new()) };
    /// Where those of the innermost call begin.
    static BEGIN: Cell<usize> = const { Cell::new(NO_CALL) };
}

const NO_CALL: usize = usize::MAX;

/// The leases that are encoded on this thread while this lives and no further one is made.
pub(super) struct Sent {
    /// Where those of the call around this one begin.
    outer: usize,
}

impl Lease {
    pub(super) fn new(placed: Placed, lane: &Arc<Lane>) -> Lease {
        let lane = Arc::downgrade(lane);
        Lease { lent: Arc::new(Lent { placed: Some(placed), lane, frozen: AtomicBool::new(false) }) }
    }

    /// Its bytes for writing; `None` while a call carries it that may still be with a worker. That outlasts the
    /// caller's answer where the call expired, was cancelled, or its lane was damaged: `None` for good where its client was
    /// dropped, or had its damaged memory replaced, before the worker had let go.
    ///
    /// # Panics
    /// In a forked copy of the process.
    pub fn try_as_mut(&mut self) -> Option<&mut [u8]> {
        self.lent.check_process();
        if Arc::strong_count(&self.lent) > 1
            && let Some(lane) = self.lent.lane.upgrade()
        {
            lane.reclaim_abandoned(); // a worker may have let go since the caller's answer
        }
        let lent = Arc::get_mut(&mut self.lent)?;
        if lent.frozen.load(Ordering::Acquire) {
            return None;
        }
        Some(match &mut lent.placed {
            Some(placed) => placed.bytes_mut(),
            None => &mut [],
        })
    }
}

impl Deref for Lease {
    type Target = [u8];

    /// # Panics
    /// In a forked copy of the process, which does not have the memory.
    fn deref(&self) -> &[u8] {
        self.lent.check_process();
        self.lent.placed.as_ref().map_or(&[], |placed| placed.bytes())
    }
}

impl DerefMut for Lease {
    /// # Panics
    /// If a call that carries the lease is with a worker; in a forked copy of the process.
    fn deref_mut(&mut self) -> &mut [u8] {
        self.try_as_mut().expect("a lease that was sent is read-only until its calls ended")
    }
}

impl Encode for Lease {
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        let Some(placed) = &self.lent.placed else { return e.bytes(&[]) };
        e.reference(placed.reference())?; // first: it may be refused
        // A thread that is ending may have no such place any more, and its last destructors may still make calls.
        SENT.try_with(|sent| sent.borrow_mut().push(self.lent.clone()))
            .map_err(|_| WireError::Unsupported("a lease in a thread that is ending"))
    }
}

impl Sent {
    /// None yet.
    #[inline]
    pub(super) fn new() -> Sent {
        let outer = BEGIN.get();
        if outer == NO_CALL {
            BEGIN.set(0);
            clear(); // what was encoded for no call at all
        }
        BEGIN.set(count());
        Sent { outer }
    }

    /// Forgets them: the request is encoded once more.
    pub(super) fn clear(&mut self) {
        clear();
    }

    /// Ties them to a call.
    #[inline]
    pub(super) fn tie(self, lane: &Arc<Lane>, call: usize) -> Result<(), &'static str> {
        // Most calls have none.
        if count() <= BEGIN.get() { Ok(()) } else { self.tie_some(lane, call) }
    }

    fn tie_some(self, lane: &Arc<Lane>, call: usize) -> Result<(), &'static str> {
        self.check(lane)?;
        self.take(|lent| lane.lend(call, Held::Lease(lent)));
        Ok(())
    }

    /// Whether all of them are of this lane: how many bytes they are.
    pub(super) fn check(&self, lane: &Arc<Lane>) -> Result<u64, &'static str> {
        let bytes = SENT.try_with(|sent| {
            let sent = sent.borrow();
            let ours = sent.get(BEGIN.get()..).unwrap_or_default();
            check_lane(ours, lane)?;
            Ok(ours.iter().map(|lent| lent.bytes()).sum())
        });
        bytes.unwrap_or(Ok(0)) // where there is no place, no lease could be encoded
    }

    /// Gives them away. What takes them must encode nothing.
    pub(super) fn take(self, to: impl FnMut(Arc<Lent>)) {
        let _ = SENT.try_with(|sent| {
            let mut sent = sent.borrow_mut();
            let begin = BEGIN.get().min(sent.len());
            sent.drain(begin..).for_each(to);
        });
    }
}

/// A lease of another lane (an older one, or another client's) cannot be read by this lane's workers.
fn check_lane(leases: &[Arc<Lent>], lane: &Arc<Lane>) -> Result<(), &'static str> {
    if leases.iter().any(|lent| !std::ptr::eq(lent.lane.as_ptr(), Arc::as_ptr(lane))) {
        return Err("a lease is of another client, or of this client's memory before that was replaced");
    }
    Ok(())
}

impl Drop for Sent {
    #[inline]
    fn drop(&mut self) {
        clear();
        BEGIN.set(self.outer);
    }
}

/// How many there are, of all calls.
#[inline]
fn count() -> usize {
    SENT.try_with(|sent| sent.borrow().len()).unwrap_or(0)
}

/// Forgets the leases of the innermost call.
#[inline]
fn clear() {
    if count() > BEGIN.get() {
        clear_some();
    }
}

#[cold]
fn clear_some() {
    let last = |sent: &RefCell<Vec<Arc<Lent>>>| {
        let mut sent = sent.borrow_mut();
        if sent.len() > BEGIN.get() { sent.pop() } else { None }
    };
    // Dropped one by one, when the list is not borrowed any more.
    while let Ok(Some(lent)) = SENT.try_with(last) {
        drop(lent);
    }
}

impl Lent {
    pub(super) fn bytes(&self) -> u64 {
        self.placed.as_ref().map_or(0, |placed| placed.block.len)
    }

    /// Nobody writes it any more.
    pub(super) fn freeze(&self) {
        self.frozen.store(true, Ordering::Release);
    }

    fn is_here(&self) -> bool {
        self.placed.as_ref().is_none_or(|placed| placed.region.is_here())
    }

    fn check_process(&self) {
        assert!(self.is_here(), "a forked copy of the process does not have the memory of a lease");
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // The block is the original's; in a copy its lock may be held by a thread that does not exist.
        if !self.is_here() {
            return;
        }
        // Without its lane there is no arena either that the block could go back to.
        if let Some(placed) = self.placed.take()
            && let Some(lane) = self.lane.upgrade()
        {
            lane.store.free(placed);
        }
    }
}
