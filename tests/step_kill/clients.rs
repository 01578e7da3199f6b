//! A client is killed after every instruction of submit, wait, take, release, cancel, expire and leave.
//!
//! B13: a client that is killed between the store that submits and the ring of the doorbell leaves workers asleep, and
//! nothing waits for it (`submit-idle`); one that cancels and does not get to ring leaves a worker with a call that is
//! nobody's (`cancel-running`). B14: one that is killed between its wake-up and its look at the word keeps nobody
//! (`wait`).

use crate::Ways;
use crate::app::{APP, answer};
use crate::report::Tally;
use crate::scene::{DEADLINE_MS, Outcome, Scene, Wrong, in_futex, state, until, word};
use crate::trace::{Alarm, Arrival};
use crate::victim::{self, Victim, WRONG, here};
use std::os::fd::OwnedFd;
use std::time::Duration;
use stokehold::Mode;
use stokehold::internals::ring::State;
use stokehold::internals::sys::{clock, process};

/// What the victim does between its last two markers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routine {
    /// Submits; the outcome is not waited for.
    Submit,
    /// Waits asleep, for a call that runs; takes the result.
    Wait,
    /// Takes a result that is there, reads it, and releases the call.
    Take,
    /// Releases a result that was taken.
    Release,
    /// Cancels.
    Cancel,
    /// Waits for a call whose deadline has passed.
    Expire,
    /// Closes its connection.
    Leave,
}

/// Where the worker is meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worker {
    /// Idle: asleep or spinning.
    Idle,
    /// Busy with a call of another client.
    Elsewhere,
    /// Busy with the victim's call.
    Here,
}

/// One way of a client.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    pub routine: Routine,
    pub worker: Worker,
    pub mode: Mode,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "submit-idle", routine: Routine::Submit, worker: Worker::Idle, mode: Mode::Park },
    Path { name: "submit-busy", routine: Routine::Submit, worker: Worker::Elsewhere, mode: Mode::Park },
    Path { name: "submit-spinning", routine: Routine::Submit, worker: Worker::Idle, mode: Mode::Spin },
    Path { name: "wait", routine: Routine::Wait, worker: Worker::Here, mode: Mode::Park },
    Path { name: "take", routine: Routine::Take, worker: Worker::Idle, mode: Mode::Park },
    Path { name: "release", routine: Routine::Release, worker: Worker::Idle, mode: Mode::Park },
    Path { name: "cancel-queued", routine: Routine::Cancel, worker: Worker::Elsewhere, mode: Mode::Park },
    Path { name: "cancel-running", routine: Routine::Cancel, worker: Worker::Here, mode: Mode::Park },
    Path { name: "cancel-done", routine: Routine::Cancel, worker: Worker::Idle, mode: Mode::Park },
    Path { name: "expire-queued", routine: Routine::Expire, worker: Worker::Elsewhere, mode: Mode::Park },
    Path { name: "expire-running", routine: Routine::Expire, worker: Worker::Here, mode: Mode::Park },
    Path { name: "leave", routine: Routine::Leave, worker: Worker::Idle, mode: Mode::Park },
];

/// No routine is followed further. Only leaving is longer: it unmaps and frees, which concerns nobody else.
const LONGEST: usize = 3000;

/// The deadline of calls that are to expire, at first.
const EXPIRES_MS: u64 = 2;

/// Kills the client after `at` instructions of the path; without `at` when it is through, and notes the way.
pub fn round(
    scene: &mut Scene,
    path: &Path,
    at: Option<usize>,
    ways: &mut Ways,
    tally: &mut Tally,
) -> Result<(), Wrong> {
    let mut expires_ms = EXPIRES_MS;
    // A worker that came too late for the deadline did not begin: once more, with twice the time.
    while !attempt(scene, path, at, ways, tally, expires_ms)? {
        expires_ms *= 2;
    }
    Ok(())
}

