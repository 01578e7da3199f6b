//! The long-lived pool of one group of paths, the peers that live on, and what is looked at from outside: the call
//! words, the begin records, the registry, the arbiter's descriptors.

use crate::app::{APP, BLOCK, Counter, Journal, answer};
use crate::peer::Caller;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stokehold::internals::limits::{GROWTH_MIN, LANE_CALLS, MAX_LANES, RESULT_RECORDS};
use stokehold::internals::ring::{Generation, State, Word};
use stokehold::internals::shm::{BeginRecord, Board, Control, LaneState, Registry, Results, SlotState};
use stokehold::internals::sys::clock;
use stokehold::{Client, Error, Kind, Mode, Pending, Pool, Response};

/// How long anything may take that has to happen. Far above what it takes; only a hang reaches it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The deadline of ordinary calls: an outcome that is lost becomes one that is wrong.
pub const DEADLINE_MS: u64 = 10_000;

/// What went wrong, in words.
pub type Wrong = String;

/// How a call ended, as far as the checks care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this number, from the worker of this life.
    Ok(i64, u16),
    /// `WorkerDied`, and whether it had started.
    Died(bool),
    /// `Cancelled`.
    Cancelled(bool),
    /// `Deadline`.
    Deadline(bool),
    /// Anything else, by its code.
    Other(u32),
}

impl Outcome {
    /// Of a result.
    pub fn of(result: stokehold::Result<stokehold::Response>) -> Outcome {
        match result {
            Ok(response) => match response.parse() {
                Ok(number) => Outcome::Ok(number, response.life()),
                Err(error) => Outcome::Other(error.code() as u32),
            },
            Err(error) => Outcome::of_error(&error),
        }
    }

    /// Of an error.
    pub fn of_error(error: &Error) -> Outcome {
        match *error.kind() {
            Kind::WorkerDied { started, .. } => Outcome::Died(started),
            Kind::Cancelled { started, .. } => Outcome::Cancelled(started),
            Kind::Deadline { started, .. } => Outcome::Deadline(started),
            _ => {
                eprintln!("an outcome that no path has: {error}");
                Outcome::Other(error.code() as u32)
            }
        }
    }
}

/// A worker that can be stepped.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub pid: u32,
    pub tid: u32,
    pub life: u16,
    pub parker: usize,
}

/// One pool and everything around it that is not killed.
pub struct Scene {
    pub pool: Pool,
    pub client: Client,
    pub journal: Journal,
    pub registry: Registry,
    pub board: Board,
    /// The lane of `client`.
    pub control: Control,
    /// A second client, in a process of its own, that waits for its calls.
    pub caller: Option<Caller>,
    pub caller_control: Option<Control>,
    pub mode: Mode,
    known: BTreeSet<u64>,
    base: usize,
    own_base: usize,
    /// Blocks of the worker that may be out at once, where that was counted.
    room: Option<u64>,
    next: u64,
}

impl Scene {
    /// Starts a pool. Workers are replaced at once, however many die.
    pub fn new(workers: usize, mode: Mode, with_caller: bool, id: u64) -> stokehold::Result<Scene> {
        let journal = Journal::create()?;
        let pool = Pool::builder()
            .app::<Counter>()
            .workers(workers)
            .wait(mode)
            .restart_limit(10_000, 1)
            .backoff_ms(1, 1)
            // A worker that is stepped must not count as one that hangs.
            .kill_grace_ms(PATIENCE.as_millis() as u64)
            .start()?;
        let client = pool.client()?;
        drop(client.completions()?); // its descriptor stays
        let arbiter = pool.arbiter_pid();
        let mut known = BTreeSet::new();
        let registry = Registry::adopt(only(arbiter, "registry")?)?;
        let board = Board::adopt(only(arbiter, "board")?)?;
        let control = Control::adopt(only(arbiter, "control")?)?;
        known.extend(memfds(arbiter, "control").into_iter().map(|(inode, _)| inode));
        let mut scene = Scene {
            pool,
            client,
            journal,
            registry,
            board,
            control,
            caller: None,
            caller_control: None,
            mode,
            known,
            base: 0,
            own_base: 0,
            room: None,
            next: id,
        };
        if with_caller {
            scene.caller = Some(Caller::start(&scene.pool)?);
            scene.caller_control = Some(scene.new_control().map_err(|why| Error::app("Scene", why))?);
        }
        let warm = scene.id();
        scene.works(warm).map_err(|why| Error::app("Scene", why))?;
        scene.base = scene.descriptors();
        scene.own_base = own_descriptors();
        Ok(scene)
    }

