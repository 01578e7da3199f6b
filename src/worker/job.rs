//! One call that this worker has claimed: read it, run it, publish its result.

use super::held::Holding;
use super::lanes::Lane;
use super::reply::{self, Form};
use super::runtime::Worker;
use super::{Args, Ctx, Reply, panics};
use crate::error::{AppError, Code, Error, Kind as ErrorKind};
use crate::limits::INLINE_LEN;
use crate::ring::{Completed, Entry};
use crate::shm::{
    BAD_REQUEST, Begun, Body, DEADLINE, Deadline, OwnRecord, Owner, Pinned, Place, Record, Region, ResultKey,
    Results,
};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use crate::wire::{self, Encoder, ErrorDetails, Header, Kind, Reference, RequestRef, Resolve, WireError};
use std::cell::RefCell;
use std::sync::Arc;

impl Worker {
    /// Runs a call that was claimed a moment ago. Whatever happens in it, the word leaves RUNNING, or this process
    /// dies and the arbiter moves it.
    pub(super) fn run(self: &Arc<Self>, thread: usize, lane: &Lane, entry: Entry) {
        let (own, Deadline(deadline)) = lane.requests.own(entry.call);
        match own {
            OwnRecord::Queued(generation) if generation == entry.generation => {
                // That it was submitted again proves that its client let go of the last result.
                self.give_back(lane, entry.call, lane.held.peek(entry.call));
            }
            // Given up since the claim: its client moved the word to ABANDONED before it said so.
            OwnRecord::Cancelled(generation) if generation == entry.generation => {
                return self.let_go(lane, entry);
            }
            // The word said queued, the client's own record does not: the word was damaged. It stays RUNNING; the
            // arbiter retires the lane and its calls end by the records.
            _ => return self.suspect(lane, "a call was queued that its client did not submit"),
        }
        let now = clock::coarse_ns();
        // The precise clock only where it could make a difference.
        if deadline.is_some_and(|at| now + clock::COARSE_NS >= at && clock::monotonic_ns() >= at) {
            return self.complete(lane, entry, Place::Expired, None);
        }
        let begin = self.results.begin_record(thread);
        begin.begin(Begun {
            lane: lane.serial,
            call: entry.call,
            generation: entry.generation,
            since_ns: now,
            deadline_ns: deadline,
        });
        if let Some(at) = deadline {
            self.watch.ask(at);
        }
        let request = lane.requests.record(entry.call);
        let id = Header::decode(&request.header()).map_or(0, |header| header.id);
        let mut place = [0; INLINE_LEN];
        let answer = self.answer(lane, request, deadline, &mut place);
        self.publish(lane, entry, id, answer);
        begin.end();
    }

    /// What the app says to this request.
    fn answer(
        self: &Arc<Self>,
        lane: &Lane,
        request: &Record,
        deadline: Option<u64>,
        place: &mut [u8; INLINE_LEN],
    ) -> Result<Reply, Error> {
        let refs =
            ClientMemory { worker: self, lane, pinned: Pinned::default(), trouble: RefCell::new(None) };
        let answer = self.answer_from(&refs, request, deadline, place);
        // What looks like a bad request may be one that this worker could not get at.
        match (answer, refs.trouble.into_inner()) {
            (Err(error), Some(trouble)) if error.code() != Code::App => Err(Error::app(
                format!("{:?}", trouble.code()),
                format!("the worker cannot reach its caller's memory: {trouble}"),
            )),
            (answer, _) => answer,
        }
    }

    fn answer_from(
        self: &Arc<Self>,
        refs: &ClientMemory<'_>,
        request: &Record,
        deadline: Option<u64>,
        place: &mut [u8; INLINE_LEN],
    ) -> Result<Reply, Error> {
        let large;
        let body = match request.body() {
            Some(Body::Inline(len)) => request.copy_inline(len, place),
            Some(Body::Block { region, offset, len }) => {
                large = self.copy_block(refs.lane, region, offset, len).map_err(|error| refs.note(error))?;
                &large
            }
            None => return Err(Error::bad_request("the request's record makes no sense")),
        };
        let request = RequestRef::decode(body, refs)
            .map_err(|e| Error::bad_request(format!("the request cannot be decoded: {e}")))?;
        let apps = self.apps.get().map_or(&[][..], |apps| apps);
        let Some((_, app)) = apps.iter().find(|(name, _)| name == request.app) else {
            return Err(Error::bad_request(format!("this worker has no app named {:?}", request.app)));
        };
        let ctx = Ctx::new(self.clone(), deadline);
        let args = Args::new(request.args, request.kwargs);
        match panics::catch(|| app.call(request.action, args, &ctx)) {
            // Of another call's: this one's has not passed.
            Ok(Err(error)) if error.code() == Code::Deadline && ctx.check_deadline().is_ok() => {
                Err(Error::app("Deadline", error))
            }
            Ok(answer) => answer,
            Err(panic) => Err(Error::new(ErrorKind::App(panic))),
        }
    }

