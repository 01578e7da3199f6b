//! The arbiter itself: its state, its loop, and the effects of what the policy decides.

use super::clients::{Client, Lane};
use super::door::Door;
use super::regions::Regions;
use super::settings::Settings;
use super::status::History;
use super::tick::{Seldom, TICK_NS};
use super::token::Source;
use super::workers::{Incarnation, ring_life};
use crate::conn::{Message, Received, Stream};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::{self, Action, Event, Life, Policy, Stop};
use crate::shm::{Board, PoolState, Registry, SlotState};
use crate::sys::process;
use crate::sys::signal::Incoming;
use crate::sys::{clock, errno_of, fd, is_hang_up, named_io};
use crate::wire::Kind;
use crate::worker::{Apps, Surroundings};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind as IoKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// Everything that the arbiter knows. One thread, no locks.
pub struct Arbiter<'a> {
    pub(super) apps: &'a Apps,
    pub(super) settings: Settings,
    /// What its workers must know to let go of it.
    pub(super) surroundings: Surroundings,
    pub(super) registry: Registry,
    pub(super) board: Board,
    pub(super) own_pidfd: OwnedFd,
    pub(super) workers: BTreeMap<Life, Incarnation>,
    pub(super) clients: BTreeMap<u32, Client>,
    pub(super) lanes: Vec<Option<Lane>>,
    pub(super) regions: Regions,
    /// Dead lives whose results somebody may still read.
    pub(super) mourned: Vec<Life>,
    pub(super) next_client: u32,
    pub(super) next_serial: u64,
    /// When calls that nobody has begun are looked at.
    pub(super) looks: Seldom,
    /// When owners of idle regions are asked next.
    pub(super) tidies: Seldom,
    pub(super) poll: Poll,
    pub(super) policy: Policy,
    /// Who started it, and lives as long; one that is served has a door instead.
    pub(super) host: Option<Stream>,
    pub(super) host_pidfd: Option<OwnedFd>,
    pub(super) door: Option<Door>,
    pub(super) history: History,
    pub(super) signals: Incoming,
    pub(super) started: Started,
    pub(super) events: VecDeque<Event>,
    /// More may be there of what they said, and no event will tell: the tick looks.
    pub(super) unheard: Vec<Source>,
    pub(super) deciding: bool,
    pub(super) exiting: bool,
}

/// What the loop keeps from one turn to the next.
#[derive(Debug)]
pub(super) struct Turns {
    events: Events,
    tick_at: u64,
    /// Until when a pool that is closed waits for its callers.
    linger_until: Option<u64>,
    /// Of the wait, in a row.
    failures: u32,
}

/// What the host was told of the start.
#[derive(Debug)]
pub(super) enum Started {
    /// Nothing yet.
    Waiting {
        /// What a worker's apps said that could not be made.
        why: Option<String>,
        /// How one ended that said nothing, or what stood in its way that may pass.
        ended: Option<String>,
    },
    /// That the pool is ready, or that it is not to be.
    Told,
}

/// Messages handled from one peer before the others get their turn.
const BUDGET: usize = 64;
/// How long a closed pool waits for callers to fetch the results that its workers published last. A caller that is
/// through with a result cannot be told from one that did not look yet, so it cannot wait for ever.
const LINGER_NS: u64 = 500_000_000;
/// How often it looks meanwhile whether all have.
const LINGER_STEP_NS: u64 = 2_000_000;
/// How often in a row the wait for what happens may fail, and the pause after each.
const MAX_FAILURES: u32 = 100;
const FAILURE_PAUSE: Duration = Duration::from_millis(10);

