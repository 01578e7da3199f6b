//! The policy in situations that have names: each fault of the list that supervision has to survive, one at a time.
//! All of them at once is the simulation's part (`tests/policy_sim.rs`).

use super::*;
use crate::error::{Cause, Code, Kill};

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
const EXIT_1: Ended = Ended::Exited(1);
const KILLED: Ended = Ended::Signaled(9);

/// A policy, a clock, and everything that it ever asked for.
struct Rig {
    policy: Policy,
    now: u64,
    asked: Vec<(u64, Action)>,
}

impl Rig {
    fn new(config: Config) -> Rig {
        Rig::from(Policy::new(config, 7, 0).unwrap())
    }

    /// `workers` slots, all of them ready, for long enough that a death is not early.
    fn healthy(workers: usize) -> Rig {
        let mut rig = Rig::new(Config { workers, ..Config::default() });
        rig.boot_all();
        rig.pass(20 * SECOND);
        assert_eq!(rig.ready(), workers);
        rig
    }

    fn from(policy: Policy) -> Rig {
        let mut rig = Rig { policy, now: SECOND, asked: Vec::new() };
        rig.tell(Event::Tick);
        rig
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.policy.handle(self.now, event, &mut out);
        assert!(self.policy.next_deadline().is_none_or(|at| at > self.now), "a deadline in the past");
        self.asked.extend(out.iter().map(|action| (self.now, action.clone())));
        out
    }

    /// Lets time pass, with a tick whenever one is asked for.
    fn pass(&mut self, ns: u64) -> Vec<Action> {
        let end = self.now + ns;
        let mut out = Vec::new();
        while let Some(at) = self.policy.next_deadline().filter(|&at| at <= end) {
            self.now = at;
            out.extend(self.tell(Event::Tick));
        }
        self.now = end;
        out
    }

    /// Everyone who boots is started and becomes ready, until all are.
    fn boot_all(&mut self) {
        while self.ready() < self.policy.slots().len() {
            for life in self.all(SlotState::Booting) {
                self.tell(Event::SpawnedOk { life });
                self.tell(Event::Ready { life });
            }
            self.pass(2 * MS);
        }
    }

    /// Lives under a worker that is as bad as `fate` says, for so long.
    fn suffer(&mut self, ns: u64, mut fate: impl FnMut(Life) -> Vec<Event>) {
        let end = self.now + ns;
        while self.now < end {
            for life in self.all(SlotState::Booting) {
                for event in fate(life) {
                    self.tell(event);
                }
            }
            self.pass(MS);
        }
    }

    fn all(&self, state: SlotState) -> Vec<Life> {
        self.policy.incarnations().iter().filter(|i| i.state() == state).map(|i| i.life()).collect()
    }

    fn only(&self, state: SlotState) -> Life {
        let all = self.all(state);
        assert_eq!(all.len(), 1, "{all:?}");
        all[0]
    }

    fn ready(&self) -> usize {
        self.policy.ready_workers()
    }

    fn count(&self, which: impl Fn(&Action) -> bool) -> usize {
        self.asked.iter().filter(|(_, action)| which(action)).count()
    }
}

fn is_spawn(action: &Action) -> bool {
    matches!(action, Action::Spawn { .. })
}

fn has(actions: &[Action], wanted: &Action) -> bool {
    actions.contains(wanted)
}

fn kill(life: Life) -> Action {
    Action::Kill { life, signal: Signal::Kill }
}

fn cause_in(actions: &[Action]) -> Option<Cause> {
    actions.iter().find_map(|a| if let Action::Repair { cause, .. } = a { Some(*cause) } else { None })
}

#[test]
fn numbers_in_shared_memory_are_stable() {
    let pools = [
        PoolState::Starting,
        PoolState::Running,
        PoolState::Degraded,
        PoolState::ShuttingDown,
        PoolState::Closed,
        PoolState::NoWorkers,
    ];
    for (n, state) in (1..).zip(pools) {
        assert_eq!((state.as_raw(), PoolState::from_raw(n)), (n, Some(state)));
    }
    let slots = [
        SlotState::Empty,
        SlotState::Booting,
        SlotState::Ready,
        SlotState::Cordoned,
        SlotState::Draining,
        SlotState::Dying,
    ];
    for (n, state) in (1..).zip(slots) {
        assert_eq!((state.as_raw(), SlotState::from_raw(n)), (n, Some(state)));
    }
    assert_eq!((PoolState::from_raw(0), PoolState::from_raw(7)), (None, None));
    assert_eq!((SlotState::from_raw(0), SlotState::from_raw(7)), (None, None));
}

