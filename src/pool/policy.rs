//! The state machine itself: events and time in, actions out.

use log::Level;

use super::bucket::Bucket;
use super::given_up::{Ladder, Stage};
use super::incarnation::Phase;
use super::restart::{Backoff, Intensity};
use super::roster::{HOPELESS, HOPELESS_NS, Roster};
use super::{
    Action, CallId, Config, Ended, Event, Incarnation, Life, PoolState, Refusal, Signal, Slot, SlotIndex,
    SlotState, Stop, Why,
};
use crate::error::{Cause, Kill, Result};

/// Supervises one pool.
///
/// After [`new`](Policy::new) hand in an [`Event::Tick`], which starts the first workers; from then on each event as
/// it happens, and a tick whenever [`next_deadline`](Policy::next_deadline) is due.
#[derive(Clone, Debug)]
pub struct Policy {
    config: Config,
    state: PoolState,
    roster: Roster,
    ladder: Ladder,
    intensity: Intensity,
    backoff: Backoff,
    /// The pool is degraded and early deaths were too many, then or since.
    spent: bool,
    spawns: Bucket,
    logs: Bucket,
    troubles: Bucket,
    /// Log lines that were left out since the last one that was not.
    unsaid: u64,
    /// The latest time handed in.
    now: u64,
}

impl Policy {
    /// The policy of a pool that starts now. Jitter is drawn from `seed`.
    ///
    /// # Errors
    ///
    /// [`Code::Config`](crate::error::Code::Config) for a configuration that [`Config::check`] refuses.
    pub fn new(config: Config, seed: u64, now: u64) -> Result<Policy> {
        Policy::with_first_life(config, seed, now, Life::FIRST)
    }

    /// The same, counting lives from `first`: for a pool that takes over where another ended, and for tests near
    /// the number at which lives come round.
    ///
    /// # Errors
    ///
    /// As [`new`](Policy::new).
    pub fn with_first_life(config: Config, seed: u64, now: u64, first: Life) -> Result<Policy> {
        config.check()?;
        Ok(Policy {
            config,
            state: if config.workers == 0 { PoolState::NoWorkers } else { PoolState::Starting },
            roster: Roster::new(&config, first, now),
            ladder: Ladder::default(),
            intensity: Intensity::new(&config),
            backoff: Backoff::new(&config, seed),
            spent: false,
            spawns: Bucket::new(SPAWN_BURST, SPAWN_GAP_NS),
            logs: Bucket::new(LOG_BURST, LOG_GAP_NS),
            troubles: Bucket::new(LOG_BURST, LOG_GAP_NS),
            unsaid: 0,
            now,
        })
    }

    /// Takes in what happened at `now` and appends what is to be done about it, in order.
    ///
    /// A `now` before an earlier one counts as that one. After a tick [`next_deadline`](Policy::next_deadline) lies
    /// in the future: a loop that waits for it cannot spin. After any other event it may be due already, for the sake of a
    /// call that was given up.
    pub fn handle(&mut self, now: u64, event: Event, out: &mut Vec<Action>) {
        self.now = self.now.max(now);
        match event {
            Event::SpawnedOk { life } => self.spawned(life, out),
            Event::SpawnFailed { life, errno } => self.spawn_failed(life, errno, out),
            Event::Ready { life } => self.ready(life, out),
            Event::BootError { life, text } => self.boot_error(life, &text, out),
            Event::Marked { life } => self.marked(life, out),
            Event::Exited { life, status } => self.exited(life, status, out),
            Event::Cordon { life, why } => self.cordon(life, why, out),
            Event::GivenUp { life, call } => self.given_up(life, call),
            Event::LetGo { life, call } => self.ladder.forget(life, call),
            Event::Interrupted { life, call } => self.interrupted(life, call),
            Event::Shutdown { mode } => self.shutdown(mode, out),
            Event::Trouble { text } => self.complain(&text, out),
            // Here only: the calls were looked at just before. Who climbed with other news might do so for one that is over,
            // and was not asked about since.
            Event::Tick => self.climb(out),
        }
        self.expire(out);
        self.fill(out);
        self.judge(out);
    }

