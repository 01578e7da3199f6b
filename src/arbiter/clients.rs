//! The clients that are connected, and their lanes.

use super::core::Arbiter;
use super::tick::Seen;
use super::token::Source;
use super::totals;
use crate::conn::{Message, Received, Stream};
use crate::error::{Bound, Error, Kind as ErrorKind, Result};
use crate::limits::MAX_LANES;
use crate::pool::Life;
use crate::ring::{CallLine, Cancel, Generation, Queue, State};
use crate::shm::{Board, Control, LaneState, OwnRecord, Owner, RegionId, RegionKind, Requests, layout_hash};
use crate::sys::event::Event;
use crate::sys::futex::Kernel;
use crate::sys::{fd, pidfd};
use crate::wire::Kind;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub stream: Option<Stream>,
    /// The process at its other end; known once it said HELLO.
    pub process: Option<OwnedFd>,
    /// That process's number: as it said, or as is known if it is a worker.
    pub pid: Option<i64>,
    /// Which worker it is, if it is one. That is known without asking it, and it may lie.
    pub worker: Option<Life>,
    /// Its lanes: one, and those that were found damaged.
    pub lanes: Vec<usize>,
    /// When it must have said HELLO, monotonic nanoseconds. The host vouches for those that it brings: it may give such
    /// a socket to a process that it starts later.
    pub silent_until: Option<u64>,
    /// What its event loop watches, if it has one.
    pub event: Option<Event>,
}

impl Client {
    /// Whether it came through the door and did not say HELLO.
    pub fn is_silent(&self) -> bool {
        self.process.is_none() && self.silent_until.is_some()
    }
}

/// One lane as the arbiter keeps it.
#[derive(Debug)]
pub struct Lane {
    /// The number of its client.
    pub client: u32,
    pub index: usize,
    pub serial: u64,
    pub control: Control,
    pub requests: Option<Requests>,
    pub requests_id: Option<RegionId>,
    pub is_open: bool,
    pub seen: Seen,
}

/// Lanes of one client at a time.
const MAX_CLIENT_LANES: usize = 16;

impl Lane {
    /// Whether its client says that it is through with a call, whatever the word says.
    pub fn is_over(&self, call: usize, generation: Generation) -> bool {
        let own = self.requests.as_ref().map(|requests| requests.own(call).0);
        own == Some(OwnRecord::Cancelled(generation))
    }

    /// Its calls as a queue.
    pub fn queue<'a>(&'a self, board: &'a Board) -> Queue<'a> {
        Queue {
            lines: self.control.lines(),
            ring: self.control.ring(),
            pending: board.pending(),
            index: self.index,
        }
    }
}