#[test]
fn limits_of_the_configuration() {
    let refused = |config: Config| Policy::new(config, 0, 0).map_err(|e| e.code()).err();
    let fine = Config::default();
    assert_eq!(refused(fine), None);
    assert_eq!(refused(Config { workers: 0, ..fine }), None);
    assert_eq!(refused(Config { workers: 63, ..fine }), None);
    assert_eq!(refused(Config { workers: 64, ..fine }), None);
    assert_eq!(refused(Config { workers: 65, ..fine }), Some(Code::Config));
    assert_eq!(refused(Config { max_restarts: 10_000, ..fine }), None);
    assert_eq!(refused(Config { max_restarts: 10_001, ..fine }), Some(Code::Config));
    assert_eq!(refused(Config { backoff_first_ns: 0, ..fine }), Some(Code::Config));
    assert_eq!(refused(Config { backoff_first_ns: 5, backoff_max_ns: 5, ..fine }), None);
    assert_eq!(refused(Config { backoff_first_ns: 6, backoff_max_ns: 5, ..fine }), Some(Code::Config));
    assert_eq!(refused(Config { within_ns: 0, ..fine }), Some(Code::Config));
    assert_eq!(refused(Config { boot_timeout_ns: 0, ..fine }), Some(Code::Config));
}

#[test]
fn a_pool_starts_and_runs() {
    let mut rig = Rig::new(Config { workers: 2, ..Config::default() });
    assert_eq!((rig.policy.state(), rig.count(is_spawn)), (PoolState::Starting, 2));
    let life = rig.all(SlotState::Booting)[1];
    rig.tell(Event::SpawnedOk { life });
    let out = rig.tell(Event::Ready { life });
    let slot = rig.policy.incarnation(life).unwrap().slot();
    let shown = Action::Slot { slot, life: Some(life), state: SlotState::Ready };
    assert_eq!(out, [shown, Action::SetState { state: PoolState::Running }]);
    assert!(rig.policy.state().accepts_calls());
}

#[test]
fn a_pool_without_workers_says_so_and_closes() {
    let mut rig = Rig::new(Config { workers: 0, ..Config::default() });
    assert_eq!((rig.policy.state(), rig.policy.next_deadline()), (PoolState::NoWorkers, None));
    assert!(!rig.policy.state().accepts_calls() && rig.policy.state().absence().is_some());
    let out = rig.tell(Event::Shutdown { mode: Stop::Drain });
    assert_eq!(out.last(), Some(&Action::Exit));
    assert_eq!(rig.policy.state(), PoolState::Closed);
}

#[test]
fn a_death_after_a_healthy_life_is_replaced_at_once() {
    let mut rig = Rig::healthy(2);
    for _ in 0..20 {
        let life = rig.all(SlotState::Ready)[0];
        let out = rig.tell(Event::Exited { life, status: Ended::Signaled(11) });
        let dead = [
            Action::KillGroup { life },
            Action::Repair { life, cause: Cause::Signal(11) },
            Action::Reap { life },
        ];
        assert_eq!(out[..3], dead);
        assert!(out.iter().any(is_spawn));
        rig.boot_all();
        rig.pass(10 * SECOND);
    }
    assert_eq!(rig.policy.state(), PoolState::Running);
}