    /// A number for one more call.
    pub fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What there is now is what there should be in the end: after a first round, for what the harness keeps for good.
    pub fn settle(&mut self) {
        (self.base, self.own_base) = (self.descriptors(), own_descriptors());
    }

    /// The first of so many numbers, for one more call that needs several.
    pub fn ids(&mut self, numbers: u64) -> u64 {
        self.next += numbers;
        self.next - numbers + 1
    }

    /// The control region that the arbiter made since the last one that was asked for.
    pub fn new_control(&mut self) -> Result<Control, Wrong> {
        let fresh = memfds(self.pool.arbiter_pid(), "control");
        let found = fresh.iter().find(|(inode, _)| !self.known.contains(inode));
        let (_, path) = found.ok_or("the arbiter has no control region for a client that is connected")?;
        let control = open(path, true).and_then(Control::adopt).map_err(|e| e.to_string())?;
        self.known = fresh.into_iter().map(|(inode, _)| inode).collect();
        Ok(control)
    }

    /// A call by the host's client must succeed, and run once.
    pub fn works(&mut self, id: u64) -> Result<(), Wrong> {
        let result = self.client.call(APP, "run").args((id as i64,)).deadline_ms(DEADLINE_MS).execute();
        let outcome = Outcome::of(result);
        let runs = self.journal.runs(id);
        match outcome {
            Outcome::Ok(number, _) if number == answer(id) && runs == 1 => Ok(()),
            other => Err(format!("the next call through the pool: {other:?}, it ran {runs} times")),
        }
    }

    /// The same by the caller's process.
    pub fn caller_works(&mut self) -> Result<(), Wrong> {
        let id = self.id();
        let Some(caller) = &mut self.caller else { return Ok(()) };
        caller.send(id);
        let outcome = caller.outcome();
        match outcome {
            Outcome::Ok(number, _) if number == answer(id) && self.journal.runs(id) == 1 => Ok(()),
            other => Err(format!("the next call of the other client: {other:?}")),
        }
    }

    /// Waits until all workers are there and idle, and returns the one that the next call wakes.
    pub fn target(&self, workers: usize) -> Result<Target, Wrong> {
        let found = until(|| {
            let there: Vec<_> =
                (0..2 * workers + 2).filter_map(|place| Some((place, self.registry.slot(place)?))).collect();
            // All repaired and reaped, too: the arbiter has nothing left to ring for.
            if there.len() != workers || there.iter().any(|(_, (_, state, _))| *state != SlotState::Ready) {
                return None;
            }
            let targets: Vec<Target> = there
                .into_iter()
                .filter(|(place, _)| self.board.idle().is_set(*place))
                .filter_map(|(parker, (life, _, pid))| {
                    let tid = app_thread(pid)?;
                    let waits = self.mode == Mode::Spin || in_futex(pid, tid);
                    waits.then_some(Target { pid, tid, life: life.get(), parker })
                })
                .collect();
            if targets.len() != workers {
                return None;
            }
            let first = self.board.spinner().or_else(|| self.board.idle().next_from(0));
            targets.into_iter().find(|target| Some(target.parker) == first)
        });
        found.ok_or_else(|| "the workers did not become ready and idle".into())
    }