impl Arbiter<'_> {
    /// Supervises until the pool is closed.
    pub(super) fn live(&mut self) -> Result<()> {
        let mut turns = self.begin()?;
        while self.turn(&mut turns, Duration::MAX)? {}
        crash_point!("arbiter.exit");
        if let Some(host) = &mut self.host {
            let _ = host.queue(Message::new(Kind::Bye)).and_then(|()| host.flush());
        }
        Ok(())
    }

    /// Watches what there is, and looks what came before it was watched.
    pub(super) fn begin(&mut self) -> Result<Turns> {
        self.act(Action::SetState { state: self.policy.state() });
        if let Some(host) = &self.host {
            self.watch(host.fd(), Source::Host)?;
        }
        if let Some(host) = &self.host_pidfd {
            self.watch(host.as_fd(), Source::HostGone)?;
        }
        if let Some(door) = &self.door {
            self.watch(door.endpoint.listener(), Source::Door)?;
        }
        self.watch(self.signals.as_fd(), Source::Signals)?;
        self.decide(Event::Tick);
        self.host_said();
        self.knocked();
        let tick_at = clock::monotonic_ns() + TICK_NS;
        Ok(Turns { events: Events::with_capacity(256), tick_at, linger_until: None, failures: 0 })
    }

    /// Waits for what happens next, for `patience` at most, and does what is to be done then. `false`: nothing is left of
    /// the pool.
    pub(super) fn turn(&mut self, turns: &mut Turns, patience: Duration) -> Result<bool> {
        let now = clock::monotonic_ns();
        let accept_at = self.door.as_ref().and_then(|door| door.again_at);
        let due = [self.policy.next_deadline(), accept_at].into_iter().flatten();
        let mut until = due.fold(turns.tick_at, u64::min);
        if self.exiting {
            if now >= *turns.linger_until.get_or_insert(now + LINGER_NS) || !self.has_results() {
                return Ok(false);
            }
            until = until.min(now + LINGER_STEP_NS);
        }
        let timeout = Duration::from_nanos(until.saturating_sub(now)).min(patience);
        match self.poll.poll(&mut turns.events, Some(timeout)) {
            Ok(()) => turns.failures = 0,
            Err(error) if error.kind() == IoKind::Interrupted => {}
            // No reason to end a pool, as long as it passes; and none to go round and round.
            Err(error) => {
                turns.failures += 1;
                let error = named_io("epoll_wait")(error);
                if turns.failures == MAX_FAILURES {
                    return Err(error);
                }
                self.trouble(error.to_string());
                clock::sleep(FAILURE_PAUSE);
            }
        }
        for event in &turns.events {
            if let Some(source) = Source::of(event.token()) {
                self.happened(source);
            }
        }
        let now = clock::monotonic_ns();
        if self.policy.next_deadline().is_some_and(|at| at <= now) {
            // What is told may take time, in which others are let go of: the last look finds nothing to tell.
            while self.review_given_up() {}
            self.decide(Event::Tick);
        }
        if accept_at.is_some_and(|at| at <= now) {
            self.knocked();
        }
        if now >= turns.tick_at {
            self.tick();
            turns.tick_at = clock::monotonic_ns() + TICK_NS;
        }
        Ok(true)
    }

    /// On a tick: hears those whose further words make no event.
    pub(super) fn hear(&mut self) {
        for source in std::mem::take(&mut self.unheard) {
            self.happened(source);
        }
    }

    fn happened(&mut self, source: Source) {
        match source {
            Source::Host => self.host_said(),
            Source::HostGone => self.host_gone(),
            Source::Door => self.knocked(),
            Source::Signals => {
                while let Ok(Some(arrival)) = self.signals.next() {
                    self.signalled(arrival.signal);
                }
            }
            Source::Control(life) => self.worker_said(life, true),
            Source::Fetch(life) => self.worker_said(life, false),
            Source::Gone(life) => self.worker_gone(life),
            Source::ThreadGone(life) => self.worker_marked(life),
            Source::Client(number) => self.client_said(number),
            Source::ClientGone(number) => self.client_gone(number),
        }
    }

    fn signalled(&mut self, signal: Signal) {
        if signal == Signal::SIGHUP {
            return log::warn!("{signal}: a pool cannot be reloaded; restart it");
        }
        let closing = matches!(self.policy.state(), pool::PoolState::ShuttingDown | pool::PoolState::Closed);
        let how = if closing { "what still runs is killed" } else { "the pool is shut down" };
        log::info!("{signal}: {how}");
        crash_point!("arbiter.stop");
        self.decide(Event::Shutdown { mode: Stop::Drain }); // the second time it means now
    }

    fn host_said(&mut self) {
        let Some(mut stream) = self.host.take() else { return };
        match self.converse(Source::Host, &mut stream, |arbiter, message| arbiter.host_asks(message)) {
            Ok(Received::End) => {
                self.unwatch(stream.fd());
                self.host_gone();
            }
            Ok(_) => self.host = Some(stream),
            Err(error) => {
                log::error!("the host's connection: {error}");
                self.unwatch(stream.fd());
                self.host_gone();
            }
        }
    }

    fn host_asks(&mut self, mut message: Message) -> Result<Option<Message>> {
        match message.kind {
            Kind::Connect if message.fds_lost => {
                self.trouble(
                    "a client could not be accepted: the arbiter may not open more descriptors".into(),
                );
                Ok(None)
            }
            Kind::Connect => {
                let socket = message.take_socket()?;
                if let Err(error) = self.accept(socket, None, None) {
                    self.trouble(format!("a client could not be accepted: {error}"));
                }
                Ok(None)
            }
            Kind::Stop => {
                let now = message.int::<i64>("now").unwrap_or(0) != 0;
                self.decide(Event::Shutdown { mode: if now { Stop::Now } else { Stop::Drain } });
                Ok(None)
            }
            other => Err(Error::new(ErrorKind::Frame(format!("the host sent a message {other:?}").into()))),
        }
    }

    /// Without its host a pool has no purpose: everything ends at once.
    fn host_gone(&mut self) {
        self.decide(Event::Shutdown { mode: Stop::Now });
        self.decide(Event::Shutdown { mode: Stop::Now });
    }

    /// Hands an event to the policy and carries out what it decides. An effect that is itself an event (a fork that
    /// fails) waits its turn.
    pub(super) fn decide(&mut self, event: Event) {
        self.events.push_back(event);
        if self.deciding {
            return;
        }
        self.deciding = true;
        let mut actions = Vec::new();
        while let Some(event) = self.events.pop_front() {
            self.policy.handle(clock::monotonic_ns(), event, &mut actions);
            for action in actions.drain(..) {
                self.act(action);
            }
        }
        self.deciding = false;
        self.registry.set_ready(self.policy.ready_workers() as u32);
        self.tell_start();
    }

    /// Logs what a peer did, no more often than the policy allows.
    pub(super) fn trouble(&mut self, text: String) {
        self.decide(Event::Trouble { text });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn { slot, life } => match self.spawn(slot, life) {
                Ok(()) => {
                    self.history.totals.started += 1;
                    self.events.push_back(Event::SpawnedOk { life });
                }
                Err(error) => {
                    let errno = errno_of(&error).unwrap_or(libc::EAGAIN);
                    log::debug!("life {life}: {error}");
                    self.boot_ended(format!("a worker cannot be started: {error}"));
                    self.events.push_back(Event::SpawnFailed { life, errno });
                }
            },
            Action::Kill { life, signal } => {
                let own = self.settings.policy.cancel_signal.and_then(|n| Signal::try_from(n).ok());
                match signal {
                    pool::Signal::Term => self.kill(life, Signal::SIGTERM),
                    pool::Signal::Kill => self.kill(life, Signal::SIGKILL),
                    pool::Signal::Cancel => own.into_iter().for_each(|own| self.kill(life, own)),
                }
            }
            Action::Interrupt { life, call } => self.interrupt(life, call),
            Action::KillGroup { life } => self.kill_group(life),
            Action::Repair { life, cause } => self.repair(life, cause),
            Action::Reap { life } => self.reap(life),
            Action::BootLate { life: _ } => {
                let limit_ms = self.settings.policy.boot_timeout_ns / 1_000_000;
                self.boot_ended(format!("a worker was not ready after the {limit_ms} ms that it may take"));
            }
            Action::Drain { life } => self.drain(life),
            Action::SetState { state } => self.registry.set_state(match state {
                pool::PoolState::Starting => PoolState::Starting,
                pool::PoolState::Running => PoolState::Running,
                pool::PoolState::Degraded => PoolState::Degraded,
                pool::PoolState::NoWorkers => PoolState::Empty,
                pool::PoolState::ShuttingDown => PoolState::ShuttingDown,
                pool::PoolState::Closed => PoolState::Closed,
            }),
            Action::RefuseQueued { reason } => self.refuse_queued(reason),
            Action::ResumeQueue => {
                self.derive_hints();
                self.ring_everybody();
            }
            Action::Slot { slot: _, life, state } => {
                if let Some(life) = life {
                    self.show(life, state);
                }
            }
            Action::Exit => self.exiting = true,
            Action::Log { level, text } => log::log!(level, "{text}"),
        }
    }

    /// Shows in the registry what a life is doing.
    fn show(&mut self, life: Life, state: pool::SlotState) {
        let Some(worker) = self.workers.get_mut(&life) else { return };
        let before = worker.state;
        worker.state = match state {
            pool::SlotState::Empty => SlotState::Empty,
            pool::SlotState::Booting => SlotState::Booting,
            pool::SlotState::Ready => SlotState::Ready,
            pool::SlotState::Cordoned | pool::SlotState::Draining => SlotState::Cordoned,
            pool::SlotState::Dying => SlotState::Dying,
        };
        if worker.state != before {
            worker.since_ns = clock::monotonic_ns();
        }
        self.registry.set_slot(worker.place, Some(ring_life(life)), worker.state, worker.pid.as_raw() as u32);
    }

    /// The apps of a worker cannot be made: that fails the start.
    pub(super) fn boot_failed(&mut self, text: String) {
        self.history.boot_failed(&text);
        if let Started::Waiting { why, .. } = &mut self.started {
            why.get_or_insert(text);
        }
    }

    /// A boot that failed is tried again; the host is told of the last of them if the start fails in the end.
    pub(super) fn boot_ended(&mut self, text: String) {
        self.history.boot_failed(&text);
        if let Started::Waiting { ended, .. } = &mut self.started {
            *ended = Some(text);
        }
    }

    /// Tells the host, once, that the pool is ready or that it is not to be.
    fn tell_start(&mut self) {
        let Started::Waiting { why, ended } = &self.started else { return };
        if self.host.is_none() {
            return;
        }
        let failed = self.policy.state() == pool::PoolState::Degraded || self.policy.has_hopeless_slot();
        let answer = if let Some(why) = why {
            Message::refused(&Error::new(ErrorKind::Start(format!("a worker cannot boot: {why}").into())))
        } else if failed {
            let why = ended.as_deref().unwrap_or("no worker can be started").to_owned();
            Message::refused(&Error::new(ErrorKind::Start(why.into())))
        } else if self.policy.ready_workers() == self.settings.policy.workers {
            match fd::duplicate(self.own_pidfd.as_fd()) {
                Ok(fd) => Message::new(Kind::Ready).with("pid", process::pid().as_raw() as i64).with_fd(fd),
                Err(error) => Message::refused(&error),
            }
        } else {
            return;
        };
        let Some(host) = &mut self.host else { return };
        self.started = Started::Told;
        if let Err(error) = host.queue(answer).and_then(|()| host.flush()) {
            log::error!("the host was not told of the start: {error}");
        }
    }

    /// Reads what came from a peer, answers each message, sends what waits. Bounded: a chatty peer is asked to wait.
    pub(super) fn converse(
        &mut self,
        source: Source,
        stream: &mut Stream,
        mut handle: impl FnMut(&mut Self, Message) -> Result<Option<Message>>,
    ) -> Result<Received> {
        let mut handled = 0;
        loop {
            while handled < BUDGET
                && let Some(message) = stream.next()?
            {
                if let Some(answer) = handle(self, message)? {
                    stream.queue(answer)?;
                }
                handled += 1;
            }
            match stream.flush() {
                Err(error) if is_hang_up(&error) => {
                    stream.drop_waiting(); // what it said before it went is still to be read
                }
                flushed => drop(flushed?),
            }
            if handled >= BUDGET {
                // Edge-triggered: what is left makes no further event unless it is registered anew.
                if let Err(error) = self.rewatch(stream.fd(), source) {
                    log::warn!("{error}: who has more to say is heard with the next tick");
                    if !self.unheard.contains(&source) {
                        self.unheard.push(source);
                    }
                }
                return Ok(Received::Some);
            }
            match stream.read()? {
                Received::Some => {}
                end => return Ok(end),
            }
        }
    }

    /// Puts a descriptor under watch, for reading and for room to write.
    pub(super) fn watch(&self, fd: BorrowedFd<'_>, source: Source) -> Result<()> {
        let fd = fd.as_raw_fd();
        let registered = self.poll.registry().register(&mut SourceFd(&fd), source.token(), interest(source));
        registered.map_err(named_io("epoll_ctl"))
    }

    /// Has it tell once more of what is there already.
    pub(super) fn rewatch(&self, fd: BorrowedFd<'_>, source: Source) -> Result<()> {
        let fd = fd.as_raw_fd();
        let again = self.poll.registry().reregister(&mut SourceFd(&fd), source.token(), interest(source));
        again.map_err(named_io("epoll_ctl"))
    }

    /// Takes a descriptor out, before it is closed: a forked copy would keep its epoll entry alive.
    pub(super) fn unwatch(&self, fd: BorrowedFd<'_>) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }
}

fn interest(source: Source) -> Interest {
    match source {
        Source::Control(_) | Source::Fetch(_) | Source::Client(_) | Source::Host => {
            Interest::READABLE | Interest::WRITABLE
        }
        _ => Interest::READABLE,
    }
}