#[test]
fn a_mark_starts_the_replacement_and_is_made_true() {
    let mut rig = Rig::healthy(1);
    let old = rig.only(SlotState::Ready);
    let out = rig.tell(Event::Marked { life: old });
    assert_eq!(out[0], kill(old));
    assert!(out.iter().any(is_spawn) && cause_in(&out).is_none());
    assert!(rig.tell(Event::Marked { life: old }).is_empty(), "a second mark means nothing");
    rig.boot_all();
    assert_eq!(rig.policy.incarnations().len(), 2);
    let out = rig.tell(Event::Exited { life: old, status: KILLED });
    assert_eq!(cause_in(&out), Some(Cause::Signal(9)));
    assert!(!out.iter().any(is_spawn), "there is a replacement already");
    assert!(!out.iter().any(|a| matches!(a, Action::Slot { .. })), "the slot shows the replacement");
}

#[test]
fn a_mark_without_an_exit_is_given_up_after_ten_seconds_and_said_once() {
    let mut rig = Rig::healthy(1);
    let old = rig.only(SlotState::Ready);
    rig.tell(Event::Marked { life: old });
    rig.boot_all();
    let logs = |out: &[Action]| out.iter().filter(|a| matches!(a, Action::Log { .. })).count();
    assert_eq!(logs(&rig.pass(60 * SECOND)), 1);
    assert_eq!((rig.policy.state(), rig.policy.next_deadline()), (PoolState::Running, None));
    let out = rig.tell(Event::Exited { life: old, status: KILLED });
    assert!(cause_in(&out).is_some(), "the truth is welcome at any time");
}

#[test]
fn processes_that_hang_in_the_kernel_do_not_pile_up() {
    let mut rig = Rig::new(Config::default());
    rig.suffer(300 * SECOND, |life| {
        vec![Event::SpawnedOk { life }, Event::Ready { life }, Event::Marked { life }]
    });
    assert_eq!(rig.policy.incarnations().len(), 3);
    assert_eq!((rig.policy.state(), rig.policy.next_deadline()), (PoolState::Degraded, None));
    let life = rig.policy.incarnations()[0].life();
    assert!(rig.tell(Event::Exited { life, status: KILLED }).iter().any(is_spawn));
    rig.boot_all();
    assert_eq!(rig.policy.state(), PoolState::Running);
}

#[test]
fn events_about_nobody_mean_nothing() {
    let mut rig = Rig::healthy(1);
    let life = Life::new(4711).unwrap();
    for event in [
        Event::SpawnedOk { life },
        Event::SpawnFailed { life, errno: 11 },
        Event::Ready { life },
        Event::BootError { life, text: String::new() },
        Event::Marked { life },
        Event::Exited { life, status: EXIT_1 },
        Event::Cordon { life, why: Why::Corrupt },
    ] {
        assert!(rig.tell(event.clone()).is_empty(), "{event:?}");
    }
    let life = rig.only(SlotState::Ready);
    assert!(rig.tell(Event::SpawnedOk { life }).is_empty(), "told twice");
    assert!(rig.tell(Event::SpawnFailed { life, errno: 11 }).is_empty(), "there is a process");
    assert!(rig.tell(Event::Ready { life }).is_empty(), "told twice");
    rig.tell(Event::Exited { life, status: EXIT_1 });
    assert!(rig.tell(Event::Exited { life, status: EXIT_1 }).is_empty(), "reaped");
    assert!(rig.tell(Event::Marked { life }).is_empty(), "reaped");
}

#[test]
fn a_worker_that_always_dies_at_boot_is_tried_seldom_and_said_seldom() {
    for workers in [1, 4, 64] {
        let mut rig = Rig::new(Config { workers, ..Config::default() });
        rig.suffer(10 * SECOND, |life| {
            vec![Event::SpawnedOk { life }, Event::Exited { life, status: EXIT_1 }]
        });
        assert_eq!(rig.policy.state(), PoolState::Degraded);
        let spawns = rig.count(is_spawn);
        assert!(spawns >= 2 * workers && spawns <= 9 * workers, "{spawns} starts of {workers} in 10 s");
        assert!(rig.count(|a| matches!(a, Action::Log { .. })) <= 26);
        assert_eq!(rig.count(|a| matches!(a, Action::SetState { .. })), 1);
        assert_eq!(
            cause_in(&rig.asked.iter().map(|(_, a)| a.clone()).collect::<Vec<_>>()),
            Some(Cause::BootFailed)
        );
        // And once it boots, the pool is back within the longest wait.
        rig.suffer(11 * SECOND, |life| vec![Event::SpawnedOk { life }, Event::Ready { life }]);
        assert_eq!((rig.policy.state(), rig.ready()), (PoolState::Running, workers));
        assert_eq!(rig.count(|a| *a == Action::ResumeQueue), 1);
    }
}

