//! A seeded simulation of supervision: the real policy, a model of everything around it, and random faults.
//!
//! Each seed draws a configuration, a climate (how often what goes wrong) and a course: a time of faults, thousands
//! a second, then either calm, in which the pool must come back whole, or a shutdown in the midst of it. The model
//! plays processes that crash, hang, ignore signals, take long to be torn down, and news that is late, doubled,
//! out of order or about nobody. After every step the laws of [`World::check`] and [`World::obey`] are looked at.
//!
//! `STOKEHOLD_SIM_SEEDS=100000` runs so many seeds, `STOKEHOLD_SIM_SEED=17` only that one. A seed that fails is printed.

#[path = "policy_sim/calls.rs"]
mod calls;

use calls::Calls;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::Instant;

use stokehold::error::{Cause, Kill};
use stokehold::internals::pool::{
    Action, CallId, Config, Ended, Event, Life, Policy, PoolState, Refusal, Signal, SlotIndex, SlotState,
    Stop, Why,
};

const US: u64 = 1_000;
const MS: u64 = 1_000 * US;
const SECOND: u64 = 1_000 * MS;

/// What the policy promises: so many starts in one go, and the time for each further one.
const SPAWN_BURST: u64 = 8;
const SPAWN_GAP_NS: u64 = 2 * MS;
/// The same for log lines.
const LOG_BURST: u64 = 16;
const LOG_GAP_NS: u64 = SECOND;
/// When a process that does not die of SIGKILL is given up.
const LOST_AFTER_NS: u64 = 10 * SECOND;
/// How long a worker may take to say that it signalled one of its threads.
const ANSWER_NS: u64 = 200 * MS;
/// What calls that were given up get.
const OWN_SIGNAL: i32 = 10;
/// How long a process can hang in the kernel here: longer than any pool may take to close.
const UNKILLABLE_NS: u64 = 100 * SECOND;

#[test]
fn a_pool_survives_random_faults_and_comes_back() {
    let number = |name| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number of seeds"));
    let seeds = match (number("STOKEHOLD_SIM_SEED"), number("STOKEHOLD_SIM_SEEDS")) {
        (Some(seed), _) => seed..seed + 1,
        (None, count) => 0..count.unwrap_or(1000),
    };
    let count = seeds.end - seeds.start;
    let began = Instant::now();
    let halves = [seeds.clone().step_by(2), (seeds.start + 1..seeds.end).step_by(2)];
    let total = std::thread::scope(|scope| {
        let threads = halves.map(|half| {
            scope.spawn(move || {
                let mut sum = Tally::default();
                for seed in half {
                    let _named = Named(seed);
                    sum.add(&run(seed));
                }
                sum
            })
        });
        let mut total = Tally::default();
        for thread in threads {
            total.add(&thread.join().expect("a seed failed, see above"));
        }
        total
    });
    let took_ms = began.elapsed().as_millis().max(1) as u64;
    // Straight to the descriptor: the harness keeps what `println!` says to itself.
    let said = writeln!(
        std::io::stdout().lock(),
        "policy_sim: {count} passed, 0 failed: {} failures in {} simulated seconds, {} a second of ours; \
         {} starts, {} ticks, degraded {} times, {} lives given up",
        total.failures,
        total.simulated_ns / SECOND,
        total.failures * 1000 / took_ms,
        total.spawns,
        total.ticks,
        total.degraded,
        total.lost,
    );
    said.expect("stdout");
    // A simulation in which nothing happens proves nothing.
    if count >= 1000 {
        assert!(total.failures > 100 * count, "too few failures: {total:?}");
        assert!(total.degraded > count && total.lost > 0 && total.recovered > count / 3, "{total:?}");
        assert!(total.given_up > 10 * count && total.signals > count, "{total:?}");
        assert!(total.causes.len() >= 9, "some causes were never seen: {:?}", total.causes);
    }
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in [3, 17, 40] {
        assert_eq!(run(seed), run(seed));
    }
}

/// Prints the seed that fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("policy_sim: FAILED, repeat with STOKEHOLD_SIM_SEED={}", self.0);
        }
    }
}

