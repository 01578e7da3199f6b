//! The incarnations that exist: their processes, sockets and results regions; how one is forked.

use super::core::Arbiter;
use super::token::Source;
use crate::conn::{Message, Received, Stream};
use crate::error::{Cause, Error, Kind as ErrorKind, Result};
use crate::limits::MAX_REASON;
use crate::pool::{CallId, Ended, Event, Life, SlotIndex, Why};
use crate::shm::{Death, Owner, RegionKind, Results, SlotState, layout_hash};
#[cfg(not(stokehold_fuzzing))]
use crate::sys::process::Fork;
use crate::sys::process::{self, ExitStatus, Pid};
use crate::sys::{clock, fd, is_hang_up, pidfd, socket};
use crate::wire::Kind;
use crate::worker::Boot;
#[cfg(not(stokehold_fuzzing))]
use crate::worker::{run, run_library};
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, OwnedFd};
#[cfg(not(stokehold_fuzzing))]
use std::path::Path;

/// One life, from its fork to its reap.
#[derive(Debug)]
pub struct Incarnation {
    pub slot: SlotIndex,
    pub pid: Pid,
    pub pidfd: OwnedFd,
    /// Its place in the registry and, times the threads, its first parker.
    pub place: usize,
    pub control: Option<Stream>,
    pub fetch: Option<Stream>,
    pub threads: Vec<OwnedFd>,
    pub results: Option<Results>,
    pub state: SlotState,
    /// When that began, monotonic.
    pub since_ns: u64,
    /// Told to leave in an orderly way: the end of its threads is no death mark.
    pub drained: bool,
    /// As which client it makes calls of its own, once it does.
    pub client: Option<u32>,
}