#[test]
fn a_flapping_worker_degrades_the_pool_only_while_nobody_else_is_ready() {
    let mut rig = Rig::healthy(2);
    let flap =
        |life| vec![Event::SpawnedOk { life }, Event::Ready { life }, Event::Exited { life, status: EXIT_1 }];
    let steady = rig.all(SlotState::Ready)[0];
    let life = rig.all(SlotState::Ready)[1];
    rig.tell(Event::Exited { life, status: EXIT_1 });
    let before = rig.count(is_spawn);
    rig.suffer(60 * SECOND, flap);
    assert_eq!((rig.policy.state(), rig.ready()), (PoolState::Running, 1));
    assert!(rig.count(is_spawn) - before <= 24, "it backs off");
    let mut alone = Rig::new(Config { max_restarts: 3, ..Config::default() });
    alone.suffer(SECOND, flap);
    assert_eq!(alone.policy.state(), PoolState::Degraded);
    rig.tell(Event::Exited { life: steady, status: EXIT_1 });
    assert_eq!(rig.policy.state(), PoolState::Running, "its replacement is on its way");
}

#[test]
fn sixty_four_deaths_in_one_tick_are_one_limited_burst() {
    for healthy in [true, false] {
        let mut rig = Rig::new(Config { workers: 64, ..Config::default() });
        rig.boot_all();
        rig.pass(if healthy { 20 * SECOND } else { SECOND });
        let before = rig.asked.len();
        for life in rig.all(SlotState::Ready) {
            rig.tell(Event::Exited { life, status: KILLED });
        }
        let out: Vec<Action> = rig.asked[before..].iter().map(|(_, a)| a.clone()).collect();
        assert_eq!(out.iter().filter(|a| matches!(a, Action::Reap { .. })).count(), 64);
        assert_eq!(out.iter().filter(|a| is_spawn(a)).count(), 8);
        // Those that served long are not held against the pool: its calls wait for the next ones.
        let state = if healthy { PoolState::Running } else { PoolState::Degraded };
        assert_eq!(rig.policy.state(), state);
        let out = rig.pass(200 * MS);
        assert_eq!(out.iter().filter(|a| is_spawn(a)).count(), 56);
        rig.boot_all();
        assert_eq!(rig.policy.state(), PoolState::Running);
    }
}

#[test]
fn a_worker_that_is_never_ready_is_killed_and_after_the_second_time_calls_fail() {
    let mut rig = Rig::new(Config::default());
    let life = rig.only(SlotState::Booting);
    rig.tell(Event::SpawnedOk { life });
    assert!(rig.pass(60 * SECOND - 1).is_empty());
    let out = rig.pass(1);
    assert!(has(&out, &kill(life)) && out.iter().any(is_spawn));
    assert_eq!(rig.policy.state(), PoolState::Starting);
    assert_eq!(cause_in(&rig.tell(Event::Exited { life, status: KILLED })), Some(Cause::BootFailed));
    let life = rig.only(SlotState::Booting);
    rig.tell(Event::SpawnedOk { life });
    rig.pass(60 * SECOND);
    assert_eq!(rig.policy.state(), PoolState::Degraded, "nobody can be counted on");
}

#[test]
fn a_start_that_is_never_answered_is_killed_when_it_turns_up() {
    let mut rig = Rig::new(Config::default());
    let life = rig.only(SlotState::Booting);
    let out = rig.pass(60 * SECOND);
    assert!(!has(&out, &kill(life)), "there is no process to kill");
    assert_eq!(rig.tell(Event::SpawnedOk { life }), [kill(life)]);
    assert_eq!(cause_in(&rig.tell(Event::Exited { life, status: KILLED })), Some(Cause::BootFailed));
}