/// One seed, from birth to the last reap.
fn run(seed: u64) -> Tally {
    let mut world = World::new(seed);
    let calm_at = world.calm_at;
    let shuts_in_storm = world.dice.chance(0.5);
    world.tell(0, Event::Tick);
    if shuts_in_storm {
        let at = world.dice.below(calm_at);
        world.live_until(at);
    } else {
        world.live_until(calm_at);
        world.live_until(calm_at + world.recovery_ns());
        world.must_be_whole();
        let spawns = world.tally.spawns;
        world.live_until(world.now + 20 * SECOND);
        world.must_be_whole();
        assert_eq!(world.tally.spawns, spawns, "a healthy pool starts nobody");
        assert_eq!(world.policy.next_deadline(), None, "a healthy pool at rest needs no tick");
        world.tally.recovered += 1;
    }
    let modes = [Stop::Drain, Stop::Now];
    let mode = *world.dice.pick(&modes);
    world.tell(world.now, Event::Shutdown { mode });
    if world.dice.chance(0.4) {
        let later = world.now + world.dice.below(2 * world.config.stop_grace_ns + MS);
        world.live_until(later);
        let mode = *world.dice.pick(&modes);
        world.tell(world.now, Event::Shutdown { mode });
        world.must_be_dying();
    }
    world.live_until(world.now.max(calm_at) + world.closing_ns());
    world.must_be_closed();
    world.live_until(world.now + UNKILLABLE_NS);
    world.must_be_gone();
    world.tally
}

/// What a worker's process is, whatever the policy thinks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    /// Ordered, not answered.
    Ordered,
    /// Runs.
    Alive,
    /// Being torn down by the kernel.
    Dying(Ended),
    /// Its pidfd fired.
    Zombie(Ended),
    /// Its process group was killed.
    Alone(Ended),
    /// Its calls were answered.
    Repaired,
}

/// A life, as the world knows it.
struct Worker {
    slot: SlotIndex,
    process: Process,
    was_ready: bool,
    /// It was published as being on its way out.
    leaving: bool,
    told: Vec<Why>,
}

/// Something that will happen by itself.
#[derive(Clone, Debug)]
enum Happening {
    /// News reaches the arbiter.
    News(Event),
    /// A start is answered with a process.
    Born(Life),
    /// A process begins to die.
    Dies(Life, Ended),
    /// A worker lets go of a call that was given up.
    LetsGo(Life, CallId),
    /// Its teardown is over.
    Gone(Life),
    /// A fault strikes, and the next one is drawn.
    Fault,
}

/// How likely what goes wrong is, in this seed.
#[derive(Debug)]
struct Climate {
    fault_gap_ns: u64,
    spawn_fails: f64,
    boot_exits: f64,
    boot_errors: f64,
    boot_hangs: f64,
    unkillable: f64,
    slow_spawn: f64,
}

/// Reasons to cordon a worker that say nothing against it: the next comes at once.
const FORGIVEN: &[Why] = &[Why::Recycled, Why::Deadline, Why::OthersDeadline];

/// What was seen.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    failures: u64,
    simulated_ns: u64,
    spawns: u64,
    ticks: u64,
    silent_ticks: u64,
    logs: u64,
    degraded: u64,
    lost: u64,
    recovered: u64,
    causes: BTreeMap<String, u64>,
    given_up: u64,
    signals: u64,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.failures += other.failures;
        self.simulated_ns += other.simulated_ns;
        self.spawns += other.spawns;
        self.ticks += other.ticks;
        self.silent_ticks += other.silent_ticks;
        self.logs += other.logs;
        self.degraded += other.degraded;
        self.lost += other.lost;
        self.given_up += other.given_up;
        self.signals += other.signals;
        self.recovered += other.recovered;
        for (cause, n) in &other.causes {
            *self.causes.entry(cause.clone()).or_default() += n;
        }
    }
}