    /// The state of the pool.
    pub fn state(&self) -> PoolState {
        self.state
    }

    /// When to hand in the next [`Event::Tick`], if nothing else happens before. None: not at all.
    pub fn next_deadline(&self) -> Option<u64> {
        let forced = self.roster.lives().iter().filter_map(Incarnation::deadline).min();
        let vacancy = if self.is_closing() { None } else { self.roster.next_vacancy() };
        let spawn = vacancy.map(|(_, until)| until.max(self.spawns.next_at()));
        forced.into_iter().chain(self.ladder.next_deadline()).chain(spawn).min().filter(|&at| at != NEVER)
    }

    /// A life that was started and not reaped.
    pub fn incarnation(&self, life: Life) -> Option<&Incarnation> {
        self.roster.life(life)
    }

    /// Every life that was started and not reaped, oldest first.
    pub fn incarnations(&self) -> &[Incarnation] {
        self.roster.lives()
    }

    /// The slots, in their order.
    pub fn slots(&self) -> &[Slot] {
        self.roster.slots()
    }

    /// The calls that were given up, as far as is known, and who has them. To be looked at again, all of them, before a tick
    /// is handed in: what is over is no reason to do anything to anybody.
    pub fn given_up_calls(&self) -> impl Iterator<Item = (Life, CallId)> + '_ {
        self.ladder.all().iter().map(|it| (it.life, it.call))
    }

    /// Whether this end of a worker is our doing: it has no handler for the signal that it got for a call.
    pub fn is_own_signal(&self, life: Life, status: Ended) -> bool {
        let own = self.config.cancel_signal.map(Ended::Signaled);
        own == Some(status) && self.ladder.is_signalled(life)
    }

    /// Whether workers cannot be started in some slot, or cannot boot there: not twice in a row, nor a second later. Not all
    /// slots will be filled soon, though the pool may do well with the others.
    pub fn has_hopeless_slot(&self) -> bool {
        self.roster.has_hopeless_slot()
    }

    /// Workers that take calls.
    pub fn ready_workers(&self) -> usize {
        self.roster.ready()
    }
}

/// What each event means.
impl Policy {
    fn spawned(&mut self, life: Life, out: &mut Vec<Action>) {
        let lost_at = self.now.saturating_add(LOST_AFTER_NS);
        let Some(i) = self.roster.life_mut(life).filter(|i| !i.born) else { return };
        i.born = true;
        if let Phase::Dying { .. } | Phase::Lost = i.phase {
            i.phase = Phase::Dying { lost_at };
            out.push(Action::Kill { life, signal: Signal::Kill });
        }
    }

    fn spawn_failed(&mut self, life: Life, errno: i32, out: &mut Vec<Action>) {
        let Some(i) = self.roster.life(life).filter(|i| !i.born) else { return };
        let (slot, served) = (i.slot, i.is_serving());
        self.leave(life, out);
        if served && !self.is_closing() {
            let streak = self.roster.slot(slot).streak.saturating_add(1).max(HOPELESS);
            self.hold(slot, streak, true);
        }
        let error = std::io::Error::from_raw_os_error(errno);
        self.say(out, Level::Error, || format!("worker {slot} cannot be started: {error}"));
    }

    fn ready(&mut self, life: Life, out: &mut Vec<Action>) {
        self.spawned(life, out);
        let now = self.now;
        let Some(i) = self.roster.life_mut(life) else { return };
        if let Phase::Booting { .. } = i.phase {
            i.phase = Phase::Ready;
            i.ready_at = Some(now);
            let slot = i.slot;
            let it = self.roster.slot_mut(slot);
            (it.failed_starts, it.is_hopeless) = (0, false);
            self.show(life, out);
        }
    }