#[test]
fn killed_while_booting_is_a_failed_boot() {
    for status in [EXIT_1, KILLED, Ended::Exited(0), Ended::OutOfMemory] {
        let mut rig = Rig::new(Config::default());
        let life = rig.only(SlotState::Booting);
        rig.tell(Event::SpawnedOk { life });
        assert_eq!(cause_in(&rig.tell(Event::Exited { life, status })), Some(Cause::BootFailed));
    }
}

#[test]
fn what_a_worker_says_about_its_boot_is_logged_in_one_short_line() {
    let mut rig = Rig::new(Config::default());
    let life = rig.only(SlotState::Booting);
    rig.tell(Event::SpawnedOk { life });
    let out = rig.tell(Event::BootError { life, text: "no\nmodel\x1b[2J".repeat(100) });
    assert!(has(&out, &kill(life)));
    let Some(Action::Log { text, .. }) = out.iter().find(|a| matches!(a, Action::Log { .. })) else {
        panic!()
    };
    assert!(text.starts_with("worker 0 (life 1) cannot boot: no\\nmodel\\u{1b}[2J"), "{text}");
    assert!(text.len() < 300 && !text.contains(char::is_control));
}

#[test]
fn an_exit_overtakes_the_news_of_the_start() {
    let mut rig = Rig::new(Config::default());
    let life = rig.only(SlotState::Booting);
    let out = rig.tell(Event::Exited { life, status: EXIT_1 });
    assert_eq!(out[0], Action::KillGroup { life });
    assert!(rig.tell(Event::SpawnedOk { life }).is_empty());
}

#[test]
fn fork_failing_backs_off_and_degrades_only_if_nobody_is_left() {
    let mut rig = Rig::new(Config { workers: 4, ..Config::default() });
    rig.suffer(10 * SECOND, |life| vec![Event::SpawnFailed { life, errno: 11 }]);
    assert_eq!(rig.policy.state(), PoolState::Degraded);
    assert!(rig.count(is_spawn) <= 4 * 12, "{} forks in 10 s", rig.count(is_spawn));
    assert!(rig.policy.incarnations().is_empty());
    assert_eq!(
        rig.count(|a| matches!(a, Action::Reap { .. } | Action::Repair { .. })),
        0,
        "there was nobody"
    );
    rig.suffer(11 * SECOND, |life| vec![Event::SpawnedOk { life }, Event::Ready { life }]);
    assert_eq!((rig.policy.state(), rig.ready()), (PoolState::Running, 4));
    let life = rig.all(SlotState::Ready)[0];
    rig.tell(Event::Exited { life, status: EXIT_1 });
    rig.suffer(SECOND, |life| vec![Event::SpawnFailed { life, errno: 12 }]);
    assert_eq!(rig.policy.state(), PoolState::Running, "three are left");
}

#[test]
fn a_slot_is_hopeless_when_starts_in_it_failed_twice_in_a_row() {
    type Fails = fn(Life) -> Event;
    let ways: [Fails; 3] = [
        |life| Event::SpawnFailed { life, errno: 11 },
        |life| Event::Exited { life, status: EXIT_1 },
        |life| Event::BootError { life, text: "no model".into() },
    ];
    for fails in ways {
        let mut rig = Rig::new(Config { workers: 4, ..Config::default() });
        let last = rig.all(SlotState::Booting)[3];
        let slot = rig.policy.incarnation(last).unwrap().slot();
        for life in rig.all(SlotState::Booting).into_iter().take(3) {
            rig.tell(Event::Ready { life });
        }
        rig.tell(fails(last));
        assert!(!rig.policy.has_hopeless_slot(), "it may pass");
        let next = |rig: &mut Rig| loop {
            let life = rig.policy.slots()[slot.index()].life();
            match life.filter(|life| rig.all(SlotState::Booting).contains(life)) {
                Some(life) => break life,
                None => drop(rig.pass(MS)),
            }
        };
        for _ in 0..2 {
            let life = next(&mut rig);
            rig.tell(fails(life));
            rig.tell(Event::Exited { life, status: EXIT_1 }); // of one that was killed
            assert!(!rig.policy.has_hopeless_slot(), "it may pass");
        }
        let life = next(&mut rig);
        rig.pass(1_000 * MS);
        assert!(!rig.policy.has_hopeless_slot(), "it is being tried");
        rig.tell(fails(life));
        assert!(rig.policy.has_hopeless_slot());
        assert_eq!(rig.policy.state(), PoolState::Running, "the others do well");
        let life = next(&mut rig);
        rig.tell(Event::Ready { life });
        assert!(!rig.policy.has_hopeless_slot());
    }
}