/// The policy and all that it cannot see.
struct World {
    policy: Policy,
    config: Config,
    climate: Climate,
    dice: Dice,
    now: u64,
    /// The latest time that the policy was given.
    told_now: u64,
    calm_at: u64,
    ahead: BTreeMap<(u64, u64), Happening>,
    order: u64,
    /// Lives that were started and not reaped.
    workers: BTreeMap<u16, Worker>,
    /// The latest of those that are over.
    former: Vec<Life>,
    /// What the registry says of each slot.
    shown: Vec<(Option<Life>, SlotState)>,
    spawns_of: Vec<u64>,
    forgiven_of: Vec<u64>,
    spawn_times: Vec<u64>,
    log_times: Vec<u64>,
    trouble_times: Vec<u64>,
    calls: Calls,
    state: PoolState,
    exited: bool,
    tally: Tally,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed.wrapping_mul(0xd134_2543_de82_ef95));
        let backoff_first_ns = dice.scale(10 * US, 5 * MS);
        let workers = *dice.pick(&[0, 1, 1, 1, 2, 2, 3, 4, 4, 8, 16, 64]);
        let config = Config {
            workers,
            max_lives: *dice.pick(&[128, 128, 128, 128, 128, 2 * workers, workers + 1, workers]),
            max_restarts: *dice.pick(&[0, 1, 3, 5, 20, 100, 10_000]),
            within_ns: dice.scale(MS, SECOND),
            backoff_first_ns,
            backoff_max_ns: backoff_first_ns << dice.below(11),
            boot_timeout_ns: dice.scale(MS, 300 * MS),
            cancel_signal: *dice.pick(&[None, Some(OWN_SIGNAL), Some(OWN_SIGNAL)]),
            cancel_grace_ns: dice.scale(10 * US, 50 * MS),
            signal_grace_ns: dice.scale(10 * US, 50 * MS),
            kill_grace_ns: dice.below(50 * MS),
            stop_grace_ns: dice.below(200 * MS),
        };
        let odds = [0.0, 0.0, 0.02, 0.1, 0.3];
        let mut climate = Climate {
            fault_gap_ns: dice.scale(100 * US, 2 * MS),
            spawn_fails: *dice.pick(&odds),
            boot_exits: *dice.pick(&odds),
            boot_errors: *dice.pick(&odds),
            boot_hangs: *dice.pick(&odds),
            unkillable: *dice.pick(&[0.0, 0.0, 0.02, 0.2]),
            slow_spawn: *dice.pick(&[0.0, 0.0, 0.05]),
        };
        if dice.chance(0.1) {
            climate.boot_exits = 1.0;
        }
        if dice.chance(0.05) {
            climate.spawn_fails = 1.0;
        }
        let first = if dice.chance(0.5) { 65_535 - dice.below(60) as u16 } else { 1 };
        let first = Life::new(first).unwrap();
        let policy = Policy::with_first_life(config, dice.next(), 0, first).unwrap();
        let calm_at = dice.scale(50 * MS, 1500 * MS);
        let mut world = World {
            state: policy.state(),
            policy,
            climate,
            dice,
            now: 0,
            told_now: 0,
            calm_at,
            ahead: BTreeMap::new(),
            order: 0,
            workers: BTreeMap::new(),
            former: Vec::new(),
            shown: vec![(None, SlotState::Empty); config.workers],
            spawns_of: vec![0; config.workers],
            forgiven_of: vec![0; config.workers],
            spawn_times: Vec::new(),
            log_times: Vec::new(),
            trouble_times: Vec::new(),
            calls: Calls::default(),
            exited: false,
            tally: Tally::default(),
            config,
        };
        world.later(world.climate.fault_gap_ns, Happening::Fault);
        world
    }

    /// In which a calm pool must be whole again: what is under way must time out, graces end, slots wait, boot.
    fn recovery_ns(&self) -> u64 {
        let c = &self.config;
        let cancel_ns = c.cancel_grace_ns + ANSWER_NS + c.signal_grace_ns;
        let ends_ns = cancel_ns + c.kill_grace_ns + c.stop_grace_ns;
        3 * c.boot_timeout_ns + ends_ns + 2 * c.backoff_max_ns + 3 * SECOND
    }

    /// In which a pool must be closed, even if a process hangs in the kernel.
    fn closing_ns(&self) -> u64 {
        let c = &self.config;
        2 * c.boot_timeout_ns + c.kill_grace_ns + c.stop_grace_ns + 2 * LOST_AFTER_NS + 10 * SECOND
    }

    /// Everything that happens up to `end`, and the ticks that are asked for.
    fn live_until(&mut self, end: u64) {
        loop {
            let mut tick_at = self.policy.next_deadline();
            if self.is_stormy() && self.dice.chance(0.05) {
                tick_at = tick_at.map(|at| at + self.dice.below(5 * MS)); // the loop was busy
            }
            let next = self.ahead.first_key_value().map(|(&(at, _), _)| at);
            let tick = tick_at.is_some_and(|at| next.is_none_or(|next| at <= next));
            let Some(at) = (if tick { tick_at } else { next }).filter(|&at| at <= end) else { break };
            self.now = self.now.max(at);
            if tick {
                self.tick();
            } else if let Some((_, happening)) = self.ahead.pop_first() {
                self.happen(happening);
            }
        }
        self.now = end;
        self.tally.simulated_ns = end;
    }

    fn tick(&mut self) {
        self.review();
        let did = self.tell(self.now, Event::Tick);
        self.tally.ticks += 1;
        self.tally.silent_ticks += u64::from(did == 0);
        // A life is started by at most one tick and moved on by at most four, a call by three, so no loop can be kept busy.
        assert!(
            self.tally.ticks <= 5 * self.tally.spawns + 3 * self.tally.given_up,
            "too many ticks: {:?}",
            self.tally
        );
        assert!(
            self.tally.silent_ticks <= 2 * self.tally.spawns + self.tally.given_up,
            "ticks for nothing: {:?}",
            self.tally
        );
    }

    /// What the arbiter does before each tick: it looks at all calls that were given up, and tells of those that are over.
    fn review(&mut self) {
        let calls = self.policy.given_up_calls();
        let over: Vec<(Life, CallId)> = calls.filter(|(_, call)| self.calls.is_over(*call)).collect();
        for (life, call) in over {
            self.tell(self.now, Event::LetGo { life, call });
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::News(event) => {
                self.tell(self.now, event);
            }
            Happening::Born(life) => self.born(life),
            Happening::Dies(life, how) => self.die(life, how),
            Happening::LetsGo(life, call) => {
                self.calls.let_go(call);
                if self.dice.chance(0.5) {
                    self.tell(self.now, Event::LetGo { life, call }); // it is looked at by chance
                }
            }
            Happening::Gone(life) => {
                let Process::Dying(how) = self.worker(life).process else { panic!("{life} was not dying") };
                self.worker(life).process = Process::Zombie(how);
                self.tell(self.now, Event::Exited { life, status: how });
                assert!(!self.workers.contains_key(&life.get()), "life {life} ended and was not reaped");
            }
            Happening::Fault => {
                if self.is_stormy() {
                    self.fault();
                    let gap_ns = self.dice.below(2 * self.climate.fault_gap_ns);
                    self.later(gap_ns, Happening::Fault);
                }
            }
        }
    }

    /// Hands an event in, does what is asked for, looks at the laws. Returns how much was asked for.
    fn tell(&mut self, at: u64, event: Event) -> usize {
        if let Event::Cordon { life, why } = event
            && let Some(worker) = self.workers.get_mut(&life.get())
        {
            worker.told.push(why);
        }
        match event {
            Event::GivenUp { life, call } => self.calls.found(life, call, self.told_now.max(at)),
            Event::Interrupted { call, .. } => self.calls.answered(call),
            _ => {}
        }
        if let Event::SpawnFailed { life, .. } = event
            && self.workers.get(&life.get()).is_some_and(|w| w.process == Process::Ordered)
        {
            self.bury(life);
        }
        let may_spawn = !self.is_closing() && !matches!(event, Event::Shutdown { .. });
        let mut out = Vec::new();
        self.told_now = self.told_now.max(at);
        self.policy.handle(at, event.clone(), &mut out);
        for (n, action) in out.iter().enumerate() {
            assert!(may_spawn || !matches!(action, Action::Spawn { .. }), "started while closing");
            self.obey(action, out.get(n + 1), &event);
        }
        let is_ahead = self.policy.next_deadline().is_none_or(|at| at > self.told_now);
        assert!(is_ahead || event != Event::Tick, "the next tick lies in the past");
        self.check();
        out.len()
    }

    fn obey(&mut self, action: &Action, then: Option<&Action>, event: &Event) {
        match *action {
            Action::Spawn { slot, life } => self.spawn(slot, life),
            Action::Kill { life, signal } => {
                let process = self.worker(life).process;
                assert_ne!(process, Process::Ordered, "signal to nobody");
                match signal {
                    Signal::Kill => self.die(life, Ended::Signaled(9)),
                    Signal::Cancel => {
                        self.calls.signal(life, self.told_now);
                        self.signalled(life);
                    }
                    Signal::Term => {
                        assert!(self.is_closing());
                        if self.dice.chance(0.5) {
                            let ns = self.dice.below(MS);
                            self.later(ns, Happening::Dies(life, Ended::Signaled(15)));
                        }
                    }
                }
            }
            Action::Interrupt { life, call } => {
                self.calls.ask(life, call, self.told_now, &self.config);
                if self.dice.chance(0.7) {
                    let ns = self.dice.below(ANSWER_NS + ANSWER_NS / 4);
                    self.later(ns, Happening::News(Event::Interrupted { life, call }));
                    self.signalled(life);
                }
            }
            Action::KillGroup { life } => match self.worker(life).process {
                Process::Zombie(how) => self.worker(life).process = Process::Alone(how),
                other => panic!("group of life {life} killed while it is {other:?}"),
            },
            Action::Repair { life, cause } => {
                let Process::Alone(how) = self.worker(life).process else {
                    panic!("life {life} repaired while it is {:?}", self.worker(life).process)
                };
                self.check_cause(life, cause, how);
                self.worker(life).process = Process::Repaired;
            }
            Action::Reap { life } => {
                assert_eq!(self.worker(life).process, Process::Repaired, "life {life} reaped");
                self.bury(life);
            }
            Action::BootLate { life } => {
                let late = self.policy.incarnation(life).map(|it| it.state());
                assert_eq!(late, Some(SlotState::Dying), "life {life} is late");
            }
            Action::Drain { life } => {
                if self.dice.chance(0.6) {
                    let ns = self.dice.below(2 * self.config.stop_grace_ns + MS);
                    self.later(ns, Happening::Dies(life, Ended::Exited(0)));
                }
            }
            Action::SetState { state } => {
                assert!(self.state.may_become(state), "{:?} became {state:?}", self.state);
                let expected = match (self.state, state) {
                    (_, PoolState::Degraded) => Some(Action::RefuseQueued { reason: Refusal::Degraded }),
                    (_, PoolState::ShuttingDown) => {
                        Some(Action::RefuseQueued { reason: Refusal::ShuttingDown })
                    }
                    (PoolState::Degraded, PoolState::Running) => Some(Action::ResumeQueue),
                    (_, PoolState::Closed) => Some(Action::Exit),
                    _ => None,
                };
                assert!(
                    expected.is_none() || then == expected.as_ref(),
                    "{state:?} without what goes with it"
                );
                self.tally.degraded += u64::from(state == PoolState::Degraded);
                self.state = state;
            }
            Action::RefuseQueued { .. } => {
                assert!(!self.state.accepts_calls(), "state first, sweep afterwards")
            }
            Action::ResumeQueue => assert!(self.state.accepts_calls()),
            Action::Slot { slot, life, state } => {
                assert_eq!(life.is_none(), state == SlotState::Empty);
                self.shown[slot.index()] = (life, state);
                if let Some(life) = life {
                    // The order to start a life comes after its number is published.
                    let Some(worker) = self.workers.get_mut(&life.get()) else { return };
                    worker.was_ready |= state == SlotState::Ready;
                    let leaving = !matches!(state, SlotState::Booting | SlotState::Ready);
                    let told = matches!(event, Event::Cordon { why, .. } if FORGIVEN.contains(why));
                    let calls = &self.calls;
                    // Nobody else asked for it: then a call did that was given up, and is not over.
                    let is_asked_for = matches!(event, Event::Cordon { life: l, .. } if *l == life);
                    assert!(
                        state != SlotState::Cordoned
                            || is_asked_for
                            || calls.cost_now(life, self.told_now, &self.config),
                        "life {life} was cordoned for nothing, at {event:?}"
                    );
                    let forgiven = worker.was_ready
                        && (told
                            || calls.may_have_killed(life)
                            || calls.costs(life, self.told_now, &self.config));
                    if leaving && !worker.leaving && forgiven {
                        self.forgiven_of[slot.index()] += 1;
                    }
                    worker.leaving |= leaving;
                }
            }
            Action::Exit => {
                assert!(!self.exited && self.state == PoolState::Closed);
                self.exited = true;
                self.tally.lost += self.policy.incarnations().len() as u64;
            }
            Action::Log { .. } => {
                self.tally.logs += 1;
                let times = match event {
                    Event::Trouble { .. } => &mut self.trouble_times,
                    _ => &mut self.log_times,
                };
                times.push(self.now);
                check_rate(times, LOG_BURST, LOG_GAP_NS, "log lines");
            }
        }
    }

    /// The laws that hold after every step.
    fn check(&self) {
        assert_eq!(self.policy.state(), self.state, "not what was published");
        let lives = self.policy.incarnations();
        assert!(lives.len() <= (4 * self.config.workers).min(self.config.max_lives), "{} lives", lives.len());
        let mut serving = vec![0; self.config.workers];
        for life in lives {
            serving[life.slot().index()] += usize::from(life.is_serving());
            assert!(self.workers.contains_key(&life.life().get()), "remembers the gone {life:?}");
        }
        assert!(serving.iter().all(|&n| n <= 1), "two workers in one slot");
        for (slot, shown) in self.policy.slots().iter().zip(&self.shown) {
            let state = slot.life().and_then(|life| self.policy.incarnation(life)).map(|i| i.state());
            assert_eq!((slot.life(), state.unwrap_or(SlotState::Empty)), *shown, "not what was published");
        }
        let ready = lives.iter().filter(|i| i.state() == SlotState::Ready).count();
        assert_eq!(ready, self.policy.ready_workers());
        assert!(
            ready == 0 || self.state == PoolState::Running,
            "{:?} with {ready} ready workers",
            self.state
        );
        assert!(!self.exited || self.state == PoolState::Closed);
    }

    /// A cause must be true: what was decided only where it was decided, else how the process ended.
    fn check_cause(&mut self, life: Life, cause: Cause, how: Ended) {
        let closing = self.is_closing();
        let calls = &self.calls;
        let costs = calls.costs(life, self.told_now, &self.config)
            || how == Ended::Signaled(OWN_SIGNAL) && calls.may_have_killed(life);
        let worker = self.worker(life);
        let told = |why| worker.told.contains(&why);
        let true_enough = match cause {
            Cause::KilledByUs(Kill::Deadline) => told(Why::Deadline) || costs,
            Cause::KilledByUs(Kill::OthersDeadline) => told(Why::OthersDeadline),
            Cause::KilledByUs(Kill::Shutdown) => closing,
            Cause::Hung => told(Why::Hung),
            Cause::Corrupt => told(Why::Corrupt),
            Cause::Recycled => told(Why::Recycled),
            Cause::BootFailed => !worker.was_ready,
            Cause::Exit(status) => how == Ended::Exited(status),
            Cause::Signal(signal) => how == Ended::Signaled(signal),
            Cause::Oom => how == Ended::OutOfMemory,
            _ => false,
        };
        assert!(true_enough, "{cause:?} for {how:?}, told {:?}, ready {}", worker.told, worker.was_ready);
        let crash = matches!(how, Ended::Signaled(11) | Ended::Exited(1..));
        let ours = !matches!(cause, Cause::Exit(_) | Cause::Signal(_) | Cause::BootFailed);
        assert!(!crash || !ours, "a crash ({how:?}) was reported as {cause:?}");
        *self.tally.causes.entry(format!("{cause:?}")).or_default() += 1;
    }

    fn must_be_whole(&self) {
        if self.config.workers > 0 {
            assert_eq!(self.state, PoolState::Running);
        }
        assert_eq!(self.policy.ready_workers(), self.config.workers, "{:#?}", self.policy);
        assert_eq!(self.policy.incarnations().len(), self.config.workers, "{:#?}", self.policy);
    }

    fn must_be_dying(&self) {
        assert!(self.policy.incarnations().iter().all(|i| i.state() == SlotState::Dying), "now means now");
    }

    fn must_be_closed(&self) {
        assert_eq!((self.state, self.exited), (PoolState::Closed, true), "{:#?}", self.policy);
    }

    fn must_be_gone(&self) {
        self.must_be_closed();
        assert_eq!(self.policy.next_deadline(), None);
        let left: Vec<_> = self.workers.iter().map(|(life, worker)| (life, worker.process)).collect();
        assert!(left.is_empty(), "left over: {left:?}");
        assert!(self.policy.incarnations().is_empty());
    }
}

