//! One call that this worker has claimed: read it, run it, publish its result.

use super::claimed::Claimed;
use super::held::Holding;
use super::lanes::Lane;
use super::outgoing::Outgoing;
use super::reply::{self, Form};
use super::running::Running;
use super::runtime::{Worker, is_over};
use super::{Args, Ctx, Reply, panics};
use crate::error::{Code, Error, Kind as ErrorKind};
use crate::limits::INLINE_LEN;
use crate::primitive::{AtomicBool, Ordering};
use crate::ring::{Completed, Entry, sabotage};
use crate::shm::{Begun, Body as At, OwnRecord, Owner, Pinned, Place, Region, ResultKey, Results, STREAMED};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use crate::wire::{self, Encoder, Header, Kind, Reference, RequestRef, Resolve, Value, WireError};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

impl Worker {
    /// Runs a call that was claimed a moment ago. Whatever happens in it, the word leaves RUNNING, or this process
    /// dies and the arbiter moves it; or the app defers its answer. Gives the lane back.
    pub(super) fn run(self: &Arc<Self>, thread: usize, claimed: Claimed) -> Arc<Lane> {
        let Claimed { lane, entry, since_ns } = claimed;
        crash_point!("worker.run.claimed");
        let (own, deadline) = lane.requests.own(entry.call);
        match own {
            OwnRecord::Queued(generation) if generation == entry.generation || sabotage::on("anyrequest") => {
                let held = lane.held.peek(entry.call);
                // A word that says queued where it was done: what is held is the result that its client may be reading.
                if held.is_some_and(|holding| holding.generation() == entry.generation) {
                    self.suspect(&lane, "a call was queued again that this worker has answered");
                    return lane;
                }
                // That it was submitted again proves that its client let go of the last result.
                self.give_back(&lane, entry.call, held);
            }
            // Given up since the claim: its client moved the word to ABANDONED before it said so.
            OwnRecord::Cancelled(generation) | OwnRecord::Held(generation)
                if generation == entry.generation =>
            {
                self.let_go(&lane, entry);
                return lane;
            }
            // The word said queued, the client's own record does not: the word was damaged. It stays RUNNING; the
            // arbiter retires the lane and its calls end by the records.
            _ => {
                self.suspect(&lane, "a call was queued that its client did not submit");
                return lane;
            }
        }
        // The precise clock only where it could make a difference.
        if deadline.0.is_some_and(|at| since_ns + clock::COARSE_NS >= at && clock::monotonic_ns() >= at) {
            self.complete(&lane, entry, Place::Expired, None, false);
            return lane;
        }
        let begin = self.results.begin_record(thread);
        if !sabotage::on("nobeginrecord") {
            begin.begin(Begun {
                lane: lane.serial,
                call: entry.call,
                generation: entry.generation,
                since_ns,
                deadline_ns: deadline.0,
            });
        }
        crash_point!("worker.run.begun");
        if let Some(at) = deadline.0 {
            self.watch.ask(at);
        }
        let id = Header::decode(&lane.requests.record(entry.call).header()).map_or(0, |header| header.id);
        let memory = ClientMemory::new(&**self, lane.serial);
        let ctx = Ctx::new(
            self.clone(),
            Some(Running { lane, entry, begin: thread, deadline, refused: AtomicBool::new(false) }),
            id,
        );
        let mut body = Body::Inline { len: 0, room: [0; INLINE_LEN] };
        let answer = self.answer(&ctx, &memory, &mut body);
        let (running, stream) = ctx.into_parts();
        let running = running.unwrap_or_else(|| unreachable!("it was given one"));
        match answer {
            Ok(Reply(Form::Later(later))) if stream.is_none() => {
                let lane = running.lane.clone();
                self.defer(*later, running, id, body, memory.kept_by(self.clone()));
                lane
            }
            answer => {
                crash_point!("worker.run.answered");
                self.publish(&running.lane, entry, id, answer, stream);
                crash_point!("worker.run.over");
                begin.end();
                running.lane
            }
        }
    }

    /// What the app says to this request.
    fn answer(&self, ctx: &Ctx, memory: &ClientMemory<&Worker>, body: &mut Body) -> Result<Reply, Error> {
        let answer = self.answer_from(ctx, memory, body);
        // What looks like a bad request may be one that this worker could not get at.
        match (answer, memory.trouble.get()) {
            (Err(error), Some(trouble)) if error.code() != Code::App => Err(out_of_reach(trouble)),
            (answer, _) => answer,
        }
    }

