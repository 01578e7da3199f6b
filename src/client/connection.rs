//! A client: one lane to one pool, usable from any thread.

use super::lane::Lane;
use super::outer::Outer;
use super::{Call, Lease};
use crate::conn::{Link, Message};
use crate::error::{Code, Error, Kind as ErrorKind, Result};
use crate::limits::{MAX_LANES, MAX_NAME};
use crate::primitive::{AtomicBool, AtomicU32, Ordering};
use crate::ring::{Budget, Generation, Life, Mode};
use crate::shm::{
    Board, Control, Fetch, Foreign, LaneState, Placed, PoolState, Region, RegionEntry, RegionId, RegionKind,
    Register, Registry, Requests, layout_hash,
};
use crate::sys::event::Event;
use crate::sys::fd::{self, Inheritable};
use crate::sys::fork_guard::ForkGuard;
use crate::sys::{pidfd, process, socket};
use crate::wire::Kind;
use arc_swap::ArcSwap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;

/// How a client waits and is bounded.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How its threads wait for results.
    pub mode: Mode,
    /// Bytes that the memory for its arguments may come to, beyond the 64 KiB that it has from the start.
    pub quota: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { mode: Mode::Adaptive, quota: crate::limits::CLIENT_QUOTA as u64 }
    }
}

/// A connection to a pool. `Send + Sync`; a clone is another handle to the same one.
///
/// Up to 64 calls are in flight at a time, over all threads and including responses that are still held.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) shared: Arc<Shared>,
}

/// What all handles and responses of one client share.
#[derive(Debug)]
pub(super) struct Shared {
    guard: ForkGuard,
    pub(super) arbiter: Arbiter,
    pub(super) registry: Registry,
    pub(super) board: Board,
    pub(super) lane: ArcSwap<Lane>,
    pub(super) foreign: Foreign,
    apps: Vec<String>,
    pub(super) timeout_ns: Option<u64>,
    /// How many threads its workers have to run calls, in all.
    pub(super) app_threads: u32,
    pub(super) mode: Mode,
    pub(super) budget: Budget,
    quota: u64,
    /// The registry's tidy count when this client last looked what it may let go of.
    tidied: AtomicU32,
    /// Held by the one thread that replaces a damaged lane: the lanes that were, until nothing of ours is on them.
    replaced: Mutex<Vec<(u64, Weak<Lane>)>>,
    /// There is a [`Completions`](super::Completions), whose descriptor is the client's.
    pub(super) has_completions: AtomicBool,
}

/// The supervising process as its client sees it.
#[derive(Debug)]
pub(super) struct Arbiter {
    link: Mutex<Link>,
    pidfd: Inheritable,
    dead: AtomicBool,
}

