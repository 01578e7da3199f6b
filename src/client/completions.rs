//! Many calls in flight behind one descriptor, for a host with an event loop of its own.

use super::connection::{Client, Shared};
use super::flights::{Flights, Found, Listed, Look};
use super::lane::Lane;
use super::{Call, Response};
use crate::error::{Error, Result};
use crate::primitive::Ordering;
use crate::ring::Armed;
use crate::shm::STREAM;
use crate::sys::event::Event;
use crate::sys::fd::Inheritable;
use crate::sys::timer::Timer;
use crate::sys::watch_list::{Readable, WatchList};
use crate::wire::{EncodeArgs, EncodeKwargs};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The outcomes of calls that were submitted to it, in the order in which they are found, and a descriptor that is
/// readable when there may be one: from [`Client::completions`].
///
/// The loop: watch the descriptor for reading, level- or edge-triggered. When it is readable, call
/// [`next_completion`](Completions::next_completion) until it returns `None`. Nothing else is to be done with the
/// descriptor; it also becomes readable at the next deadline and when the supervising process dies, and now and then
/// for nothing.
///
/// Streams go through the same loop ([`Call::stream_to`]): each item is a completion with [`more`](Completion::more), one a
/// look, and calls and streams take turns. An item lies in the worker's memory until its response is dropped; when there is
/// no room for further ones, that worker waits. So take what is needed and drop it.
///
/// `Send + Sync`: calls may be submitted and cancelled on any thread, while one waits at the descriptor. Dropping it
/// cancels what is in flight. In a forked copy of the process it has nothing.
///
/// ```no_run
/// # fn main() -> stokehold::Result<()> {
/// # let pool = stokehold::Pool::builder().start()?;
/// # let wait_until_readable = |_: std::os::fd::BorrowedFd<'_>| {};
/// use std::os::fd::AsFd;
///
/// let client = pool.client()?;
/// let completions = client.completions()?;
/// client.call("sums:Sums", "add").args((2, 3)).submit_to(&completions, 7)?;
/// client.call("sums:Sums", "series").args((2, 3)).stream_to(&completions, 8)?;
/// while completions.in_flight() > 0 {
///     while let Some(done) = completions.next_completion() {
///         match done.outcome {
///             Ok(item) if done.more => println!("{} goes on: {}", done.token, item.parse::<i64>()?),
///             Ok(last) => println!("{} has ended: {:?}", done.token, last.value()?),
///             Err(error) => println!("{} has failed: {error}", done.token),
///         }
///     }
///     wait_until_readable(completions.as_fd());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Completions {
    shared: Arc<Shared>,
    descriptor: Inheritable<WatchList>,
    event: Inheritable<Event>,
    timer: Inheritable<Timer>,
    state: Mutex<State>,
}

/// How one call of a [`Completions`] ended, or an item of one that goes on.
#[derive(Debug)]
pub struct Completion {
    /// What it was submitted with.
    pub token: u64,
    /// Its one outcome: any of [`Code`](crate::Code) 1 to 12 where it failed. With `more` an item, never an error.
    pub outcome: Result<Response>,
    /// Whether further ones with this token follow: only after [`Call::stream_to`], until the end.
    pub more: bool,
}

impl Completion {
    fn last(token: u64, outcome: Result<Response>) -> Completion {
        Completion { token, outcome, more: false }
    }
}

#[derive(Debug, Default)]
struct State {
    flights: Flights,
    /// Outcomes of calls that were cancelled, which nobody has fetched yet.
    ended: VecDeque<Completion>,
    /// Calls that are being cancelled.
    ending: usize,
    /// What the timer is set to.
    timer_ns: Option<u64>,
    /// Somebody was told that there is nothing, and may still wait at the descriptor, whoever took outcomes since: the
    /// lanes whose flags were set for that.
    armed: Vec<Arc<Lane>>,
    /// The descriptor was readable, and not everything that may be the reason was looked at yet.
    alarmed: bool,
    /// The supervising process is dead.
    orphaned: bool,
}

/// What the descriptor watches.
const EVENT: u32 = 0;
const TIMER: u32 = 1;
const ARBITER: u32 = 2;

