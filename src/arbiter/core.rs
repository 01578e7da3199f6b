//! The arbiter itself: its state, its loop, and the effects of what the policy decides.

use super::clients::{Client, Lane};
use super::regions::Regions;
use super::settings::Settings;
use super::tick::TICK_NS;
use super::token::Source;
use super::workers::{Incarnation, ring_life};
use crate::conn::{Message, Received, Stream};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::pool::{self, Action, Config, Event, Life, Policy, Stop};
use crate::shm::{Board, PoolState, Registry, SlotState};
use crate::sys::process;
use crate::sys::signal::{self, Incoming};
use crate::sys::{clock, errno_of, fd, pidfd, socket};
use crate::wire::Kind;
use crate::worker::Apps;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll};
use nix::sys::signal::Signal;
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

/// Everything that the arbiter knows. One thread, no locks.
pub struct Arbiter<'a> {
    pub(super) apps: &'a Apps,
    pub(super) settings: Settings,
    /// Descriptors that its workers keep, too.
    pub(super) kept: Vec<RawFd>,
    pub(super) nofile: u64,
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
    poll: Poll,
    policy: Policy,
    host: Option<Stream>,
    host_pidfd: OwnedFd,
    signals: Incoming,
    started: Started,
    events: VecDeque<Event>,
    deciding: bool,
    exiting: bool,
}

/// What the host was told of the start.
#[derive(Debug)]
enum Started {
    /// Nothing yet.
    Waiting {
        /// What a worker said that could not boot.
        why: Option<String>,
        /// How one ended that said nothing.
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
/// How long the host may take to send its configuration.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(10);

/// The arbiter's whole life, in the process that is to become it; it has one task. `socket` leads to the host.
pub fn run(socket: OwnedFd, token: u128, apps: &Apps) -> ! {
    // Its own come from here on; what is open already belongs to the program.
    let kept = fd::listed().unwrap_or_default().into_iter().filter(|fd| *fd != socket.as_raw_fd()).collect();
    // A panic must not unwind into the program that this is a copy of.
    let status = panic::catch_unwind(AssertUnwindSafe(|| supervise(socket, token, apps, kept)));
    process::exit_now(status.unwrap_or_else(|payload| {
        mem::forget(payload); // dropping it may panic again
        log::error!("the arbiter panicked");
        INTERNAL_ERROR
    }))
}

/// Exit status of an arbiter that panicked.
const INTERNAL_ERROR: i32 = 70;

fn supervise(socket: OwnedFd, token: u128, apps: &Apps, kept: Vec<RawFd>) -> i32 {
    let mut link = crate::conn::Link::new(socket);
    match start(&mut link, token, apps, kept) {
        Ok(mut arbiter) => {
            arbiter.host = Some(link.into_stream());
            match arbiter.live() {
                Ok(()) => 0,
                Err(error) => {
                    log::error!("the arbiter gives up: {error}");
                    1
                }
            }
        }
        Err(error) => {
            log::error!("the arbiter cannot start: {error}");
            let _ = link.send(Message::refused(&error));
            1
        }
    }
}

fn start<'a>(
    link: &mut crate::conn::Link,
    token: u128,
    apps: &'a Apps,
    kept: Vec<RawFd>,
) -> Result<Arbiter<'a>> {
    let mut config = match link.receive(Some(CONFIG_TIMEOUT))? {
        Some(message) => message.expect(Kind::Config)?,
        None => {
            return Err(Error::new(ErrorKind::Start(
                "the host closed before it sent a configuration".into(),
            )));
        }
    };
    if config.str("token")? != format!("{token:032x}") {
        return Err(Error::new(ErrorKind::Start(
            "the host's token is not the one in the environment".into(),
        )));
    }
    let [host_pidfd] = config.take_fds()?;
    let settings = Settings::from_message(&config)?;
    if let Some(unknown) = settings.apps.iter().find(|name| !apps.knows(name)) {
        let known: Vec<&str> = apps.names().collect();
        let why =
            format!("the arbiter's program knows no app named {unknown:?}; it knows: {}", known.join(", "));
        return Err(Error::new(ErrorKind::Start(why.into())));
    }
    if settings.build != 0 && settings.build != process::exe_identity()? {
        let why = "the program was replaced between the host's start and the pool's";
        return Err(Error::new(ErrorKind::Incompatible(why.into())));
    }
    process::new_session().or_else(|e| if errno_of(&e) == Some(libc::EPERM) { Ok(()) } else { Err(e) })?;
    process::set_name("stk-arbiter")?;
    process::oom_score_adj(-500);
    signal::ignore(Signal::SIGPIPE)?;
    // A log file that reached the limit on file sizes must not be the end of the pool.
    signal::ignore(Signal::SIGXFSZ)?;
    signal::ignore(Signal::SIGHUP)?;
    let signals = Incoming::new(&[Signal::SIGTERM, Signal::SIGINT])?;
    let (nofile, _) = fd::raise_nofile()?;
    socket::set_nonblocking(link.fd(), true)?;
    let seed = process::getrandom_u128()? as u64;
    let config = Config { max_lives: settings.places(), ..settings.policy };
    let policy = Policy::new(config, seed, clock::monotonic_ns())?;
    Ok(Arbiter {
        apps,
        settings,
        kept,
        nofile,
        registry: Registry::create()?,
        board: Board::create()?,
        own_pidfd: pidfd::of_self()?,
        workers: BTreeMap::new(),
        clients: BTreeMap::new(),
        lanes: Vec::new(),
        regions: Regions::default(),
        mourned: Vec::new(),
        next_client: 1,
        next_serial: 0,
        poll: Poll::new()?,
        policy,
        host: None,
        host_pidfd,
        signals,
        started: Started::Waiting { why: None, ended: None },
        events: VecDeque::new(),
        deciding: false,
        exiting: false,
    })
}