    fn answer_from(
        &self,
        ctx: &Ctx,
        memory: &ClientMemory<&Worker>,
        body: &mut Body,
    ) -> Result<Reply, Error> {
        let Some(running) = ctx.running() else { return Err(Error::bad_request("there is no call")) };
        let record = running.lane.requests.record(running.entry.call);
        match (record.body(), &mut *body) {
            (Some(At::Inline(inline)), Body::Inline { len, room }) => {
                *len = record.copy_inline(inline, room).len();
            }
            (Some(At::Block { region, offset, len }), body) => {
                *body = Body::Large(memory.copy(region, offset, len).map_err(|error| memory.note(error))?);
            }
            _ => return Err(Error::bad_request("the request's record makes no sense")),
        }
        let request = body.decode(memory)?;
        let apps = self.apps.get().map_or(&[][..], |apps| apps);
        let Some((_, app)) = apps.iter().find(|(name, _)| name == request.app) else {
            return Err(Error::bad_request(format!("this worker has no app named {:?}", request.app)));
        };
        let args = Args::new(request.args, request.kwargs);
        let run = || app.call(request.action, args, ctx).and_then(|reply| reply.drive(ctx));
        let answer = match panics::catch(run) {
            Ok(answer) => self.settle(answer, running),
            Err(panic) => Err(Error::new(ErrorKind::App(*panic))),
        };
        answer.map_err(|error| self.raised_by(request.app, error))
    }

    /// A deadline that an app reports, and that is not this call's, is that of another call of the app's own making. So is
    /// a want of room, where this one was refused none.
    pub(super) fn settle(&self, answer: Result<Reply, Error>, running: &Running) -> Result<Reply, Error> {
        match answer {
            // Whatever it was, the call that it was about is another one.
            Err(error)
                if error.is_of_call()
                    && error.code() != Code::App
                    // It may have been that call's because it is this one's, which has passed as well.
                    && (error.code() != Code::Deadline || running.check_deadline(self).is_ok()) =>
            {
                Err(Error::app(format!("{:?}", error.code()), error))
            }
            Err(error) if error.code() == Code::Deadline && running.check_deadline(self).is_ok() => {
                Err(Error::app("Deadline", error))
            }
            Err(error) if error.code() == Code::Overloaded && !running.refused.load(Ordering::Relaxed) => {
                Err(Error::app("Overloaded", error))
            }
            answer => answer,
        }
    }

    /// Publishes what the app said.
    pub(super) fn publish(
        &self,
        lane: &Lane,
        entry: Entry,
        id: u64,
        answer: Result<Reply, Error>,
        stream: Option<Box<Outgoing>>,
    ) {
        let streamed = stream.is_some();
        let cursor = lane.requests.cursor(entry.call);
        let Some(record) = stream.map(|stream| stream.into_record(cursor)).or_else(|| self.take_record())
        else {
            return self.complete(lane, entry, Place::NoRoom, None, false);
        };
        let flags = if streamed { STREAMED } else { 0 };
        let written = match answer {
            Ok(reply) => self.write_reply(lane, record, id, flags, reply),
            Err(error) => Err(error),
        };
        let written = written.or_else(|error| match error.code() {
            Code::Overloaded => Err(error), // it would lack the same memory
            _ => self.write_error(lane, record, id, flags, &error),
        });
        if let Err(error) = written {
            let place = match error.kind() {
                ErrorKind::Overloaded { limit, .. } => Place::Full { limit: *limit },
                _ => Place::NoRoom,
            };
            // The items that were sent are still to be read.
            let holding = streamed.then(|| lane.held.hold(entry.call, entry.generation, record));
            if !streamed {
                self.free_record(record);
            }
            return self.complete(lane, entry, place, holding, streamed);
        }
        let key = ResultKey { lane: lane.serial, call: entry.call, generation: entry.generation };
        crash_point!("worker.result.written");
        self.results.name(record, key);
        crash_point!("worker.result.named");
        let holding = lane.held.hold(entry.call, entry.generation, record);
        let place = Place::Record { region: self.results_id.index, offset: Results::offset_of(record) };
        self.complete(lane, entry, place, Some(holding), streamed);
    }