    fn boot_error(&mut self, life: Life, text: &str, out: &mut Vec<Action>) {
        self.spawned(life, out);
        let Some(i) = self.roster.life_mut(life) else { return };
        if let Phase::Booting { .. } = i.phase {
            i.doom = Some(Cause::BootFailed);
            let slot = i.slot;
            self.say(out, Level::Error, || {
                format!("worker {slot} (life {life}) cannot boot: {}", tame(text))
            });
            self.kill(life, out);
        }
    }

    /// What peers do has a limit of its own, so that it cannot keep more important news out of the log.
    fn complain(&mut self, text: &str, out: &mut Vec<Action>) {
        if self.troubles.take(self.now) {
            out.push(Action::Log { level: Level::Warn, text: tame(text) });
        }
    }

    fn marked(&mut self, life: Life, out: &mut Vec<Action>) {
        self.spawned(life, out);
        self.kill(life, out);
    }

    fn exited(&mut self, life: Life, status: Ended, out: &mut Vec<Action>) {
        let Some(i) = self.roster.life(life) else { return };
        let (slot, served, ready_at, doom) = (i.slot, i.is_serving(), i.ready_at, i.doom);
        let is_own = self.is_own_signal(life, status);
        let cause = if is_own { Why::Deadline.cause() } else { i.cause(status) };
        out.push(Action::KillGroup { life });
        out.push(Action::Repair { life, cause });
        out.push(Action::Reap { life });
        self.leave(life, out);
        match served {
            true if is_own => self.roster.slot_mut(slot).vacant_until = self.now,
            true => self.vacate(slot, ready_at),
            false => {}
        }
        match (cause, doom) {
            (Cause::Recycled | Cause::KilledByUs(Kill::Shutdown), _) => {} // wanted
            (Cause::BootFailed, Some(_)) => {}                             // told when it was decided
            (Cause::BootFailed, None) => self.say(out, Level::Error, || {
                format!("worker {slot} (life {life}) ended before it was ready: {status}")
            }),
            _ => self.say(out, Level::Warn, || format!("worker {slot} (life {life}) died: {cause}")),
        }
    }

    fn cordon(&mut self, life: Life, why: Why, out: &mut Vec<Action>) {
        if why == Why::Recycled && !self.can_recycle(life) {
            return;
        }
        let grace_ns = match why {
            Why::Deadline | Why::OthersDeadline => self.config.kill_grace_ns,
            Why::Recycled => self.config.stop_grace_ns,
            Why::Hung | Why::Corrupt => 0,
        };
        let kill_at = self.now.saturating_add(grace_ns);
        let Some(i) = self.roster.life_mut(life) else { return };
        let (slot, served, ready_at, born) = (i.slot, i.is_serving(), i.ready_at, i.born);
        i.phase = match i.phase {
            Phase::Booting { .. } | Phase::Ready => Phase::Cordoned { kill_at },
            Phase::Cordoned { kill_at: at } => Phase::Cordoned { kill_at: at.min(kill_at) },
            Phase::Draining { term_at } => Phase::Draining { term_at: term_at.min(kill_at) },
            Phase::Terminating { kill_at: at } => Phase::Terminating { kill_at: at.min(kill_at) },
            Phase::Dying { .. } | Phase::Lost => return,
        };
        i.doom.get_or_insert(why.cause());
        if !served {
            return;
        }
        self.show(life, out);
        if born && grace_ns > 0 {
            out.push(Action::Drain { life });
        }
        // That a caller of a healthy worker gave up is no sign that workers are broken: however often it happens, it
        // must not degrade the pool for everybody.
        let wanted = matches!(why, Why::Recycled | Why::Deadline | Why::OthersDeadline);
        if wanted && ready_at.is_some() {
            self.roster.slot_mut(slot).vacant_until = self.now;
        } else {
            self.vacate(slot, ready_at);
        }
    }

    fn given_up(&mut self, life: Life, call: CallId) {
        let until = self.now.saturating_add(self.config.cancel_grace_ns);
        if self.roster.life(life).is_some_and(|i| i.born && i.state() != SlotState::Dying) {
            self.ladder.found(life, call, until);
        }
    }