impl Arbiter<'_> {
    /// Forks the worker of a life. The child never returns from here.
    pub(super) fn spawn(&mut self, slot: SlotIndex, life: Life) -> Result<()> {
        let place = (0..self.settings.places())
            .find(|p| !self.workers.values().any(|w| w.place == *p))
            .ok_or_else(|| Error::os("fork", libc::EAGAIN))?;
        let (control, control_child) = socket::pair()?;
        let (fetch, fetch_child) = socket::pair()?;
        let boot = Boot {
            life: ring_life(life),
            threads: self.settings.threads,
            first_parker: place * self.settings.threads,
            control: control_child,
            fetch: fetch_child,
            registry: fd::duplicate(self.registry.fd())?,
            board: fd::duplicate(self.board.fd())?,
            apps: self.settings.apps.clone(),
            mode: self.settings.mode,
            bounds: self.settings.bounds(),
        };
        self.registry.forget_death(ring_life(life));
        crash_point!("arbiter.spawn", "fork");
        let pid = self.birth(boot)?;
        crash_point!("arbiter.spawn.forked");
        // The child does the same; whoever comes first.
        let _ = process::new_group(pid);
        let (control, fetch) = (Stream::new(control).wary(), Stream::new(fetch).wary());
        let watched = pidfd::open(pid).and_then(|handle| {
            self.watch(control.fd(), Source::Control(life))?;
            self.watch(fetch.fd(), Source::Fetch(life))?;
            self.watch(handle.as_fd(), Source::Gone(life))?;
            Ok(handle)
        });
        // One that cannot be watched is nobody's: it would run, and stay a zombie, without being noticed.
        let handle = watched.inspect_err(|_| process::kill_and_reap(pid))?;
        crash_point!("arbiter.spawn.watched");
        self.registry.set_slot(place, Some(ring_life(life)), SlotState::Booting, pid.as_raw() as u32);
        let incarnation = Incarnation {
            slot,
            pid,
            pidfd: handle,
            place,
            control: Some(control),
            fetch: Some(fetch),
            threads: Vec::new(),
            results: None,
            state: SlotState::Booting,
            since_ns: clock::monotonic_ns(),
            drained: false,
            client: None,
        };
        self.workers.insert(life, incarnation);
        log::debug!("worker {pid} is life {life}");
        Ok(())
    }

    /// The process of a worker. The child never returns from here.
    #[cfg(not(stokehold_fuzzing))]
    fn birth(&self, boot: Boot) -> Result<Pid> {
        match process::fork()? {
            Fork::Child => match &self.settings.library {
                Some(path) => run_library(&self.surroundings, boot, Path::new(path)),
                None => run(&self.surroundings, boot, self.apps),
            },
            Fork::Parent(pid) => Ok(pid),
        }
    }

    /// A fuzz target plays the worker.
    #[cfg(stokehold_fuzzing)]
    fn birth(&self, boot: Boot) -> Result<Pid> {
        let _forks = (self.apps, &self.surroundings);
        super::rig::birth(boot)
    }

    /// Something came on one of a worker's sockets.
    pub(super) fn worker_said(&mut self, life: Life, on_control: bool) {
        let source = if on_control { Source::Control(life) } else { Source::Fetch(life) };
        let Some(worker) = self.workers.get_mut(&life) else { return };
        let place = if on_control { &mut worker.control } else { &mut worker.fetch };
        let Some(mut stream) = place.take() else { return };
        let outcome =
            self.converse(source, &mut stream, |arbiter, message| arbiter.worker_asks(life, message));
        match outcome {
            Ok(Received::End) => self.unwatch(stream.fd()), // its pidfd tells of its death, not this
            // Neither does this: it died before it had read what it was told.
            Err(error) if is_hang_up(&error) => self.unwatch(stream.fd()),
            Ok(_) => {
                if let Some(worker) = self.workers.get_mut(&life) {
                    let place = if on_control { &mut worker.control } else { &mut worker.fetch };
                    *place = Some(stream);
                } else {
                    self.unwatch(stream.fd());
                }
            }
            Err(error) => {
                self.trouble(format!("worker of life {life}: {error}"));
                self.unwatch(stream.fd());
                self.decide(Event::Cordon { life, why: Why::Corrupt });
            }
        }
    }

    /// A client has read what only this life can have written, and no correct worker writes. Clients are believed in that:
    /// which lives had calls of theirs nobody keeps, and a call that ended for this reason is no longer in its word.
    pub(super) fn accused(&mut self, client: u32, life: u16, why: &str) {
        let lives =
            |life: &Life| self.workers.get(life).is_some_and(|worker| worker.state != SlotState::Dying);
        if let Some(life) = Life::new(life).filter(lives) {
            self.trouble(format!("worker of life {life}: client {client} has read nonsense of its: {why}"));
            self.decide(Event::Cordon { life, why: Why::Corrupt });
        }
    }

    fn worker_asks(&mut self, life: Life, mut message: Message) -> Result<Option<Message>> {
        let id = message.id;
        match message.kind {
            // The want is ours: it is no sign that the worker is broken.
            Kind::Hello | Kind::Register | Kind::Connect if message.fds_lost => {
                let error =
                    Error::os("recvmsg", libc::EMFILE).context("the arbiter may not open more descriptors");
                Ok(Some(Message::refused(&error).answering(id)))
            }
            Kind::Hello => {
                if message.bits("layout")? != layout_hash() || message.int::<u16>("life")? != life.get() {
                    return Err(Error::new(ErrorKind::Incompatible("a worker of another build".into())));
                }
                if self.workers.get(&life).is_some_and(|worker| worker.results.is_some()) {
                    return Err(Error::new(ErrorKind::Frame("a worker said HELLO twice".into())));
                }
                let [fd] = message.take_fds()?;
                let owner = Owner::Life(life.get());
                let registered = self.regions.register(
                    &self.registry,
                    RegionKind::Results,
                    fd,
                    crate::shm::RESULTS_LEN,
                    owner,
                    &[],
                );
                let (region_id, region) = match registered {
                    Ok(registered) => registered,
                    Err(error) => return Ok(Some(Message::refused(&error).answering(id))),
                };
                if let Some(worker) = self.workers.get_mut(&life) {
                    worker.results = Results::of(region);
                }
                let welcome = Message::new(Kind::Welcome)
                    .with("index", region_id.index as i64)
                    .with("region_serial", region_id.serial as i64);
                Ok(Some(welcome.answering(id)))
            }
            Kind::Ready => {
                // Once: each thread that is watched costs a descriptor, which others need.
                if self.workers.get(&life).is_none_or(|worker| worker.state != SlotState::Booting) {
                    return Ok(None);
                }
                if let Some(wire_tids) = message.field("tids").and_then(|v| v.as_list()) {
                    if wire_tids.len() > self.settings.threads + 1 {
                        let why = format!("a worker with {} threads", wire_tids.len());
                        return Err(Error::new(ErrorKind::Frame(why.into())));
                    }
                    let tids: Vec<i32> = wire_tids
                        .iter()
                        .filter_map(|v| v.as_int())
                        .filter_map(|n| n.try_into().ok())
                        .collect();
                    self.watch_threads(life, &tids);
                }
                if let Some(worker) = self.workers.get(&life) {
                    log::info!("worker {} is ready (life {life})", worker.pid);
                }
                crash_point!("arbiter.ready");
                self.decide(Event::Ready { life });
                Ok(None)
            }
            Kind::Refused => {
                let text = message.str("why").unwrap_or("no reason given");
                let text: String = text.chars().take(MAX_REASON).collect();
                // Of an older build, or nonsense: as one that says nothing of it.
                match message.int::<u8>("passing") {
                    Ok(1) => self.boot_ended(format!("a worker cannot boot: {text}")),
                    _ => self.boot_failed(text.clone()),
                }
                self.decide(Event::BootError { life, text });
                Ok(None)
            }
            Kind::Notice => {
                let late = message.str("late")?;
                let pid = self.workers.get(&life).map_or(0, |worker| worker.pid.as_raw());
                self.trouble(format!("worker {pid} (life {life}) is replaced: {late}"));
                self.decide(Event::Cordon { life, why: Why::Deadline });
                Ok(None)
            }
            Kind::Interrupt => {
                let call = call_in(&message)?;
                self.decide(Event::Interrupted { life, call });
                Ok(None)
            }
            Kind::Suspect => {
                let (index, serial) = (message.int("lane")?, message.int::<i64>("serial")? as u64);
                self.suspect(index, serial, message.str("why").unwrap_or(""));
                Ok(None)
            }
            // From one that does not have the client's descriptor.
            Kind::Alert => {
                self.alert(message.int("lane")?, message.bits("serial")?);
                Ok(None)
            }
            Kind::Register => {
                let len = message.int("len")?;
                let [fd] = message.take_fds()?;
                let owner = Owner::Life(life.get());
                self.answer_register(id, RegionKind::Growth, fd, len, owner).map(Some)
            }
            Kind::Connect => {
                let socket = message.take_socket()?;
                Ok(Some(match self.connect_worker(life, socket) {
                    Ok(()) => Message::new(Kind::Connect).answering(id),
                    Err(error) => Message::refused(&error).answering(id),
                }))
            }
            Kind::Fetch => Ok(Some(self.answer_fetch(&message))),
            Kind::Retire => self.retire_region(&message, |_, owner| owner == Owner::Life(life.get())),
            other => Err(Error::new(ErrorKind::Frame(format!("a worker sent a message {other:?}").into()))),
        }
    }

    /// A worker becomes a client of the pool, for the calls that its apps make: one of each life, as it needs no more, and
    /// none of one that does not run calls.
    fn connect_worker(&mut self, life: Life, socket: Stream) -> Result<()> {
        let wrong = |why: &'static str| Err(Error::bad_request(why));
        let Some(worker) = self.workers.get(&life) else { return wrong("a client of a worker that is gone") };
        if matches!(worker.state, SlotState::Booting | SlotState::Dying) {
            return wrong("a client of a worker that runs no calls");
        }
        // The one before it may have been refused, and it may have let that go.
        if worker.client.is_some_and(|number| self.clients.contains_key(&number)) {
            return wrong("a second client of one worker");
        }
        self.check_spare(socket.fd())?;
        let number = self.accept(socket, Some(life), None)?;
        if let Some(worker) = self.workers.get_mut(&life) {
            worker.client = Some(number);
        }
        Ok(())
    }

    /// Watches the threads of a worker, so that its death is known before its memory is torn down.
    fn watch_threads(&mut self, life: Life, tids: &[i32]) {
        for tid in tids {
            match pidfd::open_thread(*tid) {
                Ok(fd) => {
                    if self.watch(fd.as_fd(), Source::ThreadGone(life)).is_ok()
                        && let Some(worker) = self.workers.get_mut(&life)
                    {
                        worker.threads.push(fd);
                    }
                }
                // Before Linux 6.9: the mark is seen on ticks, or the process's own pidfd comes first.
                Err(error) => return log::debug!("threads cannot be watched: {error}"),
            }
        }
    }

    /// A thread of a worker is gone: the process is dying, or must.
    pub(super) fn worker_marked(&mut self, life: Life) {
        // What it said before comes first: that it takes no more calls, say, whereupon its free threads end.
        self.worker_said(life, true);
        let Some(worker) = self.workers.get_mut(&life) else { return };
        if worker.drained || worker.state == SlotState::Dying {
            return;
        }
        let hint = process::exit_hint(worker.pid);
        let was_booting = worker.state == SlotState::Booting;
        if let Some(status) = hint {
            let cause = match status {
                ExitStatus::Exited(n) => Cause::Exit(n),
                ExitStatus::Signaled(n) if self.policy.is_own_signal(life, Ended::Signaled(n)) => {
                    Why::Deadline.cause()
                }
                ExitStatus::Signaled(n) => Cause::Signal(n),
            };
            let pid = worker.pid.as_raw() as u32;
            self.registry.record_death(Death { life: ring_life(life), pid, cause });
        }
        if was_booting {
            self.boot_ended(unready(hint));
        }
        crash_point!("arbiter.marked");
        self.decide(Event::Marked { life });
        self.ring_callers_of(life);
    }

    /// A worker's pidfd fired: it is dead, and nothing of it runs any more.
    pub(super) fn worker_gone(&mut self, life: Life) {
        // What it said before it died comes first: that it was ready, most of all.
        self.worker_said(life, true);
        let Some(worker) = self.workers.get(&life) else { return };
        crash_point!("arbiter.gone");
        match pidfd::status(worker.pidfd.as_fd()) {
            Ok(Some(status)) => {
                if worker.state == SlotState::Booting {
                    self.boot_ended(unready(Some(status)));
                }
                let status = match status {
                    ExitStatus::Exited(n) => Ended::Exited(n),
                    ExitStatus::Signaled(n) => Ended::Signaled(n),
                };
                self.decide(Event::Exited { life, status });
            }
            Ok(None) => {}
            Err(error) => {
                log::error!("worker {} of life {life}: {error}", worker.pid);
                self.decide(Event::Exited { life, status: Ended::Signaled(libc::SIGKILL) });
            }
        }
    }

    /// Sends a signal to a worker that is not reaped.
    pub(super) fn kill(&mut self, life: Life, signal: Signal) {
        crash_point!("arbiter.kill");
        if let Some(worker) = self.workers.get(&life)
            && let Err(error) = pidfd::send_signal(worker.pidfd.as_fd(), signal)
        {
            log::debug!("worker {} of life {life}: {error}", worker.pid);
        }
    }

    /// Asks a worker to signal the thread that runs this call. If it does not answer, the policy does without.
    pub(super) fn interrupt(&mut self, life: Life, call: CallId) {
        let Some(number) = self.settings.policy.cancel_signal else { return };
        let Some(stream) = self.workers.get_mut(&life).and_then(|worker| worker.control.as_mut()) else {
            return;
        };
        let question = Message::new(Kind::Interrupt)
            .with("lane", call.lane as i64)
            .with("call", call.call as i64)
            .with("generation", i64::from(call.generation))
            .with("signal", number);
        if let Err(error) = stream.queue(question).and_then(|()| stream.flush()) {
            log::debug!("life {life} was not told of a call that was given up: {error}");
        }
    }

    /// Kills what a dead worker left in its group; the zombie still holds the number.
    pub(super) fn kill_group(&mut self, life: Life) {
        if let Some(worker) = self.workers.get(&life) {
            let _ = process::kill_group(worker.pid, Signal::SIGKILL); // ESRCH: nobody is left
        }
    }

    /// Tells a worker to finish what it runs and leave.
    pub(super) fn drain(&mut self, life: Life) {
        let Some(worker) = self.workers.get_mut(&life) else { return };
        worker.drained = true;
        crash_point!("arbiter.drain");
        let Some(stream) = &mut worker.control else { return };
        if let Err(error) = stream.queue(Message::new(Kind::Stop)).and_then(|()| stream.flush()) {
            log::debug!("worker {} of life {life} was not told to drain: {error}", worker.pid);
        }
    }

    /// The last of a life: reaped, its descriptors closed.
    pub(super) fn reap(&mut self, life: Life) {
        let Some(worker) = self.workers.remove(&life) else { return };
        crash_point!("arbiter.reap");
        if let Err(error) = pidfd::reap(worker.pidfd.as_fd()) {
            log::debug!("worker {}: {error}", worker.pid);
        }
        self.unwatch(worker.pidfd.as_fd());
        for stream in [&worker.control, &worker.fetch].into_iter().flatten() {
            self.unwatch(stream.fd());
        }
        for thread in &worker.threads {
            self.unwatch(thread.as_fd());
        }
        crash_point!("arbiter.reaped");
        self.registry.set_slot(worker.place, None, SlotState::Empty, 0);
        // What it has forked may keep the connection open, which need not have said HELLO.
        if let Some(number) = worker.client {
            self.client_gone(number);
        }
    }
}

/// The call that a message is about.
fn call_in(message: &Message) -> Result<CallId> {
    let (lane, call) = (message.bits("lane")?, message.int("call")?);
    Ok(CallId { lane, call, generation: message.int("generation")? })
}

/// The same number in the ring's type; both are never zero.
pub fn ring_life(life: Life) -> crate::ring::Life {
    crate::ring::Life::new(life.get()).unwrap_or_else(|| unreachable!("a life is never zero"))
}

/// What is said of one that came to its end before it was ready.
fn unready(status: Option<ExitStatus>) -> String {
    let how = status.map(|status| format!(": {status}")).unwrap_or_default();
    format!("a worker ended before it was ready{how}")
}
