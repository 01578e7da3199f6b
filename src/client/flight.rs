//! A call that was sent, and the one place where it is decided which outcome it has.

use super::Response;
use super::connection::Shared;
use super::lane::Lane;
use super::outcome;
use super::waiter::{Roused, Waiter};
use crate::error::{CancelledBy, Cause, Error, Kill, Kind, Result, Spent};
use crate::ring::{CallLine, Cancel, Generation, Life, Reason, State, Word};
use crate::shm::{Deadline, LaneState, OwnRecord, SlotState};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// Why a call is watched no longer.
#[derive(Debug)]
pub(super) enum Ended {
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
/// How often a call that is only looked at is looked at in earnest.
const LOOK_EVERY_NS: u64 = 20_000_000;

/// A call that was published: the promise that exactly one outcome comes of it.
#[derive(Debug)]
pub(super) struct Flight {
    shared: Arc<Shared>,
    lane: Arc<Lane>,
    call: usize,
    generation: Generation,
    deadline: Deadline,
    /// When that was counted from.
    sent_ns: u64,
    /// Since when its worker is known to be dying of it is not known what.
    dying_since: Option<u64>,
    /// When [`look`](Flight::look) last looked beyond the word.
    looked_ns: u64,
}

impl Flight {
    pub(super) fn new(
        shared: Arc<Shared>,
        lane: Arc<Lane>,
        call: usize,
        generation: Generation,
        deadline: Deadline,
        sent_ns: u64,
    ) -> Flight {
        Flight { shared, lane, call, generation, deadline, sent_ns, dying_since: None, looked_ns: 0 }
    }

    pub(super) fn check_process(&self) -> Result<()> {
        self.shared.check_process()
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.lane
    }

    pub(super) fn glance(&self) -> u64 {
        self.lane.line(self.call).glance()
    }

    /// Waits for the outcome.
    #[inline]
    pub(super) fn wait(mut self) -> Result<Response> {
        loop {
            match self.watch(None) {
                Some(Ended::Settled(word)) => {
                    let times = self.times();
                    return self.settled(word).map_err(|error| times.tell(error));
                }
                Some(ended) => return self.end(ended),
                None => {} // without a limit it watches on
            }
        }
    }