    /// A body that lies in a block: copied, then decoded from the copy.
    fn copy_block(&self, lane: &Lane, region: u16, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let region = self.foreign.get(&self.registry, region, Owner::of_lane(lane.serial), &self.fetcher)?;
        // Bounds first: an allocation of a size that lies inside a region that exists.
        if offset.checked_add(len as u64).is_none_or(|end| end > region.len() as u64) {
            return Err(Error::bad_request("the request's body is not inside its region"));
        }
        let mut body = vec![0; len];
        region.copy(offset, &mut body);
        Ok(body)
    }

    /// Publishes what the app said.
    fn publish(&self, lane: &Lane, entry: Entry, id: u64, answer: Result<Reply, Error>) {
        let Some(record) = self.take_record() else {
            return self.complete(lane, entry, Place::NoRoom, None);
        };
        let written = match answer {
            Ok(reply) => self.write_reply(record, id, reply).or_else(|e| self.write_error(record, id, &e)),
            Err(error) => self.write_error(record, id, &error),
        };
        if written.is_err() {
            self.free_record(record);
            return self.complete(lane, entry, Place::NoRoom, None);
        }
        let key = ResultKey { lane: lane.serial, call: entry.call, generation: entry.generation };
        self.results.name(record, key);
        let holding = lane.held.hold(entry.call, entry.generation, record);
        let place = Place::Record { region: self.results_id.index, offset: Results::offset_of(record) };
        self.complete(lane, entry, place, Some(holding));
    }

    /// Takes back the record of exactly this holding, if there is one.
    fn give_back(&self, lane: &Lane, call: usize, holding: Option<Holding>) {
        if let Some(record) = holding.and_then(|holding| lane.held.release(call, holding)) {
            self.free_record(record);
        }
    }

    fn complete(&self, lane: &Lane, entry: Entry, place: Place, holding: Option<Holding>) {
        let line = &lane.control.lines()[entry.call];
        match line.complete(entry.generation, self.life, place.pack()) {
            Ok(Completed::Done) => {
                if lane.control.armed().ring(&line.bell, &Kernel) {
                    self.alert(lane);
                }
            }
            Ok(Completed::Abandoned) => {
                // Nobody will look at it: the caller has its answer.
                self.give_back(lane, entry.call, holding);
                line.bell.ring(&Kernel);
            }
            Err(illegal) => self.suspect(lane, &illegal.to_string()),
        }
    }

    /// Acknowledges a call that was given up before it began.
    fn let_go(&self, lane: &Lane, entry: Entry) {
        let line = &lane.control.lines()[entry.call];
        match line.acknowledge(entry.generation, self.life) {
            Ok(()) => line.bell.ring(&Kernel),
            // A client that finds its lane damaged says so in its own record, too, and leaves the word alone.
            Err(illegal) => self.suspect(lane, &illegal.to_string()),
        }
    }

    fn write_reply(&self, record: usize, id: u64, answer: Reply) -> Result<(), Error> {
        match answer.0 {
            Form::Inline { len, room } => {
                self.write_inline(record, Kind::Response, id, 0, &room[..len]);
                reply::give_back(room);
                Ok(())
            }
            Form::Large(body) => self.write_large(record, Kind::Response, id, 0, &body),
            Form::Lent(lease) => {
                let Some(placed) = lease.into_placed() else {
                    return Err(Error::bad_request("the lease was given away already"));
                };
                let mut place = [0; INLINE_LEN];
                let mut e = Encoder::new(&mut place);
                let reference: Reference = placed.reference();
                let encoded = wire::response(&reference, &mut e).map(|()| e.finish());
                drop(self.records.attach(record, placed));
                match encoded {
                    Ok(Ok(len)) => {
                        self.write_inline(record, Kind::Response, id, 0, &place[..len]);
                        Ok(())
                    }
                    _ => Err(Error::bad_request("the lease cannot be referred to")),
                }
            }
            Form::Invalid(error) => {
                Err(Error::app("Encode", format!("the result cannot be encoded: {error}")))
            }
        }
    }