impl Client {
    /// A queue of completions with a descriptor. One at a time for each client (clones are the same client), since a
    /// worker wakes a client and not a loop: a host with several loops connects once for each.
    ///
    /// Takes three descriptors.
    ///
    /// # Errors
    /// `BadRequest` while there is another; `Os` when there are no more descriptors; `ShuttingDown` or `ArbiterDied` where the
    /// supervising process is gone.
    pub fn completions(&self) -> Result<Completions> {
        let shared = &self.shared;
        shared.check()?;
        if shared.has_completions.swap(true, Ordering::AcqRel) {
            return Err(Error::bad_request("the client has completions already"));
        }
        Completions::open(shared).inspect_err(|_| shared.has_completions.store(false, Ordering::Release))
    }
}

impl<A: EncodeArgs, K: EncodeKwargs> Call<'_, A, K> {
    /// Sends the call; its outcome comes out of `completions`, with this token, exactly once. Never blocks for a worker.
    /// It is not sent twice, even if it is idempotent.
    ///
    /// # Errors
    /// As with [`submit`](Call::submit), and `BadRequest` if `completions` is another client's. Then no completion comes.
    pub fn submit_to(self, completions: &Completions, token: u64) -> Result<()> {
        if !self.is_of(&completions.shared) {
            return Err(Error::bad_request("the completions are another client's"));
        }
        completions.add(Listed::call(token, self.launch()?));
        Ok(())
    }

    /// Sends the call; what it answers comes out of `completions`, item by item, each with this token: first the items, in
    /// order, with [`more`](Completion::more), then the end without, exactly once. The end is what the app returned behind its
    /// items, or a result that is nothing, or an error. An action that answers with one result has no items, and that
    /// result is the end. Never blocks for a worker.
    ///
    /// Its limits are those of [`stream`](Call::stream). The time of [`item_ms`](Call::item_ms) counts from when the item before
    /// was taken, the first one's from now.
    ///
    /// # Errors
    /// As with [`submit_to`](Call::submit_to).
    pub fn stream_to(self, completions: &Completions, token: u64) -> Result<()> {
        if !self.is_of(&completions.shared) {
            return Err(Error::bad_request("the completions are another client's"));
        }
        let item_ns = self.item_ns();
        completions.add(Listed::stream(token, self.open(STREAM)?, item_ns));
        Ok(())
    }
}

impl Completions {
    fn open(shared: &Arc<Shared>) -> Result<Completions> {
        let event = shared.event()?;
        let (descriptor, timer) = (WatchList::new()?, Timer::new()?);
        descriptor.add(event.as_fd(), EVENT)?;
        descriptor.add(timer.as_fd(), TIMER)?;
        descriptor.add(shared.arbiter.pidfd(), ARBITER)?;
        let completions = Completions {
            shared: shared.clone(),
            descriptor: descriptor.into(),
            event: event.into(),
            timer: timer.into(),
            state: Mutex::default(),
        };
        // Who waits at the descriptor first, and asks then, is to be woken like everybody.
        completions.arm(&mut completions.state());
        Ok(completions)
    }

    /// The next outcome or item; `None` if there is none yet, and then the descriptor becomes readable when there may be one.
    /// Does not block for a worker; but to take an outcome may need an answer of the supervising process: where a result's
    /// memory is that is met for the first time, or a lane for a damaged one.
    ///
    /// It may be called before the descriptor is readable. `None` costs a system call, and one for each reason why the
    /// descriptor was readable. Deadlines are enforced here: a call that nobody asks for is not ended.
    pub fn next_completion(&self) -> Option<Completion> {
        if self.shared.check_process().is_err() {
            return None;
        }
        let mut state = self.state();
        if let Some(completion) = state.ended.pop_front() {
            return Some(completion);
        }
        let found = state.look().or_else(|| self.arm(&mut state));
        drop(state); // to end a call may take a while
        Some(match found? {
            Found::Item(token, item) => Completion { token, outcome: Ok(item), more: true },
            Found::End(Listed { token, flight, .. }, ended) => Completion::last(token, flight.end(ended)),
        })
    }