#[test]
fn a_deadline_gives_the_grace_then_kills_and_is_reported_as_such() {
    let mut rig = Rig::healthy(1);
    let old = rig.only(SlotState::Ready);
    let out = rig.tell(Event::Cordon { life: old, why: Why::Deadline });
    let slot = rig.policy.incarnation(old).unwrap().slot();
    assert_eq!(out[0], Action::Slot { slot, life: Some(old), state: SlotState::Cordoned });
    assert_eq!(out[1], Action::Drain { life: old });
    assert_eq!(out.iter().filter(|a| is_spawn(a)).count(), 1, "the spare starts at once");
    assert!(rig.tell(Event::Cordon { life: old, why: Why::OthersDeadline }).is_empty());
    rig.boot_all();
    assert!(!has(&rig.pass(SECOND - 3 * MS), &kill(old)));
    assert!(has(&rig.pass(3 * MS), &kill(old)));
    let out = rig.tell(Event::Exited { life: old, status: KILLED });
    assert_eq!(cause_in(&out), Some(Cause::KilledByUs(Kill::Deadline)));
    assert_eq!((rig.policy.state(), rig.count(is_spawn)), (PoolState::Running, 2));
}

#[test]
fn a_crash_within_the_grace_is_a_crash() {
    for (status, cause) in [
        (Ended::Signaled(11), Cause::Signal(11)),
        (KILLED, Cause::Signal(9)), // somebody else's: ours was not sent
        (Ended::Exited(3), Cause::Exit(3)),
        (Ended::OutOfMemory, Cause::Oom),
        (Ended::Exited(0), Cause::KilledByUs(Kill::Deadline)), // it obeyed
    ] {
        let mut rig = Rig::healthy(1);
        let life = rig.only(SlotState::Ready);
        rig.tell(Event::Cordon { life, why: Why::Deadline });
        assert_eq!(cause_in(&rig.tell(Event::Exited { life, status })), Some(cause));
    }
}

#[test]
fn a_cordoned_worker_is_held_against_the_pool_once() {
    let mut rig = Rig::new(Config { max_restarts: 1, ..Config::default() });
    rig.boot_all();
    let life = rig.only(SlotState::Ready);
    rig.tell(Event::Cordon { life, why: Why::Deadline });
    rig.tell(Event::Marked { life });
    rig.tell(Event::Exited { life, status: KILLED });
    rig.pass(SECOND);
    assert_eq!(rig.policy.state(), PoolState::Running);
}

#[test]
fn a_hung_or_corrupt_worker_gets_no_grace() {
    for (why, cause) in [(Why::Hung, Cause::Hung), (Why::Corrupt, Cause::Corrupt)] {
        let mut rig = Rig::healthy(1);
        let life = rig.only(SlotState::Ready);
        assert!(has(&rig.tell(Event::Cordon { life, why }), &kill(life)));
        assert_eq!(cause_in(&rig.tell(Event::Exited { life, status: KILLED })), Some(cause));
    }
    let mut rig = Rig::healthy(1);
    let life = rig.only(SlotState::Ready);
    rig.tell(Event::Cordon { life, why: Why::Deadline });
    assert!(
        has(&rig.tell(Event::Cordon { life, why: Why::Corrupt }), &kill(life)),
        "a harder reason hurries"
    );
}

#[test]
fn recycling_is_no_death_and_takes_few_at_once() {
    let mut rig = Rig::new(Config { workers: 8, max_restarts: 0, ..Config::default() });
    rig.boot_all();
    let lives = rig.all(SlotState::Ready);
    for &life in &lives {
        rig.tell(Event::Cordon { life, why: Why::Recycled });
    }
    assert_eq!(rig.ready(), 6);
    assert_eq!(rig.all(SlotState::Cordoned), lives[..2]);
    let out = rig.tell(Event::Exited { life: lives[0], status: Ended::Exited(0) });
    assert_eq!(cause_in(&out), Some(Cause::Recycled));
    rig.boot_all();
    assert!(has(&rig.pass(30 * SECOND), &kill(lives[1])));
    assert_eq!(rig.policy.state(), PoolState::Running);
}

