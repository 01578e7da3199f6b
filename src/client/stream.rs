//! The items of a call, one by one.

use super::ended::Ended;
use super::flight::Flight;
use super::incoming::{Arrival, Incoming};
use super::waiter::Roused;
use super::{Call, Canceller, Response};
use crate::error::{Error, Kind, Limit, Result};
use crate::shm::STREAM;
use crate::sys::clock;
use crate::wire::{EncodeArgs, EncodeKwargs, ValueRef};
use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::Duration;

/// The items that an action answers with, from [`Call::stream`]: an iterator that waits for each.
///
/// Items come in the order in which the app sent them, each held where the worker put it until it is dropped: then there is
/// room for further ones. An error ends the stream, after the items that were sent before it; where the worker died, after as
/// many of these, without a gap, as can still be read. An action that answers with one result is a stream of that one item.
///
/// Dropping it cancels the call: the app is told, and what it sends no longer arrives. `Send`: it may be taken from another
/// thread than it was opened on. It holds one of its client's 64 calls until it, and every item of it, is dropped.
#[derive(Debug)]
pub struct Stream {
    /// Until the end was seen.
    flight: Option<Flight>,
    /// Longest wait for the next item.
    item_ns: Option<u64>,
    /// What the app returned behind the items.
    value: Option<Response>,
    /// What was found by who waited for something else.
    peeked: Option<Found>,
}

/// What one look at a stream found.
#[derive(Debug)]
enum Found {
    /// What an app says first in a context.
    Started(Response),
    Item(Response),
    /// That no further item comes, while the call goes on.
    Closed,
    /// The end, with what the app returned.
    End(Response),
}

impl<A: EncodeArgs, K: EncodeKwargs> Call<'_, A, K> {
    /// Sends the call, and takes what it answers item by item. Never blocks for a worker.
    ///
    /// The pool's limit for a call does not hold for a stream; its own do: [`deadline_ms`](Call::deadline_ms) for the whole,
    /// [`item_ms`](Call::item_ms) between two items, [`queue_ms`](Call::queue_ms) until a worker takes it. It is not sent
    /// twice, even if it is idempotent.
    ///
    /// # Errors
    /// As [`submit`](Call::submit).
    pub fn stream(self) -> Result<Stream> {
        let item_ns = self.item_ns();
        let flight = self.open(STREAM)?.taking_items();
        Ok(Stream::new(flight, item_ns))
    }
}

impl Stream {
    pub(super) fn new(flight: Flight, item_ns: Option<u64>) -> Stream {
        Stream { flight: Some(flight), item_ns, value: None, peeked: None }
    }