    /// Cancels the calls and streams with this token that are in flight. Their outcomes come out of
    /// [`next_completion`](Completions::next_completion): `Cancelled`, unless another came first. The workers are not
    /// interrupted; what they answer, and items that nobody took, are dropped. Where there is no such call nothing happens.
    pub fn cancel(&self, token: u64) {
        while self.shared.check_process().is_ok() {
            let mut state = self.state();
            let Some(flight) = state.flights.take(token) else { return };
            state.ending += 1;
            drop(state);
            let outcome = flight.cancel();
            let mut state = self.state();
            state.ending -= 1;
            state.ended.push_back(Completion::last(token, outcome));
            drop(state);
            self.event.signal();
        }
    }

    /// How many outcomes are still to come; a stream has one, its end. None in a forked copy.
    pub fn in_flight(&self) -> usize {
        if self.shared.check_process().is_err() {
            return 0; // nor is the lock to be waited for: who holds it may not exist here
        }
        let state = self.state();
        state.flights.len() + state.ended.len() + state.ending
    }

    fn add(&self, mut listed: Listed) {
        let mut state = self.state();
        // Who waits could not look at this one, and took every alarm so far for other calls': of its items so far, that its
        // lane is damaged or the supervising process dead will not be said again. Nobody waits: who asks next finds it.
        if !state.armed.is_empty() {
            let is_due = listed.is_due();
            let is_armed = state.armed.iter().any(|armed| Arc::ptr_eq(armed, listed.flight.lane()));
            if is_due || !is_armed {
                self.event.signal();
            } else {
                self.set_timer(&mut state, listed.due_ns());
            }
        }
        state.flights.push(listed);
    }

    /// Nothing was found: announces that this will be waited for, and looks once more.
    fn arm(&self, state: &mut State) -> Option<Found> {
        let readable = self.descriptor.look().unwrap_or_default();
        state.alarmed |= readable.any();
        let mut lanes = vec![self.shared.lane.load_full()];
        for lane in state.flights.iter().map(|listed| listed.flight.lane()) {
            if !lanes.iter().any(|known| Arc::ptr_eq(known, lane)) {
                lanes.push(lane.clone());
            }
        }
        if readable.has(TIMER) {
            state.timer_ns = None;
        }
        if readable.has(ARBITER) {
            state.orphaned = true;
            self.shared.arbiter.is_dead(); // remembered there
        }
        let flags = lanes.iter().map(|lane| lane.control.armed());
        let found = Armed::arm(|| self.drain(readable), flags, || state.look());
        state.armed = lanes;
        if found.is_some() {
            self.event.signal(); // there may be more, and another thread may wait for it
        } else {
            let due = state.flights.iter().filter_map(Listed::due_ns).min();
            self.set_timer(state, due);
        }
        found
    }

    /// Makes the descriptor unreadable.
    fn drain(&self, readable: Readable) {
        if readable.has(EVENT) {
            self.event.drain();
        }
        if readable.has(TIMER) {
            self.timer.drain();
        }
        if readable.has(ARBITER) {
            // It would stay readable for ever.
            let _ = self.descriptor.remove(self.shared.arbiter.pidfd());
        }
    }

    /// Has the descriptor become readable by then. A timer that is set to an earlier time is left alone: to be woken
    /// once for nothing costs less than to set it for each call.
    fn set_timer(&self, state: &mut State, due: Option<u64>) {
        let Some(due) = due else { return };
        if state.timer_ns.is_none_or(|set| due < set) {
            match self.timer.set(due) {
                Ok(()) => state.timer_ns = Some(due),
                Err(_) => self.event.signal(), // a busy loop keeps deadlines, too
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn look(&mut self) -> Option<Found> {
        // Of the arbiter's death the descriptor tells.
        let look = if self.alarmed || self.orphaned { Look::Around } else { Look::Near };
        let found = self.flights.find(look);
        self.alarmed &= found.is_some();
        found
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        if self.shared.check_process().is_err() {
            return; // the calls are the original's
        }
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        for listed in state.flights.take_all() {
            drop(listed.flight.cancel());
        }
        self.shared.has_completions.store(false, Ordering::Release);
    }
}

impl AsFd for Completions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl AsRawFd for Completions {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

const _: () = {
    const fn shared_by_threads<T: Send + Sync>() {}
    shared_by_threads::<Completions>();
};
