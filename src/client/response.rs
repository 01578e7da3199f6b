//! The result of a call, and the hold on the worker's memory that it lies in.

use super::body::Body;
use super::connection::Shared;
use super::lane::Lane;
use crate::error::{Code, Error, Result};
use crate::ring::{Life, Word};
use crate::shm::{Owner, Pinned, Region};
use crate::wire::{Decode, Kind, Outcome, Reference, Resolve, ResponseRef, Value, ValueRef, WireError};
use std::cell::RefCell;
use std::sync::Arc;

/// What a call returned. Large bytes are read where the worker put them.
///
/// It holds one of its client's 64 calls and the worker's memory until it is dropped;
/// [`into_owned`](Response::into_owned) copies and lets go.
pub struct Response {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    call: usize,
    word: Word,
    life: Life,
    body: Body,
    pinned: Pinned,
    left: bool,
}

impl Response {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: Arc<Lane>,
        call: usize,
        word: Word,
        life: Life,
        body: Body,
    ) -> Response {
        Response { shared, lane, call, word, life, body, pinned: Pinned::default(), left: false }
    }

    /// The result as a value that borrows from this response.
    #[inline]
    pub fn value(&self) -> Result<ValueRef<'_>> {
        // `check` has accepted the body, which is this process's own copy.
        ResponseRef::result_again(self.body(), self).map_err(|error| match self.shared.check_process() {
            Err(forked) => forked, // a forked copy does not have the worker's memory
            Ok(()) => error.into(),
        })
    }

    /// The result as a type of one's own: `i64`, `&str`, `&[u8]`, a tuple, a map, a serde type …
    ///
    /// # Errors
    /// `Value` if it is something else.
    #[inline]
    pub fn parse<'a, T: Decode<'a>>(&'a self) -> Result<T> {
        T::decode(self.value()?)
    }

    /// The result's bytes, in the worker's memory if it put them there.
    ///
    /// # Errors
    /// `Value` if the result is not bytes.
    #[inline]
    pub fn as_bytes(&self) -> Result<&[u8]> {
        self.parse()
    }

    /// A copy of the whole result; lets go of the call and of the worker's memory.
    pub fn into_owned(self) -> Result<Value> {
        Ok(self.value()?.to_owned()?)
    }

    /// The incarnation of the worker that ran the call.
    pub fn life(&self) -> u16 {
        self.life.get()
    }

    /// Lets go without touching the call: its lane is damaged.
    pub(super) fn leave(mut self) {
        self.left = true;
    }

    /// Whether the body can be decoded. Fetches what it refers to.
    pub(super) fn check(&self) -> std::result::Result<(), Unreadable> {
        let taking = Taking { response: self, trouble: RefCell::new(None) };
        let readable =
            matches!(ResponseRef::decode(Kind::Response, self.body(), &taking), Ok(Outcome::Result(_)));
        match taking.trouble.into_inner() {
            Some(error) => Err(Unreadable::Here(error)),
            None if readable => Ok(()),
            None => Err(Unreadable::Damaged),
        }
    }

    /// The region of a reference, kept from the first time that it is met.
    fn region(&self, index: u16) -> Result<&Region> {
        if let Some(kept) = self.pinned.find(index) {
            return Ok(kept);
        }
        let owner = Owner::Life(self.life.get());
        let region = self.shared.foreign.get(&self.shared.registry, index, owner, &self.shared.arbiter)?;
        Ok(self.pinned.keep(index, &region))
    }

    #[inline]
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }
}

impl Resolve for Response {
    fn resolve(&self, reference: Reference) -> std::result::Result<&[u8], WireError> {
        let bad = WireError::BadReference { region: reference.region };
        if !self.shared.is_original() {
            return Err(bad); // a forked copy does not have the worker's memory
        }
        let region = self.region(reference.region).map_err(|_| bad)?;
        region.lend(reference.offset, reference.len).ok_or(bad)
    }
}

/// Why a result cannot be read.
pub(super) enum Unreadable {
    /// It makes no sense.
    Damaged,
    /// This process has no room for it, or nobody is left who could hand it out.
    Here(Error),
}

/// A response whose references are met for the first time.
struct Taking<'r> {
    response: &'r Response,
    trouble: RefCell<Option<Error>>,
}

impl Resolve for Taking<'_> {
    fn resolve(&self, reference: Reference) -> std::result::Result<&[u8], WireError> {
        if let Err(error) = self.response.region(reference.region)
            && error.code() != Code::Protocol
        {
            *self.trouble.borrow_mut() = Some(error);
        }
        self.response.resolve(reference)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        if self.left || !self.shared.is_original() {
            return;
        }
        self.lane.spare(self.call).give(std::mem::replace(&mut self.body, Body::Owned(Vec::new())));
        if let Err(illegal) = self.lane.release(self.call, self.word) {
            self.shared.renew(&self.lane, &illegal.to_string());
        }
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("life", &self.life).field("value", &self.value()).finish()
    }
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<Response>();
};
