//! What happens seldom in a pool that lives on: a worker is killed behind every edge of its birth, from the fork to READY, and
//! of a call for which it has to map a lane and a region and to take memory itself; a client behind every edge of connecting, of
//! taking memory, and of mapping a worker's and giving its own back.
//!
//! The pool serves the others as before, a worker is there again, a call that nobody had begun is run once, and lanes,
//! regions and descriptors come back.

use crate::app::{APP, LARGE, answer};
use crate::arbiters::next_child;
use crate::edges::Walker;
use crate::positions::{Place, Rounds, Walk};
use crate::report::Tally;
use crate::scene::{DEADLINE_MS, Outcome, Scene, Wrong, has_begun, in_futex, results_of, state, until, word};
use crate::trace::{Alarm, Tracee};
use crate::victim::{WRONG, connect, here, marker};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use stokehold::internals::ring::State;
use stokehold::internals::sys::clock;
use stokehold::internals::sys::process::{self, Fork};
use stokehold::{Client, Mode, Response};

/// Whose way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A worker's birth.
    Birth,
    /// A worker's call with everything in it that it does not have.
    Large,
    /// A client connects.
    Connect,
    /// A client takes memory that has to be made.
    Grow,
    /// A client takes a result out of memory that it has not mapped, and gives its own back.
    Map,
}

/// One way.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    pub way: Way,
}

/// All of them.
pub const PATHS: &[Path] = &[
    Path { name: "worker-birth", way: Way::Birth },
    Path { name: "worker-large", way: Way::Large },
    Path { name: "client-connect", way: Way::Connect },
    Path { name: "client-grow", way: Way::Grow },
    Path { name: "client-map", way: Way::Map },
];

/// Every kill point of one path, in one pool.
pub fn rounds(path: &Path, rounds: &Rounds, tally: &mut Tally) -> Result<(), Wrong> {
    let scene = Scene::new(1, Mode::Park, false, 0);
    let mut scene = scene.map_err(|e| format!("the pool does not start: {e}"))?;
    rounds.run(path.name, tally, |place, tally| round(&mut scene, path, place, tally))?;
    // The last one may keep the memory that it took.
    scene.replace_workers()?;
    scene.quiet()
}

/// Kills the victim where it is told to.
fn round(scene: &mut Scene, path: &Path, place: Place, tally: &mut Tally) -> Result<Walk, Wrong> {
    let walk = match path.way {
        Way::Birth => birth(scene, place, tally),
        Way::Large => large(scene, place, tally),
        way => client(scene, way, place, tally),
    }?;
    tally.missed += u64::from(walk.missed);
    tally.edges(&walk);
    // The pool goes on.
    let next = scene.id();
    scene.works(next)?;
    Ok(walk)
}

/// A call waits for the worker that is born, and which is the next one's if that dies.
fn birth(scene: &mut Scene, place: Place, tally: &mut Tally) -> Result<Walk, Wrong> {
    let before = scene.target(1)?;
    let arbiter = scene.pool.arbiter_pid();
    let alarm = Alarm::set();
    let mut arbiter = Tracee::seize(arbiter, arbiter).and_then(Walker::bare).map_err(ptrace)?;
    let id = scene.id();
    // Time enough that the pool does not take it for one more that dies at its birth.
    clock::sleep(Duration::from_millis(2));
    let _ = kill(Pid::from_raw(before.pid as i32), Signal::SIGKILL);
    let call = scene.client.call(APP, "run").args((id as i64,)).deadline_ms(DEADLINE_MS);
    let mut newborn = next_child(&mut arbiter)?;
    arbiter.tracee.let_go();
    let pending = call.submit().map_err(|e| format!("submit: {e}"))?;
    let walk = place.go(&mut newborn, &|| false, true)?;
    drop(alarm);
    tally.pc = newborn.pc();
    let killed = Instant::now();
    newborn.kill();
    let outcome = Outcome::of(pending.wait());
    tally.took(killed.elapsed());
    tally.outcome(outcome);
    let runs = scene.journal.runs(id);
    match outcome {
        Outcome::Ok(number, _) if number == answer(id) && runs == 1 => Ok(walk),
        _ => Err(format!("a call that waited for the newborn: {outcome:?}, it ran {runs} times")),
    }
}