#[test]
fn a_replacement_that_is_never_ready_leaves_the_others_alone() {
    let mut rig = Rig::healthy(2);
    let steady = rig.all(SlotState::Ready)[1];
    let life = rig.all(SlotState::Ready)[0];
    rig.tell(Event::Cordon { life, why: Why::Deadline });
    rig.suffer(600 * SECOND, |life| vec![Event::SpawnedOk { life }]);
    assert_eq!((rig.policy.state(), rig.all(SlotState::Ready)), (PoolState::Running, vec![steady]));
    assert!(rig.count(is_spawn) <= 2 + 11, "one a boot timeout, at most");
}

#[test]
fn lives_come_round() {
    let first = Life::new(65_534).unwrap();
    let mut rig =
        Rig::from(Policy::with_first_life(Config { workers: 2, ..Config::default() }, 1, 0, first).unwrap());
    rig.boot_all();
    assert_eq!(rig.all(SlotState::Ready).iter().map(|l| l.get()).collect::<Vec<_>>(), [65_534, 65_535]);
    for n in 1..4 {
        rig.pass(20 * SECOND); // a healthy life each
        let life = rig.all(SlotState::Ready)[1];
        rig.tell(Event::Exited { life, status: EXIT_1 });
        assert_eq!(rig.only(SlotState::Booting).get(), n);
        rig.boot_all();
    }
}

#[test]
fn a_drain_ends_in_term_then_kill_then_closed() {
    let mut rig = Rig::healthy(3);
    let [obeys, needs_term, needs_kill] = rig.all(SlotState::Ready)[..] else { panic!() };
    let out = rig.tell(Event::Shutdown { mode: Stop::Drain });
    assert_eq!(out[0], Action::SetState { state: PoolState::ShuttingDown });
    assert_eq!(out[1], Action::RefuseQueued { reason: Refusal::ShuttingDown });
    assert_eq!(out.iter().filter(|a| matches!(a, Action::Drain { .. })).count(), 3);
    let out = rig.tell(Event::Exited { life: obeys, status: Ended::Exited(0) });
    assert_eq!(cause_in(&out), Some(Cause::KilledByUs(Kill::Shutdown)));
    assert!(rig.pass(30 * SECOND - 1).is_empty());
    assert!(has(&rig.pass(1), &Action::Kill { life: needs_term, signal: Signal::Term }));
    rig.tell(Event::Exited { life: needs_term, status: Ended::Signaled(15) });
    assert_eq!(rig.pass(SECOND)[0], kill(needs_kill));
    let out = rig.tell(Event::Exited { life: needs_kill, status: KILLED });
    assert_eq!(out[2], Action::Reap { life: needs_kill });
    assert_eq!(out[out.len() - 2..], [Action::SetState { state: PoolState::Closed }, Action::Exit]);
    assert!(rig.tell(Event::Shutdown { mode: Stop::Now }).is_empty());
    assert_eq!(rig.count(is_spawn), 3, "nothing is started any more");
}