    fn interrupted(&mut self, life: Life, call: CallId) {
        let until = self.now.saturating_add(self.config.signal_grace_ns);
        if let Some(it) = self.ladder.of(life, call)
            && matches!(it.stage, Stage::Asked { .. })
        {
            it.stage = Stage::Signalled { until };
        }
    }

    fn shutdown(&mut self, mode: Stop, out: &mut Vec<Action>) {
        let again = self.is_closing();
        if !again {
            self.become_state(PoolState::ShuttingDown, out);
            out.push(Action::RefuseQueued { reason: Refusal::ShuttingDown });
        }
        let lives: Vec<Life> = self.roster.lives().iter().map(Incarnation::life).collect();
        let term_at = self.now.saturating_add(self.config.stop_grace_ns);
        for life in lives {
            let Some(i) = self.roster.life_mut(life) else { continue };
            let drain = mode == Stop::Drain && !again;
            match i.phase {
                Phase::Dying { .. } | Phase::Lost => {}
                Phase::Cordoned { .. } if drain => {}
                Phase::Ready if drain => {
                    i.doom.get_or_insert(Cause::KilledByUs(Kill::Shutdown));
                    i.phase = Phase::Draining { term_at };
                    self.show(life, out);
                    out.push(Action::Drain { life });
                }
                _ => {
                    i.doom.get_or_insert(Cause::KilledByUs(Kill::Shutdown));
                    self.kill(life, out);
                }
            }
        }
    }
}

/// What follows from any event: time that ran out, slots to fill, the state of the pool.
impl Policy {
    /// Takes the next step with every call that is kept for too long.
    fn climb(&mut self, out: &mut Vec<Action>) {
        let asked = self.now.saturating_add(ANSWER_NS);
        let signalled = self.now.saturating_add(self.config.signal_grace_ns);
        while let Some(it) = self.ladder.due(self.now) {
            let (life, call) = (it.life, it.call);
            match it.stage {
                Stage::Told { .. } if self.config.cancel_signal.is_some() => {
                    it.stage = Stage::Asked { until: asked };
                    out.push(Action::Interrupt { life, call });
                }
                Stage::Asked { .. } => {
                    it.stage = Stage::Signalled { until: signalled };
                    out.push(Action::Kill { life, signal: Signal::Cancel });
                }
                _ => {
                    it.stage = Stage::Spent;
                    self.cordon(life, Why::Deadline, out);
                }
            }
        }
    }

    /// Forces every step that is due.
    fn expire(&mut self, out: &mut Vec<Action>) {
        let due = |i: &&Incarnation, now| i.deadline().is_some_and(|at| at <= now);
        while let Some(i) = self.roster.lives().iter().find(|i| due(i, self.now)) {
            let (life, slot, phase) = (i.life, i.slot, i.phase);
            match phase {
                Phase::Booting { .. } => {
                    if let Some(i) = self.roster.life_mut(life) {
                        i.doom = Some(Cause::BootFailed);
                    }
                    let limit_ms = self.config.boot_timeout_ns / 1_000_000;
                    self.say(out, Level::Error, || {
                        format!("worker {slot} (life {life}) is not ready after the {limit_ms} ms that it may take")
                    });
                    out.push(Action::BootLate { life });
                    self.kill(life, out);
                }
                Phase::Draining { .. } => {
                    let kill_at = self.now.saturating_add(self.config.kill_grace_ns);
                    self.turn(life, Phase::Terminating { kill_at }, out);
                    out.push(Action::Kill { life, signal: Signal::Term });
                }
                Phase::Cordoned { .. } | Phase::Terminating { .. } => self.kill(life, out),
                Phase::Dying { .. } => {
                    self.turn(life, Phase::Lost, out);
                    self.say(out, Level::Error, || {
                        format!("worker {slot} (life {life}) does not die of SIGKILL: it hangs in the kernel")
                    });
                }
                Phase::Ready | Phase::Lost => break, // they have no deadline
            }
        }
    }