/// What processes do.
impl World {
    fn spawn(&mut self, slot: SlotIndex, life: Life) {
        assert!(!self.is_closing(), "started while closing");
        for (former, worker) in self.workers.iter().filter(|(_, w)| w.slot == slot) {
            assert!(worker.leaving, "life {former} still serves in slot {slot}");
        }
        let worker =
            Worker { slot, process: Process::Ordered, was_ready: false, leaving: false, told: Vec::new() };
        let twin = self.workers.insert(life.get(), worker);
        assert!(twin.is_none(), "life {life} exists already");
        self.tally.spawns += 1;
        self.spawn_times.push(self.now);
        check_rate(&self.spawn_times, SPAWN_BURST, SPAWN_GAP_NS, "starts");
        self.spawns_of[slot.index()] += 1;
        self.check_backoff(slot);
        let stormy = self.is_stormy();
        let answer_ns = if stormy && self.dice.chance(self.climate.slow_spawn) {
            self.dice.below(2 * self.config.boot_timeout_ns)
        } else {
            self.dice.below(MS.min(self.config.boot_timeout_ns / 4))
        };
        if stormy && self.dice.chance(self.climate.spawn_fails) {
            self.tally.failures += 1;
            self.later(answer_ns, Happening::News(Event::SpawnFailed { life, errno: 11 }));
        } else {
            self.later(answer_ns, Happening::Born(life));
        }
    }

