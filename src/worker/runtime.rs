//! The runtime of a worker: find a call, run it, wait for the next.

use super::alert::Events;
use super::app::AnyApp;
use super::boot::{Bounds, INTERNAL_ERROR};
use super::claimed::Claimed;
use super::free::Free;
use super::held::Records;
use super::interrupt::Interrupts;
use super::lanes::{Lane, Lanes};
use super::nested::Nested;
use super::share::{Charged, Share};
use super::watch::Watch;
use crate::conn::{Link, Message};
use crate::error::{Code, Result};
use crate::limits::{MAX_DEFERRED, MAX_LANES, WORKER_REGIONS};
use crate::primitive::{AtomicBool, AtomicU64, Ordering, fence, spin_loop};
use crate::ring::{
    Adaptive, Budget, CallLine, Generation, Life, Mode, Parker, Taken, Waited, Word, wake_idle,
};
use crate::shm::{
    Board, Control, Fetch, Foreign, LaneState, OwnRecord, Quota, RESULT_BLOCKS, Region, RegionEntry,
    RegionId, RegionKind, Register, Registry, Requests, Results, Retired, Store,
};
use crate::sys::futex::Kernel;
use crate::sys::{awake, clock, cpu, fd, process};
use crate::wire::Kind;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::Duration;

/// Everything that the threads of one worker share.
pub struct Worker {
    pub(super) life: Life,
    pub(super) registry: Registry,
    pub(super) board: Board,
    pub(super) results: Results,
    pub(super) results_id: RegionId,
    pub(super) store: Store,
    pub(super) records: Records,
    pub(super) lanes: Lanes,
    pub(super) foreign: Foreign,
    pub(super) apps: OnceLock<Vec<(String, Box<dyn AnyApp>)>>,
    /// For what app threads ask of the arbiter; the control thread has a socket of its own.
    pub(super) fetcher: Fetcher,
    pub(super) events: Events,
    /// Held by the thread that maps a lane or drops mappings.
    mapping: Mutex<()>,
    /// A lane is being fetched.
    is_mapping: AtomicBool,
    stopping: AtomicBool,
    /// Begin records that no deferred call has, those of threads not counted.
    pub(super) deferred: Free<{ MAX_DEFERRED / 64 }>,
    pub(super) bounds: Bounds,
    /// What the control thread has to look at.
    pub(super) watch: Watch,
    /// Signals for calls that were given up.
    pub(super) interrupts: Interrupts,
    swept_ns: AtomicU64,
    parkers: std::ops::Range<usize>,
    pub(super) mode: Mode,
    budget: Budget,
    pub(super) nested: Nested,
}

/// The socket on which app threads fetch and register regions.
#[derive(Debug)]
pub struct Fetcher(pub Mutex<Link>);

/// What a thread remembers between two calls.
pub(super) struct Cursor {
    lane: usize,
    sweep: u32,
    walking: bool,
    /// Clients left, and what belonged to them was not dropped yet.
    owes_sweep: bool,
    /// The call line served last; a spinning thread watches it.
    hot: Option<(Arc<Lane>, usize)>,
}

/// Looks at the line served last before idleness is announced.
const HOT_SPINS: u32 = 64;
/// A parked worker looks around at least this often; doorbells and the arbiter's tick do the work.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// How long a thread pauses that cannot map a lane for want of resources.
const MAP_AGAIN: Duration = Duration::from_millis(10);
/// Mappings of closed lanes are dropped at most this often.
const SWEEP_EVERY_NS: u64 = 1_000_000_000;

impl Worker {
    #[allow(clippy::too_many_arguments)] // made in one place, `boot`
    pub(super) fn new(
        life: Life,
        registry: Registry,
        board: Board,
        results: Results,
        results_id: RegionId,
        fetcher: Link,
        parkers: std::ops::Range<usize>,
        mode: Mode,
        bounds: Bounds,
    ) -> Result<Arc<Worker>> {
        let quota = Quota { bytes: bounds.quota, regions: WORKER_REGIONS };
        let store = Store::new(results_id, results.region().clone(), RESULT_BLOCKS as u64, quota);
        let watch = Watch::new(parkers.len(), bounds.late_ns)?;
        Ok(Arc::new(Worker {
            life,
            registry,
            board,
            results,
            results_id,
            store,
            records: Records::new(),
            lanes: Lanes::new(),
            foreign: Foreign::new(),
            apps: OnceLock::new(),
            fetcher: Fetcher(Mutex::new(fetcher)),
            events: Events::default(),
            mapping: Mutex::new(()),
            is_mapping: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            deferred: Free::new(),
            bounds,
            watch,
            interrupts: Interrupts::default(),
            swept_ns: AtomicU64::new(0),
            parkers,
            mode,
            budget: cpu::wait_budget(),
            nested: Nested::default(),
        }))
    }

