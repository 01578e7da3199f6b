//! One use of a call's line.

use super::connection::Shared;
use super::lane::Lane;
use crate::error::{Error, Kind};
use crate::ring::{CallLine, Generation};
use crate::shm::{Deadline, OwnRecord, ResultKey};
use std::sync::Arc;

/// What a client submitted on a line of its lane, with this generation.
#[derive(Clone, Debug)]
pub(super) struct Submission {
    pub shared: Arc<Shared>,
    pub lane: Arc<Lane>,
    pub call: usize,
    pub generation: Generation,
}

impl Submission {
    #[inline]
    pub fn line(&self) -> &CallLine {
        self.lane.line(self.call)
    }

    /// By which workers name it.
    #[inline]
    pub fn key(&self) -> ResultKey {
        ResultKey { lane: self.lane.serial, call: self.call, generation: self.generation }
    }

    /// Says in the client's own record that it is given up, and whether items of it are still held.
    pub fn give_up(&self, holds_items: bool) {
        let own = match holds_items {
            false => OwnRecord::Cancelled(self.generation),
            true => OwnRecord::Held(self.generation),
        };
        self.lane.requests.state(self.call, own, Deadline(None));
    }

    /// Shared memory says what no correct process writes. The call ends, and its line is used no more; the lane is
    /// replaced.
    #[cold]
    pub fn damaged(&self, holds_items: bool, why: &str) -> Error {
        // First: a handle that still acted would say of the call that it is held.
        self.lane.lose(self.call);
        self.give_up(holds_items);
        self.shared.renew(&self.lane, why);
        Kind::Protocol(why.to_owned().into()).into()
    }
}