    /// Between two lives that were healthy, a slot is started often only until its wait has doubled to the longest.
    fn check_backoff(&self, slot: SlotIndex) {
        let c = &self.config;
        let doublings = (c.backoff_max_ns / c.backoff_first_ns).ilog2() as u64;
        let longest = self.now / c.backoff_max_ns + 1;
        let most = longest * (doublings + 4) + 2 * longest + self.forgiven_of[slot.index()];
        let spawns = self.spawns_of[slot.index()];
        assert!(spawns <= most, "slot {slot} was started {spawns} times in {} ns, of {most}", self.now);
    }

    fn born(&mut self, life: Life) {
        self.worker(life).process = Process::Alive;
        let boot_ns = self.dice.below(self.config.boot_timeout_ns / 2);
        let stormy = self.is_stormy();
        let mut goes = |chance| stormy && self.dice.chance(chance);
        if goes(self.climate.boot_exits) {
            self.tally.failures += 1;
            let how = self.dice.end();
            self.later(boot_ns, Happening::Dies(life, how));
        } else if goes(self.climate.boot_errors) {
            self.tally.failures += 1;
            let text = "no model".into();
            self.later(boot_ns, Happening::News(Event::BootError { life, text }));
        } else if goes(self.climate.boot_hangs) {
            self.tally.failures += 1;
        } else {
            self.later(boot_ns, Happening::News(Event::Ready { life }));
        }
        if stormy && self.dice.chance(0.05) {
            let ns = self.dice.below(MS); // the news of the start is overtaken
            self.later(ns, Happening::News(Event::SpawnedOk { life }));
        } else {
            self.tell(self.now, Event::SpawnedOk { life });
        }
    }

