//! A call that was sent, and the one place where it is decided which outcome it has.

use super::Response;
use super::canceller::{Act, Canceller};
use super::deadlines::{Deadlines, Queueing, Times};
use super::ended::Ended;
use super::hold::Kept;
use super::incoming::{Arrival, Incoming, Trouble};
use super::items::Items;
use super::lane::Lane;
use super::outcome;
use super::outer::Ongoing;
use super::submission::Submission;
use super::waiter::{Roused, Waiter};
use crate::error::{CancelledBy, Cause, Error, Kill, Kind, Limit, Result};
use crate::ring::{CallLine, Cancel, Life, Reason, State, Word};
use crate::shm::{Deadline, LaneState, SlotState, StreamBlock};
use crate::sys::clock;
use crate::sys::futex::Kernel;
use std::sync::Arc;

/// How long a caller whose worker is dying waits for the cause before it does without.
const CAUSE_WAIT_NS: u64 = 20_000_000;
/// How often a call that is only looked at is looked at in earnest.
const LOOK_EVERY_NS: u64 = 20_000_000;

/// A call that was published: the promise that exactly one outcome comes of it.
#[derive(Debug)]
pub(super) struct Flight {
    sent: Submission,
    deadline: Deadline,
    queueing: Queueing,
    /// The call that it is made in.
    outer: Option<Arc<dyn Ongoing>>,
    /// When these were counted from.
    sent_ns: u64,
    /// Since when its worker is known to be dying of it is not known what.
    dying_since: Option<u64>,
    /// When [`look`](Flight::look) last looked beyond the word.
    looked_ns: u64,
    items: Items,
}

impl Flight {
    pub(super) fn new(sent: Submission, deadlines: Deadlines, outer: Option<Arc<dyn Ongoing>>) -> Flight {
        Flight {
            sent,
            deadline: deadlines.first,
            queueing: Queueing::new(deadlines.queue),
            outer,
            sent_ns: deadlines.sent_ns,
            dying_since: None,
            looked_ns: 0,
            items: Items::default(),
        }
    }

    /// The holder takes the items of a stream one by one.
    pub(super) fn taking_items(mut self) -> Flight {
        self.items.take_singly();
        self
    }

    /// The holder sends items to the app, too.
    pub(super) fn sending(mut self, outbox: StreamBlock) -> Flight {
        self.items.send_to(outbox);
        self
    }

    /// Where to.
    pub(super) fn outbox(&self) -> Option<&StreamBlock> {
        self.items.outbox()
    }

    /// The call that it is made in, if an app makes it.
    pub(super) fn outer(&self) -> Option<&Arc<dyn Ongoing>> {
        self.outer.as_ref()
    }

    /// When the call ends, if there is a limit for the whole.
    pub(super) fn limit_ns(&self) -> Option<u64> {
        self.deadline.0
    }

    /// The stream that the worker answers with, as far as is known.
    pub(super) fn incoming(&self) -> Option<&Arc<Incoming>> {
        self.items.incoming()
    }

    /// The next item that is there, for who takes them one by one.
    pub(super) fn pop(&mut self) -> std::result::Result<Option<Arrival>, Ended> {
        self.items.pop(&self.sent)
    }

    /// The call has ended: what was sent by now is all that its stream has.
    pub(super) fn finish(&mut self) -> std::result::Result<(), Ended> {
        self.items.finish(&self.sent)
    }

    /// Takes what has come of a stream whose items are to be one result. A reason to end the call, if there is one.
    #[inline]
    pub(super) fn gather(&mut self) -> Option<Ended> {
        if !self.is_to_gather() {
            return None;
        }
        self.items.gather(&self.sent).err()
    }

    #[inline]
    fn is_to_gather(&self) -> bool {
        self.items.may_be(self.sent.line()) && !self.items.are_taken()
    }

    pub(super) fn check_process(&self) -> Result<()> {
        self.sent.shared.check_process()
    }

    pub(super) fn lane(&self) -> &Arc<Lane> {
        &self.sent.lane
    }

    pub(super) fn canceller(&self) -> Canceller {
        Canceller::new(&self.sent)
    }