    /// Every lane but those of the peers that live on is free again, the arbiter has its usual descriptors, and nobody keeps
    /// memory.
    pub fn quiet(&mut self) -> Result<(), Wrong> {
        let mine = 1 + usize::from(self.caller.is_some());
        self.lanes_are_free(mine)?;
        // A worker drops its mappings of lanes that are gone when it next falls asleep, at most once a second.
        let most = 3 + 2 * mine + usize::from(self.room.is_some());
        let swept = until(|| {
            let id = self.id();
            if let Err(why) = self.works(id) {
                return Some(Err(why));
            }
            let tidy = self.client.worker_pids().iter().all(|pid| mapped(*pid, "stokehold-") <= most);
            clock::sleep(Duration::from_millis(50));
            tidy.then_some(Ok(()))
        });
        swept.unwrap_or_else(|| Err(format!("a worker keeps more than {most} regions mapped")))?;
        self.nothing_is_lent()?;
        self.lanes_are_free(mine)?;
        // The host drops those of dead workers when it meets the next one's, once a tick has buried them.
        let most = 2 * self.client.worker_pids().len();
        let tidy = until(|| {
            if let Err(why) = self.replace_workers() {
                return Some(Err(why));
            }
            let regions = mapped(std::process::id(), "stokehold-results");
            (regions <= most && own_descriptors() <= self.own_base).then_some(Ok(()))
        });
        tidy.unwrap_or_else(|| {
            Err(format!(
                "the host has results of {} lives mapped, and {} descriptors where it had {}",
                mapped(std::process::id(), "stokehold-results"),
                own_descriptors(),
                self.own_base
            ))
        })
    }

    fn lanes_are_free(&self, mine: usize) -> Result<(), Wrong> {
        let quiet = until(|| (self.lanes() == mine && self.descriptors() <= self.base).then_some(()));
        quiet.ok_or_else(|| {
            format!(
                "{} lanes are taken where {mine} should be; the arbiter has {} descriptors, before it had {}: {:?}",
                self.lanes(),
                self.descriptors(),
                self.base,
                descriptors_by_name(self.pool.arbiter_pid())
            )
        })
    }

    /// Kills the workers and meets the ones after them.
    pub fn replace_workers(&mut self) -> Result<(), Wrong> {
        let workers = self.client.worker_pids();
        for pid in &workers {
            let _ = nix::sys::signal::kill(Pid::from_raw(*pid as i32), Signal::SIGKILL);
        }
        // One that spins on another processor may take the next call along.
        let reaped = |pid: &u32| !fs::exists(format!("/proc/{pid}")).unwrap_or(true);
        let gone = until(|| workers.iter().all(reaped).then_some(()));
        gone.ok_or("a worker is not reaped after SIGKILL")?;
        let id = self.id();
        self.works(id)
    }

    /// Counts how much memory the only worker has, of which nothing is out yet. [`quiet`](Scene::quiet) looks whether nothing is
    /// out then.
    pub fn count_room(&mut self) -> Result<(), Wrong> {
        // All of what it was born with, one block of a further region, and the rest of that.
        let (blocks, grown) = self.ask_room(0)?;
        if grown != 1 {
            return Err(format!("{blocks} blocks need {grown} further regions, and not one"));
        }
        self.room = Some(blocks - 1 + (GROWTH_MIN / BLOCK) as u64 - 1);
        Ok(())
    }

    fn ask_room(&self, blocks: u64) -> Result<(u64, u64), Wrong> {
        let call = self.client.call(APP, "room").args((blocks,)).deadline_ms(DEADLINE_MS);
        let said = call.execute().and_then(|response| response.parse());
        said.map_err(|e| format!("room for {blocks} blocks: {e}"))
    }

    /// Nothing of the worker's memory is out, and none of its result records: all of them can be taken at once.
    fn nothing_is_lent(&mut self) -> Result<(), Wrong> {
        let Some(room) = self.room else { return Ok(()) };
        let regions = until(|| match self.ask_room(room) {
            Ok((_, 1)) => Some(Ok(())),
            // Who has noticed late that a client is gone has taken a region for that, which stays for a while.
            Ok(_) => None,
            Err(why) => Some(Err(why)),
        });
        regions.ok_or_else(|| format!("a worker has no room for {room} blocks, as it had before"))??;
        let clients: Vec<Client> = (0..RESULT_RECORDS / LANE_CALLS)
            .map(|_| self.pool.client())
            .collect::<stokehold::Result<_>>()
            .map_err(|e| format!("one more client: {e}"))?;
        let mut all = Vec::new();
        for client in &clients {
            for _ in 0..LANE_CALLS {
                let call = client.call(APP, "run").args((self.id() as i64,)).deadline_ms(DEADLINE_MS);
                all.push(call.submit().map_err(|e| format!("submit: {e}"))?);
            }
        }
        let results: stokehold::Result<Vec<Response>> = all.into_iter().map(Pending::wait).collect();
        results.map(drop).map_err(|e| format!("of {RESULT_RECORDS} results at once one is an error: {e}"))
    }