    /// A process begins to die, unless it does so already.
    fn die(&mut self, life: Life, how: Ended) {
        let worker = self.workers.get_mut(&life.get()).filter(|w| w.process == Process::Alive);
        let Some(worker) = worker else { return };
        worker.process = Process::Dying(how);
        let stormy = self.is_stormy();
        let calm_in = self.calm_at.saturating_sub(self.now);
        let teardown_ns = if stormy && self.dice.chance(self.climate.unkillable) {
            self.tally.failures += 1;
            // A pool that is to come back gets its processes back.
            if self.is_closing() { UNKILLABLE_NS } else { calm_in }
        } else if stormy && self.dice.chance(0.03) {
            self.dice.below(700 * MS)
        } else {
            self.dice.below(2 * MS)
        };
        if self.dice.chance(0.8) {
            self.later(teardown_ns.min(100 * US), Happening::News(Event::Marked { life }));
        }
        self.later(teardown_ns, Happening::Gone(life));
    }

    /// It gets the signal for a call. Not every app has a handler.
    fn signalled(&mut self, life: Life) {
        self.tally.signals += 1;
        if self.dice.chance(0.4) {
            let ns = self.dice.below(MS);
            self.later(ns, Happening::Dies(life, Ended::Signaled(OWN_SIGNAL)));
        }
    }