    /// Starts a worker in each slot whose wait is over, those that waited longest first.
    fn fill(&mut self, out: &mut Vec<Action>) {
        if self.is_closing() {
            return;
        }
        let boot_until = self.now.saturating_add(self.config.boot_timeout_ns);
        while let Some((slot, until)) = self.roster.next_vacancy() {
            if until > self.now || !self.spawns.take(self.now) {
                break;
            }
            let life = self.roster.enter(slot, boot_until);
            self.show(life, out);
            out.push(Action::Spawn { slot, life });
        }
    }

    /// Decides what the pool is, now that everything else has been decided.
    fn judge(&mut self, out: &mut Vec<Action>) {
        match self.state {
            PoolState::ShuttingDown if self.roster.lives().iter().all(Incarnation::is_lost) => {
                self.become_state(PoolState::Closed, out);
                out.push(Action::Exit);
            }
            PoolState::Starting | PoolState::Degraded if self.roster.ready() > 0 => {
                let resumes = self.state == PoolState::Degraded;
                self.spent = false;
                self.become_state(PoolState::Running, out);
                if resumes {
                    out.push(Action::ResumeQueue);
                    self.say(out, Level::Info, || "a worker is ready: the pool takes calls again".into());
                }
            }
            PoolState::Starting | PoolState::Running if self.roster.ready() == 0 => {
                self.spent = self.intensity.exceeded(self.now);
                if self.spent || self.roster.is_stranded() {
                    self.become_state(PoolState::Degraded, out);
                    out.push(Action::RefuseQueued { reason: Refusal::Degraded });
                    let why = if self.spent { "workers died too often" } else { "no worker can be started" };
                    self.say(out, Level::Error, || format!("{why}: the pool is degraded, its calls fail"));
                }
            }
            _ => {}
        }
    }
}

/// The steps that the above have in common.
impl Policy {
    /// Sends SIGKILL, or notes that it is to be sent as soon as there is a process, unless that was done before.
    fn kill(&mut self, life: Life, out: &mut Vec<Action>) {
        let Some(i) = self.roster.life(life) else { return };
        if let Phase::Dying { .. } | Phase::Lost = i.phase {
            return;
        }
        let (slot, served, ready_at) = (i.slot, i.is_serving(), i.ready_at);
        if i.born {
            out.push(Action::Kill { life, signal: Signal::Kill });
        }
        self.turn(life, Phase::Dying { lost_at: self.now.saturating_add(LOST_AFTER_NS) }, out);
        // One that dies of the signal that a call of it got has its mark before it is known what it died of.
        match served {
            true if self.ladder.is_signalled(life) => self.roster.slot_mut(slot).vacant_until = self.now,
            true => self.vacate(slot, ready_at),
            false => {}
        }
        self.ladder.close(life);
    }

    /// Notes that the worker of this slot is dying against our wishes, and how long to wait for the next.
    fn vacate(&mut self, slot: SlotIndex, ready_at: Option<u64>) {
        if self.is_closing() {
            return;
        }
        let now = self.now;
        let early = ready_at.is_none_or(|since| now - since < self.config.backoff_max_ns);
        if early {
            self.intensity.record(now);
        }
        let streak = if early { self.roster.slot(slot).streak.saturating_add(1) } else { 0 };
        self.hold(slot, streak, ready_at.is_none());
    }

    /// Has a vacant slot wait, for as long as so many early deaths in a row ask for.
    fn hold(&mut self, slot: SlotIndex, streak: u32, start_failed: bool) {
        let (now, is_spent) = (self.now, self.is_spent());
        let wait_ns = if is_spent { self.backoff.longest_ns() } else { self.backoff.wait_ns(streak) };
        let it = self.roster.slot_mut(slot);
        it.streak = streak;
        if it.failed_starts == 0 {
            it.failed_since = now;
        }
        it.failed_starts = if start_failed { it.failed_starts.saturating_add(1) } else { 0 };
        // Who has no tries left will not have one soon.
        it.is_hopeless = it.failed_starts >= HOPELESS && (is_spent || now - it.failed_since >= HOPELESS_NS);
        it.vacant_until = now.saturating_add(wait_ns);
    }

