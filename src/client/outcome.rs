//! From a DONE word to a response or an error: everything that a worker wrote is copied once and checked here.

use super::Response;
use super::body::Body as Copied;
use super::connection::Shared;
use super::lane::Lane;
use super::response::Unreadable;
use crate::error::{AppError, Bound, Code, Error, Kind as ErrorKind, Result};
use crate::limits::RESULT_RECORDS;
use crate::ring::{Life, Word};
use crate::shm::{BAD_REQUEST, Body, DEADLINE, Owner, Place, Region, ResultKey, Results};
use crate::wire::{Header, Kind, Outcome, ResponseRef};
use std::sync::Arc;

/// Takes a published result. The outer error says in what way it is not one that a correct worker publishes.
pub(super) fn take(
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    call: usize,
    word: Word,
    life: Life,
) -> std::result::Result<Result<Response>, &'static str> {
    let (region, offset) = match Place::unpack(lane.line(call).result()) {
        Some(Place::Record { region, offset }) => (region, offset),
        Some(Place::Expired) => return end(&lane, call, word, ErrorKind::Deadline { started: false }),
        Some(Place::Full { limit }) => {
            return end(&lane, call, word, ErrorKind::Overloaded { bound: Bound::Results, limit });
        }
        Some(Place::NoRoom) => {
            let kind = ErrorKind::Overloaded { bound: Bound::Results, limit: RESULT_RECORDS as u64 };
            return end(&lane, call, word, kind);
        }
        None => return Err("a result has no place"),
    };
    let owner = Owner::Life(life.get());
    let fetched = shared.foreign.get(&shared.registry, region, owner, &shared.arbiter);
    let results = match fetched {
        Ok(region) => Results::of(&region).ok_or("a result lies in a region that holds none")?,
        Err(error) if error.code() == Code::Protocol => {
            log::error!("a result cannot be read: {error}");
            return Err("a result lies in a region that its worker does not have");
        }
        Err(error) => {
            lane.release(call, word).map_err(|_| "a finished call's word changed")?;
            return Ok(Err(unreadable(error)));
        }
    };
    let record = results.record_at(offset).ok_or("a result lies where no record is")?;
    let key = ResultKey { lane: lane.serial, call, generation: word.generation() };
    if !Results::answers(record, key) {
        return Err("a result's record names another call");
    }
    // One copy of each, then only the copies.
    let header = Header::decode(&record.header()).map_err(|_| "a result has no valid header")?;
    let flags = record.flags();
    let content = match record.body() {
        Some(Body::Inline(len)) => {
            let mut room = lane.spare(call).take();
            let len = record.copy_inline(len, &mut room).len();
            Copied::Inline { len, room }
        }
        Some(Body::Block { region, offset, len }) => {
            let from = match shared.foreign.get(&shared.registry, region, owner, &shared.arbiter) {
                Ok(from) => from,
                Err(error) if error.code() == Code::Protocol => {
                    return Err("a result's body lies in a region that its worker does not have");
                }
                Err(error) => {
                    lane.release(call, word).map_err(|_| "a finished call's word changed")?;
                    return Ok(Err(unreadable(error)));
                }
            };
            Copied::Owned(copy(&from, offset, len)?)
        }
        None => return Err("a result's record makes no sense"),
    };
    let response = Response::new(shared, lane, call, word, life, content);
    if header.kind == Kind::Response {
        return match response.check() {
            Ok(()) => Ok(Ok(response)),
            Err(Unreadable::Damaged) => {
                response.leave();
                Err("a result cannot be decoded")
            }
            Err(Unreadable::Here(error)) => Ok(Err(unreadable(error))),
        };
    }
    let error = match ResponseRef::decode(header.kind, response.body(), &response) {
        Ok(Outcome::Error(said)) if flags & BAD_REQUEST != 0 => Error::bad_request(said.message.to_owned()),
        // Noticed there a moment before it was noticed here: the outcome is the same.
        Ok(Outcome::Error(_)) if flags & DEADLINE != 0 => ErrorKind::Deadline { started: true }.into(),
        Ok(Outcome::Error(said)) => Error::new(ErrorKind::App(AppError {
            class: said.class.to_owned(),
            message: said.message.to_owned(),
            traceback: said.traceback.to_owned(),
        })),
        _ => {
            response.leave();
            return Err("a result is neither a response nor an error");
        }
    };
    Ok(Err(error))
}

/// A call that ended without a record.
fn end(
    lane: &Lane,
    call: usize,
    word: Word,
    kind: ErrorKind,
) -> std::result::Result<Result<Response>, &'static str> {
    lane.release(call, word).map_err(|_| "a finished call's word changed")?;
    Ok(Err(kind.into()))
}

/// Nothing is damaged, and the result is out of reach: this process has trouble of its own, such as no descriptors
/// left, or the arbiter that could hand the region out is gone.
fn unreadable(error: Error) -> Error {
    match error.code() {
        Code::ArbiterDied => Error::new(ErrorKind::ArbiterDied { started: true }),
        _ => error.context("the call has ended and its result cannot be read"),
    }
}

fn copy(from: &Region, offset: u64, len: usize) -> std::result::Result<Vec<u8>, &'static str> {
    // Bounds first: an allocation of a size that lies inside a region that exists.
    if offset.checked_add(len as u64).is_none_or(|end| end > from.len() as u64) {
        return Err("a result's body is not inside its region");
    }
    let mut body = vec![0; len];
    from.copy(offset, &mut body);
    Ok(body)
}