#[test]
fn shutdown_in_every_state_once_and_twice() {
    type Make = fn() -> Rig;
    let makes: [(&str, Make); 7] = [
        ("starting, nothing answered", || Rig::new(Config { workers: 3, ..Config::default() })),
        ("booting", || {
            let mut rig = Rig::new(Config { workers: 3, ..Config::default() });
            for life in rig.all(SlotState::Booting) {
                rig.tell(Event::SpawnedOk { life });
            }
            rig
        }),
        ("running", || Rig::healthy(3)),
        ("cordoned and booting", || {
            let mut rig = Rig::healthy(2);
            let life = rig.all(SlotState::Ready)[0];
            rig.tell(Event::Cordon { life, why: Why::Deadline });
            rig
        }),
        ("dying", || {
            let mut rig = Rig::healthy(2);
            let life = rig.all(SlotState::Ready)[0];
            rig.tell(Event::Marked { life });
            rig
        }),
        ("degraded", || {
            let mut rig = Rig::new(Config { workers: 2, ..Config::default() });
            rig.suffer(SECOND, |life| vec![Event::Exited { life, status: EXIT_1 }]);
            assert_eq!(rig.policy.state(), PoolState::Degraded);
            rig
        }),
        ("no workers", || Rig::new(Config { workers: 0, ..Config::default() })),
    ];
    for (name, make) in makes {
        for (first, second) in [
            (Stop::Drain, None),
            (Stop::Now, None),
            (Stop::Drain, Some(Stop::Drain)),
            (Stop::Drain, Some(Stop::Now)),
            (Stop::Now, Some(Stop::Drain)),
        ] {
            let mut rig = make();
            let spawns = rig.count(is_spawn);
            rig.tell(Event::Shutdown { mode: first });
            assert!(!rig.policy.state().accepts_calls());
            if let Some(mode) = second {
                rig.pass(MS);
                rig.tell(Event::Shutdown { mode });
            }
            if first == Stop::Now || second.is_some() {
                let dying = |i: &Incarnation| i.state() == SlotState::Dying;
                assert!(rig.policy.incarnations().iter().all(dying), "{name}: now means now");
            }
            // Whoever had not been started turns up late, is killed and goes.
            let lives: Vec<Life> = rig.policy.incarnations().iter().map(|i| i.life()).collect();
            for life in lives {
                rig.tell(Event::SpawnedOk { life });
                rig.tell(Event::Exited { life, status: KILLED });
            }
            assert_eq!(rig.policy.state(), PoolState::Closed, "{name} {first:?} {second:?}");
            assert_eq!((rig.count(|a| *a == Action::Exit), rig.count(is_spawn)), (1, spawns), "{name}");
            assert_eq!(rig.policy.next_deadline(), None);
        }
    }
}

#[test]
fn a_process_that_hangs_in_the_kernel_does_not_hold_up_closing() {
    let mut rig = Rig::healthy(1);
    let life = rig.only(SlotState::Ready);
    rig.tell(Event::Shutdown { mode: Stop::Now });
    assert!(!has(&rig.pass(10 * SECOND - 1), &Action::Exit));
    assert!(has(&rig.pass(1), &Action::Exit));
    let out = rig.tell(Event::Exited { life, status: KILLED });
    assert_eq!(out[2], Action::Reap { life }, "late, but welcome");
    assert_eq!(rig.count(|a| *a == Action::Exit), 1);
}

#[test]
fn time_that_goes_back_counts_as_no_time() {
    let mut rig = Rig::healthy(1);
    rig.tell(Event::Tick);
    let (life, then) = (rig.only(SlotState::Ready), rig.now);
    rig.policy.handle(5, Event::Cordon { life, why: Why::Deadline }, &mut Vec::new());
    assert!(rig.policy.next_deadline().is_some_and(|at| at > then));
    assert!(!has(&rig.pass(SECOND - 1), &kill(life)), "the grace counts from the latest time");
    assert!(has(&rig.pass(1), &kill(life)));
}

#[test]
fn times_at_the_end_of_the_number_do_not_overflow() {
    let far = Config {
        backoff_first_ns: u64::MAX,
        backoff_max_ns: u64::MAX,
        within_ns: u64::MAX,
        boot_timeout_ns: u64::MAX,
        kill_grace_ns: u64::MAX,
        stop_grace_ns: u64::MAX,
        ..Config::default()
    };
    let mut rig = Rig { policy: Policy::new(far, 1, 0).unwrap(), now: u64::MAX - 5, asked: Vec::new() };
    rig.tell(Event::Tick);
    let life = rig.only(SlotState::Booting);
    assert_eq!(rig.policy.next_deadline(), None);
    rig.tell(Event::Ready { life });
    rig.tell(Event::Cordon { life, why: Why::Deadline });
    rig.tell(Event::Shutdown { mode: Stop::Drain });
    rig.tell(Event::Shutdown { mode: Stop::Drain });
    rig.tell(Event::Exited { life, status: KILLED });
}
