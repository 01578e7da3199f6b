//! A worker is killed after every instruction between the wake-up for a call and the next sleep: find, claim, the
//! look at the client's own record, begin record, decode, app, result, DONE, bell, end of the begin record, park; and,
//! where the app defers its answer, the begin record that takes the thread's place.
//!
//! A3: a worker that is killed before it has begun has not begun: the caller that waited is served by the next one, and
//! nothing runs twice. B13: one that is killed between the store that publishes and the wake-up behind it leaves a caller
//! asleep, who has the result all the same (`worker-waiting`, `worker-alert`, `worker-deferred`). B14: one that was woken,
//! and is killed before it has done anything, takes the wake-up along; the call does not wait for ever (the first
//! positions of each path, `worker-of-two` with another one that sleeps beside the call).

use crate::Ways;
use crate::app::{APP, answer};
use crate::report::Tally;
use crate::scene::{
    DEADLINE_MS, Outcome, PATIENCE, Scene, Wrong, has_begun, in_futex, results_of, state, until, word,
};
use crate::trace::{Alarm, Arrival, Tracee};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use stokehold::internals::ring::{State, Word};
use stokehold::internals::sys::{clock, poll};
use stokehold::{Call, Completions, Mode};

/// What the client is doing meanwhile, and with it which way the worker goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// It has submitted and does something else.
    Idle,
    /// It has submitted two; then another client left, so the worker walks the words for the second one.
    Two,
    /// It sleeps in `execute`, in another process.
    Waiting,
    /// It waits at its event descriptor.
    Watching,
    /// It gave the call up as soon as the worker had claimed it.
    Cancelled,
    /// It gave the call up as soon as the app had begun.
    GaveUp,
    /// Its deadline passed before the worker came.
    Expired,
    /// It has submitted a call that the app defers, and answers then.
    Deferred,
}

/// Which lane the call comes by, and with it how the worker finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// The one served last: the worker watches its line.
    Hot,
    /// Another one that it knows: by the pending bit and the ring.
    Warm,
    /// One that it has never met: it is fetched and mapped on the way.
    Cold,
}

/// One way of a worker.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    pub client: Client,
    pub workers: usize,
    pub mode: Mode,
    pub lane: Lane,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "worker-idle", client: Client::Idle, workers: 1, mode: Mode::Park, lane: Lane::Hot },
    Path { name: "worker-waiting", client: Client::Waiting, workers: 1, mode: Mode::Park, lane: Lane::Hot },
    Path { name: "worker-alert", client: Client::Watching, workers: 1, mode: Mode::Park, lane: Lane::Hot },
    Path { name: "worker-ring", client: Client::Idle, workers: 1, mode: Mode::Park, lane: Lane::Warm },
    Path { name: "worker-walking", client: Client::Two, workers: 1, mode: Mode::Park, lane: Lane::Hot },
    Path {
        name: "worker-cancelled",
        client: Client::Cancelled,
        workers: 1,
        mode: Mode::Park,
        lane: Lane::Hot,
    },
    Path { name: "worker-given-up", client: Client::GaveUp, workers: 1, mode: Mode::Park, lane: Lane::Hot },
    Path { name: "worker-expired", client: Client::Expired, workers: 1, mode: Mode::Park, lane: Lane::Hot },
    Path { name: "worker-deferred", client: Client::Deferred, workers: 1, mode: Mode::Park, lane: Lane::Hot },
    Path { name: "worker-of-two", client: Client::Idle, workers: 2, mode: Mode::Park, lane: Lane::Hot },
    Path { name: "worker-spinning", client: Client::Idle, workers: 1, mode: Mode::Spin, lane: Lane::Hot },
    Path {
        name: "worker-adaptive",
        client: Client::Waiting,
        workers: 1,
        mode: Mode::Adaptive,
        lane: Lane::Hot,
    },
    Path {
        name: "worker-alert-cold",
        client: Client::Watching,
        workers: 1,
        mode: Mode::Park,
        lane: Lane::Cold,
    },
    Path { name: "worker-cold", client: Client::Idle, workers: 1, mode: Mode::Park, lane: Lane::Cold },
];

