//! A call in flight, and the one place where it is decided which outcome it has.

use super::Response;
use super::connection::Shared;
use super::lane::Lane;
use super::outcome;
use super::waiter::{Roused, Waiter};
use crate::error::{CancelledBy, Cause, Error, Kill, Kind, Result};
use crate::ring::{CallLine, Cancel, Generation, Life, Reason, State, Word};
use crate::shm::{Deadline, LaneState, OwnRecord, SlotState};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use std::borrow::Cow;
use std::sync::Arc;

/// A submitted call. Its outcome is taken with [`wait`](Pending::wait); dropping it cancels the call.
#[derive(Debug)]
pub struct Pending {
    flight: Option<Flight>,
}

impl Pending {
    pub(super) fn new(flight: Flight) -> Pending {
        Pending { flight: Some(flight) }
    }

    /// Waits for the outcome. Blocks the calling thread.
    ///
    /// # Errors
    /// Any of the outcomes of [`Code`](crate::Code) 1 to 10.
    pub fn wait(mut self) -> Result<Response> {
        match self.flight.take() {
            Some(flight) => {
                flight.shared.check_process()?;
                flight.wait()
            }
            None => Err(Error::bad_request("the outcome was taken already")),
        }
    }

    /// Whether the outcome is there, so that [`wait`](Pending::wait) would not block.
    pub fn is_ready(&self) -> bool {
        self.flight
            .as_ref()
            .is_none_or(|flight| !flight.shared.is_original() || !CallLine::is_pending(flight.glance()))
    }

    /// Cancels the call, unless its outcome came first: then it is that outcome. The worker is not interrupted; what
    /// it answers is dropped.
    pub fn cancel(mut self) -> Result<Response> {
        match self.flight.take() {
            Some(flight) => {
                flight.shared.check_process()?;
                flight.give_up(|started| Kind::Cancelled { by: CancelledBy::Caller, started })
            }
            None => Err(Error::bad_request("the outcome was taken already")),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // The call is the original's: a forked copy has no such memory, and no right to end it.
        if let Some(flight) = self.flight.take().filter(|flight| flight.shared.is_original()) {
            drop(flight.give_up(|started| Kind::Cancelled { by: CancelledBy::Caller, started }));
        }
    }
}

/// Why a call is watched no longer.
#[derive(Debug)]
enum Ended {
    /// Its word left QUEUED and RUNNING.
    Settled(Word),
    /// The lane is damaged.
    Damaged(Cow<'static, str>),
    /// Its deadline passed.
    Expired,
    /// The supervising process is gone.
    ArbiterDied,
    /// The worker that runs it is dying.
    WorkerDying(Life),
}

/// How long a caller whose worker is dying waits for the cause before it does without.
const CAUSE_WAIT_NS: u64 = 20_000_000;

/// A call that was published: the promise that exactly one outcome comes of it.
#[derive(Debug)]
pub(super) struct Flight {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    call: usize,
    generation: Generation,
    deadline: Deadline,
}

impl Flight {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: Arc<Lane>,
        call: usize,
        generation: Generation,
        deadline: Deadline,
    ) -> Flight {
        Flight { shared, lane, call, generation, deadline }
    }

    fn glance(&self) -> u64 {
        self.lane.line(self.call).glance()
    }

    /// Waits for the outcome.
    #[inline]
    pub(super) fn wait(self) -> Result<Response> {
        match self.watch() {
            Ended::Settled(word) => self.settled(word),
            Ended::Damaged(why) => self.damaged(&why),
            Ended::Expired => self.give_up(|started| Kind::Deadline { started }),
            Ended::ArbiterDied => self.give_up(|started| Kind::ArbiterDied { started }),
            Ended::WorkerDying(life) => {
                let (pid, cause) = self.death(life);
                self.give_up(|started| Kind::WorkerDied { pid, cause, started })
            }
        }
    }

    /// Watches the word until there is a reason to end the call.
    #[inline]
    fn watch(&self) -> Ended {
        let mut waiter = Waiter::new(&self.shared, &self.lane, self.call);
        let mut dying_since = None;
        loop {
            let roused = waiter.wait(self.deadline.0);
            let word = match self.lane.line(self.call).look() {
                Ok(word) if word.generation() == self.generation => word,
                Ok(_) => return Ended::Damaged("a call's generation moved by itself".into()),
                Err(illegal) => return Ended::Damaged(illegal.to_string().into()),
            };
            if !matches!(word.state(), State::Queued | State::Running) {
                return Ended::Settled(word);
            }
            if self.deadline.0.is_some_and(|deadline| clock::monotonic_ns() >= deadline) {
                return Ended::Expired;
            }
            if let Some(ended) = self.look_around(word, roused, &mut dying_since) {
                return ended;
            }
            if dying_since.is_some() {
                waiter.look_soon();
            }
        }
    }