    /// This incarnation.
    pub fn life(&self) -> Life {
        self.life
    }

    /// Takes nothing more, and wakes threads that sleep so that they see it.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        fence(Ordering::SeqCst); // SYNC POINT: leave
        for parker in self.parkers.clone() {
            if let Some(doorbell) = self.board.doorbell(parker) {
                doorbell.ring_always(&Kernel);
            }
        }
    }

    /// Whether it takes nothing more.
    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// How a thread of this worker waits, before it has learnt anything.
    pub(super) fn patience(&self) -> Adaptive {
        Adaptive::new(self.mode, self.budget)
    }

    /// An app thread's life: ends when the worker is told to stop, or the board makes no sense.
    pub(super) fn serve(self: &Arc<Self>, thread: usize) {
        let parker_index = self.parkers.start + thread;
        let Some(doorbell) = self.board.doorbell(parker_index) else { return };
        let idle = self.board.idle();
        let parker = Parker { idle, me: parker_index, doorbell };
        let mut adaptive = self.patience();
        let mut cursor =
            Cursor { lane: 0, sweep: self.registry.sweep(), walking: true, owes_sweep: false, hot: None };
        while !self.stopping.load(Ordering::Acquire) {
            match self.find(&mut cursor) {
                Some(claimed) => {
                    let call = claimed.entry.call;
                    cursor.hot = Some((self.run(thread, claimed), call));
                }
                None => {
                    let next = self.take_hot(&adaptive, &cursor);
                    let next = next.or_else(|| self.wait(&parker, &mut adaptive, &cursor));
                    if let Some(claimed) = next {
                        self.run(thread, claimed);
                    }
                }
            }
        }
        parker.retract();
        self.board.stop_spinning(parker_index);
        if self.has_work() {
            // The wake-up for it may have been this thread's.
            self.wake_idle();
        }
    }

    /// Takes a queued call: round robin over the pending lanes, first in first out within one.
    fn find(&self, cursor: &mut Cursor) -> Option<Claimed> {
        let sweep = self.registry.sweep();
        if sweep != cursor.sweep {
            cursor.sweep = sweep;
            cursor.walking = true;
            cursor.owes_sweep = true;
            // It would keep the whole lane of a client that left.
            cursor.hot.take_if(|(lane, _)| self.lanes.open(&self.registry, lane.index) != Some(lane.serial));
        }
        // A worker that never sleeps must let go of dead clients' memory, too; also of one's who left too soon after
        // another for a sweep of its own, and of a lane that was not free yet.
        if cursor.owes_sweep {
            cursor.owes_sweep = !self.sweep_if_due();
        }
        let pending = self.board.pending();
        let start = (cursor.lane + 1) % MAX_LANES;
        let mut from = start;
        let mut wrapped = false;
        while let Some(index) = pending.next_from(from) {
            // Once round and no further, whatever others set meanwhile.
            if index < from {
                if wrapped {
                    break;
                }
                wrapped = true;
            }
            if wrapped && index >= start {
                break;
            }
            if let Some(found) = self.look(index, cursor.walking) {
                cursor.lane = index;
                return Some(found);
            }
            from = index + 1;
            if from == MAX_LANES {
                if wrapped {
                    break;
                }
                (from, wrapped) = (0, true);
            }
        }
        cursor.walking = false;
        None
    }

    /// Takes a call of this lane, if it is open and has one.
    fn look(&self, index: usize, walking: bool) -> Option<Claimed> {
        // The serial first: a bit of a place that was given to another client is not ours to clear.
        let serial = self.lanes.open(&self.registry, index)?;
        let lane = match self.lanes.mapped(index, serial) {
            Some(lane) => lane,
            None => self.map(index, serial)?,
        };
        let queue = lane.queue(&self.board);
        // In the ring's order first; the words are walked for what the ring does not show.
        let mut taken = queue.take(self.life);
        if walking && taken == Taken::Nothing {
            taken = queue.walk(self.life, 0);
        }
        match taken {
            Taken::Call(entry) => Some(Claimed::new(lane, entry)),
            Taken::Nothing => {
                let current = || self.lanes.open(&self.registry, index) == Some(serial);
                if queue.quiesce_if(current) {
                    // Others who looked while the bit was away may sleep beside what came in between.
                    self.wake_idle();
                }
                None
            }
            Taken::Damaged => {
                self.suspect(&lane, "its ring or a call word is damaged");
                None
            }
        }
    }

    /// Watches the line that was served last for a moment, before idleness is announced: a client that calls again
    /// at once finds its worker without a ring entry, a hint or a doorbell. Only when nothing is pending, so that
    /// it takes nothing from other lanes; and short, since others see a busy worker meanwhile.
    #[inline]
    fn take_hot(&self, adaptive: &Adaptive, cursor: &Cursor) -> Option<Claimed> {
        let (lane, call) = cursor.hot.as_ref()?;
        if !adaptive.spins() {
            return None;
        }
        let line = &lane.control.lines()[*call];
        for _ in 0..HOT_SPINS {
            if CallLine::is_queued(line.glance()) {
                return self.take_line(lane, *call);
            }
            spin_loop();
        }
        None
    }

    /// Takes this call, if it is queued and its lane is still open; not if anything is pending, for then an older
    /// call may wait and the rings say which is first.
    fn take_line(&self, lane: &Arc<Lane>, call: usize) -> Option<Claimed> {
        // Of a call that is not queued its client may be reading the result, or writing the next request.
        if !CallLine::is_queued(lane.control.lines()[call].glance())
            || self.has_work()
            || self.lanes.open(&self.registry, lane.index) != Some(lane.serial)
        {
            return None;
        }
        lane.requests.record(call).prefetch();
        if let Some(last) = lane.held.peek(call) {
            // Its client has read it, and the next result will most likely be there.
            self.results.record(last.record()).prefetch_to_write();
        }
        match lane.queue(&self.board).take_line(self.life, call) {
            Taken::Call(entry) => Some(Claimed::new(lane.clone(), entry)),
            _ => None,
        }
    }

    /// Nothing to take: spin, yield, sleep, as the controller says. `Some` when the line served last was taken
    /// while spinning.
    fn wait(&self, parker: &Parker<'_>, adaptive: &mut Adaptive, cursor: &Cursor) -> Option<Claimed> {
        let announced = parker.announce(|| {
            self.has_work() || self.registry.sweep() != cursor.sweep || self.stopping.load(Ordering::Acquire)
        });
        let heard = announced?;
        let hot_line = cursor.hot.as_ref().map(|(lane, call)| &lane.control.lines()[*call]);
        let hot_word = hot_line.map(CallLine::glance);
        let changed = || hot_line.map(CallLine::glance) != hot_word || parker.rang(heard);
        // At most one parker of a board spins: the others would only take processor time from those that work.
        let spins = self.board.spin(parker.me);
        let for_ever = spins && self.mode == Mode::Spin;
        // It must come back now and then, for what others do before they sleep.
        let until = if for_ever { self.sweep_due_ns() } else { u64::MAX };
        let waited = awake::stay_awake(adaptive, spins, until, changed);
        if spins {
            self.board.stop_spinning(parker.me);
        }
        if matches!(waited, Waited::Slept { .. }) && !changed() {
            self.sweep_if_due();
            if !for_ever && !self.stopping.load(Ordering::Acquire) {
                parker.sleep(heard, &Kernel, Some(LONGEST_SLEEP));
            }
        }
        parker.retract(); // before anything is claimed
        let (lane, call) = cursor.hot.as_ref()?;
        self.take_line(lane, *call)
    }

    /// Whether a lane that this worker may take from has something pending.
    fn has_work(&self) -> bool {
        let pending = self.board.pending();
        let mut from = 0;
        while let Some(index) = pending.next_from(from) {
            if index < from {
                return false;
            }
            // What is not mapped is left to the thread that maps, which wakes the others when it is done.
            let is_ours = |serial| {
                !self.is_mapping.load(Ordering::Acquire) || self.lanes.mapped(index, serial).is_some()
            };
            if self.lanes.open(&self.registry, index).is_some_and(is_ours) {
                return true;
            }
            from = index + 1;
            if from == MAX_LANES {
                return false;
            }
        }
        false
    }

    /// Maps a lane that this worker meets for the first time. One that cannot be had is not looked at again. `None`
    /// also while another thread maps one: the arbiter may take long over it, and there may be calls of other lanes.
    fn map(&self, index: usize, serial: u64) -> Option<Arc<Lane>> {
        // One thread at a time: two mappings of one lane would hold the same calls' results.
        let turn = self.try_mapping()?;
        let mapped = self.map_in_turn(index, serial);
        self.is_mapping.store(false, Ordering::Release);
        drop(turn);
        // Others may have gone to sleep beside a lane that they left to us: see `has_work`.
        fence(Ordering::SeqCst);
        self.wake_idle();
        match mapped {
            Ok(lane) => Some(lane),
            Err(error) => {
                log::debug!("lane {index} of client {serial} cannot be mapped: {error}");
                match error.code() {
                    Code::BadRequest | Code::Protocol | Code::Incompatible => self.lanes.shun(index, serial),
                    // A want of descriptors or memory, here or in the arbiter, may pass; its calls wait for us.
                    _ => clock::sleep(MAP_AGAIN),
                }
                None
            }
        }
    }

    fn try_mapping(&self) -> Option<MutexGuard<'_, ()>> {
        match self.mapping.try_lock() {
            Ok(turn) => Some(turn),
            Err(TryLockError::Poisoned(turn)) => Some(turn.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn map_in_turn(&self, index: usize, serial: u64) -> Result<Arc<Lane>> {
        if let Some(first) = self.lanes.mapped(index, serial) {
            return Ok(first);
        }
        self.is_mapping.store(true, Ordering::Release);
        let (control, requests, id) = self.fetcher.lane(index, serial)?;
        crash_point!("worker.map.fetched");
        let requests = Requests::adopt(requests)?;
        self.foreign.insert(id, requests.region().clone());
        let (control, held) = (Control::adopt(control)?, super::held::Held::new());
        let lane = Arc::new(Lane {
            index,
            serial,
            control,
            requests,
            held,
            share: Arc::default(),
            event: OnceLock::new(),
        });
        self.lanes.keep(lane.clone());
        crash_point!("worker.map.kept");
        self.lanes.forget(|lane| self.forget(lane));
        Ok(lane)
    }

    fn wake_idle(&self) {
        wake_idle(self.board.idle(), |parker| {
            if let Some(doorbell) = self.board.doorbell(parker) {
                doorbell.ring(&Kernel);
            }
        });
    }

    /// Tells the arbiter that a lane is damaged, and looks at it no more.
    pub(super) fn suspect(&self, lane: &Lane, why: &str) {
        // The arbiter logs it.
        log::debug!("lane {} of client {} is suspect: {why}", lane.index, lane.serial);
        self.lanes.shun(lane.index, lane.serial);
        let message = Message::new(Kind::Suspect)
            .with("lane", lane.index as i64)
            .with("serial", lane.serial as i64)
            .with("why", why);
        let sent = self.fetcher.lock().send(message); // not locked while it is logged
        if let Err(error) = sent {
            log::debug!("the arbiter was not told: {error}");
        }
    }

    /// A result block.
    pub(super) fn allocate(&self, len: usize, share: Option<&Arc<Share>>) -> Result<Charged> {
        let allocate = || Charged::new(share, len, || self.store.allocate(len, &self.fetcher));
        match allocate() {
            Err(error) if error.code() == Code::Overloaded => {
                self.reclaim_held();
                allocate()
            }
            other => other,
        }
    }

    /// Has a block count for this share, wherever it did before.
    pub(super) fn charge(&self, block: &mut Charged, share: &Arc<Share>) -> Result<()> {
        block.move_to(share).or_else(|_| {
            self.reclaim_held();
            block.move_to(share)
        })
    }

    pub(super) fn free_block(&self, block: Charged) {
        self.store.free(block.placed);
    }

    /// A result record; looks for some that clients let go of when none is free.
    pub(super) fn take_record(&self) -> Option<usize> {
        self.records.take().or_else(|| {
            self.reclaim_held();
            self.records.take()
        })
    }

    /// The record of this index is free, and so is what was tied to it.
    pub(super) fn free_record(&self, record: usize) {
        self.results.unname(record);
        if let Some(tied) = self.records.give_back(record) {
            tied.into_blocks().for_each(|block| self.free_block(block));
        }
    }

    /// Takes back the records of calls that their clients moved on.
    fn reclaim_held(&self) {
        self.lanes.forget(|lane| self.forget(lane));
        for lane in self.lanes.all() {
            for call in 0..lane.control.lines().len() {
                // This first: what is held later is not what was looked at.
                let Some(holding) = lane.held.peek(call) else { continue };
                if is_over(&lane, call, holding.generation())
                    && let Some(record) = lane.held.release(call, holding)
                {
                    self.free_record(record);
                }
            }
        }
    }

    /// When the next sweep is due, on a clock that may be ahead of the one that decides.
    fn sweep_due_ns(&self) -> u64 {
        self.swept_ns.load(Ordering::Relaxed) + SWEEP_EVERY_NS + clock::COARSE_NS
    }

    /// Drops what belongs to clients that are gone. Whether that was done, and no lane is left that will be dropped
    /// later.
    fn sweep_if_due(&self) -> bool {
        let now = clock::coarse_ns();
        let last = self.swept_ns.load(Ordering::Relaxed);
        if now.saturating_sub(last) < SWEEP_EVERY_NS
            || self.swept_ns.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return false;
        }
        // Not behind a thread that maps a lane: the arbiter may take long over that, and calls wait here.
        let Some(_turn) = self.try_mapping() else { return false };
        self.lanes.take_stale(&self.registry);
        let all_left = self.lanes.forget(|lane| self.forget(lane));
        self.foreign.sweep(&self.registry);
        all_left
            && !self.lanes.all().any(|lane| self.registry.lane(lane.index) == LaneState::Closing(lane.serial))
    }

    /// The control thread: lets go of regions that are gone, and of one's own that are idle, which it returns for the
    /// arbiter to be told.
    pub(super) fn tidy(&self) -> Vec<Retired> {
        // A client says in its own memory that it is through with a result, and rings nobody for that.
        self.reclaim_held();
        self.tidy_as_client();
        self.foreign.sweep(&self.registry);
        self.store.retire_idle(self.registry.warm_ns())
    }

    /// Takes back everything that was held for a lane that is nobody's any more.
    fn forget(&self, lane: &Lane) {
        for call in 0..lane.control.lines().len() {
            let holding = lane.held.peek(call);
            if let Some(record) = holding.and_then(|holding| lane.held.release(call, holding)) {
                self.free_record(record);
            }
        }
    }
}