/// How long the arbiter may take over an answer before it counts as stuck.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an arbiter that listens may take to let somebody in, where many are waiting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl Client {
    /// Joins a pool over a connected socket that its arbiter listens on. See
    /// [`Pool::client`](crate::Pool::client) for the usual way.
    ///
    /// # Errors
    /// `Incompatible` when the arbiter has another layout; `Overloaded` when it has no room for one more client.
    pub fn connect(socket: OwnedFd, options: Options) -> Result<Client> {
        fd::occupy_standard()?;
        let mut link = Link::new(socket);
        let hello = Message::new(Kind::Hello)
            .with("layout", layout_hash() as i64)
            .with("pid", process::pid().as_raw() as i64)
            .with_fd(pidfd::of_self()?);
        let mut welcome = link.ask(hello, Kind::Welcome, Some(ANSWER_TIMEOUT))?;
        let [control, registry, board, arbiter] = welcome.take_fds()?;
        crash_point!("client.join.welcomed");
        let arbiter = Arbiter { link: Mutex::new(link), pidfd: arbiter.into(), dead: AtomicBool::new(false) };
        let lane = arbiter.lane(&welcome, control, options.quota)?;
        let timeout: i64 = welcome.int("timeout_ns")?;
        let shared = Shared {
            guard: ForkGuard::new()?,
            arbiter,
            registry: Registry::adopt(registry)?,
            board: Board::adopt(board)?,
            lane: ArcSwap::from_pointee(lane),
            foreign: Foreign::new(),
            apps: welcome.strings("apps")?,
            timeout_ns: (timeout > 0).then_some(timeout as u64),
            app_threads: welcome.int("app_threads")?,
            mode: options.mode,
            budget: crate::sys::cpu::wait_budget(),
            quota: options.quota,
            tidied: AtomicU32::new(0),
            replaced: Mutex::new(Vec::new()),
            has_completions: AtomicBool::new(false),
        };
        Ok(Client { shared: Arc::new(shared) })
    }

    /// Joins the pool that is served under this path: by `stokehold serve`, or by a program that calls
    /// [`Builder::serve`](crate::Builder::serve). From any thread, and without `init`. Blocks for at most 10 seconds
    /// until it is let in, and 30 until it has its lane.
    ///
    /// # Errors
    /// `Os` when nobody listens there, or it is not this user's to connect to; `Incompatible` when the pool is another
    /// user's or of another version; `Overloaded`, or `Start`, when there is no room for one more client.
    pub fn connect_path(path: impl AsRef<Path>, options: Options) -> Result<Client> {
        fd::occupy_standard()?;
        Client::connect(reach(path.as_ref())?, options)
    }

    /// A call of an app's action, to be completed with arguments and sent with `execute`.
    pub fn call<'c>(&'c self, app: &'c str, action: &'c str) -> Call<'c> {
        Call::new(&self.shared, app, action)
    }

    /// The same for an app, in the call that this is made in.
    pub(crate) fn call_within<'c>(&'c self, outer: Outer, app: &'c str, action: &'c str) -> Call<'c> {
        self.call(app, action).within(outer)
    }

    /// Memory of `len` bytes that workers read in place when it is given as an argument. Not cleared.
    ///
    /// May block for a moment while a further region is registered.
    ///
    /// # Errors
    /// `BadRequest` past 1 GiB; `Overloaded{bytes}` past this client's quota; `Os` when the memory file system is full;
    /// `ShuttingDown` or `ArbiterDied` where the supervising process is gone.
    pub fn lease(&self, len: usize) -> Result<Lease> {
        self.shared.check()?;
        self.shared.tidy_if_asked();
        let lane = self.shared.lane.load_full();
        lane.reclaim_abandoned();
        let placed = self.shared.allocate(&lane, len)?;
        Ok(Lease::new(placed, &lane))
    }

    /// A lease filled with a copy of these bytes.
    pub fn lease_from(&self, bytes: &[u8]) -> Result<Lease> {
        let mut lease = self.lease(bytes.len())?;
        lease.copy_from_slice(bytes);
        Ok(lease)
    }

    /// Gives back shared memory that is not in use, without waiting until it was idle for
    /// [`keep_warm_ms`](crate::Builder::keep_warm_ms): what was taken for leases and large arguments that are gone, and
    /// views of results that are gone. For hosts that will be idle. The next large payload costs what the first one did.
    ///
    /// May block for a moment while another thread talks to the arbiter. Nothing in a forked copy.
    pub fn trim(&self) {
        if self.shared.is_original() {
            let link = self.shared.arbiter.lock();
            self.shared.retire_idle(link, 0);
        }
    }

    /// Lets go of what is idle, if the arbiter said that there may be something.
    pub(crate) fn tidy(&self) {
        self.shared.tidy_if_asked();
    }

    /// The pool's apps.
    pub fn apps(&self) -> &[String] {
        &self.shared.apps
    }

    /// The pids of the workers that are ready, as the arbiter last published them. None in a forked copy.
    pub fn worker_pids(&self) -> Vec<u32> {
        if !self.shared.is_original() {
            return Vec::new();
        }
        self.shared.registry.ready_pids()
    }

    /// How many lanes the pool has given out, all clients' together.
    #[doc(hidden)]
    pub fn lanes_in_use(&self) -> usize {
        (0..MAX_LANES).filter(|index| self.shared.registry.lane(*index) != LaneState::Free).count()
    }
}

/// A socket to the arbiter that serves under this path, which must be a process of this user.
pub(super) fn reach(path: &Path) -> Result<OwnedFd> {
    let socket = socket::connect(path, CONNECT_TIMEOUT).map_err(|e| e.context(path.display().to_string()))?;
    let server = socket::peer_credentials(socket.as_fd())?.uid;
    if server != process::uid() {
        let why =
            format!("{} is served by user {server}, this process is {}", path.display(), process::uid());
        return Err(Error::new(ErrorKind::Incompatible(why.into())));
    }
    Ok(socket)
}