    /// Forgets a life, and publishes that its slot is empty if there was none after it.
    fn leave(&mut self, life: Life, out: &mut Vec<Action>) {
        self.ladder.forget_life(life);
        let Some(gone) = self.roster.leave(life) else { return };
        if self.roster.slot(gone.slot).life.is_none() {
            out.push(Action::Slot { slot: gone.slot, life: None, state: SlotState::Empty });
        }
    }

    /// Moves a life on, and publishes that where it shows.
    fn turn(&mut self, life: Life, phase: Phase, out: &mut Vec<Action>) {
        let Some(i) = self.roster.life_mut(life) else { return };
        let before = i.state();
        i.phase = phase;
        if i.state() != before {
            self.show(life, out);
        }
    }

    /// Publishes what a life is doing, if it is the latest of its slot.
    fn show(&self, life: Life, out: &mut Vec<Action>) {
        let Some(i) = self.roster.life(life) else { return };
        if self.roster.slot(i.slot).life == Some(life) {
            out.push(Action::Slot { slot: i.slot, life: Some(life), state: i.state() });
        }
    }

    fn become_state(&mut self, state: PoolState, out: &mut Vec<Action>) {
        debug_assert!(self.state.may_become(state), "{:?} to {state:?}", self.state);
        self.state = state;
        out.push(Action::SetState { state });
    }

    fn say(&mut self, out: &mut Vec<Action>, level: Level, text: impl FnOnce() -> String) {
        if !self.logs.take(self.now) {
            self.unsaid += 1;
            return;
        }
        let mut text = text();
        if self.unsaid > 0 {
            text = format!("{text} ({} earlier messages were left out)", self.unsaid);
            self.unsaid = 0;
        }
        out.push(Action::Log { level, text });
    }

    /// Whether slots wait the longest time: degraded by too many early deaths, then or since.
    fn is_spent(&mut self) -> bool {
        if self.state == PoolState::Degraded {
            self.spent |= self.intensity.exceeded(self.now);
        }
        self.spent
    }

    /// Whether this worker is ready and few enough others are away: a quarter of the slots, at least one.
    fn can_recycle(&self, life: Life) -> bool {
        let away = self.config.workers - self.roster.ready();
        away < (self.config.workers / 4).max(1)
            && self.roster.life(life).is_some_and(|i| i.state() == SlotState::Ready)
    }

    fn is_closing(&self) -> bool {
        matches!(self.state, PoolState::ShuttingDown | PoolState::Closed)
    }
}

/// Workers started in one go. A pool of 64 that falls in one tick must not rise in one: each start is a fork, and
/// each fork stops the arbiter for a moment.
const SPAWN_BURST: u64 = 8;
/// Then one each 2 ms, 500 a second.
const SPAWN_GAP_NS: u64 = 2_000_000;
/// Log lines in one go.
const LOG_BURST: u64 = 16;
/// Then one a second.
const LOG_GAP_NS: u64 = 1_000_000_000;
/// Longest text of a worker's that is logged, in characters.
const TEXT_MAX: usize = 200;

/// What a peer said, on one short line.
fn tame(text: &str) -> String {
    let escape = |c: char| c.is_control().then(|| c.escape_default()).into_iter().flatten();
    let plain = |c: char| (!c.is_control()).then_some(c);
    text.chars().flat_map(|c| escape(c).chain(plain(c))).take(TEXT_MAX).collect()
}
/// How long a worker's control thread may take to signal one of the others, before the whole process gets the signal.
const ANSWER_NS: u64 = 200_000_000;
/// How long a process may take to die of SIGKILL before it is given up. The largest that was measured, 4 GiB on a
/// busy machine, took 0.7 s.
const LOST_AFTER_NS: u64 = 10_000_000_000;
/// A time that will not come.
const NEVER: u64 = u64::MAX;