impl Path {
    /// Whether it is long, or goes slowly, and most of it is another path's, too.
    pub fn is_long(&self) -> bool {
        let is_variant = matches!(self.client, Client::Two | Client::Deferred);
        is_variant || self.lane == Lane::Cold || self.workers > 1 || self.mode != Mode::Park
    }
}

/// How many instructions after its result a worker is followed that does not park, or not soon.
const FOLLOWED: u64 = 600;

/// How long a spinning worker may be on its way to the position.
const LOST: Duration = Duration::from_secs(5);

/// A spinning one never does. Walking through a cold path takes so long that a worker is due for its sweep of
/// mappings afterwards, which no other round has.
fn follows_on(path: &Path) -> bool {
    path.mode == Mode::Spin || path.lane == Lane::Cold
}

/// Kills the worker after `at` instructions of the path; without `at` when it is through, and notes the way. `false`: see
/// [`Ways::arrived`].
pub fn round(
    scene: &mut Scene,
    path: &Path,
    at: Option<usize>,
    ways: &mut Ways,
    tally: &mut Tally,
) -> Result<bool, Wrong> {
    if path.lane != Lane::Cold {
        // So that the worker has mapped the lane, and the client the worker's results. The last one is hot.
        let warm = scene.id();
        scene.works(warm)?;
        scene.caller_works()?;
        if path.client == Client::Watching {
            // It has met the descriptor, too.
            let met = scene.id();
            let call = scene.client.call(APP, "run").args((met as i64,));
            take(send(&scene.client, call)?)?;
        }
    }
    let target = scene.target(path.workers)?;
    let results = results_of(target.pid)?;
    let mut tracee = Tracee::seize(target.pid, target.tid).map_err(|e| format!("ptrace: {e}"))?;
    let (id, second) = (scene.id(), scene.id());
    // A client that the worker never met: its lane is fetched and mapped on the way.
    let fresh = if path.lane == Lane::Cold {
        let client = scene.pool.client().map_err(|e| format!("one more client: {e}"))?;
        Some((client, scene.new_control()?))
    } else {
        None
    };
    let (mut pending, mut behind, mut watching) = (None, None, None);
    if path.client == Client::Waiting {
        let caller = scene.caller.as_mut().ok_or("no caller")?;
        caller.send(id);
        let control = scene.caller_control.as_ref().ok_or("no caller")?;
        let waits = until(|| (state(control) == Some(State::Queued) && caller.waits()).then_some(()));
        waits.ok_or("the caller does not wait")?;
    } else {
        let deadline_ms = if path.client == Client::Expired { 1 } else { DEADLINE_MS };
        let client = fresh.as_ref().map_or(&scene.client, |(client, _)| client);
        let action = if path.client == Client::Deferred { "defer" } else { "run" };
        let call = client.call(APP, action).args((id as i64,)).deadline_ms(deadline_ms);
        if path.client == Client::Watching {
            watching = Some(watch(client, call)?);
        } else {
            pending = Some(call.submit().map_err(|e| format!("submit: {e}"))?);
        }
        if path.client == Client::Two {
            let call = client.call(APP, "run").args((second as i64,)).deadline_ms(DEADLINE_MS);
            behind = Some(call.submit().map_err(|e| format!("submit: {e}"))?);
            let sweep = scene.registry.sweep();
            drop(scene.pool.client().map_err(|e| format!("one more client: {e}"))?);
            let swept = until(|| (scene.registry.sweep() != sweep).then_some(()));
            swept.ok_or("nobody was rung after a client had left")?;
        }
        if path.client == Client::Expired {
            clock::sleep(Duration::from_micros(1100));
        }
    }
    let control = match (&fresh, &scene.caller_control) {
        (Some((_, control)), _) => control,
        (_, Some(control)) if path.client == Client::Waiting => control,
        _ => &scene.control,
    };
    let call = |index: usize| word(control, index);
    let generations = [call(0)?.generation(), call(1)?.generation()];
    let (mut cancelled, mut frozen) = (None, None);
    let mut arrival = Arrival::There;
    let alarm = Alarm::set();
    // Parked again: it is killed where it sleeps, and that was the last position.
    // One that spins and has missed the place would spin for ever.
    let begin = Instant::now();
    let asleep = || in_futex(target.pid, target.tid) || path.mode == Mode::Spin && begin.elapsed() > LOST;
    if let Client::Cancelled | Client::GaveUp = path.client {
        let early = path.client == Client::Cancelled;
        let mut now =
            || if early { state(control) == Some(State::Running) } else { scene.journal.runs(id) == 1 };
        arrival = match at {
            None => tracee.walk(&mut ways.prelude, &asleep, &mut now),
            Some(_) => tracee.go(&ways.prelude, ways.prelude.len(), ways.plain, &asleep),
        };
        if arrival != Arrival::There || !now() {
            return Err(format!("the worker did not come to the point of the cancellation: {arrival:?}"));
        }
        cancelled = pending.take().map(|pending| Outcome::of(pending.cancel()));
        // Single steps are slow: its tick would take this for a worker that does not let go, and have it leave.
        frozen = Some(Frozen::stop(scene.pool.arbiter_pid()));
    }
    if arrival == Arrival::There {
        let mut since_done = 0;
        let mut enough = || {
            since_done += u64::from(follows_on(path) && state(control) == Some(State::Done));
            since_done == FOLLOWED
        };
        arrival = match at {
            None => tracee.walk(&mut ways.path, &asleep, &mut enough),
            Some(at) => tracee.go(&ways.path, at, ways.plain, &asleep),
        };
    }
    drop(alarm);
    if !ways.arrived(arrival, &tracee, at, tally)? {
        if path.client == Client::Waiting {
            scene.caller.as_mut().ok_or("no caller")?.outcome();
        }
        return Ok(false);
    }
    tally.pc = tracee.pc();
    let fate = |index: usize, id: u64| {
        // In this order: another worker may take it meanwhile.
        let ran = scene.journal.runs(id);
        let seen = call(index)?;
        let begun = has_begun(&results, index, generations[index]);
        Ok::<Fate, Wrong>(Fate { id, seen, begun, ran })
    };
    let (first, other) = (fate(0, id)?, fate(1, second)?);
    tally.saw(first.seen.state(), first.begun);
    drop(frozen);
    let killed = Instant::now();
    tracee.kill();
    let outcome = match (pending, cancelled) {
        (_, Some(outcome)) => outcome,
        (Some(pending), _) => Outcome::of(pending.wait()),
        _ if watching.is_some() => watching.map_or(Err("no loop".into()), take)?,
        _ => scene.caller.as_mut().ok_or("no caller")?.outcome(),
    };
    tally.took(killed.elapsed());
    tally.outcome(outcome);
    first.judge(path, outcome, scene.journal.runs(id), target.life)?;
    if let Some(behind) = behind {
        tally.saw(other.seen.state(), other.begun);
        let outcome = Outcome::of(behind.wait());
        tally.outcome(outcome);
        other.judge(path, outcome, scene.journal.runs(second), target.life)?;
    }
    // The pool goes on, for this client and for the other; a worker is there again.
    let next = scene.id();
    scene.works(next)?;
    match scene.journal.runs(id) {
        0 | 1 => Ok(true),
        runs => Err(format!("{outcome:?}, and later it had run {runs} times")),
    }
}