impl Shared {
    /// Whether this handle may be used here at all.
    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        self.check_process()?;
        if self.arbiter.is_known_dead() {
            return Err(self.gone(false).into());
        }
        Ok(())
    }

    /// What a call hears when the supervising process is gone. It may have ended as it was told to: then a call that it did
    /// not hear of any more is refused like those before it.
    #[cold]
    pub(super) fn gone(&self, started: bool) -> ErrorKind {
        match self.registry.state() {
            PoolState::ShuttingDown | PoolState::Closed if !started => ErrorKind::ShuttingDown,
            _ => ErrorKind::ArbiterDied { started },
        }
    }

    /// Memory of this many bytes in a lane of ours, for what is sent to workers. Where the arbiter is to register more of it
    /// and is gone, that is what a call hears, whoever asked.
    pub(super) fn allocate(&self, lane: &Lane, len: usize) -> Result<Placed> {
        lane.store.allocate(len, &self.arbiter.for_lane(lane.serial)).map_err(|error| self.unanswered(error))
    }

    /// The descriptor to which everybody writes who has something for this client.
    pub(super) fn event(&self) -> Result<Event> {
        self.arbiter.event().map_err(|error| self.unanswered(error))
    }

    fn unanswered(&self, error: Error) -> Error {
        if error.code() == Code::ArbiterDied { self.gone(false).into() } else { error }
    }

    /// Whether this is the process that made the handle: a forked copy does not have its memory.
    #[inline]
    pub(super) fn check_process(&self) -> Result<()> {
        if self.guard.is_original() { Ok(()) } else { Err(Error::new(ErrorKind::Forked)) }
    }

    /// Whether the pool has this app.
    #[inline]
    pub(super) fn check_app(&self, app: &str, action: &str) -> Result<()> {
        if !self.apps.iter().any(|name| name == app) {
            let known = self.apps.join(", ");
            return Err(Error::bad_request(format!("no app named {app:?}; this pool has: {known}")));
        }
        if action.len() > MAX_NAME {
            return Err(Error::bad_request(format!(
                "an action's name of {} bytes exceeds {MAX_NAME}",
                action.len()
            )));
        }
        Ok(())
    }

    /// The lane to use: the present one, or a fresh one if that was found damaged and could not be replaced so far.
    #[inline]
    pub(super) fn sound_lane(&self) -> Result<Arc<Lane>> {
        self.tidy_if_asked();
        let lane = self.lane.load_full();
        if self.registry.lane(lane.index) == LaneState::Open(lane.serial) {
            return Ok(lane);
        }
        if !self.arbiter.is_dead() {
            self.renew(&lane, "it is not open");
        }
        let fresh = self.lane.load_full();
        if Arc::ptr_eq(&lane, &fresh) {
            self.check()?;
            let why = "the client's memory is damaged and cannot be replaced at present, or its connection is broken";
            return Err(Error::new(ErrorKind::Protocol(why.into())));
        }
        Ok(fresh)
    }

    /// The lane was found damaged: has it retired and takes a fresh one. Calls in flight on it end as `Protocol`.
    pub(super) fn renew(&self, damaged: &Arc<Lane>, why: &str) {
        log::warn!("lane {} of this client is damaged and is replaced: {why}", damaged.index);
        // Two that replaced it at once would get a lane each, and use the one that came last for all its calls.
        let mut replaced = self.replaced.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(damaged, &self.lane.load()) {
            return; // another thread did
        }
        let gone = |(_, lane): &(u64, Weak<Lane>)| lane.strong_count() == 0;
        let released: Vec<i64> =
            replaced.iter().filter(|l| gone(l)).map(|(serial, _)| *serial as i64).collect();
        let question = Message::new(Kind::Renew)
            .with("lane", damaged.index as i64)
            .with("serial", damaged.serial as i64)
            .with("released", released.clone());
        let answer = self.arbiter.lock().ask(question, Kind::Welcome, Some(ANSWER_TIMEOUT));
        let renewed = answer.and_then(|mut welcome| {
            let [control] = welcome.take_fds()?;
            self.arbiter.lane(&welcome, control, self.quota)
        });
        match renewed {
            Ok(lane) => {
                replaced.retain(|(serial, _)| !released.contains(&(*serial as i64)));
                replaced.push((damaged.serial, Arc::downgrade(damaged)));
                self.lane.store(Arc::new(lane));
            }
            Err(error) => {
                drop(replaced); // a logger may do what takes this lock
                log::error!("no fresh lane: {error}");
            }
        }
    }

    /// A worker has written, in memory that only it can write, what no correct one does: the arbiter replaces it.
    #[cold]
    pub(super) fn accuse(&self, life: Life, why: &str) {
        let message = Message::new(Kind::Suspect).with("life", life.get() as i64).with("why", why);
        let sent = self.arbiter.lock().send(message); // not locked while it is logged
        if let Err(error) = sent {
            log::debug!("the arbiter was not told of life {}: {why}: {error}", life.get());
        }
    }

    #[inline]
    pub(super) fn is_original(&self) -> bool {
        self.guard.is_original()
    }

    /// Lets go of regions that are gone or idle, if the arbiter said since the last time that there may be some. It has
    /// no other way to tell a client, which has no thread of ours.
    #[inline]
    pub(super) fn tidy_if_asked(&self) {
        let asked = self.registry.tidy();
        if asked != self.tidied.load(Ordering::Relaxed) {
            self.tidy(asked);
        }
    }

    #[cold]
    fn tidy(&self, asked: u32) {
        // Callers do not wait for a thread that waits for the arbiter: they look again next time.
        let Some(link) = self.arbiter.try_lock() else { return };
        self.tidied.store(asked, Ordering::Relaxed);
        self.retire_idle(link, self.registry.warm_ns());
    }

    fn retire_idle(&self, mut link: MutexGuard<'_, Link>, warm_ns: u64) {
        let lane = self.lane.load_full();
        lane.reclaim_abandoned();
        let retired = lane.store.retire_idle(warm_ns);
        for region in &retired {
            // Without an arbiter there is nobody to tell. Not logged under a lock: a logger may do what takes it.
            let _ = link.send(Message::retire(region.id.index, region.id.serial));
        }
        drop(link);
        drop(retired);
        self.foreign.sweep(&self.registry);
    }
}

