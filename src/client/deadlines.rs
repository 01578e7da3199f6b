//! When a call ends that has no other outcome by then, and where its time went.

use crate::error::{Error, Kind, Spent};
use crate::ring::{CallLine, Generation};
use crate::shm::Deadline;
use crate::sys::clock;
use std::time::Duration;

/// The times at which a call ends, as they were when it was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// The caller's own or the pool's, whichever comes first.
    pub first: Deadline,
    /// The caller's own. The pool's may be put off, this one not.
    pub own: Deadline,
    /// When the caller takes the call back if no worker has taken it. Workers do not know of it.
    pub queue: Option<u64>,
    /// When they were counted from, if there are any.
    pub sent_ns: u64,
}

/// A limit this far away may come a timer interrupt early: a thousandth of it.
const FAR_NS: u64 = 1_000 * clock::COARSE_NS;

impl Deadlines {
    /// From now: the caller's own limit, the pool's and that of the queue, in nanoseconds.
    pub fn from_now(own: Option<u64>, pool: Option<u64>, queue: Option<u64>) -> Deadlines {
        let first = clock::earlier(own, pool);
        let queue = queue.filter(|queue| first.is_none_or(|first| *queue < first));
        let sent_ns = match clock::earlier(first, queue) {
            None => 0,
            // A cheap clock that is a little behind is good enough for a limit that is far away.
            Some(ns) if ns > FAR_NS => clock::coarse_ns(),
            Some(_) => clock::monotonic_ns(),
        };
        let at = |ns: u64| sent_ns.saturating_add(ns).max(1);
        Deadlines {
            first: Deadline(first.map(at)),
            own: Deadline(own.map(at)),
            queue: queue.map(at),
            sent_ns,
        }
    }

    /// Of a call that is made in one which ends at `outer`.
    pub fn within(self, outer: Option<u64>) -> Deadlines {
        let Some(at) = outer else { return self };
        let earlier = |limit: Deadline| Deadline(clock::earlier(limit.0, outer));
        let sent_ns = if self.sent_ns == 0 { clock::coarse_ns() } else { self.sent_ns };
        let queue = self.queue.filter(|queue| *queue < at);
        Deadlines { first: earlier(self.first), own: earlier(self.own), queue, sent_ns }
    }

    /// For the same call, sent once more after a worker had taken it: that one was in time.
    pub fn once_taken(self) -> Deadlines {
        Deadlines { queue: None, ..self }
    }
}

/// A call's time in the queue, as long as that has a limit.
#[derive(Debug)]
pub(super) enum Queueing {
    /// No limit, or a worker was seen to have the call.
    Unlimited,
    /// It is taken back at this time.
    Until(u64),
    /// It was taken back: its word is idle, and nobody else knows that yet.
    Withdrawn,
}

impl Queueing {
    pub fn new(limit: Option<u64>) -> Queueing {
        limit.map_or(Queueing::Unlimited, Queueing::Until)
    }

    pub fn is_withdrawn(&self) -> bool {
        matches!(self, Queueing::Withdrawn)
    }

    /// When the call on this line may have to be taken back.
    pub fn due_ns(&self, line: &CallLine) -> Option<u64> {
        match *self {
            Queueing::Until(at) if CallLine::is_queued(line.glance()) => Some(at),
            _ => None,
        }
    }

    /// Takes the call back if its time is up and no worker has it: whoever swaps the word first, we or a worker, has
    /// the call. A worker's it is from then on whatever the time.
    #[inline]
    pub fn withdraw_late(&mut self, line: &CallLine, generation: Generation) {
        let Queueing::Until(at) = *self else { return };
        if !CallLine::is_queued(line.glance()) {
            *self = Queueing::Unlimited;
        } else if clock::monotonic_ns() >= at {
            *self = if line.withdraw(generation) { Queueing::Withdrawn } else { Queueing::Unlimited };
        }
    }
}

/// When a call was sent, and when its worker says that it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    pub sent_ns: u64,
    pub begun_ns: u64,
}

impl Times {
    /// Adds to a deadline that passed where the time went. What the line says is a hint, by a clock that may be a little
    /// behind, and may be of an earlier call.
    #[cold]
    pub fn tell(self, error: Error) -> Error {
        let error = error.of_call();
        let Kind::Deadline { started, .. } = *error.kind() else { return error };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::{Life, State};

    const G: Generation = Generation(7);

    fn queued() -> CallLine {
        let line = CallLine::new(G);
        line.publish(G).unwrap();
        line
    }

    #[test]
    fn a_call_is_taken_back_at_its_time_and_not_before() {
        let line = queued();
        let mut early = Queueing::new(Some(u64::MAX));
        early.withdraw_late(&line, G);
        assert!(!early.is_withdrawn() && early.due_ns(&line) == Some(u64::MAX));
        let mut late = Queueing::new(Some(1));
        late.withdraw_late(&line, G);
        assert!(late.is_withdrawn() && late.due_ns(&line).is_none());
        assert_eq!(line.look().unwrap().state(), State::Idle);
        assert_eq!(line.look().unwrap().generation(), G.next());
    }

    #[test]
    fn a_call_that_a_worker_has_is_never_taken_back() {
        let line = queued();
        let mut queueing = Queueing::new(Some(1));
        assert!(line.claim(G, Life::new(3).unwrap()));
        assert_eq!(queueing.due_ns(&line), None);
        queueing.withdraw_late(&line, G);
        assert!(matches!(queueing, Queueing::Unlimited));
        assert_eq!(line.look().unwrap().state(), State::Running);
    }

    /// As when a worker is first between the look at the word and its swap.
    #[test]
    fn a_call_that_could_not_be_taken_back_goes_on() {
        let mut queueing = Queueing::new(Some(1));
        queueing.withdraw_late(&queued(), G.next());
        assert!(matches!(queueing, Queueing::Unlimited));
    }

    #[test]
    fn limits_count_from_one_time() {
        let limits = Deadlines::from_now(Some(5_000_000), Some(1_000_000), Some(2_000_000));
        assert_eq!(limits.first.0, Some(limits.sent_ns + 1_000_000));
        assert_eq!(limits.own.0, Some(limits.sent_ns + 5_000_000));
        assert_eq!(limits.queue, None, "the call ends before that, and says so");
        let limits = Deadlines::from_now(None, Some(3_000_000), Some(2_000_000));
        assert_eq!(limits.queue, Some(limits.sent_ns + 2_000_000));
        assert_eq!(limits.once_taken().queue, None);
        let within = limits.within(Some(limits.sent_ns + 1_000_000));
        assert_eq!(
            (within.first, within.own, within.queue),
            (within.own, Deadline(Some(limits.sent_ns + 1_000_000)), None)
        );
        assert_eq!(limits.within(Some(u64::MAX)).first, limits.first);
        let none = Deadlines::from_now(None, None, None);
        assert!(none.within(Some(7)).sent_ns != 0 && none.within(None).sent_ns == 0);
        assert_eq!((none.first.0, none.own.0, none.queue), (None, None, None));
        assert!(Deadlines::from_now(Some(0), None, None).first.0.is_some(), "0 has passed and is no absence");
    }
}