    /// Ends the call as the canceller: whoever wins the swap delivers.
    fn give_up(self, kind: impl FnOnce(bool) -> Kind) -> Result<Response> {
        match self.lane.line(self.call).cancel(self.generation) {
            Ok(Cancel::NeverStarted) => {
                self.withdrawn();
                Err(kind(false).into())
            }
            Ok(Cancel::Abandoned(_)) => {
                self.abandoned();
                Err(kind(true).into())
            }
            Ok(Cancel::TooLate(word)) if word.generation() == self.generation => self.settled(word),
            Ok(Cancel::TooLate(_)) => self.damaged("a call's generation moved by itself"),
            Err(illegal) => self.damaged(&illegal.to_string()),
        }
    }

    /// The word left QUEUED and RUNNING: what that means.
    fn settled(self, word: Word) -> Result<Response> {
        match (word.state(), word.life()) {
            (State::Done, Some(life)) => {
                outcome::take(self.shared.clone(), self.lane.clone(), self.call, word, life)
                    .unwrap_or_else(|why| self.damaged(why))
            }
            (State::Lost, life) => {
                let kind = self.loss(word.reason(), life);
                match self.lane.release(self.call, word) {
                    Ok(()) => Err(kind.into()),
                    Err(illegal) => self.damaged(&illegal.to_string()),
                }
            }
            // Nobody but us abandons or frees our calls.
            _ => self.damaged("a call was given up that its caller did not give up"),
        }
    }

    /// Who a life was and why it died, as this call's caller has to understand it.
    fn death(&self, life: Life) -> (Option<u32>, Cause) {
        let registry = &self.shared.registry;
        let Some(death) = registry.death(life) else {
            // The place may have changed hands while it was read: then the life is not there any more.
            let pid = registry.slot_of(life).map(|(_, pid, _)| pid);
            let pid = pid.filter(|&pid| pid != 0 && registry.slot_of(life).is_some());
            return (pid, Cause::Unknown);
        };
        let cause = match death.cause {
            // The registry tells of the worker. A call whose own time was not up was there by accident.
            Cause::KilledByUs(Kill::Deadline)
                if self.deadline.0.is_none_or(|deadline| clock::monotonic_ns() < deadline) =>
            {
                Cause::KilledByUs(Kill::OthersDeadline)
            }
            cause => cause,
        };
        ((death.pid != 0).then_some(death.pid), cause)
    }

    fn loss(&self, reason: Option<Reason>, life: Option<Life>) -> Kind {
        use crate::error::Absence;
        let died = |started| {
            let (pid, cause) = life.map_or((None, Cause::Unknown), |life| self.death(life));
            Kind::WorkerDied { pid, cause, started }
        };
        match reason {
            Some(Reason::NotBegun) => died(false),
            Some(Reason::Begun) | None => died(true),
            Some(Reason::Degraded) => Kind::NoWorkers { reason: Absence::Degraded },
            Some(Reason::NoWorkers) => Kind::NoWorkers { reason: Absence::NoWorkers },
            Some(Reason::ShuttingDown) => Kind::ShuttingDown,
        }
    }

    /// Whether anything but the word says that no result will come.
    fn look_around(&self, word: Word, roused: Roused, dying_since: &mut Option<u64>) -> Option<Ended> {
        if self.shared.registry.lane(self.lane.index) != LaneState::Open(self.lane.serial)
            && !self.shared.arbiter.is_dead()
        {
            return Some(Ended::Damaged("another process found the lane damaged".into()));
        }
        if let (State::Running, Some(life)) = (word.state(), word.life())
            && self.is_dying(life)
        {
            // An exit with status 0 cannot be told before the process is gone: it is worth a wait.
            let since = *dying_since.get_or_insert_with(clock::monotonic_ns);
            let known = self.shared.registry.death(life).is_some();
            if known || clock::monotonic_ns() - since >= CAUSE_WAIT_NS {
                return Some(Ended::WorkerDying(life));
            }
        }
        // A system call: only when there was time for one.
        if roused == Roused::Slice && self.shared.arbiter.is_dead() {
            return Some(Ended::ArbiterDied);
        }
        None
    }

    /// Whether the arbiter knows that this life is dying. A hint: other threads of it may
    /// run on for a moment, and a result that it published wins.
    fn is_dying(&self, life: Life) -> bool {
        let registry = &self.shared.registry;
        registry.death(life).is_some()
            || registry.slot_of(life).is_none_or(|(state, ..)| state == SlotState::Dying)
    }

    /// The call is idle again and never ran.
    fn withdrawn(&self) {
        self.lane.requests.state(self.call, OwnRecord::Cancelled(self.generation), Deadline(None));
        self.lane.put_back(self.call, self.generation.next());
    }

    /// The caller has its answer, the worker still has the call.
    fn abandoned(&self) {
        self.lane.requests.state(self.call, OwnRecord::Cancelled(self.generation), Deadline(None));
        self.lane.line(self.call).bell.ring(&Kernel);
        self.lane.abandon(self.call);
    }

    /// Shared memory says what no correct process writes. This call ends, and its line is used no more; the lane is
    /// replaced.
    fn damaged(self, why: &str) -> Result<Response> {
        self.lane.requests.state(self.call, OwnRecord::Cancelled(self.generation), Deadline(None));
        self.shared.renew(&self.lane, why);
        Err(Kind::Protocol(why.to_owned().into()).into())
    }
}