    /// Takes back the record of exactly this holding, if there is one.
    fn give_back(&self, lane: &Lane, call: usize, holding: Option<Holding>) {
        if let Some(record) = holding.and_then(|holding| lane.held.release(call, holding)) {
            self.free_record(record);
        }
    }

    fn complete(&self, lane: &Lane, entry: Entry, place: Place, holding: Option<Holding>, streamed: bool) {
        let line = &lane.control.lines()[entry.call];
        match line.complete(entry.generation, self.life, place.pack()) {
            Ok(Completed::Done) => {
                crash_point!("worker.complete.done");
                if lane.control.armed().ring(&line.bell, &Kernel) {
                    self.alert(lane);
                }
            }
            Ok(Completed::Abandoned) => {
                crash_point!("worker.ack.done");
                // Nobody will look at it: the caller has its answer. But it may still hold items of the stream: then they
                // are found when it says that it let go.
                if !streamed || is_over(lane, entry.call, entry.generation) {
                    self.give_back(lane, entry.call, holding);
                }
                line.bell.ring(&Kernel);
                self.interrupts.pass();
            }
            Err(illegal) => {
                // Nobody will look at it, and the lane may have been forgotten while the call ran. What is held for a stream
                // is found when the lane is.
                if !streamed {
                    self.give_back(lane, entry.call, holding);
                }
                self.suspect(lane, &illegal.to_string());
            }
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

    fn write_reply(
        &self,
        lane: &Lane,
        record: usize,
        id: u64,
        flags: u64,
        answer: Reply,
    ) -> Result<(), Error> {
        match answer.0 {
            Form::Inline { len, room } => {
                self.write_inline(record, Kind::Response, id, flags, &room[..len]);
                reply::give_back(room);
                Ok(())
            }
            Form::End if flags & STREAMED != 0 => {
                self.write_inline(record, Kind::End, id, flags, &[]);
                Ok(())
            }
            // A stream of nothing, to whom nothing was announced.
            Form::End => self.write_reply(lane, record, id, flags, Reply::new(&Value::None)),
            Form::Stream(items) => {
                panics::discard(items);
                Err(Error::app("Stream", "a deferred answer cannot be a stream"))
            }
            Form::Large(body) => self.write_large(lane, record, Kind::Response, id, flags, &body),
            Form::Lent(lease) => {
                let Some(mut block) = lease.into_block() else {
                    return Err(Error::bad_request("the lease was given away already"));
                };
                // It may be from the app's `init`, or from another client's call.
                if let Err(error) = self.charge(&mut block, &lane.share) {
                    self.free_block(block);
                    return Err(error);
                }
                let mut place = [0; INLINE_LEN];
                let mut e = Encoder::new(&mut place);
                let reference: Reference = block.placed.reference();
                let encoded = wire::response(&reference, &mut e).map(|()| e.finish());
                drop(self.records.attach(record, block));
                match encoded {
                    Ok(Ok(len)) => {
                        self.write_inline(record, Kind::Response, id, flags, &place[..len]);
                        Ok(())
                    }
                    _ => Err(Error::bad_request("the lease cannot be referred to")),
                }
            }
            Form::Later(later) => {
                panics::discard(later);
                Err(Error::app("Deferred", "a call that streams cannot be deferred"))
            }
            Form::Invalid(error) => {
                Err(Error::app("Encode", format!("the result cannot be encoded: {error}")))
            }
        }
    }

    fn write_error(
        &self,
        lane: &Lane,
        record: usize,
        id: u64,
        flags: u64,
        error: &Error,
    ) -> Result<(), Error> {
        let (body, kind, number) = self.encode_error(error)?;
        let flags = flags | kind;
        self.results.record(record).extra.store(number, Ordering::Relaxed);
        if body.len() <= INLINE_LEN {
            self.write_inline(record, Kind::Error, id, flags, &body);
            return Ok(());
        }
        self.write_large(lane, record, Kind::Error, id, flags, &body)
    }

    fn write_inline(&self, record: usize, kind: Kind, id: u64, flags: u64, body: &[u8]) {
        let header = Header { kind, len: body.len() as u32, id };
        self.results.record(record).write(header.encode(), At::Inline(body.len()), flags, body);
    }

    fn write_large(
        &self,
        lane: &Lane,
        record: usize,
        kind: Kind,
        id: u64,
        flags: u64,
        body: &[u8],
    ) -> Result<(), Error> {
        let mut block = self.allocate(body.len(), Some(&lane.share))?;
        let placed = &mut block.placed;
        placed.bytes_mut().copy_from_slice(body);
        let header = Header { kind, len: body.len() as u32, id };
        let at = At::Block { region: placed.id.index, offset: placed.block.offset, len: body.len() };
        // A lease that could not be referred to may be tied to it already.
        if let Some(old) = self.records.attach(record, block) {
            self.free_block(old);
        }
        self.results.record(record).write(header.encode(), at, flags, &[]);
        Ok(())
    }
}

/// The body of a request: this worker's private copy.
#[allow(clippy::large_enum_variant)] // on the stack: a box would be an allocation for each call
pub(super) enum Body {
    Inline { len: usize, room: [u8; INLINE_LEN] },
    Large(Vec<u8>),
}

impl Body {
    pub(super) fn decode<'a>(&'a self, refs: &'a dyn Resolve) -> Result<RequestRef<'a>, Error> {
        RequestRef::decode(self.bytes(), refs)
            .map_err(|e| Error::bad_request(format!("the request cannot be decoded: {e}")))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Body::Inline { len, room } => &room[..*len],
            Body::Large(bytes) => bytes,
        }
    }
}

/// The caller's memory, as references in its request name it. `W` is how long it lasts: as long as the app's function
/// runs, or as a deferred call.
pub(super) struct ClientMemory<W> {
    worker: W,
    /// The caller's lane.
    serial: u64,
    pinned: Pinned,
    /// Why a region could not be had, if that was not the caller's doing.
    trouble: OnceLock<Error>,
}

impl<W: Deref<Target = Worker>> ClientMemory<W> {
    pub(super) fn new(worker: W, serial: u64) -> ClientMemory<W> {
        ClientMemory { worker, serial, pinned: Pinned::default(), trouble: OnceLock::new() }
    }

