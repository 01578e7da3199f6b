//! From a DONE word to a response or an error: everything that a worker wrote is copied once and checked here.

use super::Response;
use super::body::Body as Copied;
use super::gathered::{self, End, Gathered};
use super::hold::Kept;
use super::response::Unreadable;
use crate::error::{AppError, Bound, Code, Error, Kind as ErrorKind, Limit, Result};
use crate::limits::RESULT_RECORDS;
use crate::primitive::Ordering;
use crate::ring::{Life, sabotage};
use crate::shm::{
    BAD_REQUEST, Body, DEADLINE, OVERRUN, Owner, Place, Region, ResultKey, Results, STALLED, STREAMED,
};
use crate::sys::prefetch;
use crate::wire::{ErrorRef, Header, Kind, Outcome, ResponseRef, WireError, copy_str};
use std::time::Duration;

/// A record, copied.
struct Copy {
    kind: Kind,
    flags: u64,
    /// A number that goes with the flags.
    number: u64,
    body: Copied,
}

/// Takes a published result, behind the items that were gathered before it. What no correct worker publishes is a
/// `Protocol` error, and the lane is replaced.
#[inline]
pub(super) fn take(
    mut kept: Kept,
    key: ResultKey,
    life: Life,
    gathered: Option<Gathered>,
) -> Result<Response> {
    crash_point!("client.outcome.seen");
    let copy = match read(&kept, key, life) {
        // Its items were not found: then there is no telling what is missing.
        Ok(Ok(copy)) if copy.flags & STREAMED != 0 && matches!(kept, Kept::Call(_)) => {
            return Err(kept.damaged("the end of a stream that is nowhere"));
        }
        Ok(Ok(copy)) => copy,
        Ok(Err(error)) => return kept.release().and(Err(error)),
        Err(why) => return Err(kept.damaged(why)),
    };
    crash_point!("client.outcome.read");
    if copy.kind == Kind::End && copy.flags & STREAMED != 0 {
        // The items were all.
        return match gathered {
            None => Ok(Response::new(kept, gathered::body(&())?)),
            Some(gathered) => gathered.into_response(End::Nothing(kept)),
        };
    }
    let response = Response::new(kept, copy.body);
    if copy.kind == Kind::Response {
        return match response.check() {
            Ok(()) => match gathered {
                None => Ok(response),
                Some(gathered) => gathered.into_response(End::Result(response)),
            },
            Err(Unreadable::Damaged | Unreadable::Gone) => {
                Err(response.damaged("a result cannot be decoded"))
            }
            Err(Unreadable::Here(error)) => Err(unreadable(error)),
        };
    }
    let error = match ResponseRef::decode(copy.kind, response.body(), &response) {
        Ok(Outcome::Error(said)) => told(&said, copy.flags, copy.number)?,
        Err(error @ WireError::OutOfMemory) => return Err(unreadable(error.into())),
        _ => return Err(response.damaged("a result is neither a response nor an error")),
    };
    Err(error)
}

/// Copies the record of a published result, once.
#[inline]
fn read(kept: &Kept, key: ResultKey, life: Life) -> std::result::Result<Result<Copy>, &'static str> {
    let shared = kept.shared();
    let (lane, call) = kept.lane();
    let results = |limit| ErrorKind::Overloaded { bound: Bound::Results, limit };
    let (region, offset) = match Place::unpack(lane.line(call).result()) {
        Some(Place::Record { region, offset }) => (region, offset),
        Some(Place::Expired) => {
            return Ok(Err(ErrorKind::Deadline { started: false, limit: Limit::Call }.into()));
        }
        Some(Place::Full { limit }) => return Ok(Err(results(limit).into())),
        Some(Place::NoRoom) => return Ok(Err(results(RESULT_RECORDS as u64).into())),
        None => return Err("a result has no place"),
    };
    // Its release, when the result was read, would wait for it; its worker has turned to other things.
    prefetch::to_write(lane.line(call), 1);
    let owner = Owner::Life(life.get());
    let fetched = shared.foreign.get(&shared.registry, region, owner, &shared.arbiter);
    let results = match fetched {
        Ok(region) => Results::of(region).ok_or("a result lies in a region that holds none")?,
        Err(error) if error.code() == Code::Protocol => {
            log::error!("a result cannot be read: {error}");
            return Err("a result lies in a region that its worker does not have");
        }
        Err(error) => return Ok(Err(unreadable(error))),
    };
    let record = results.record_at(offset).ok_or("a result lies where no record is")?;
    if !Results::answers(record, key) && !sabotage::on("anyresult") {
        return Err("a result's record names another call");
    }
    // One copy of each, then only the copies.
    let header = Header::decode_extended(&record.header()).map_err(|_| "a result has no valid header")?;
    let (flags, number) = (record.flags(), record.extra.load(Ordering::Relaxed));
    let body = match record.body() {
        Some(Body::Inline(len)) => {
            let mut room = lane.spare(call).take();
            let len = record.copy_inline(len, &mut room).len();
            Copied::Inline { len, room }
        }
        Some(Body::Block { region, offset, len }) => {
            match shared.foreign.get(&shared.registry, region, owner, &shared.arbiter) {
                Ok(from) => match copy(&from, offset, len)? {
                    Ok(body) => Copied::Owned(body),
                    Err(error) => return Ok(Err(unreadable(error))),
                },
                Err(error) if error.code() == Code::Protocol => {
                    return Err("a result's body lies in a region that its worker does not have");
                }
                Err(error) => return Ok(Err(unreadable(error))),
            }
        }
        None => return Err("a result's record makes no sense"),
    };
    Ok(Ok(Copy { kind: header.kind, flags, number, body }))
}

/// The error that a record carries.
fn told(said: &ErrorRef<'_>, flags: u64, number: u64) -> Result<Error> {
    Ok(match flags & (BAD_REQUEST | DEADLINE | STALLED | OVERRUN) {
        BAD_REQUEST => Error::bad_request(copy_str(said.message)?),
        // Noticed there a moment before it was noticed here: the outcome is the same.
        DEADLINE => ErrorKind::Deadline { started: true, limit: Limit::Call }.into(),
        STALLED => ErrorKind::Stalled { after: Duration::from_nanos(number) }.into(),
        OVERRUN => ErrorKind::Overrun { limit: number }.into(),
        _ => Error::new(ErrorKind::App(AppError {
            traceback: copy_str(said.traceback)?,
            source: said.source(),
            relayed: said.relayed(),
            ..AppError::new(copy_str(said.class)?, copy_str(said.message)?)
        })),
    })
}

/// Nothing is damaged, and the result is out of reach: this process has trouble of its own, such as no descriptors
/// left, or the arbiter that could hand the region out is gone.
pub(super) fn unreadable(error: Error) -> Error {
    match error.code() {
        Code::ArbiterDied => Error::new(ErrorKind::ArbiterDied { started: true }),
        _ => error.context("the call has ended and its result cannot be read"),
    }
}

pub(super) fn copy(
    from: &Region,
    offset: u64,
    len: usize,
) -> std::result::Result<Result<Vec<u8>>, &'static str> {
    from.copied(offset, len).ok_or("a result's body is not inside its region")
}