/// Sends the call and says that a loop waits for its outcome.
fn watch(client: &stokehold::Client, call: Call<'_, (i64,)>) -> Result<Completions, Wrong> {
    let completions = send(client, call)?;
    match completions.next_completion() {
        None => Ok(completions),
        Some(done) => Err(format!("an outcome before the worker had the call: {:?}", done.outcome)),
    }
}

fn send(client: &stokehold::Client, call: Call<'_, (i64,)>) -> Result<Completions, Wrong> {
    let completions = client.completions().map_err(|e| format!("completions: {e}"))?;
    call.submit_to(&completions, 0).map_err(|e| format!("submit: {e}"))?;
    Ok(completions)
}

/// The outcome, as a loop comes by it: not by looking all the time.
fn take(completions: Completions) -> Result<Outcome, Wrong> {
    loop {
        if let Some(done) = completions.next_completion() {
            return Ok(Outcome::of(done.outcome));
        }
        let readiness = poll::readable(completions.as_fd(), Some(PATIENCE)).map_err(|e| e.to_string())?;
        if !readiness.ready {
            return Err("nobody woke the loop".into());
        }
    }
}

/// A process that is stopped until this is dropped.
struct Frozen(Pid);

impl Frozen {
    fn stop(pid: u32) -> Frozen {
        let pid = Pid::from_raw(pid as i32);
        let _ = signal::kill(pid, Signal::SIGSTOP);
        Frozen(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = signal::kill(self.0, Signal::SIGCONT);
    }
}

/// A call at the moment of its worker's death.
struct Fate {
    id: u64,
    seen: Word,
    /// Whether the worker's begin record named it.
    begun: bool,
    /// How often the app had run.
    ran: u32,
}

impl Fate {
    /// Whether this is the outcome that such a death must have, and the app ran as often as that says.
    fn judge(&self, path: &Path, outcome: Outcome, runs: u32, life: u16) -> Result<(), Wrong> {
        if self.allows(path, outcome, runs, life) {
            return Ok(());
        }
        let Fate { seen, begun, ran, .. } = self;
        Err(format!(
            "the word was {seen:?}, begun: {begun}, the app had run {ran} times; then {outcome:?}, {runs} runs"
        ))
    }

