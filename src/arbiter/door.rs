//! The door of a pool that is served under a path: who comes in, and who is sent away again.
//!
//! Whoever connects has a few seconds to say what it wants. The arbiter waits for nobody, keeps only so many that said
//! nothing yet, and has an answer when it is out of descriptors.

use super::core::Arbiter;
use super::endpoint::Endpoint;
use super::token::Source;
use crate::conn::{Message, Stream};
use crate::error::{Error, Kind, Result};
use crate::sys::{clock, errno_of, fd, process, socket};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// An [`Endpoint`], and what it takes to keep it open.
#[derive(Debug)]
pub struct Door {
    pub endpoint: Endpoint,
    /// Given up for a moment when there are no other descriptors, to tell somebody so.
    reserve: Option<OwnedFd>,
    /// When to look again: an edge-triggered listener does not tell of what it could not accept.
    pub again_at: Option<u64>,
    /// Clients get descriptors below this number; the rest is for workers, which must be replaced however many clients
    /// there are. The kernel gives out the lowest that is free.
    below: RawFd,
}

/// Connections taken before everybody else gets a turn.
const BUDGET: usize = 32;
/// How long one may be silent before it is closed.
const HELLO_TIMEOUT_NS: u64 = 5_000_000_000;
/// Connections that said nothing yet. With one more the oldest is closed: a client speaks at once.
const MAX_SILENT: usize = 256;
/// When to accept again after there were no descriptors.
const AGAIN_NS: u64 = 100_000_000;
/// Descriptors for each worker that may have to be started: sockets, pidfds, its memory, and those of its birth.
const PER_WORKER: u64 = 16;

impl Door {
    /// Opens it, in a process that may have so many descriptors, for a pool of so many workers.
    pub fn new(endpoint: Endpoint, descriptors: u64, workers: usize) -> Result<Door> {
        // Where there are few, the clients get half.
        let kept = (PER_WORKER * (workers as u64 + 1)).min(descriptors / 2);
        let below = RawFd::try_from(descriptors - kept).unwrap_or(RawFd::MAX);
        Ok(Door { endpoint, reserve: Some(fd::dev_null()?), again_at: None, below })
    }

    /// The next one outside.
    fn next(&mut self) -> Result<Option<OwnedFd>> {
        if self.reserve.is_none() {
            self.reserve = fd::dev_null().ok();
        }
        crash_point!("arbiter.accept", "accept4");
        socket::accept(self.endpoint.listener())
    }

    /// Takes the next one in only to send it away. `false` if there is not even a descriptor for that.
    fn turn_away(&mut self, why: &Error) -> bool {
        self.reserve = None;
        let accepted = socket::accept(self.endpoint.listener());
        if let Ok(Some(fd)) = accepted {
            refuse(Stream::new(fd).wary(), why);
            self.reserve = fd::dev_null().ok();
            return true;
        }
        self.reserve = fd::dev_null().ok();
        false
    }
}

impl Arbiter<'_> {
    /// Somebody is at the door, or may be.
    pub(super) fn knocked(&mut self) {
        for _ in 0..BUDGET {
            let Some(door) = &mut self.door else { return };
            door.again_at = None;
            match door.next() {
                Ok(Some(fd)) => self.admit(Stream::new(fd).wary()),
                Ok(None) => return,
                Err(error) => {
                    let is_full = matches!(errno_of(&error), Some(libc::EMFILE | libc::ENFILE));
                    let why = if is_full { full(error) } else { error };
                    if !is_full || !door.turn_away(&why) {
                        door.again_at = Some(clock::monotonic_ns() + AGAIN_NS);
                        return self.trouble(format!("a client could not be accepted: {why}"));
                    }
                    self.trouble(format!("a client was sent away: {why}"));
                }
            }
        }
        let Some(door) = &self.door else { return };
        if let Err(error) = self.rewatch(door.endpoint.listener(), Source::Door) {
            // Those who wait make no further event.
            if let Some(door) = &mut self.door {
                door.again_at = Some(clock::monotonic_ns() + AGAIN_NS);
            }
            self.trouble(format!("clients are accepted a little later: {error}"));
        }
    }

    /// One that connected: a program of this user, or it is sent away.
    fn admit(&mut self, socket: Stream) {
        let uid = match socket::peer_credentials(socket.fd()) {
            Ok(peer) => peer.uid,
            Err(error) => return self.trouble(format!("a client could not be accepted: {error}")),
        };
        if uid != process::uid() {
            let why = format!("this pool is user {}'s, and you are {uid}", process::uid());
            refuse(socket, &Error::new(Kind::Incompatible(why.into())));
            return self.trouble(format!("a client of user {uid} was sent away"));
        }
        if let Err(why) = self.check_spare(socket.fd()) {
            self.trouble(format!("a client was sent away: {why}"));
            return refuse(socket, &why);
        }
        crash_point!("arbiter.admit");
        self.drop_longest_silent();
        let until = clock::monotonic_ns() + HELLO_TIMEOUT_NS;
        if let Err(error) = self.accept(socket, None, Some(until)) {
            self.trouble(format!("a client could not be accepted: {error}"));
        }
    }

    /// Where the descriptors begin that are not for clients.
    pub(super) fn below(&self) -> RawFd {
        self.door.as_ref().map_or(RawFd::MAX, |door| door.below)
    }

    /// Whether this may be a client's.
    pub(super) fn check_spare(&self, fd: BorrowedFd<'_>) -> Result<()> {
        if fd.as_raw_fd() < self.below() { Ok(()) } else { Err(full(Error::os("open", libc::EMFILE))) }
    }

    fn drop_longest_silent(&mut self) {
        let mut silent = self.clients.iter().filter(|(_, client)| client.is_silent());
        let oldest = silent.next().map(|(number, _)| *number);
        if silent.count() + 1 >= MAX_SILENT
            && let Some(oldest) = oldest
        {
            self.trouble(format!("more than {MAX_SILENT} clients say nothing: the oldest is sent away"));
            self.client_gone(oldest);
        }
    }

    /// Closes the connections that have been silent for too long.
    pub(super) fn drop_silent(&mut self, now: u64) {
        let late = |client: &super::clients::Client| {
            client.is_silent() && client.silent_until.is_some_and(|at| at <= now)
        };
        let late: Vec<u32> =
            self.clients.iter().filter(|(_, c)| late(c)).map(|(number, _)| *number).collect();
        for number in late {
            self.trouble(format!("client {number} has said nothing: its connection is closed"));
            self.client_gone(number);
        }
    }
}

fn full(error: Error) -> Error {
    error.context("the arbiter may not open more descriptors for clients")
}

/// Says why, as far as there is room at once, and closes.
fn refuse(mut socket: Stream, why: &Error) {
    let _ = socket.queue(Message::refused(why)).and_then(|()| socket.flush());
}