impl Arbiter<'_> {
    /// A new client's socket, which is wary, of this worker's or of somebody else's; it must say HELLO by then. Its number.
    pub(super) fn accept(
        &mut self,
        socket: Stream,
        worker: Option<Life>,
        silent_until: Option<u64>,
    ) -> Result<u32> {
        let number = self.next_client;
        self.next_client = self.next_client.wrapping_add(1);
        self.watch(socket.fd(), Source::Client(number))?;
        let client = Client {
            stream: Some(socket.leaving(self.below())),
            process: None,
            pid: None,
            worker,
            lanes: Vec::new(),
            silent_until,
            event: None,
        };
        self.clients.insert(number, client);
        // What it wrote before we watched makes no edge.
        self.client_said(number);
        Ok(number)
    }

    /// Something came on a client's socket.
    pub(super) fn client_said(&mut self, number: u32) {
        let Some(mut stream) = self.clients.get_mut(&number).and_then(|c| c.stream.take()) else { return };
        match self.converse(Source::Client(number), &mut stream, |arbiter, message| {
            arbiter.client_asks(number, message)
        }) {
            Ok(Received::End) => {
                self.unwatch(stream.fd());
                self.connection_ended(number);
            }
            Ok(_) => {
                if let Some(client) = self.clients.get_mut(&number) {
                    client.stream = Some(stream);
                } else {
                    self.unwatch(stream.fd());
                }
            }
            Err(error) => {
                self.trouble(format!("client {number}: {error}; its connection is closed"));
                self.unwatch(stream.fd());
                self.connection_ended(number);
            }
        }
    }

    /// A connection ended without a BYE. While the process lives it may still read results: then its lanes are of no
    /// more use, but nothing of them is given to others while there is a call on them, which the tick looks at. Those that
    /// run are given up, so that their apps are told.
    fn connection_ended(&mut self, number: u32) {
        let Some(client) = self.clients.get(&number) else { return };
        let gone = client.process.as_ref().is_none_or(|p| pidfd::has_exited(p.as_fd()).unwrap_or(false));
        let is_on = |index: &usize| self.lanes[*index].as_ref().is_some_and(|lane| lane.is_open);
        if gone || !client.lanes.iter().any(is_on) {
            return self.client_gone(number);
        }
        for index in client.lanes.clone() {
            if let Some(serial) = self.lanes[index].as_ref().map(|lane| lane.serial) {
                log::debug!("lane {index} of client {serial}: its client's connection ended");
                self.retire(index, serial);
                self.give_up(index);
            }
        }
    }

    /// Gives up what runs on a lane, in the name of its client.
    fn give_up(&self, index: usize) {
        for line in self.lanes[index].iter().flat_map(|lane| lane.control.lines()) {
            if let Ok(word) = line.look()
                && word.state() == State::Running
                && let Ok(Cancel::Abandoned(_)) = line.cancel(word.generation())
            {
                line.bell.ring_always(&Kernel);
            }
        }
    }

    /// Forgets the clients that live, but without a connection, once no call of theirs is left.
    pub(super) fn forget_silent_clients(&mut self) {
        let silent = self.clients.iter().filter(|(_, client)| client.stream.is_none());
        let done: Vec<u32> =
            silent.filter(|(_, c)| self.is_unused(&c.lanes)).map(|(number, _)| *number).collect();
        for number in done {
            self.client_gone(number);
        }
    }

    fn is_unused(&self, lanes: &[usize]) -> bool {
        let mut lanes = lanes.iter().filter_map(|i| self.lanes[*i].as_ref());
        lanes.all(|lane| {
            let mut lines = lane.control.lines().iter().enumerate();
            lines.all(|(call, line)| {
                let Ok(word) = line.look() else { return false };
                match word.state() {
                    State::Idle => true,
                    // A client leaves the words of a damaged lane as they are, and says so in its record.
                    // Acknowledged, items of its stream may still be read: also where it was we who gave the call up, and its
                    // client has not noticed yet.
                    State::Queued | State::Done | State::Lost | State::Acked => {
                        lane.is_over(call, word.generation())
                    }
                    State::Running | State::Abandoned => false,
                }
            })
        })
    }

    /// Forgets the lanes that a client was given and never registered a requests region for: nobody knows of them.
    fn drop_unopened(&mut self, number: u32) {
        let Some(client) = self.clients.get_mut(&number) else { return };
        let lanes = &self.lanes;
        client.lanes.retain(|index| lanes[*index].as_ref().is_some_and(|lane| lane.is_open));
    }

    fn client_asks(&mut self, number: u32, mut message: Message) -> Result<Option<Message>> {
        let id = message.id;
        if !self.clients.contains_key(&number) {
            return Err(Error::new(ErrorKind::Frame("a message after BYE".into())));
        }
        match message.kind {
            Kind::Hello | Kind::Register if message.fds_lost => {
                let error =
                    Error::os("recvmsg", libc::EMFILE).context("the arbiter may not open more descriptors");
                Ok(Some(Message::refused(&error).answering(id)))
            }
            Kind::Hello => {
                let layout = message.bits("layout")?;
                if layout != layout_hash() {
                    let why = format!("layout {layout:#x} where the pool has {:#x}", layout_hash());
                    return Ok(Some(refuse(id, ErrorKind::Incompatible(why.into()))));
                }
                if self.clients.get(&number).is_some_and(|c| c.process.is_some()) {
                    return Err(Error::new(ErrorKind::Frame("a client said HELLO twice".into())));
                }
                let [sent] = message.take_fds()?;
                let said = message.int("pid").ok();
                let (process, pid) = match self.process_of(number, sent, said) {
                    Ok(known) => known,
                    Err(error) => return Ok(Some(Message::refused(&error).answering(id))),
                };
                if pidfd::wait_exited(process.as_fd(), Some(Duration::ZERO))? {
                    return Err(Error::new(ErrorKind::Frame("a client that is dead already".into())));
                }
                self.watch(process.as_fd(), Source::ClientGone(number))?;
                self.history.totals.clients += 1;
                if let Some(client) = self.clients.get_mut(&number) {
                    client.process = Some(process);
                    client.pid = pid;
                }
                crash_point!("arbiter.welcome");
                Ok(Some(self.welcome(number, id, true)))
            }
            Kind::Renew => {
                let (index, serial) = (message.int("lane")?, message.int::<i64>("serial")? as u64);
                self.check_owner(number, serial)?;
                let released = message.field("released").and_then(|v| v.as_list()).unwrap_or_default();
                let released: Vec<u64> =
                    released.iter().filter_map(|v| v.as_int()).map(|old| old as u64).collect();
                for old in &released {
                    self.check_owner(number, *old)?;
                }
                if self.owns(number, index) {
                    self.suspect(index, serial, "its client found it damaged");
                }
                self.drop_unopened(number);
                for old in released.into_iter().filter(|old| *old != serial) {
                    self.release_lane(number, old);
                }
                self.reclaim_closing();
                Ok(Some(self.welcome(number, id, false)))
            }
            Kind::Register => {
                let kind = RegionKind::from_number(message.int("kind")?);
                let len = message.int("len")?;
                let [fd] = message.take_fds()?;
                let serial = message.bits("serial")?;
                self.check_owner(number, serial)?;
                match kind {
                    Some(RegionKind::Requests) => Ok(Some(self.open_lane(number, id, serial, fd, len))),
                    Some(RegionKind::Growth) => {
                        if self.lane_of(number, serial).is_none() {
                            return Ok(Some(refuse(
                                id,
                                ErrorKind::BadRequest("a region without a lane".into()),
                            )));
                        }
                        self.answer_register(id, RegionKind::Growth, fd, len, Owner::of_lane(serial))
                            .map(Some)
                    }
                    _ => Ok(Some(refuse(id, ErrorKind::BadRequest("a client has no such region".into())))),
                }
            }
            Kind::Fetch if message.field("event").is_some() => Ok(Some(self.answer_event(number, id))),
            // Results, which are a worker's. Lanes are for workers, and no client has a use for another's memory.
            Kind::Fetch if message.field("lane").is_some() => Err(stranger("asked for a lane")),
            Kind::Fetch => match self.regions.owner_of(fetched_region(&message)?) {
                Some(Owner::Lane(_)) => Err(stranger("asked for a client's memory")),
                _ => Ok(Some(self.answer_fetch(&message))),
            },
            Kind::Suspect => {
                let life = message.int("life")?;
                let why = message.str("why").unwrap_or("");
                match self.clients.get(&number).and_then(|client| client.worker) {
                    // It may be the one that is damaged, and could have all the others killed. It has a fresh lane.
                    Some(_) => self.suspect_lanes_of(number, why),
                    None => self.accused(number, life, why),
                }
                Ok(None)
            }
            Kind::Status => Ok(Some(self.answer_status(id))),
            Kind::Retire => self.retire_region(&message, |arbiter, owner| arbiter.has_lane_of(number, owner)),
            // Not at the end of the connection: a copy of the process may keep that open.
            Kind::Bye => {
                self.client_gone(number);
                Ok(None)
            }
            other => Err(Error::new(ErrorKind::Frame(format!("a client sent a message {other:?}").into()))),
        }
    }

    /// The process at the other end of a client's connection, and its number: what it says they are. Of a worker's they are
    /// known: by another's, its lanes would outlive it.
    fn process_of(&self, number: u32, sent: OwnedFd, pid: Option<i64>) -> Result<(OwnedFd, Option<i64>)> {
        let Some(life) = self.clients.get(&number).and_then(|client| client.worker) else {
            // Before anything else is asked of it: what else it may be could lie, or take its time.
            return match pidfd::is_one(sent.as_fd()) {
                true => Ok((sent, pid)),
                false => Err(Error::bad_request("HELLO brought no handle to a process")),
            };
        };
        let worker = self.workers.get(&life);
        let worker = worker.ok_or_else(|| Error::bad_request("a client of a worker that is gone"))?;
        let process = pidfd::open(worker.pid)?;
        self.check_spare(process.as_fd())?;
        Ok((process, Some(worker.pid.as_raw().into())))
    }

    /// Has all lanes of a client retired, so that it takes a fresh one.
    fn suspect_lanes_of(&mut self, number: u32, why: &str) {
        let lanes = self.clients.get(&number).map_or_else(Vec::new, |client| client.lanes.clone());
        for index in lanes {
            if let Some(serial) = self.lanes[index].as_ref().map(|lane| lane.serial) {
                self.suspect(index, serial, why);
            }
        }
    }

    /// Gives a client a lane. It is opened when the client has registered its requests region.
    fn welcome(&mut self, number: u32, id: u64, first: bool) -> Message {
        // One, and those that were found damaged and that it has not let go of.
        if self.clients.get(&number).is_some_and(|c| c.lanes.len() >= MAX_CLIENT_LANES) {
            let why = "too much of this client's memory was found damaged, and is still in use";
            let kind = ErrorKind::BadRequest(why.into());
            return refuse(id, kind);
        }
        let made = self.make_lane(number).and_then(|(lane, control)| {
            let welcome = Message::new(Kind::Welcome)
                .with("lane", lane.index as i64)
                .with("serial", lane.serial as i64)
                .with("generation", self.settings.counters.generation.0)
                .with_fd(control);
            let welcome = if first {
                welcome
                    .with("apps", self.settings.apps.clone())
                    .with("timeout_ns", self.settings.timeout_ns as i64)
                    .with("app_threads", (self.settings.policy.workers * self.settings.threads) as i64)
                    .with_fd(fd::duplicate(self.registry.fd())?)
                    .with_fd(fd::duplicate(self.board.fd())?)
                    // One of its own: a copy would be the same file to the kernel, which lets 500 nested epoll sets watch one.
                    .with_fd(pidfd::of_self()?)
            } else {
                welcome
            };
            Ok((lane, welcome))
        });
        match made {
            Ok((lane, welcome)) => {
                let index = lane.index;
                self.lanes[index] = Some(lane);
                if let Some(client) = self.clients.get_mut(&number) {
                    client.lanes.push(index);
                }
                welcome.answering(id)
            }
            Err(error) => Message::refused(&error.context("no lane for one more client")).answering(id),
        }
    }

    fn make_lane(&mut self, client: u32) -> Result<(Lane, OwnedFd)> {
        let index = self.lanes.iter().position(Option::is_none).unwrap_or(self.lanes.len());
        if index == MAX_LANES {
            return Err(Error::new(ErrorKind::Overloaded { bound: Bound::Clients, limit: MAX_LANES as u64 }));
        }
        if index == self.lanes.len() {
            self.lanes.push(None);
        }
        let control = Control::create(self.settings.counters.generation)?;
        self.check_spare(control.fd().as_fd())?;
        let fd = fd::duplicate(control.fd())?;
        self.next_serial += 1;
        let serial = self.next_serial;
        self.board.pending().clear(index);
        let lane = Lane {
            client,
            index,
            serial,
            control,
            requests: None,
            requests_id: None,
            is_open: false,
            seen: Seen::new(),
        };
        Ok((lane, fd))
    }

    fn open_lane(&mut self, number: u32, id: u64, serial: u64, fd: OwnedFd, len: usize) -> Message {
        let Some(index) = self.lane_of(number, serial) else {
            return refuse(id, ErrorKind::BadRequest(format!("no lane {serial} of this client").into()));
        };
        // Each would have a place in the table of regions, and a descriptor, that others need.
        if self.lanes[index].as_ref().is_some_and(|lane| lane.requests.is_some()) {
            return refuse(id, ErrorKind::BadRequest(format!("lane {serial} is open already").into()));
        }
        let registered =
            self.regions.register(&self.registry, RegionKind::Requests, fd, len, Owner::of_lane(serial), &[]);
        let requests = registered.and_then(|(region_id, region)| {
            let requests = Requests::of(&region);
            Ok((region_id, requests.inspect_err(|_| self.regions.retire(&self.registry, region_id))?))
        });
        match requests {
            Ok((region_id, requests)) => {
                crash_point!("arbiter.open");
                if let Some(lane) = &mut self.lanes[index] {
                    lane.requests = Some(requests);
                    lane.requests_id = Some(region_id);
                    lane.is_open = true;
                    self.registry.set_lane(index, LaneState::Open(serial));
                }
                registered_message(region_id).answering(id)
            }
            Err(error) => Message::refused(&error).answering(id),
        }
    }

    /// Registers a growth region; what is wrong with it is told to its owner.
    pub(super) fn answer_register(
        &mut self,
        id: u64,
        kind: RegionKind,
        fd: OwnedFd,
        len: usize,
        owner: Owner,
    ) -> Result<Message> {
        let kin = self.kin_of(owner);
        Ok(match self.regions.register(&self.registry, kind, fd, len, owner, &kin) {
            Ok((region_id, _)) => registered_message(region_id).answering(id),
            Err(error) => Message::refused(&error).answering(id),
        })
    }

    /// All lanes of the client whose lane this is, those among them that it has let go of and that are not free yet; none for
    /// a worker.
    fn kin_of(&self, owner: Owner) -> Vec<Owner> {
        let lanes = || self.lanes.iter().flatten();
        let client = lanes().find(|lane| Owner::of_lane(lane.serial) == owner).map(|lane| lane.client);
        let kin = lanes().filter(|lane| Some(lane.client) == client);
        kin.map(|lane| Owner::of_lane(lane.serial)).collect()
    }

    /// A region, or the regions of a lane, to whoever met a reference into it.
    pub(super) fn answer_fetch(&mut self, question: &Message) -> Message {
        let answer = if question.field("event").is_some() {
            self.fetch_event(question)
        } else if question.field("lane").is_some() {
            self.fetch_lane(question)
        } else {
            self.fetch_region(question)
        };
        answer.unwrap_or_else(|error| Message::refused(&error)).answering(question.id)
    }

    /// Its own event descriptor for a client, made when it first asks.
    fn answer_event(&mut self, number: u32, id: u64) -> Message {
        let had = self.clients.get_mut(&number).and_then(|client| client.event.take());
        let event = match had {
            Some(event) => Ok(event),
            None => Event::new().and_then(|event| self.check_spare(event.as_fd()).map(|()| event)),
        };
        let Some(client) = self.clients.get_mut(&number) else {
            return refuse(id, ErrorKind::BadRequest("no such client".into()));
        };
        let answer = event
            .map(|event| client.event.insert(event))
            .and_then(|event| Ok(Message::new(Kind::Fetched).with_fd(fd::duplicate(event.as_fd())?)));
        answer.unwrap_or_else(|error| Message::refused(&error)).answering(id)
    }

    /// The event descriptor of a lane's client for a worker.
    fn fetch_event(&self, question: &Message) -> Result<Message> {
        let (index, serial) = (question.int::<usize>("lane")?, question.bits("serial")?);
        let event = self.event_of(index, serial).ok_or_else(|| Error::bad_request("its client has none"))?;
        Ok(Message::new(Kind::Fetched).with_fd(fd::duplicate(event.as_fd())?))
    }

    fn event_of(&self, index: usize, serial: u64) -> Option<&Event> {
        let lane = self.lanes.get(index)?.as_ref().filter(|lane| lane.serial == serial)?;
        self.clients.get(&lane.client)?.event.as_ref()
    }

    /// Has the client of a lane look at its calls, if it waits at its descriptor.
    pub(super) fn alert(&self, index: usize, serial: u64) {
        if let Some(event) = self.event_of(index, serial) {
            event.signal();
        }
    }

    fn fetch_region(&self, question: &Message) -> Result<Message> {
        crash_point!("arbiter.fetch", "fcntl");
        let (entry, fd) = self.regions.descriptor(fetched_region(question)?)?;
        Ok(Message::new(Kind::Fetched).with("len", entry.len as i64).with_fd(fd))
    }

    fn fetch_lane(&self, question: &Message) -> Result<Message> {
        let (index, serial) = (question.int::<usize>("lane")?, question.int::<i64>("serial")? as u64);
        let lane = self.lanes.get(index).and_then(Option::as_ref).filter(|l| l.serial == serial && l.is_open);
        let (Some(lane), Some(id)) = (lane, lane.and_then(|l| l.requests_id)) else {
            return Err(Error::bad_request(format!("lane {index} of client {serial} is gone")));
        };
        let control = fd::duplicate(lane.control.fd())?;
        let (_, requests) = self.regions.descriptor(id)?;
        Ok(registered_message(id).of_kind(Kind::Fetched).with_fd(control).with_fd(requests))
    }

    /// That a lane which this client names is not another's. One that is forgotten may have been its own.
    fn check_owner(&self, number: u32, serial: u64) -> Result<()> {
        let is_others = |lane: &Lane| lane.serial == serial && lane.client != number;
        match self.lanes.iter().flatten().any(is_others) {
            true => Err(stranger("named another client's lane")),
            false => Ok(()),
        }
    }

    /// Where this client's lane of this serial number is.
    fn lane_of(&self, number: u32, serial: u64) -> Option<usize> {
        let mut lanes = self.clients.get(&number)?.lanes.iter().copied();
        lanes.find(|i| self.lanes[*i].as_ref().is_some_and(|lane| lane.serial == serial))
    }

    /// Whether this is the owner of what one of this client's lanes has.
    fn has_lane_of(&self, number: u32, owner: Owner) -> bool {
        let lanes = self.clients.get(&number).map_or(&[][..], |client| &client.lanes);
        lanes.iter().filter_map(|i| self.lanes[*i].as_ref()).any(|lane| Owner::of_lane(lane.serial) == owner)
    }

    /// A client is through with a lane that was found damaged: nothing of its own is on it any more.
    fn release_lane(&mut self, number: u32, serial: u64) {
        let Some(index) = self.lane_of(number, serial) else { return };
        if self.registry.lane(index) != LaneState::Suspect(serial) {
            return;
        }
        if let Some(lane) = &mut self.lanes[index] {
            lane.is_open = false;
        }
        self.registry.set_lane(index, LaneState::Closing(serial));
        if let Some(client) = self.clients.get_mut(&number) {
            client.lanes.retain(|lane| *lane != index);
        }
    }

    fn owns(&self, number: u32, index: usize) -> bool {
        self.clients.get(&number).is_some_and(|c| c.lanes.contains(&index))
    }

    /// A client closed or died: its calls end, and its lanes are freed once every worker let go of them.
    pub(super) fn client_gone(&mut self, number: u32) {
        let Some(client) = self.clients.remove(&number) else { return };
        crash_point!("arbiter.client.gone");
        if let Some(stream) = &client.stream {
            self.unwatch(stream.fd());
        }
        if let Some(process) = &client.process {
            self.unwatch(process.as_fd());
        }
        for index in client.lanes {
            if let Some(lane) = &mut self.lanes[index] {
                lane.is_open = false;
                self.registry.set_lane(index, LaneState::Closing(lane.serial));
                self.board.pending().clear(index);
            }
        }
        self.reclaim_closing();
        self.ring_everybody();
    }

    /// Takes a word from a life that does not exist. Every word of a dead life was repaired before it was reaped, so this
    /// one was damaged; nobody else would ever move it.
    fn disown(&self, line: &CallLine) {
        let Ok(word) = line.look() else { return };
        let (State::Running | State::Abandoned, Some(life)) = (word.state(), word.life()) else { return };
        if Life::new(life.get()).is_none_or(|life| !self.workers.contains_key(&life)) {
            let _ = line.repair(life, |_| true);
        }
    }

    /// Takes the steps of dead clients, and frees the lanes in which nothing is left.
    pub(super) fn reclaim_closing(&mut self) {
        for index in 0..self.lanes.len() {
            let Some(lane) = &self.lanes[index] else { continue };
            if self.registry.lane(index) != LaneState::Closing(lane.serial) {
                // One that was never opened has no state to close.
                let orphan = !lane.is_open && self.registry.lane(index) == LaneState::Free;
                if !orphan || self.clients.values().any(|c| c.lanes.contains(&index)) {
                    continue;
                }
            }
            let mut idle = true;
            for line in lane.control.lines() {
                self.disown(line);
                // A damaged word waits for nobody: its memory is dropped with the lane, never reused.
                idle &= line.reclaim_and_ring(&Kernel).unwrap_or(true);
            }
            if !idle {
                continue;
            }
            let serial = lane.serial;
            self.history.totals.past +=
                totals::calls_of(lane.control.lines(), self.settings.counters.generation);
            self.board.pending().clear(index);
            self.registry.set_lane(index, LaneState::Free);
            crash_point!("arbiter.lane.free");
            self.regions.drop_owner(&self.registry, Owner::of_lane(serial));
            self.lanes[index] = None;
        }
    }
}

fn fetched_region(question: &Message) -> Result<RegionId> {
    Ok(RegionId { index: question.int("index")?, serial: question.int("region_serial")? })
}

/// What ends a connection: its peer meddles with what is not its own.
fn stranger(what: &str) -> Error {
    Error::new(ErrorKind::Frame(format!("a client {what}").into()))
}

fn registered_message(id: RegionId) -> Message {
    Message::new(Kind::Registered).with("index", id.index as i64).with("region_serial", id.serial as i64)
}

fn refuse(id: u64, kind: ErrorKind) -> Message {
    Message::refused(&Error::new(kind)).answering(id)
}