    fn allows(&self, path: &Path, outcome: Outcome, runs: u32, life: u16) -> bool {
        let Fate { id, seen, begun, ran } = *self;
        let answered = |by_victim: bool| match outcome {
            Outcome::Ok(number, who) => number == answer(id) && (who == life) == by_victim,
            _ => false,
        };
        let resent = path.client == Client::Waiting;
        // A tick found it queued for long and rang the other worker.
        if path.workers > 1 && seen.life().is_some_and(|by| by.get() != life) {
            return ran <= 1 && runs == 1 && answered(false);
        }
        match (path.client, seen.state()) {
            (Client::Cancelled, _) => outcome == Outcome::Cancelled(true) && runs == 0,
            (Client::GaveUp, _) => outcome == Outcome::Cancelled(true) && runs == 1,
            (Client::Expired, State::Running) => {
                // By the caller's own look at the clock, or by the repair, whichever came first.
                runs == 0 && matches!(outcome, Outcome::Deadline(_) | Outcome::Died(_))
            }
            (Client::Expired, _) => outcome == Outcome::Deadline(false) && runs == 0,
            // Nobody had it: the replacement takes it.
            (_, State::Queued) => ran == 0 && runs == 1 && answered(false),
            // A published result wins over the death.
            (_, State::Done) => ran == 1 && runs == 1 && answered(true),
            // The caller that waited has taken its result already.
            (Client::Waiting, State::Idle) => ran == 1 && runs == 1 && answered(true),
            (_, State::Running) if begun => ran <= 1 && runs == ran && outcome == Outcome::Died(true),
            (_, State::Running) if resent => {
                // `started` before the pidfd fired: the caller could not know better, and it was not sent again.
                ran == 0 && (runs == 1 && answered(false) || runs == 0 && outcome == Outcome::Died(true))
            }
            (_, State::Running) => ran == 0 && runs == 0 && matches!(outcome, Outcome::Died(_)),
            _ => false,
        }
    }
}