    /// Watches the word until there is a reason to end the call, or until `limit`, monotonic nanoseconds: then `None`.
    #[inline]
    pub(super) fn watch(&mut self, limit: Option<u64>) -> Option<Ended> {
        let mut waiter = Waiter::new(&self.shared, &self.lane, self.call);
        let mut dying_since = self.dying_since;
        let until = match (self.deadline_ns(), limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        loop {
            let roused = waiter.wait(until);
            let word = match self.read() {
                Ok(word) => word,
                Err(ended) => return Some(ended),
            };
            if until.is_some_and(|until| clock::monotonic_ns() >= until) {
                drop(waiter);
                self.dying_since = dying_since;
                return self.look(Roused::Slice);
            }
            if let Some(ended) = self.beyond(word, roused, &mut dying_since) {
                return Some(ended);
            }
            if dying_since.is_some() {
                waiter.look_soon();
            }
        }
    }

    /// One look at the word, and now and then around it, as after a wait that ended so: the reason to end the call, if
    /// there is one. Does not block.
    pub(super) fn look(&mut self, roused: Roused) -> Option<Ended> {
        if !CallLine::is_pending(self.glance()) {
            return self.read().err();
        }
        if let Some(ended) = self.expired() {
            return Some(ended);
        }
        let now = clock::coarse_ns();
        let is_due = now.saturating_sub(self.looked_ns) >= LOOK_EVERY_NS;
        if is_due { self.look_around(roused) } else { None }
    }

    /// One look at everything that may end the call. Does not block.
    pub(super) fn look_around(&mut self, roused: Roused) -> Option<Ended> {
        self.looked_ns = clock::coarse_ns();
        let word = match self.read() {
            Ok(word) => word,
            Err(ended) => return Some(ended),
        };
        let mut dying_since = self.dying_since;
        let ended = self.expired().or_else(|| self.beyond(word, roused, &mut dying_since));
        self.dying_since = dying_since;
        ended
    }

    /// When it has to be looked at again although nobody announced anything, monotonic nanoseconds.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let known = self.dying_since.map(|since| since + CAUSE_WAIT_NS);
        match (self.deadline_ns(), known) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// What became of the call whose watch ended so.
    pub(super) fn end(self, ended: Ended) -> Result<Response> {
        let times = self.times();
        let outcome = match ended {
            Ended::Settled(word) => self.settled(word),
            Ended::Damaged(why) => self.damaged(&why),
            Ended::Expired => self.give_up(|started| Kind::Deadline { started }),
            Ended::ArbiterDied => self.give_up(|started| Kind::ArbiterDied { started }),
            Ended::WorkerDying(life) => {
                let (pid, cause) = self.death(life);
                self.give_up(|started| Kind::WorkerDied { pid, cause, started })
            }
        };
        outcome.map_err(|error| times.tell(error))
    }

    /// Before the line is given away.
    #[inline]
    fn times(&self) -> Times {
        Times { sent_ns: self.sent_ns, begun_ns: self.lane.line(self.call).begun_ns() }
    }

    /// Ends the call because its caller wants no outcome but this, unless another came first.
    pub(super) fn cancel(self) -> Result<Response> {
        self.give_up(|started| Kind::Cancelled { by: CancelledBy::Caller, started })
    }

    /// The word while nobody has ended the call.
    #[inline]
    fn read(&self) -> std::result::Result<Word, Ended> {
        match self.lane.line(self.call).look() {
            Ok(word) if word.generation() != self.generation => {
                Err(Ended::Damaged("a call's generation moved by itself".into()))
            }
            Ok(word) if matches!(word.state(), State::Queued | State::Running) => Ok(word),
            Ok(word) => Err(Ended::Settled(word)),
            Err(illegal) => Err(Ended::Damaged(illegal.to_string().into())),
        }
    }

    fn expired(&self) -> Option<Ended> {
        self.deadline_ns().filter(|deadline| clock::monotonic_ns() >= *deadline).map(|_| Ended::Expired)
    }

    /// Its deadline as it stands now: the pool's is put off when the app says that it is at work.
    #[inline]
    fn deadline_ns(&self) -> Option<u64> {
        match self.lane.line(self.call).alive_ns() {
            0 => self.deadline.0,
            // A time from before this call changes nothing: the pool's limit was counted from later.
            alive => {
                let (alive, limit) = (alive.min(clock::monotonic_ns()), self.lane.requests.limit(self.call));
                self.deadline.put_off(limit, alive, self.shared.timeout_ns).0
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
                if self.deadline_ns().is_none_or(|deadline| clock::monotonic_ns() < deadline) =>
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
    fn beyond(&self, word: Word, roused: Roused, dying_since: &mut Option<u64>) -> Option<Ended> {
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
        let is_dead = match roused {
            Roused::Slice => self.shared.arbiter.is_dead(),
            _ => self.shared.arbiter.is_known_dead(),
        };
        is_dead.then_some(Ended::ArbiterDied)
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

/// When a call was sent, and when its worker says that it began.
#[derive(Clone, Copy, Debug)]
struct Times {
    sent_ns: u64,
    begun_ns: u64,
}

impl Times {
    /// Adds to a deadline that passed where the time went. What the line says is a hint, by a clock that may be a little
    /// behind, and may be of an earlier call.
    #[cold]
    fn tell(self, error: Error) -> Error {
        let Kind::Deadline { started } = *error.kind() else { return error };
        let Times { sent_ns, begun_ns } = self;
        let now = clock::monotonic_ns().max(sent_ns);
        let ns = Duration::from_nanos;
        let spent = match started {
            false => Spent { queued: ns(now - sent_ns), ran: None },
            true if begun_ns.saturating_add(clock::COARSE_NS) >= sent_ns && begun_ns <= now => {
                let begun_ns = begun_ns.max(sent_ns);
                Spent { queued: ns(begun_ns - sent_ns), ran: Some(ns(now - begun_ns)) }
            }
            true => return error,
        };
        error.with_spent(spent)
    }
}
