//! The calls that were given up and that their workers keep: how far each is on its way to cost its worker something.
//!
//! ```text
//!   Told ──cancel_grace──► Asked ──the worker says so, or ANSWER_NS──► Signalled ──signal_grace──► Spent: cordoned
//!     └──────────────────── without a signal ─────────────────────────────────────────────────────►┘
//! ```
//!
//! Each call goes its own way; one that its worker lets go of is forgotten. Steps are taken on ticks only, before which all
//! of them are looked at.

use super::Life;

/// One submission of one call, as policy and arbiter name it to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId {
    /// The serial number of its lane.
    pub lane: u64,
    /// Which of its calls.
    pub call: usize,
    /// Which submission of it.
    pub generation: u32,
}

/// A call that was given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenUp {
    pub life: Life,
    pub call: CallId,
    pub stage: Stage,
}

/// How far it is, and when the next step is forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its app was told, by the word.
    Told { until: u64 },
    /// Its worker was asked to signal the thread.
    Asked { until: u64 },
    /// The signal was sent.
    Signalled { until: u64 },
    /// Its worker was cordoned.
    Spent,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Ladder(Vec<GivenUp>);

impl Ladder {
    pub fn all(&self) -> &[GivenUp] {
        &self.0
    }

    /// Nothing if it is known.
    pub fn found(&mut self, life: Life, call: CallId, until: u64) {
        if self.of(life, call).is_none() {
            self.0.push(GivenUp { life, call, stage: Stage::Told { until } });
        }
    }

    pub fn forget(&mut self, life: Life, call: CallId) {
        self.0.retain(|it| it.life != life || it.call != call);
    }

    pub fn forget_life(&mut self, life: Life) {
        self.0.retain(|it| it.life != life);
    }

    /// This life is dying: nothing more is to be done about its calls. What was done is remembered.
    pub fn close(&mut self, life: Life) {
        self.0.retain(|it| it.life != life || !matches!(it.stage, Stage::Told { .. }));
        self.0.iter_mut().filter(|it| it.life == life).for_each(|it| it.stage = Stage::Spent);
    }

    pub fn of(&mut self, life: Life, call: CallId) -> Option<&mut GivenUp> {
        self.0.iter_mut().find(|it| it.life == life && it.call == call)
    }

    /// One whose next step is due.
    pub fn due(&mut self, now: u64) -> Option<&mut GivenUp> {
        self.0.iter_mut().find(|it| it.stage.until().is_some_and(|at| at <= now))
    }

    pub fn next_deadline(&self) -> Option<u64> {
        self.0.iter().filter_map(|it| it.stage.until()).min()
    }

    /// Whether a call of this life was, or may have been, answered with the signal.
    pub fn is_signalled(&self, life: Life) -> bool {
        self.0.iter().any(|it| it.life == life && !matches!(it.stage, Stage::Told { .. }))
    }
}