/// One round; `false` if the call expired before the worker that should be busy with it had begun.
fn attempt(
    scene: &mut Scene,
    path: &Path,
    at: Option<usize>,
    ways: &mut Ways,
    tally: &mut Tally,
    expires_ms: u64,
) -> Result<bool, Wrong> {
    let (warm, id, other) = (scene.id(), scene.id(), scene.id());
    let Victim { mut tracee, pid, control, lane } =
        Victim::start(scene, |_, lane| live(path, lane, warm, id, expires_ms))?;
    let held = match path.worker {
        Worker::Elsewhere => {
            scene.journal.hold(other);
            let call = scene.client.call(APP, "hold").args((other as i64,)).deadline_ms(DEADLINE_MS);
            let pending = call.submit().map_err(|e| format!("submit: {e}"))?;
            is(&scene.control, State::Running)?;
            Some(pending)
        }
        Worker::Here => {
            scene.journal.hold(id);
            None
        }
        Worker::Idle => None,
    };
    victim::marker(tracee.run(), "preparing")?;
    match (path.routine, path.worker) {
        (_, Worker::Here) => {
            // In the app, where it is held: now only the victim moves.
            let came = until(|| match state(&control)? {
                State::Running => (scene.journal.runs(id) == 1).then_some(true),
                State::Done => Some(false),
                _ => None,
            });
            match came {
                Some(true) => {}
                Some(false) if path.routine == Routine::Expire && scene.journal.runs(id) == 0 => {
                    tracee.kill();
                    return Ok(false);
                }
                _ => return Err(format!("a call that is held in the app is {:?}", state(&control))),
            }
        }
        (Routine::Take | Routine::Cancel | Routine::Release, Worker::Idle) => is(&control, State::Done)?,
        _ => {}
    }
    if path.routine == Routine::Expire {
        clock::sleep(Duration::from_millis(expires_ms));
    }
    let alarm = Alarm::set();
    let asleep = || {
        // On its bell: now the worker may answer.
        if path.routine == Routine::Wait && in_futex(pid, pid) {
            scene.journal.release();
        }
        false
    };
    let mut left = LONGEST;
    let mut long = || {
        left -= 1;
        left == 0
    };
    let arrival = match at {
        None => tracee.walk(&mut ways.path, &asleep, &mut long),
        Some(at) => tracee.go(&ways.path, at, ways.plain, &asleep),
    };
    drop(alarm);
    match arrival {
        Arrival::Gone | Arrival::Asleep => {
            return Err("the victim ended by itself, perhaps on a wrong outcome".into());
        }
        Arrival::Marker if at.is_some_and(|at| at < ways.path.len()) => tally.missed += 1,
        _ => {}
    }
    tally.pc = tracee.pc();
    let seen = word(&control, 0)?;
    tally.saw(seen.state(), false);
    let ran = scene.journal.runs(id);
    let killed = std::time::Instant::now();
    tracee.kill();
    // Its calls end. Where the worker has one, the lane waits until it let go.
    let busy = path.worker == Worker::Here || path.worker == Worker::Idle;
    lane.is_left(scene, busy)?;
    tally.took(killed.elapsed());
    scene.journal.release();
    if let Some(pending) = held {
        match Outcome::of(pending.wait()) {
            Outcome::Ok(number, _) if number == answer(other) => {}
            outcome => return Err(format!("the call of another client that ran meanwhile: {outcome:?}")),
        }
    }
    let next = scene.id();
    scene.works(next)?;
    let runs = scene.journal.runs(id);
    let most = match (path.routine, path.worker) {
        (_, Worker::Elsewhere) => 0, // it never had the worker
        (Routine::Submit, _) if seen.state() == State::Idle => 0,
        _ => 1,
    };
    if runs > most || runs < ran || scene.journal.runs(warm) != u32::from(path.routine != Routine::Leave) {
        return Err(format!("the word was {seen:?}; the call ran {ran} times before, {runs} after"));
    }
    Ok(true)
}

fn is(control: &stokehold::internals::shm::Control, wanted: State) -> Result<(), Wrong> {
    until(|| (state(control) == Some(wanted)).then_some(()))
        .ok_or_else(|| format!("a call is {:?} where it should be {wanted:?}", state(control)))
}

/// What the victim does.
fn live(path: &Path, lane: OwnedFd, warm: u64, id: u64, expires_ms: u64) -> ! {
    let client = victim::connect(lane);
    let run = |action: &'static str, id: u64| client.call(APP, action).args((id as i64,));
    if path.routine != Routine::Leave && !is_answer(Outcome::of(run("run", warm).execute()), warm) {
        process::exit_now(WRONG);
    }
    here();
    let action = if path.worker == Worker::Here { "hold" } else { "run" };
    let call =
        run(action, id).deadline_ms(if path.routine == Routine::Expire { expires_ms } else { DEADLINE_MS });
    let expected = |outcome: Outcome| match (path.routine, path.worker) {
        (Routine::Cancel, Worker::Elsewhere) => outcome == Outcome::Cancelled(false),
        (Routine::Cancel, Worker::Here) => outcome == Outcome::Cancelled(true),
        (Routine::Expire, worker) => outcome == Outcome::Deadline(worker == Worker::Here),
        _ => is_answer(outcome, id),
    };
    let fine = match path.routine {
        Routine::Leave => {
            here();
            drop(client);
            true
        }
        Routine::Submit => {
            here();
            let pending = call.submit();
            here();
            let fine = pending.is_ok();
            std::mem::forget(pending);
            fine
        }
        _ => {
            let Ok(pending) = call.submit() else { process::exit_now(WRONG) };
            let there = || until(|| pending.is_ready().then_some(())).is_some();
            let ready = path.worker != Worker::Idle || there();
            let outcome = match path.routine {
                Routine::Cancel => {
                    here();
                    Outcome::of(pending.cancel())
                }
                Routine::Release => {
                    let result = pending.wait();
                    let outcome = result.as_ref().map(|r| r.parse().map(|n| Outcome::Ok(n, r.life())));
                    let outcome = outcome.ok().and_then(Result::ok).unwrap_or(Outcome::Other(0));
                    here();
                    drop(result);
                    outcome
                }
                _ => {
                    here();
                    Outcome::of(pending.wait())
                }
            };
            ready && expected(outcome)
        }
    };
    if fine {
        here();
    }
    process::exit_now(WRONG)
}

fn is_answer(outcome: Outcome, id: u64) -> bool {
    matches!(outcome, Outcome::Ok(number, _) if number == answer(id))
}