    /// The same memory for longer.
    fn kept_by<V>(self, worker: V) -> ClientMemory<V> {
        ClientMemory { worker, serial: self.serial, pinned: self.pinned, trouble: self.trouble }
    }

    /// The region of a reference, kept from the first time that it is met.
    fn region(&self, index: u16) -> Result<&Region, Error> {
        if let Some(kept) = self.pinned.find(index) {
            return Ok(kept);
        }
        Ok(self.pinned.keep(index, &self.fetch(index)?))
    }

    fn fetch(&self, index: u16) -> Result<Arc<Region>, Error> {
        let worker: &Worker = &self.worker;
        worker.foreign.get(&worker.registry, index, Owner::of_lane(self.serial), &worker.fetcher)
    }

    /// Whether no reference was met.
    pub(super) fn met_nothing(&self) -> bool {
        self.pinned.is_empty()
    }

    /// Why a region could not be had, if that was not the caller's doing.
    pub(super) fn into_trouble(self) -> Option<Error> {
        self.trouble.into_inner()
    }

    /// A body that lies in a block: copied, then decoded from the copy.
    pub(super) fn copy(&self, region: u16, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let outside = || Error::bad_request("the request's body is not inside its region");
        self.fetch(region)?.copied(offset, len).ok_or_else(outside)?
    }

    /// Remembers an error that is not the caller's doing; what comes back stands for it.
    fn note(&self, error: Error) -> Error {
        if is_the_callers(&error) {
            return error;
        }
        let _ = self.trouble.set(error); // the first one tells
        Error::bad_request("a region cannot be reached")
    }
}

/// Whether memory cannot be had because what was said of it makes no sense.
pub(super) fn is_the_callers(error: &Error) -> bool {
    matches!(error.code(), Code::BadRequest | Code::Incompatible | Code::Protocol)
}

/// What the caller hears of trouble that is not its doing.
pub(super) fn out_of_reach(trouble: &Error) -> Error {
    let said = format!("the worker cannot reach its caller's memory: {trouble}");
    Error::app(format!("{:?}", trouble.code()), said)
}

impl<W: Deref<Target = Worker>> Resolve for ClientMemory<W> {
    fn resolve(&self, reference: Reference) -> Result<&[u8], WireError> {
        let bad = WireError::BadReference { region: reference.region };
        let region = self.region(reference.region).map_err(|error| {
            self.note(error);
            bad
        })?;
        region.lend(reference.offset, reference.len).ok_or(bad)
    }
}