    /// Lanes that are not free.
    pub fn lanes(&self) -> usize {
        (0..MAX_LANES).filter(|index| self.registry.lane(*index) != LaneState::Free).count()
    }

    /// The lane that was opened last.
    pub fn newest_lane(&self) -> Option<(usize, u64)> {
        (0..MAX_LANES)
            .filter_map(|index| match self.registry.lane(index) {
                LaneState::Open(serial) => Some((index, serial)),
                _ => None,
            })
            .max_by_key(|(_, serial)| *serial)
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pool.arbiter_pid())).map_or(0, Iterator::count)
    }
}

/// The begin record of a worker's app thread, and the rest of what it writes.
pub fn results_of(pid: u32) -> Result<Results, Wrong> {
    only(pid, "results").and_then(Results::adopt).map_err(|e| e.to_string())
}

/// Whether a begin record of the worker names the call of this word.
pub fn has_begun(results: &Results, call: usize, generation: Generation) -> bool {
    let mut begun = results.begin_records().iter().filter_map(BeginRecord::read);
    begun.any(|begun| begun.call == call && begun.generation == generation)
}

/// A call's word.
pub fn word(control: &Control, call: usize) -> Result<Word, Wrong> {
    control.lines()[call].look().map_err(|illegal| illegal.to_string())
}

/// The first call's word, by its state alone.
pub fn state(control: &Control) -> Option<State> {
    control.lines()[0].look().ok().map(Word::state)
}

/// Asks again and again until there is an answer; `None` if there never is.
pub fn until<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + PATIENCE;
    let mut round = 0;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        round += 1;
        clock::sleep(Duration::from_micros(if round < 200 { 50 } else { 1000 }));
    }
}

/// How many mappings of regions a process has.
pub fn mapped(pid: u32, name: &str) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter(|line| line.contains(name)).count()
}

/// How many descriptors this process has, and the one that lists them.
pub fn own_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// What the descriptors of a process are, and how many of each.
fn descriptors_by_name(pid: u32) -> BTreeMap<String, u32> {
    let mut all = BTreeMap::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let name = fs::read_link(fd.path()).unwrap_or_default();
        *all.entry(name.to_string_lossy().split('[').next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    all
}

/// Whether a thread sleeps in `futex(2)`.
pub fn in_futex(pid: u32, tid: u32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
    text.split(' ').next().and_then(|number| number.parse().ok()) == Some(libc::SYS_futex)
}

/// The only thread of a worker that runs apps.
pub fn app_thread(pid: u32) -> Option<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let is_app = |tid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm"))
            .is_ok_and(|name| name.starts_with("stk-app-"))
    };
    tasks.flatten().filter_map(|task| task.file_name().to_str()?.parse().ok()).find(is_app)
}

/// The descriptors of a process that are regions of this kind: their inodes and paths.
fn memfds(pid: u32, kind: &str) -> Vec<(u64, PathBuf)> {
    let name = format!("/memfd:stokehold-{kind} (deleted)");
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    fds.flatten()
        .map(|fd| fd.path())
        .filter(|path| fs::read_link(path).is_ok_and(|target| target.as_os_str() == name.as_str()))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.ino(), path)))
        .collect()
}

fn only(pid: u32, kind: &str) -> stokehold::Result<OwnedFd> {
    match &memfds(pid, kind)[..] {
        [(_, path)] => open(path, kind == "board" || kind == "control"),
        several => Err(Error::app("Scene", format!("process {pid} has {} {kind} regions", several.len()))),
    }
}

fn open(path: &PathBuf, write: bool) -> stokehold::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).write(write).open(path)?.into())
}