    /// Waits for what an app says first in a context; `None` if it says something else first.
    pub(super) fn until_started(&mut self) -> Result<Option<Response>> {
        match self.found(None, false) {
            Some(Ok(Found::Started(value))) => Ok(Some(value)),
            Some(Ok(found)) => {
                self.peeked = Some(found);
                Ok(None)
            }
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }

    /// The stream in shared memory, once it is known.
    pub(super) fn incoming(&self) -> Option<&Arc<Incoming>> {
        self.flight.as_ref()?.incoming()
    }

    /// The next item; `None` after the last one. Waits no longer than `timeout`: then the error is a `Deadline` of
    /// [`Limit::Item`], and the stream goes on. Blocks the calling thread.
    ///
    /// # Errors
    /// The outcome of a call that failed, once, after its items; then `None`.
    pub fn next_for(&mut self, timeout: Duration) -> Result<Option<Response>> {
        match self.take(Some(clock::after(timeout))) {
            Some(found) => found,
            None => Err(Kind::Deadline { started: true, limit: Limit::Item }.into()),
        }
    }

    /// The next item if it is there; `None` if not, `Some(Ok(None))` after the last one. Does not block for a worker.
    ///
    /// # Errors
    /// As [`next_for`](Stream::next_for).
    pub fn try_next(&mut self) -> Option<Result<Option<Response>>> {
        self.take(Some(0))
    }

    /// Waits for the end, and drops the items that come before it: what the app returned, if it sent items itself
    /// ([`Ctx::sink`](crate::Ctx::sink)), or answered with one result; else a result that is nothing. Blocks the calling thread.
    ///
    /// # Errors
    /// The outcome of a call that failed; `BadRequest` if that, or the one result of an action that does not stream, was given
    /// before.
    pub fn wait(mut self) -> Result<Response> {
        loop {
            match self.found(None, true) {
                Some(Ok(Found::Item(item))) if self.has_ended() => return Ok(item),
                Some(Ok(Found::Started(item) | Found::Item(item))) => drop(item),
                Some(Ok(Found::Closed)) => {}
                Some(Ok(Found::End(value))) => return Ok(value),
                Some(Err(error)) => return Err(error),
                None => {
                    let gone = || Error::bad_request("the stream has ended already, and its end was taken");
                    return self.value.take().ok_or_else(gone);
                }
            }
        }
    }

    /// Waits for the end as [`wait`](Stream::wait) does, but no longer than `timeout`; `None` if it has not come by then, and the
    /// stream goes on. [`value`](Stream::value) is what the app returned. Blocks the calling thread.
    ///
    /// # Errors
    /// As [`wait`](Stream::wait).
    pub fn wait_for(&mut self, timeout: Duration) -> Option<Result<()>> {
        let limit = clock::after(timeout);
        while !self.has_ended() {
            match self.found(Some(limit), true)? {
                Ok(Found::Item(value)) if self.has_ended() => self.keep(value),
                Ok(Found::Started(item) | Found::Item(item)) => drop(item),
                Ok(Found::Closed) => {}
                Ok(Found::End(value)) => self.keep(value),
                Err(error) => return Some(Err(error)),
            }
            // However many items there are.
            if !self.has_ended() && clock::monotonic_ns() >= limit {
                return None;
            }
        }
        Some(Ok(()))
    }

    /// What the app returned behind the items, once the end was seen, unless that is nothing; after
    /// [`wait_for`](Stream::wait_for) also the one result of an action that does not stream.
    pub fn value(&self) -> Option<&Response> {
        self.value.as_ref().filter(|value| !is_nothing(value))
    }

    /// Whether there is nothing to come any more: the end or an error was given, or the one result of an action that does not
    /// stream. After [`next_for`](Stream::next_for) has failed with a `Deadline` it tells whose time that was: `false`, and it
    /// was that of the wait.
    pub fn has_ended(&self) -> bool {
        self.flight.is_none() && self.peeked.is_none()
    }

    /// Cancels the call, unless it has ended: the items that were not taken are dropped. The app is told
    /// ([`Ctx::is_cancelled`](crate::Ctx::is_cancelled)), and woken where it waits for room. Does not wait for it.
    pub fn cancel(mut self) {
        self.give_up();
    }

    /// A handle that cancels the call from another thread, while this one waits for items.
    pub fn canceller(&self) -> Canceller {
        match &self.flight {
            Some(flight) if flight.check_process().is_ok() => flight.canceller(),
            _ => Canceller::default(),
        }
    }

    /// The next item or the end, within `limit`, monotonic nanoseconds; `None` if there is neither by then.
    fn take(&mut self, limit: Option<u64>) -> Option<Result<Option<Response>>> {
        if self.has_ended() {
            return Some(Ok(None));
        }
        match self.found(limit, false)? {
            Ok(Found::Started(item) | Found::Item(item)) => Some(Ok(Some(item))),
            Ok(Found::Closed) => Some(Ok(None)),
            Ok(Found::End(value)) => {
                self.keep(value);
                Some(Ok(None))
            }
            Err(error) => Some(Err(error)),
        }
    }

    /// Keeps what the app returned. Nothing is not worth a call that stays taken.
    fn keep(&mut self, value: Response) {
        self.value = if is_nothing(&value) { value.without_call() } else { Some(value) };
    }

    /// What comes next, within `limit`. A stream that is closed is waited for to its end, or not.
    fn found(&mut self, limit: Option<u64>, to_the_end: bool) -> Option<Result<Found>> {
        if let Some(found) = self.peeked.take() {
            return Some(Ok(found));
        }
        let flight = self.flight.as_mut()?;
        if let Err(forked) = flight.check_process() {
            self.flight = None;
            return Some(Err(forked));
        }
        let patience = self.item_ns.map(|ns| clock::monotonic_ns().saturating_add(ns));
        let until = clock::earlier(limit, patience);
        let is_closed =
            |flight: &Flight| !to_the_end && flight.incoming().is_some_and(|incoming| incoming.is_closed());
        if is_closed(flight) {
            return Some(Ok(Found::Closed)); // for good
        }
        let ended = loop {
            match next(flight) {
                Ok(Some(found)) => return Some(Ok(found)),
                Ok(None) => {}
                Err(ended) => break ended,
            }
            if is_closed(flight) {
                return Some(Ok(Found::Closed));
            }
            let ended = match until {
                Some(0) => flight.look(Roused::Slice),
                until => flight.watch(until),
            };
            match ended {
                Some(Ended::News) => {}
                // What was sent before the end came before it; what comes behind it is none of it.
                Some(ended) => match finish(flight, &ended).and_then(|()| next(flight)) {
                    Ok(Some(found)) => return Some(Ok(found)),
                    Ok(None) => break ended,
                    Err(trouble) => break trouble,
                },
                None if patience.is_some_and(|patience| clock::monotonic_ns() >= patience) => {
                    break Ended::Idle;
                }
                None => return None, // then it was the limit that passed
            }
        };
        let flight = self.flight.take()?;
        let has_items = flight.incoming().is_some();
        Some(flight.end(ended).map(|value| if has_items { Found::End(value) } else { Found::Item(value) }))
    }

    fn give_up(&mut self) {
        if let Some(flight) = self.flight.take()
            && flight.check_process().is_ok()
        {
            drop(flight.cancel());
        }
    }
}

/// A call whose outcome is certain sends no more.
pub(super) fn finish(flight: &mut Flight, ended: &Ended) -> std::result::Result<(), Ended> {
    match ended {
        Ended::Settled(_) | Ended::GivenUp => flight.finish(),
        _ => Ok(()),
    }
}

/// What has come next.
fn next(flight: &mut Flight) -> std::result::Result<Option<Found>, Ended> {
    Ok(arrival(flight)?.map(|arrival| match arrival {
        Arrival::Item(item) => Found::Item(item),
        Arrival::Started(value) => Found::Started(value),
    }))
}

/// The next item that is there, of a call that is no context.
pub(super) fn next_item(flight: &mut Flight) -> std::result::Result<Option<Response>, Ended> {
    Ok(arrival(flight)?.map(|(Arrival::Item(item) | Arrival::Started(item))| item))
}

fn arrival(flight: &mut Flight) -> std::result::Result<Option<Arrival>, Ended> {
    // One that always finds an item never waits.
    flight.overdue().map_or(Ok(()), Err)?;
    flight.pop()
}

fn is_nothing(value: &Response) -> bool {
    matches!(value.value(), Ok(ValueRef::None))
}

impl Iterator for Stream {
    type Item = Result<Response>;

    fn next(&mut self) -> Option<Result<Response>> {
        loop {
            if let Some(found) = self.take(None) {
                return found.transpose();
            }
        }
    }
}

impl FusedIterator for Stream {}

impl Drop for Stream {
    fn drop(&mut self) {
        self.give_up();
    }
}

const _: () = {
    const fn of_any_thread<T: Send>() {}
    of_any_thread::<Stream>();
};