/// Whether a client is through with the result of this submission. The shared word alone does not decide that, since
/// anybody may have scribbled over it: it counts where it agrees with the client's own record.
pub(super) fn is_over(lane: &Lane, call: usize, generation: Generation) -> bool {
    match lane.requests.own(call).0 {
        OwnRecord::Queued(now) if now == generation => {
            lane.control.lines()[call].look() == Ok(Word::idle(generation.next()))
        }
        OwnRecord::Held(now) if now == generation => false,
        OwnRecord::Queued(_) | OwnRecord::Cancelled(_) | OwnRecord::Held(_) => true,
        OwnRecord::None => false,
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker")
            .field("life", &self.life)
            .field("records", &self.records)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, Link> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question to the arbiter. There is no answer to whoever has none any more: a process that dies closes its sockets a
    /// moment before its children are killed, and no caller is to take that for an error of its app.
    pub(super) fn ask(&self, question: Message, answer: Kind) -> Result<Message> {
        let answer = self.lock().ask(question, answer, None);
        if answer.as_ref().is_err_and(|error| error.code() == Code::ArbiterDied) {
            process::exit_now(INTERNAL_ERROR);
        }
        answer
    }

    fn lane(
        &self,
        index: usize,
        serial: u64,
    ) -> Result<(std::os::fd::OwnedFd, std::os::fd::OwnedFd, RegionId)> {
        let question = Message::new(Kind::Fetch).with("lane", index as i64).with("serial", serial as i64);
        let mut answer = self.ask(question, Kind::Fetched)?;
        let id = RegionId { index: answer.int("index")?, serial: answer.int("region_serial")? };
        let [control, requests] = answer.take_fds()?;
        Ok((control, requests, id))
    }
}

impl Fetch for Fetcher {
    fn fetch(&self, entry: RegionEntry) -> Result<Region> {
        let question = Message::new(Kind::Fetch)
            .with("index", entry.id.index as i64)
            .with("region_serial", entry.id.serial as i64);
        let mut answer = self.ask(question, Kind::Fetched)?;
        let [fd] = answer.take_fds()?;
        Region::adopt(entry.kind, fd, entry.len as usize)
    }
}

impl Register for Fetcher {
    fn register(&self, region: &Region) -> Result<RegionId> {
        let fd = fd::duplicate(region.fd())?;
        let question = Message::new(Kind::Register)
            .with("kind", RegionKind::Growth as i64)
            .with("len", region.len() as i64)
            .with_fd(fd);
        let answer = self.ask(question, Kind::Registered)?;
        Ok(RegionId { index: answer.int("index")?, serial: answer.int("region_serial")? })
    }

    fn retire(&self, id: RegionId) {
        // It has ended if it cannot be told. Not logged, since the store is locked.
        let _ = self.lock().send(Message::retire(id.index, id.serial));
    }
}