    /// One random fault.
    fn fault(&mut self) {
        let alive: Vec<Life> =
            self.workers.iter().filter(|(_, w)| w.process == Process::Alive).map(life_of).collect();
        if alive.is_empty() || self.dice.chance(0.15) {
            return self.untimely();
        }
        let life = *self.dice.pick(&alive);
        self.tally.failures += 1;
        match self.dice.below(100) {
            0..60 => {
                let how = self.dice.end();
                self.die(life, how);
            }
            60..70 => {
                self.tell(self.now, Event::Marked { life }); // one thread ended, the process lives on
            }
            70..85 => {
                // All those of a client that is gone, perhaps.
                for _ in 0..*self.dice.pick(&[1, 1, 1, 3]) {
                    self.tally.given_up += 1;
                    let call = CallId { lane: self.tally.given_up, call: 1, generation: 1 };
                    self.tell(self.now, Event::GivenUp { life, call });
                    if self.dice.chance(0.7) {
                        let most = *self.dice.pick(&[400 * MS, self.config.cancel_grace_ns]);
                        let ns = self.dice.below(most);
                        self.later(ns, Happening::LetsGo(life, call));
                    }
                }
            }
            85..97 => {
                let whys = [Why::Deadline, Why::OthersDeadline, Why::Hung, Why::Corrupt, Why::Recycled];
                let why = *self.dice.pick(&whys);
                self.tell(self.now, Event::Cordon { life, why });
            }
            _ => {
                self.tally.failures += alive.len() as u64 - 1;
                alive.into_iter().for_each(|life| self.die(life, Ended::Signaled(9)));
            }
        }
    }