impl Arbiter<'_> {
    fn live(&mut self) -> Result<()> {
        self.act(Action::SetState { state: self.policy.state() });
        if let Some(host) = &self.host {
            self.watch(host.fd(), Source::Host)?;
        }
        self.watch(self.host_pidfd.as_fd(), Source::HostGone)?;
        self.watch(self.signals.as_fd(), Source::Signals)?;
        self.decide(Event::Tick);
        self.host_said();
        let mut events = Events::with_capacity(256);
        let mut tick_at = clock::monotonic_ns() + TICK_NS;
        let mut linger_until = None;
        loop {
            let now = clock::monotonic_ns();
            let mut until = self.policy.next_deadline().map_or(tick_at, |at| at.min(tick_at));
            if self.exiting {
                if now >= *linger_until.get_or_insert(now + LINGER_NS) || !self.has_results() {
                    break;
                }
                until = until.min(now + LINGER_STEP_NS);
            }
            let timeout = Duration::from_nanos(until.saturating_sub(now));
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(e.into()),
                _ => {}
            }
            for event in &events {
                if let Some(source) = Source::of(event.token()) {
                    self.happened(source);
                }
            }
            let now = clock::monotonic_ns();
            if self.policy.next_deadline().is_some_and(|at| at <= now) {
                self.decide(Event::Tick);
            }
            if now >= tick_at {
                self.tick();
                tick_at = clock::monotonic_ns() + TICK_NS;
            }
        }
        if let Some(host) = &mut self.host {
            let _ = host.queue(Message::new(Kind::Bye)).and_then(|()| host.flush());
        }
        Ok(())
    }

    fn happened(&mut self, source: Source) {
        match source {
            Source::Host => self.host_said(),
            Source::HostGone => self.host_gone(),
            Source::Signals => {
                while let Ok(Some(arrival)) = self.signals.next() {
                    log::info!("signal {}: the pool is shut down", arrival.signal);
                    self.decide(Event::Shutdown { mode: Stop::Drain });
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
                let [fd] = message.take_fds()?;
                if let Err(error) = self.accept(fd) {
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
            Action::Spawn { slot: _, life } => match self.spawn(life) {
                Ok(()) => self.events.push_back(Event::SpawnedOk { life }),
                Err(error) => {
                    let errno = errno_of(&error).unwrap_or(libc::EAGAIN);
                    log::debug!("life {life}: {error}");
                    self.events.push_back(Event::SpawnFailed { life, errno });
                }
            },
            Action::Kill { life, signal } => self.kill(
                life,
                match signal {
                    pool::Signal::Term => Signal::SIGTERM,
                    pool::Signal::Kill => Signal::SIGKILL,
                },
            ),
            Action::KillGroup { life } => self.kill_group(life),
            Action::Repair { life, cause } => self.repair(life, cause),
            Action::Reap { life } => self.reap(life),
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
        worker.state = match state {
            pool::SlotState::Empty => SlotState::Empty,
            pool::SlotState::Booting => SlotState::Booting,
            pool::SlotState::Ready => SlotState::Ready,
            pool::SlotState::Cordoned | pool::SlotState::Draining => SlotState::Cordoned,
            pool::SlotState::Dying => SlotState::Dying,
        };
        self.registry.set_slot(worker.place, Some(ring_life(life)), worker.state, worker.pid.as_raw() as u32);
    }

    /// A worker said why it cannot boot; the host is told if that fails the start.
    pub(super) fn boot_failed(&mut self, text: String) {
        if let Started::Waiting { why, .. } = &mut self.started {
            why.get_or_insert(text);
        }
    }

    pub(super) fn boot_ended(&mut self, text: String) {
        if let Started::Waiting { ended, .. } = &mut self.started {
            *ended = Some(text);
        }
    }

    /// Tells the host, once, that the pool is ready or that it is not to be.
    fn tell_start(&mut self) {
        let Started::Waiting { why, ended } = &self.started else { return };
        let failed = self.policy.state() == pool::PoolState::Degraded;
        let answer = if let Some(why) = why {
            Message::refused(&Error::new(ErrorKind::Start(format!("a worker cannot boot: {why}").into())))
        } else if failed {
            let why = ended.as_deref().unwrap_or("no worker can be started").to_owned();
            Message::refused(&Error::new(ErrorKind::Start(why.into())))
        } else if self.policy.ready_workers() == self.settings.policy.workers {
            match self.own_pidfd.as_fd().try_clone_to_owned() {
                Ok(fd) => Message::new(Kind::Ready).with("pid", process::pid().as_raw() as i64).with_fd(fd),
                Err(error) => Message::refused(&error.into()),
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
            while let Some(message) = stream.next()? {
                if let Some(answer) = handle(self, message)? {
                    stream.queue(answer)?;
                }
                handled += 1;
            }
            stream.flush()?;
            if handled >= BUDGET {
                // Edge-triggered: what is left makes no further event unless it is registered anew.
                self.rewatch(stream.fd(), source)?;
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
        let interest = match source {
            Source::Control(_) | Source::Fetch(_) | Source::Client(_) | Source::Host => {
                Interest::READABLE | Interest::WRITABLE
            }
            _ => Interest::READABLE,
        };
        Ok(self.poll.registry().register(&mut SourceFd(&fd.as_raw_fd()), source.token(), interest)?)
    }

    fn rewatch(&self, fd: BorrowedFd<'_>, source: Source) -> Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        Ok(self.poll.registry().reregister(&mut SourceFd(&fd.as_raw_fd()), source.token(), interest)?)
    }

    /// Takes a descriptor out, before it is closed: a forked copy would keep its epoll entry alive.
    pub(super) fn unwatch(&self, fd: BorrowedFd<'_>) {
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd.as_raw_fd()));
    }
}