    pub(super) fn glance(&self) -> u64 {
        self.sent.line().glance()
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
                None => {} // does not happen without a limit
            }
        }
    }

    /// Watches the word until there is a reason to end the call, or until `limit`, monotonic nanoseconds: then `None`.
    #[inline]
    pub(super) fn watch(&mut self, limit: Option<u64>) -> Option<Ended> {
        loop {
            match self.watch_line(limit) {
                Some(Ended::News) if !self.items.are_taken() => {
                    // It may never sleep, so that nothing else is looked at.
                    if let Some(ended) = self.overdue().or_else(|| self.gather()) {
                        return Some(ended);
                    }
                    if limit.is_some_and(|limit| clock::monotonic_ns() >= limit) {
                        return None;
                    }
                }
                // Its time was over, and has been put off.
                None if limit.is_none_or(|limit| clock::monotonic_ns() < limit) => {}
                ended => return ended,
            }
        }
    }

    #[inline]
    fn watch_line(&mut self, limit: Option<u64>) -> Option<Ended> {
        let mut waiter = Waiter::new(&self.sent.shared, &self.sent.lane, self.sent.call);
        let mut dying_since = self.dying_since;
        let until = clock::earlier(self.deadline_ns(), limit);
        loop {
            let line = self.sent.line();
            let soon = clock::earlier(until, self.queueing.due_ns(line));
            let roused = waiter.wait(soon, self.items.news(line));
            self.queueing.withdraw_late(line, self.sent.generation);
            if self.has_news() {
                drop(waiter);
                self.dying_since = dying_since;
                return Some(Ended::News);
            }
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
    /// there is one. Who takes items looks for them itself, before and after. Does not block.
    pub(super) fn look(&mut self, roused: Roused) -> Option<Ended> {
        self.queueing.withdraw_late(self.sent.line(), self.sent.generation);
        if let Some(ended) = self.gather() {
            return Some(ended);
        }
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

    /// One look at everything that may end the call, except its items. Does not block.
    pub(super) fn look_around(&mut self, roused: Roused) -> Option<Ended> {
        self.looked_ns = clock::coarse_ns();
        self.queueing.withdraw_late(self.sent.line(), self.sent.generation);
        let word = match self.read() {
            Ok(word) => word,
            Err(ended) => return Some(ended),
        };
        let mut dying_since = self.dying_since;
        let ended = self.expired().or_else(|| self.beyond(word, roused, &mut dying_since));
        self.dying_since = dying_since;
        ended
    }

    /// Whether it goes on although its time, or the call that it is made in, is over.
    #[inline]
    pub(super) fn overdue(&self) -> Option<Ended> {
        if !CallLine::is_pending(self.glance()) {
            return None;
        }
        self.orphaned().or_else(|| self.expired())
    }

    /// Whether there may be an item that was not looked at.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        self.items.news(self.sent.line())()
    }

    /// When it has to be looked at again although nobody announced anything, monotonic nanoseconds.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let soon = clock::earlier(
            self.dying_since.map(|since| since + CAUSE_WAIT_NS),
            self.queueing.due_ns(self.sent.line()),
        );
        clock::earlier(self.deadline_ns(), soon)
    }

    /// What became of the call whose watch ended so.
    pub(super) fn end(self, ended: Ended) -> Result<Response> {
        let times = self.times();
        let outcome = match ended {
            // Whoever takes items looks for them first.
            Ended::News => self.cancel(),
            Ended::Unreadable(trouble) => self.unreadable(trouble),
            Ended::Overfull(error) => self.cut_short(|_| error, true),
            Ended::Idle => self.give_up(|started| Kind::Deadline { started, limit: Limit::Item }),
            Ended::Settled(word) => self.settled(word),
            Ended::GivenUp => self.given_up(),
            Ended::Damaged(why) => self.damaged(&why),
            Ended::Expired => self.give_up(|started| Kind::Deadline { started, limit: Limit::Call }),
            Ended::Withdrawn => self.taken_back(),
            Ended::Orphaned => self.give_up(|started| Kind::Cancelled { by: CancelledBy::Parent, started }),
            Ended::ArbiterDied => {
                let shared = self.sent.shared.clone();
                self.give_up(|started| shared.gone(started))
            }
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
        Times { sent_ns: self.sent_ns, begun_ns: self.sent.line().begun_ns() }
    }

    /// Ends the call because its caller wants no outcome but this, unless another came first.
    pub(super) fn cancel(self) -> Result<Response> {
        self.give_up(|started| Kind::Cancelled { by: CancelledBy::Caller, started }).map_err(Error::of_call)
    }

    /// The word while nobody has ended the call.
    #[inline]
    fn read(&self) -> std::result::Result<Word, Ended> {
        match self.sent.line().look() {
            _ if self.queueing.is_withdrawn() => Err(Ended::Withdrawn),
            Ok(word) if word.generation() != self.sent.generation => Err(Ended::GivenUp),
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
        let limit = || self.sent.lane.requests.limit(self.sent.call);
        self.deadline.as_of(self.sent.line().alive_ns(), limit, self.sent.shared.timeout_ns).0
    }

    /// Ends the call as the canceller: whoever wins the swap delivers.
    fn give_up<E: Into<Error>>(self, why: impl FnOnce(bool) -> E) -> Result<Response> {
        self.cut_short(why, false)
    }

    /// The same. Where an item cannot be had, an end that came meanwhile is none; nor is it where there are items that its
    /// holder was not given.
    fn cut_short<E: Into<Error>>(self, why: impl FnOnce(bool) -> E, lacks_items: bool) -> Result<Response> {
        if self.queueing.is_withdrawn() {
            return self.taken_back();
        }
        match self.sent.line().cancel(self.sent.generation) {
            Ok(Cancel::NeverStarted) => {
                self.withdrawn();
                Err(why(false).into())
            }
            Ok(Cancel::Abandoned(_)) => {
                self.abandoned();
                Err(why(true).into())
            }
            Ok(Cancel::TooLate(word)) if word.generation() == self.sent.generation => {
                // An end behind items that nobody took would pass for the end of those that were.
                let line = self.sent.line();
                let lacks_items = lacks_items || (self.items.are_taken() && self.items.are_there(line));
                match word.state() {
                    State::Done if lacks_items => self.let_go(word).and(Err(why(true).into())),
                    _ => self.settled(word),
                }
            }
            Ok(Cancel::TooLate(_)) => self.given_up(),
            Err(illegal) => self.damaged(&illegal.to_string()),
        }
    }

    fn taken_back(self) -> Result<Response> {
        self.withdrawn();
        Err(Kind::Deadline { started: false, limit: Limit::Queue }.into())
    }

    /// The word left QUEUED and RUNNING: what that means.
    fn settled(mut self, word: Word) -> Result<Response> {
        match (word.state(), word.life()) {
            (State::Done, Some(life)) => {
                if !self.is_to_gather() {
                    return self.done(word, life);
                }
                // The last items came before the end.
                match self.finish().and_then(|()| self.gather().map_or(Ok(()), Err)) {
                    Ok(()) => self.done(word, life),
                    Err(Ended::Unreadable(trouble)) => self.unreadable(trouble),
                    Err(Ended::Overfull(error)) => self.let_go(word).and(Err(error)),
                    Err(_) => self.damaged("a stream that has ended makes no sense"),
                }
            }
            // Everybody can write words; who is dead, only the arbiter says, and before it moves any.
            (State::Lost, Some(life)) if !self.has_died(life) => {
                self.damaged("a call was lost to a worker that lives")
            }
            (State::Lost, life) => {
                let kind = self.loss(word.reason(), life);
                self.let_go(word).and(Err(kind.into()))
            }
            _ => self.given_up(),
        }
    }

    fn done(self, word: Word, life: Life) -> Result<Response> {
        let Flight { sent, mut items, .. } = self;
        let key = sent.key();
        let gathered = items.gathered();
        outcome::take(Kept::ended(sent, items.incoming(), word), key, life, gathered)
    }

    /// The ended call's line is free, or will be with the last item.
    fn let_go(self, word: Word) -> Result<()> {
        Kept::ended(self.sent, self.items.incoming(), word).release()
    }

    /// An item of the stream cannot be read: the call is given up for that, unless it has ended.
    #[cold]
    fn unreadable(self, trouble: Trouble) -> Result<Response> {
        match trouble {
            Trouble::Here(error) => self.cut_short(|_| outcome::unreadable(error), true),
            Trouble::Gone => self.nonsense("an item's memory is not its worker's"),
            Trouble::Damaged(why) => self.nonsense(why),
        }
    }

    /// The call's worker has written what no correct one does, unless it is dead, or this process has spoilt its own memory.
    fn nonsense(self, why: &'static str) -> Result<Response> {
        let (sent, incoming) = (self.sent.clone(), self.items.incoming().cloned());
        let outcome = self.cut_short(|_| Kind::Protocol(why.into()), true);
        // Not before: its death would be another outcome.
        match incoming {
            Some(incoming) if incoming.is_spoilt() => sent.shared.renew(&sent.lane, why),
            Some(incoming) => sent.shared.accuse(incoming.life(), why),
            None => {}
        }
        outcome
    }

    /// It was given up, and not by its holder: nobody but a handle of this process may.
    #[cold]
    fn given_up(self) -> Result<Response> {
        let started = match self.sent.lane.act(self.sent.call) {
            Act::Withdrew => {
                self.withdrawn();
                false
            }
            Act::Abandoned => {
                self.abandoned();
                true
            }
            Act::Nothing | Act::Over | Act::Lost => {
                return self.damaged("a call was given up that its caller did not give up");
            }
        };
        Err(Kind::Cancelled { by: CancelledBy::Handle, started }.into())
    }

    /// Who a life was and why it died, as this call's caller has to understand it.
    fn death(&self, life: Life) -> (Option<u32>, Cause) {
        let registry = &self.sent.shared.registry;
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

    fn has_died(&self, life: Life) -> bool {
        let registry = &self.sent.shared.registry;
        registry.death(life).is_some() || registry.slot_of(life).is_none()
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

    /// Whether the call that it is made in is over.
    #[inline]
    fn orphaned(&self) -> Option<Ended> {
        self.outer.as_ref().filter(|outer| outer.is_over()).map(|_| Ended::Orphaned)
    }

    /// Whether anything but the word says that no result will come.
    fn beyond(&self, word: Word, roused: Roused, dying_since: &mut Option<u64>) -> Option<Ended> {
        if self.sent.shared.registry.lane(self.sent.lane.index) != LaneState::Open(self.sent.lane.serial)
            && !self.sent.shared.arbiter.is_dead()
        {
            return Some(Ended::Damaged("another process found the lane damaged".into()));
        }
        if let (State::Running, Some(life)) = (word.state(), word.life())
            && self.is_dying(life)
        {
            // The arbiter may not have found out yet what of: it is worth a wait.
            let since = *dying_since.get_or_insert_with(clock::monotonic_ns);
            let known = self.sent.shared.registry.death(life).is_some();
            if known || clock::monotonic_ns() - since >= CAUSE_WAIT_NS {
                return Some(Ended::WorkerDying(life));
            }
        }
        if let Some(ended) = self.orphaned() {
            return Some(ended);
        }
        // A system call: only when there was time for one.
        let is_dead = match roused {
            Roused::Slice => self.sent.shared.arbiter.is_dead(),
            _ => self.sent.shared.arbiter.is_known_dead(),
        };
        is_dead.then_some(Ended::ArbiterDied)
    }

    /// Whether the arbiter knows that this life is dying. A hint: other threads of it may
    /// run on for a moment, and a result that it published wins.
    fn is_dying(&self, life: Life) -> bool {
        let registry = &self.sent.shared.registry;
        registry.death(life).is_some()
            || registry.slot_of(life).is_none_or(|(state, ..)| state == SlotState::Dying)
    }

    /// The call is idle again and never ran.
    fn withdrawn(&self) {
        crash_point!("client.withdrawn");
        self.sent.give_up(false);
        self.sent.lane.put_back(self.sent.call, self.sent.generation.next());
    }

    /// The caller has its answer, the worker still has the call.
    fn abandoned(&self) {
        crash_point!("client.abandon.swapped");
        self.sent.give_up(self.items.incoming().is_some());
        crash_point!("client.abandon.recorded");
        self.sent.line().bell.ring(&Kernel);
        match self.items.incoming() {
            None => self.sent.lane.abandon(self.sent.call),
            Some(incoming) => incoming.abandoned(),
        }
    }

    /// See [`Submission::damaged`].
    fn damaged(self, why: &str) -> Result<Response> {
        Err(match self.items.incoming() {
            None => self.sent.damaged(false, why),
            Some(incoming) => incoming.damaged(why),
        })
    }
}