    /// News that comes twice, too late, or about nobody. Only an exit is never made up: a pidfd tells the truth.
    fn untimely(&mut self) {
        let known: Vec<Life> = self.workers.iter().map(life_of).chain(self.former.iter().copied()).collect();
        let life = if known.is_empty() || self.dice.chance(0.1) {
            Life::new(self.dice.below(65_535) as u16 + 1).unwrap()
        } else {
            *self.dice.pick(&known)
        };
        let process = self.workers.get(&life.get()).map(|w| w.process);
        let over = process.is_none();
        let started = process != Some(Process::Ordered); // or over
        let (at, event) = match self.dice.below(8) {
            0 if started => (self.now, Event::SpawnedOk { life }),
            1 if over => (self.now, Event::SpawnFailed { life, errno: 12 }),
            2 if over => (self.now, Event::Exited { life, status: Ended::Exited(0) }),
            3 if over => (self.now, Event::Cordon { life, why: Why::Corrupt }),
            4 if started => (self.now, Event::Ready { life }),
            5 if started => (self.now, Event::Marked { life }),
            6 => (self.now, Event::Trouble { text: "a peer".into() }),
            _ => (self.now - self.dice.below(self.now + 1), Event::Tick), // a clock that goes back
        };
        if event == Event::Tick {
            self.review();
        }
        self.tell(at, event);
    }

    /// Nothing is left of it but its number, which late news may still name.
    fn bury(&mut self, life: Life) {
        self.workers.remove(&life.get());
        self.calls.bury(life);
        self.former.truncate(15);
        self.former.insert(0, life);
    }

    fn later(&mut self, ns: u64, happening: Happening) {
        self.order += 1;
        self.ahead.insert((self.now + ns, self.order), happening);
    }

    fn worker(&mut self, life: Life) -> &mut Worker {
        self.workers.get_mut(&life.get()).expect("a life that was started")
    }

    fn is_stormy(&self) -> bool {
        self.now < self.calm_at
    }

    fn is_closing(&self) -> bool {
        matches!(self.state, PoolState::ShuttingDown | PoolState::Closed)
    }
}

fn life_of((&life, _): (&u16, &Worker)) -> Life {
    Life::new(life).expect("zero is nobody")
}

/// No more than `burst` and one more each `gap_ns`, over the time from any earlier one to the latest.
fn check_rate(times: &[u64], burst: u64, gap_ns: u64, what: &str) {
    let Some(&last) = times.last() else { return };
    for (n, &from) in (1..).zip(times.iter().rev().take(200)) {
        let most = burst + (last - from) / gap_ns;
        assert!(n <= most, "{n} {what} in {} ns", last - from);
    }
}

/// A splitmix64 generator.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 to one less than `end`; 0 if that is 0.
    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn chance(&mut self, p: f64) -> bool {
        ((self.next() >> 11) as f64) < p * (1u64 << 53) as f64
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    /// From `low` to `high`, each magnitude as likely as the others.
    fn scale(&mut self, low: u64, high: u64) -> u64 {
        let magnitude = low << self.below((high / low).ilog2() as u64 + 1);
        (magnitude + self.below(magnitude)).min(high)
    }

    /// A way for a process to end.
    fn end(&mut self) -> Ended {
        *self.pick(&[
            Ended::Signaled(9),
            Ended::Signaled(9),
            Ended::Signaled(11),
            Ended::Signaled(15),
            Ended::Exited(0),
            Ended::Exited(1),
            Ended::OutOfMemory,
        ])
    }
}