    fn write_error(&self, record: usize, id: u64, error: &Error) -> Result<(), Error> {
        let (said, flags) = describe(error);
        let mut body = vec![0; INLINE_LEN];
        loop {
            let mut e = Encoder::new(&mut body);
            let details = ErrorDetails { traceback: &said.traceback, ..ErrorDetails::default() };
            wire::error(&said.class, &said.message, &details, &mut e)?;
            match e.finish() {
                Ok(len) if len <= INLINE_LEN => {
                    self.write_inline(record, Kind::Error, id, flags, &body[..len]);
                    return Ok(());
                }
                Ok(len) => return self.write_large(record, Kind::Error, id, flags, &body[..len]),
                Err(more) => body.resize(more.needed, 0),
            }
        }
    }

    fn write_inline(&self, record: usize, kind: Kind, id: u64, flags: u64, body: &[u8]) {
        let header = Header { kind, len: body.len() as u32, id };
        self.results.record(record).write(header.encode(), Body::Inline(body.len()), flags, body);
    }

    fn write_large(&self, record: usize, kind: Kind, id: u64, flags: u64, body: &[u8]) -> Result<(), Error> {
        let mut placed = self.allocate(body.len())?;
        placed.bytes_mut().copy_from_slice(body);
        let header = Header { kind, len: body.len() as u32, id };
        let at = Body::Block { region: placed.id.index, offset: placed.block.offset, len: body.len() };
        // A lease that could not be referred to may be tied to it already.
        if let Some(old) = self.records.attach(record, placed) {
            self.free_block(old);
        }
        self.results.record(record).write(header.encode(), at, flags, &[]);
        Ok(())
    }
}

/// An error as its caller gets it.
fn describe(error: &Error) -> (AppError, u64) {
    let plain =
        |class: &str, message: String| AppError { class: class.into(), message, traceback: String::new() };
    match error.kind() {
        ErrorKind::App(said) => {
            let mut said = said.clone();
            let whole = error.to_string();
            // The context that the app put around it, without our own prefix.
            if let Some(context) = whole.split("app error ").next()
                && !context.is_empty()
            {
                said.message = format!("{context}{}", said.message);
            }
            (said, 0)
        }
        ErrorKind::BadRequest(why) => (plain("BadRequest", why.to_string()), BAD_REQUEST),
        ErrorKind::Value(_) | ErrorKind::Frame(_) => (plain("BadRequest", error.to_string()), BAD_REQUEST),
        ErrorKind::Deadline { .. } => (plain("Deadline", error.to_string()), DEADLINE),
        _ => (plain(&format!("{:?}", error.code()), error.to_string()), 0),
    }
}

/// The caller's memory, as references in its request name it.
struct ClientMemory<'w> {
    worker: &'w Worker,
    lane: &'w Lane,
    pinned: Pinned,
    /// Why a region could not be had, if that was not the caller's doing.
    trouble: RefCell<Option<Error>>,
}

impl ClientMemory<'_> {
    /// The region of a reference, kept from the first time that it is met.
    fn region(&self, index: u16) -> Result<&Region, Error> {
        if let Some(kept) = self.pinned.find(index) {
            return Ok(kept);
        }
        let (worker, owner) = (self.worker, Owner::of_lane(self.lane.serial));
        let region = worker.foreign.get(&worker.registry, index, owner, &worker.fetcher)?;
        Ok(self.pinned.keep(index, &region))
    }

    /// Remembers an error that is not the caller's doing; what comes back stands for it.
    fn note(&self, error: Error) -> Error {
        if matches!(error.code(), Code::BadRequest | Code::Incompatible | Code::Protocol) {
            return error;
        }
        *self.trouble.borrow_mut() = Some(error);
        Error::bad_request("a region cannot be reached")
    }
}

impl Resolve for ClientMemory<'_> {
    fn resolve(&self, reference: Reference) -> Result<&[u8], WireError> {
        let bad = WireError::BadReference { region: reference.region };
        let region = self.region(reference.region).map_err(|error| {
            self.note(error);
            bad
        })?;
        region.lend(reference.offset, reference.len).ok_or(bad)
    }
}
