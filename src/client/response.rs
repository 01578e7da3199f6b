//! The result of a call, and the hold on the worker's memory that it lies in.

use super::body::Body;
use super::gathered;
use super::hold::Kept;
use super::incoming::Part;
use crate::error::{Code, Error, Result};
use crate::ring::Life;
use crate::shm::{Owner, Pinned, Region};
use crate::wire::{
    Decode, Kind, NoReferences, Outcome, Reference, Resolve, ResponseRef, Value, ValueRef, WireError,
};
use std::cell::RefCell;

/// What a call returned. Large bytes are read where the worker put them.
///
/// It holds one of its client's 64 calls and the worker's memory until it is dropped;
/// [`into_owned`](Response::into_owned) copies and lets go.
///
/// An item of a stream is one as well: it keeps its producer from using its memory again, and the call until the stream's
/// other items and its end are dropped, too.
pub struct Response {
    kept: Kept,
    /// RESPONSE or CHUNK.
    kind: Kind,
    body: Body,
    pinned: Pinned,
}

impl Response {
    /// The result of a call.
    #[inline]
    pub(super) fn new(kept: Kept, body: Body) -> Response {
        Response { kept, kind: Kind::Response, body, pinned: Pinned::default() }
    }

    /// An item of a stream.
    #[inline]
    pub(super) fn item(part: Part, body: Body) -> Response {
        Response { kept: Kept::Part(part), kind: Kind::Chunk, body, pinned: Pinned::default() }
    }

    /// Whether it can be decoded, and refers to nothing.
    #[inline]
    pub(super) fn is_all_here(&self) -> bool {
        let read = ResponseRef::decode(self.kind, self.body(), &NoReferences);
        matches!(read, Ok(Outcome::Result(_) | Outcome::Chunk(_)))
    }

    /// The item of this number, which is not all here.
    pub(super) fn holding(mut self, number: u64) -> Response {
        if let Kept::Part(part) = &mut self.kept {
            part.hold(number);
        }
        self
    }

    /// An item that refers to nothing is all here.
    #[inline]
    pub(super) fn keep_what_it_needs(&mut self) {
        if let (Kept::Part(part), true) = (&mut self.kept, self.pinned.is_empty()) {
            part.let_go();
        }
    }

    /// The result as a value that borrows from this response.
    #[inline]
    pub fn value(&self) -> Result<ValueRef<'_>> {
        // `check` has accepted the body, which is this process's own copy.
        let again = match self.kind {
            Kind::Chunk => ResponseRef::item_again(self.body(), self),
            _ => ResponseRef::result_again(self.body(), self),
        };
        again.map_err(|error| match self.kept.shared().check_process() {
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
        self.kept.life().map_or(0, Life::get)
    }

    /// What it lies in makes no sense.
    pub(super) fn damaged(mut self, why: &str) -> Error {
        self.kept.damaged(why)
    }

    /// A result that is nothing, and holds nothing.
    pub(super) fn without_call(self) -> Option<Response> {
        let kept = Kept::Nothing(self.kept.shared().clone(), self.kept.lane().0.clone());
        gathered::body(&()).ok().map(|body| Response::new(kept, body))
    }

    /// The same hold on the call, with another body.
    pub(super) fn with_body(mut self, body: Body) -> Response {
        self.give_spare(body);
        self
    }

    /// Keeps this body instead of its own, whose room is for the next call.
    fn give_spare(&mut self, body: Body) {
        let (lane, call) = self.kept.lane();
        lane.spare(call).give(std::mem::replace(&mut self.body, body));
    }

    /// Whether the body can be decoded. Fetches what it refers to.
    pub(super) fn check(&self) -> std::result::Result<(), Unreadable> {
        let taking = Taking { response: self, trouble: RefCell::new(None) };
        let read = ResponseRef::decode(self.kind, self.body(), &taking);
        let readable = matches!(read, Ok(Outcome::Result(_) | Outcome::Chunk(_)));
        let no_memory = matches!(read, Err(WireError::OutOfMemory));
        match taking.trouble.into_inner() {
            Some(error) if error.code() == Code::Protocol => Err(Unreadable::Gone),
            Some(error) => Err(Unreadable::Here(error)),
            None if readable => Ok(()),
            None if no_memory => Err(Unreadable::Here(Error::out_of_memory())),
            None => Err(Unreadable::Damaged),
        }
    }

    /// The region of a reference, kept from the first time that it is met.
    fn region(&self, index: u16) -> Result<&Region> {
        if let Some(kept) = self.pinned.find(index) {
            return Ok(kept);
        }
        let (shared, owner) = (self.kept.shared(), Owner::Life(self.life()));
        let region = shared.foreign.get(&shared.registry, index, owner, &shared.arbiter)?;
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
        if !self.kept.shared().is_original() {
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
    /// It lies in memory that its worker does not have, or not any more.
    Gone,
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
        if let Err(error) = self.response.region(reference.region) {
            *self.trouble.borrow_mut() = Some(error);
        }
        self.response.resolve(reference)
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.give_spare(Body::Owned(Vec::new())); // before the call is free
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response").field("life", &self.life()).field("value", &self.value()).finish()
    }
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<Response>();
};