impl Stage {
    fn until(self) -> Option<u64> {
        match self {
            Stage::Told { until } | Stage::Asked { until } | Stage::Signalled { until } => Some(until),
            Stage::Spent => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::error::{Cause, Kill};
    use crate::pool::*;

    const MS: u64 = 1_000_000;
    const CALL: CallId = CallId { lane: 3, call: 5, generation: 7 };
    const OTHER: CallId = CallId { lane: 3, call: 6, generation: 7 };

    /// A pool of one worker that serves since long ago.
    struct Rig {
        policy: Policy,
        life: Life,
        now: u64,
    }

    impl Rig {
        fn new(cancel_signal: Option<i32>) -> Rig {
            let config = Config {
                cancel_signal,
                cancel_grace_ns: 1_000 * MS,
                signal_grace_ns: 500 * MS,
                kill_grace_ns: 2_000 * MS,
                max_restarts: 0,
                ..Config::default()
            };
            let mut rig = Rig { policy: Policy::new(config, 7, 0).unwrap(), life: Life::FIRST, now: 1 };
            rig.tell(Event::Tick);
            rig.tell(Event::SpawnedOk { life: rig.life });
            rig.tell(Event::Ready { life: rig.life });
            rig
        }

        fn tell(&mut self, event: Event) -> Vec<Action> {
            let mut out = Vec::new();
            let is_tick = event == Event::Tick;
            self.policy.handle(self.now, event, &mut out);
            let is_ahead = self.policy.next_deadline().is_none_or(|at| at > self.now);
            assert!(is_ahead || !is_tick, "a deadline in the past");
            out
        }

        fn find(&mut self, call: CallId) -> Vec<Action> {
            self.tell(Event::GivenUp { life: self.life, call })
        }

        /// What is done in the meantime, and when.
        fn pass(&mut self, ns: u64) -> Vec<(u64, Action)> {
            let (begin, mut did) = (self.now, Vec::new());
            while let Some(at) = self.policy.next_deadline().filter(|at| *at <= begin + ns) {
                self.now = at;
                did.extend(self.tell(Event::Tick).into_iter().map(|action| ((at - begin) / MS, action)));
            }
            self.now = begin + ns;
            did.retain(|(_, action)| {
                matches!(action, Action::Interrupt { .. } | Action::Kill { .. } | Action::Drain { .. })
            });
            did
        }
    }

    fn kill(life: Life, signal: Signal) -> Action {
        Action::Kill { life, signal }
    }

    #[test]
    fn without_a_signal_the_cordon_follows_the_word() {
        let mut rig = Rig::new(None);
        let life = rig.life;
        rig.find(CALL);
        rig.now += 400 * MS;
        assert_eq!(rig.find(CALL), [], "it is known since the first time");
        assert_eq!(rig.pass(599 * MS), []);
        let did = rig.pass(10_000 * MS);
        assert_eq!(did, [(1, Action::Drain { life }), (2_001, kill(life, Signal::Kill))]);
    }

    #[test]
    fn each_stage_has_its_own_grace() {
        let mut rig = Rig::new(Some(10));
        let (life, call) = (rig.life, CALL);
        rig.find(call);
        assert_eq!(rig.pass(1_000 * MS), [(1_000, Action::Interrupt { life, call })]);
        rig.now += 100 * MS;
        assert_eq!(rig.tell(Event::Interrupted { life, call }), []);
        assert_eq!(rig.tell(Event::Interrupted { life, call: OTHER }), [], "nobody asked for that");
        assert_eq!(rig.find(call), []);
        let did = rig.pass(60_000 * MS);
        assert_eq!(did, [(500, Action::Drain { life }), (2_500, kill(life, Signal::Kill))]);
    }

    #[test]
    fn a_worker_that_does_not_answer_gets_the_signal_as_a_process() {
        let mut rig = Rig::new(Some(10));
        let (life, call) = (rig.life, CALL);
        rig.find(call);
        let did = rig.pass(60_000 * MS);
        let wanted = [
            (1_000, Action::Interrupt { life, call }),
            (1_200, kill(life, Signal::Cancel)),
            (1_700, Action::Drain { life }),
            (3_700, kill(life, Signal::Kill)),
        ];
        assert_eq!(did, wanted);
        assert_eq!(rig.tell(Event::Interrupted { life, call }), [], "too late to matter");
    }

    #[test]
    fn a_call_that_is_let_go_of_costs_nothing_at_any_stage() {
        for wait in [0, 999, 1_100, 1_300] {
            let mut rig = Rig::new(Some(10));
            let (life, call) = (rig.life, CALL);
            rig.find(call);
            rig.pass(wait * MS);
            rig.tell(Event::LetGo { life, call });
            assert_eq!(rig.pass(60_000 * MS), [], "after {wait} ms");
            assert_eq!(rig.policy.given_up_calls().count(), 0);
            assert_eq!(rig.policy.ready_workers(), 1);
        }
    }

    /// The arbiter tells of them one by one, and other news may come before it has looked at all.
    #[test]
    fn calls_that_are_let_go_of_together_cost_nothing_though_all_are_due() {
        for signal in [None, Some(10)] {
            let mut rig = Rig::new(signal);
            let life = rig.life;
            rig.find(CALL);
            rig.find(OTHER);
            rig.now += 1_000 * MS;
            assert_eq!(rig.tell(Event::Interrupted { life, call: CALL }), [], "news of anything");
            let said = rig.tell(Event::Trouble { text: "a peer".into() });
            assert!(matches!(said[..], [Action::Log { .. }]), "{said:?}");
            assert_eq!(rig.tell(Event::LetGo { life, call: CALL }), []);
            assert_eq!(rig.tell(Event::LetGo { life, call: OTHER }), []);
            assert_eq!(rig.tell(Event::Tick), []);
            assert_eq!(rig.pass(60_000 * MS), []);
            assert_eq!(rig.policy.ready_workers(), 1);
        }
    }

    #[test]
    fn calls_have_their_time_each() {
        let mut rig = Rig::new(Some(10));
        let life = rig.life;
        rig.find(CALL);
        rig.pass(600 * MS);
        rig.find(OTHER);
        assert_eq!(rig.pass(500 * MS), [(400, Action::Interrupt { life, call: CALL })]);
        rig.tell(Event::LetGo { life, call: CALL });
        assert_eq!(rig.pass(510 * MS), [(500, Action::Interrupt { life, call: OTHER })]);
    }

    /// Callers that give up are no sign that workers are broken.
    #[test]
    fn a_worker_that_the_signal_ends_is_replaced_at_once_and_not_held_against_the_pool() {
        for is_marked in [false, true] {
            let mut rig = Rig::new(Some(10));
            let (life, call) = (rig.life, CALL);
            rig.find(call);
            assert!(!rig.policy.is_own_signal(life, Ended::Signaled(10)), "nobody sent it one");
            rig.pass(1_000 * MS);
            rig.tell(Event::Interrupted { life, call });
            assert!(rig.policy.is_own_signal(life, Ended::Signaled(10)));
            assert!(!rig.policy.is_own_signal(life, Ended::Signaled(11)));
            let mut did = Vec::new();
            if is_marked {
                did.extend(rig.tell(Event::Marked { life }));
            }
            did.extend(rig.tell(Event::Exited { life, status: Ended::Signaled(10) }));
            let cause = Cause::KilledByUs(Kill::Deadline);
            assert!(did.contains(&Action::Repair { life, cause }), "{did:?}");
            assert!(did.iter().any(|action| matches!(action, Action::Spawn { .. })), "{did:?}");
            assert_eq!(rig.policy.state(), PoolState::Running);
            assert_eq!(rig.policy.given_up_calls().count(), 0);
        }
    }

    #[test]
    fn lives_that_die_are_left_alone() {
        let mut rig = Rig::new(Some(10));
        let life = rig.life;
        rig.find(CALL);
        rig.tell(Event::Marked { life });
        rig.find(OTHER);
        assert_eq!(rig.pass(9_000 * MS), []);
        rig.tell(Event::GivenUp { life: Life::FIRST.next().next(), call: CALL });
        rig.tell(Event::Exited { life, status: Ended::Signaled(9) });
        assert_eq!(rig.policy.given_up_calls().count(), 0);
    }
}