/// The worker's control thread is kept where it sleeps: it must not store while the mappings are read-only.
fn large(scene: &mut Scene, place: Place, tally: &mut Tally) -> Result<Walk, Wrong> {
    let target = scene.target(1)?;
    let results = results_of(target.pid)?;
    let control_thread = Tracee::seize(target.pid, target.pid).map_err(ptrace)?;
    let mut app_thread = Tracee::seize(target.pid, target.tid).and_then(Walker::new).map_err(ptrace)?;
    let client = scene.pool.client().map_err(|e| format!("one more client: {e}"))?;
    let control = scene.new_control()?;
    let id = scene.id();
    let lease = client.lease(LARGE).map_err(|e| format!("a lease: {e}"))?;
    let call = client.call(APP, "large").args((id as i64, &lease)).deadline_ms(DEADLINE_MS);
    let pending = call.submit().map_err(|e| format!("submit: {e}"))?;
    let generation = word(&control, 0)?.generation();
    let alarm = Alarm::set();
    let at_rest = || state(&control) == Some(State::Done) && in_futex(target.pid, target.tid);
    let walk = place.go(&mut app_thread, &at_rest, false)?;
    drop(alarm);
    tally.pc = app_thread.pc();
    let (seen, ran) = (word(&control, 0)?, scene.journal.runs(id));
    let begun = has_begun(&results, 0, generation);
    let killed = Instant::now();
    app_thread.kill();
    control_thread.kill();
    let result = pending.wait();
    tally.took(killed.elapsed());
    let outcome = result.as_ref().map_or_else(Outcome::of_error, |response| taken(id, response));
    tally.outcome(outcome);
    let runs = scene.journal.runs(id);
    let right = match (seen.state(), outcome) {
        (State::Queued, Outcome::Ok(..)) => ran == 0 && runs == 1,
        (State::Done, Outcome::Ok(_, life)) => ran == 1 && runs == 1 && life == target.life,
        (State::Running, Outcome::Died(started)) => {
            ran <= 1 && runs == ran && (started || !begun && ran == 0)
        }
        _ => false,
    };
    if !right {
        return Err(format!(
            "the word was {seen:?}, begun: {begun}, it had run {ran} times; {outcome:?}, {runs} runs"
        ));
    }
    drop((result, lease, client));
    is_alone(scene)?;
    Ok(walk)
}

/// A process that is a client between its two markers.
fn client(scene: &mut Scene, way: Way, place: Place, tally: &mut Tally) -> Result<Walk, Wrong> {
    let (warm, id) = (scene.id(), scene.id());
    let socket = scene.pool.client_socket().map_err(|e| e.to_string())?;
    let pid = match process::fork().map_err(|e| e.to_string())? {
        Fork::Child => live(way, socket, warm, id),
        Fork::Parent(pid) => pid.as_raw() as u32,
    };
    drop(socket);
    let mut tracee = Tracee::child(pid);
    marker(tracee.wait_long(), "beginning")?;
    let mut victim = Walker::new(tracee).map_err(ptrace)?;
    let alarm = Alarm::set();
    let walk = place.go(&mut victim, &|| false, false)?;
    drop(alarm);
    tally.pc = victim.pc();
    if tally.pc.is_none() {
        return Err("the victim ended by itself, perhaps on a wrong outcome".into());
    }
    let killed = Instant::now();
    victim.kill();
    is_alone(scene)?;
    tally.took(killed.elapsed());
    match scene.journal.runs(id) {
        0 | 1 => Ok(walk),
        runs => Err(format!("the victim's call ran {runs} times")),
    }
}

/// What the victim does.
fn live(way: Way, socket: OwnedFd, warm: u64, id: u64) -> ! {
    let wrong = || -> ! { process::exit_now(WRONG) };
    if way == Way::Connect {
        let _ = nix::sys::ptrace::traceme();
        here();
        let client = Client::connect(socket, stokehold::Options::default());
        here();
        drop(client);
        wrong();
    }
    let client = connect(socket);
    let begun = client.call(APP, "run").args((warm as i64,)).execute();
    if begun.is_err() {
        wrong();
    }
    drop(begun);
    if way == Way::Grow {
        here();
        let lease = client.lease(LARGE);
        here();
        drop(lease);
        wrong();
    }
    let Ok(lease) = client.lease(LARGE) else { wrong() };
    let Ok(pending) = client.call(APP, "large").args((id as i64, &lease)).submit() else { wrong() };
    drop(lease);
    if until(|| pending.is_ready().then_some(())).is_none() {
        wrong();
    }
    here();
    let right = pending.wait().is_ok_and(|response| matches!(taken(id, &response), Outcome::Ok(..)));
    client.trim();
    if right {
        here();
    }
    wrong()
}

/// What the app's answer to a large call is.
fn taken(id: u64, response: &Response) -> Outcome {
    let bytes = response.as_bytes().unwrap_or_default();
    match bytes.len() == LARGE && bytes[..8] == answer(id).to_le_bytes() {
        true => Outcome::Ok(answer(id), response.life()),
        false => Outcome::Other(0),
    }
}

/// Nobody but the harness has a lane.
fn is_alone(scene: &Scene) -> Result<(), Wrong> {
    until(|| (scene.lanes() == 1).then_some(())).ok_or_else(|| format!("{} lanes are taken", scene.lanes()))
}

fn ptrace(error: nix::errno::Errno) -> Wrong {
    format!("ptrace: {error}")
}