impl Arbiter {
    fn lock(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Link>> {
        match self.link.try_lock() {
            Ok(link) => Some(link),
            Err(TryLockError::Poisoned(link)) => Some(link.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Whether it has exited; remembered once it has.
    pub(super) fn is_dead(&self) -> bool {
        if self.dead.load(Ordering::Relaxed) {
            return true;
        }
        let dead = pidfd::has_exited(self.pidfd.as_fd()).unwrap_or(false);
        if dead {
            self.dead.store(true, Ordering::Relaxed);
        }
        dead
    }

    /// What [`is_dead`](Arbiter::is_dead) said when it was last asked.
    #[inline]
    pub(super) fn is_known_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Readable once it has exited.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn event(&self) -> Result<Event> {
        let question = Message::new(Kind::Fetch).with("event", true);
        let mut answer = self.lock().ask(question, Kind::Fetched, Some(ANSWER_TIMEOUT))?;
        let [fd] = answer.take_fds()?;
        Ok(Event::adopt(fd))
    }

    /// Completes a lane that the arbiter gave: makes and registers its requests region.
    fn lane(&self, welcome: &Message, control: OwnedFd, quota: u64) -> Result<Lane> {
        let (index, serial) = (welcome.int("lane")?, welcome.int::<i64>("serial")? as u64);
        let first = Generation(welcome.int("generation")?);
        let requests = Requests::create()?;
        crash_point!("client.join.requests");
        let id = self.register_as(RegionKind::Requests, requests.region(), serial)?;
        crash_point!("client.join.opened");
        Ok(Lane::new(index, serial, Control::adopt(control)?, requests, id, quota, first))
    }

    fn register_as(&self, kind: RegionKind, region: &Region, lane: u64) -> Result<RegionId> {
        let question = Message::new(Kind::Register)
            .with("kind", kind as i64)
            .with("len", region.len() as i64)
            .with("serial", lane as i64)
            .with_fd(fd::duplicate(region.fd())?);
        let answer = self.lock().ask(question, Kind::Registered, Some(ANSWER_TIMEOUT))?;
        Ok(RegionId { index: answer.int("index")?, serial: answer.int("region_serial")? })
    }
}

impl Fetch for Arbiter {
    fn fetch(&self, entry: RegionEntry) -> Result<Region> {
        let question = Message::new(Kind::Fetch)
            .with("index", entry.id.index as i64)
            .with("region_serial", entry.id.serial as i64);
        let mut answer = self.lock().ask(question, Kind::Fetched, Some(ANSWER_TIMEOUT))?;
        let [fd] = answer.take_fds()?;
        Region::adopt(entry.kind, fd, entry.len as usize)
    }
}

impl Arbiter {
    /// To register growth of this lane's memory, which may not be the client's current lane any more.
    fn for_lane(&self, serial: u64) -> impl Register + '_ {
        Growth { arbiter: self, serial }
    }
}

struct Growth<'a> {
    arbiter: &'a Arbiter,
    serial: u64,
}

impl Register for Growth<'_> {
    fn register(&self, region: &Region) -> Result<RegionId> {
        self.arbiter.register_as(RegionKind::Growth, region, self.serial)
    }

    fn retire(&self, id: RegionId) {
        // As in `retire_idle`.
        let _ = self.arbiter.lock().send(Message::retire(id.index, id.serial));
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // In a forked copy only the descriptors go; the original's lane stays as it is.
        if self.guard.is_original() {
            crash_point!("client.bye");
            let _ = self.arbiter.lock().send(Message::new(Kind::Bye));
        }
    }
}
