//! SIGKILL after every instruction.
//!
//! A worker, or a client, is moved through one routine of the data plane one instruction at a time and killed with
//! SIGKILL after the first, in the next round after the second, and so on to the routine's end. After each kill
//! everything is looked at that the others may expect: the caller has exactly one outcome, and the one that the
//! moment of the death allows; the app ran at most once; the next call succeeds; lanes and descriptors come back.
//! The pool and the peers live on through all rounds of a path, only the victim is replaced.
//!
//! What is long and happens seldom (births, memory that is taken and mapped, all that the arbiter does) goes from *edge* to
//! edge: system calls and stores to shared memory, between which all places are alike (`edges`). With an arbiter goes its
//! pool: each of those rounds has one of its own (`arbiters`, `served`).
//!
//! `step_kill [FILTER] [--every] [--full] [--only PATH] [--at K] [--from K] [--to K] [--stride N] [--plain] [--list]
//! [--steps N] [--random N] [--seed N]`
//!
//! Without more it takes a few positions of each path, spread evenly, as one test among the others. `--every` takes
//! each position, but of the long paths some thousands, and of whole streams and contexts some hundreds (to send one item and
//! to receive one are paths of their own, of which it takes each): that is what CI runs (`ci/step-kill.sh`); `--full` takes each
//! of those, too. `--plain` goes everywhere by single steps. Of a path that goes by edges a position is a number of edges;
//! `--steps` goes so many instructions on, and `--random` takes so many places between edges, of that seed: 2,000 in CI.

mod app;
mod arbiters;
mod births;
mod clients;
mod consumers;
mod edges;
mod host;
mod peer;
mod positions;
mod producers;
mod report;
mod scene;
mod served;
mod streamed;
mod trace;
mod victim;
mod workers;

use positions::Rounds;
use report::Tally;
use scene::{Scene, Wrong};
use std::process::ExitCode;
use stokehold::Mode;
use trace::{Arrival, Tracee, Trail};

/// What one path kills.
#[derive(Clone, Copy)]
enum Path {
    Worker(workers::Path),
    Client(clients::Path),
    Producer(producers::Path),
    Consumer(consumers::Path),
    Arbiter(arbiters::Path),
    Birth(births::Path),
    Served(served::Path),
}

/// The ways that victims go, noted in a first round.
#[derive(Debug, Default)]
struct Ways {
    /// Up to where the path begins, if something has to happen before.
    prelude: Trail,
    path: Trail,
    /// By single steps only.
    plain: bool,
}

/// What was asked for.
#[derive(Debug, Default)]
struct Wanted {
    only: Option<String>,
    filter: Option<String>,
    from: usize,
    to: Option<usize>,
    stride: Option<usize>,
    every: bool,
    full: bool,
    plain: bool,
    list: bool,
    steps: usize,
    random: Option<usize>,
    seed: Option<u64>,
}

/// Positions of each path when nothing more is asked for. Without optimisation the paths are ten times as long.
const FEW: usize = if cfg!(debug_assertions) { 2 } else { 24 };

/// Places between edges of each path in CI, and how many edges, unless it says otherwise.
const SHARES: (usize, usize) = (120, usize::MAX);

fn main() -> ExitCode {
    // Also in the arbiter's copy, where this does not return.
    let started = stokehold::init(|apps| {
        if std::env::var_os("STEP_KILL_LOG").is_some() {
            env_logger::init();
        }
        app::may_be_traced();
        apps.add::<app::Counter>()
    });
    if let Err(error) = started {
        eprintln!("{error}");
        return ExitCode::FAILURE;
    }
    let wanted = match Wanted::read(std::env::args().skip(1)) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let all: Vec<Path> = workers::PATHS
        .iter()
        .map(|path| Path::Worker(*path))
        .chain(clients::PATHS.iter().map(|path| Path::Client(*path)))
        .chain(producers::PATHS.iter().map(|path| Path::Producer(*path)))
        .chain(consumers::PATHS.iter().map(|path| Path::Consumer(*path)))
        .chain(arbiters::PATHS.iter().map(|path| Path::Arbiter(*path)))
        .chain(births::PATHS.iter().map(|path| Path::Birth(*path)))
        .chain(served::PATHS.iter().map(|path| Path::Served(*path)))
        .filter(|path| wanted.wants(path.name()))
        .collect();
    if wanted.list {
        all.iter().for_each(|path| println!("{}: test", path.name()));
        return ExitCode::SUCCESS;
    }
    if let Err(why) = may_trace() {
        println!("SKIPPED step_kill (ptrace not permitted: {why})");
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", all.len());
    let (all, left_out): (Vec<Path>, Vec<Path>) = all.into_iter().partition(|path| wanted.has_time_for(path));
    for path in left_out {
        println!("SKIPPED {} (unoptimised, its way takes minutes: ci/step-kill.sh goes it)", path.name());
    }
    let begin = std::time::Instant::now();
    let (mut passed, mut failed, mut kills) = (0, 0, 0);
    for path in &all {
        let mut tally = Tally::new();
        let result = match path {
            Path::Arbiter(_) | Path::Birth(_) | Path::Served(_) if !edges::SUPPORTED => {
                println!("SKIPPED {} (edges are found on x86-64 only)", path.name());
                continue;
            }
            Path::Arbiter(path) => arbiters::rounds(path, &wanted.rounds(path.shares()), &mut tally),
            Path::Birth(path) => births::rounds(path, &wanted.rounds(SHARES), &mut tally),
            Path::Served(path) => served::rounds(path, &wanted.rounds(SHARES), &mut tally),
            _ => run(path, &wanted, &mut tally),
        };
        println!("{}: {tally}", path.name());
        let result = result.and_then(|()| tally.is_armed());
        kills += tally.kills;
        match result {
            Ok(()) => {
                passed += 1;
                println!("test {} ... ok", path.name());
            }
            Err(why) => {
                failed += 1;
                println!("test {} ... FAILED\n{why}", path.name());
            }
        }
    }
    println!("\n{kills} kill points in {} s", begin.elapsed().as_secs());
    println!("{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// Every kill point of one path, in one pool.
fn run(path: &Path, wanted: &Wanted, tally: &mut Tally) -> Result<(), Wrong> {
    let (workers, mode, caller) = match path {
        Path::Worker(path) => {
            let other = path.client == workers::Client::Waiting || path.lane == workers::Lane::Warm;
            (path.workers, path.mode, other)
        }
        Path::Client(path) => (1, path.mode, false),
        _ => (1, Mode::Park, false),
    };
    let mut scene =
        Scene::new(workers, mode, caller, 0).map_err(|e| format!("the pool does not start: {e}"))?;
    let mut ways = Ways { plain: wanted.plain, ..Ways::default() };
    let mut round = |at: Option<usize>, tally: &mut Tally| {
        let mut attempt = |ways: &mut Ways| match path {
            Path::Worker(path) => workers::round(&mut scene, path, at, ways, tally),
            Path::Client(path) => clients::round(&mut scene, path, at, ways, tally).map(|()| true),
            Path::Producer(path) => producers::round(&mut scene, path, at, ways, tally),
            Path::Consumer(path) => consumers::round(&mut scene, path, at, ways, tally).map(|()| true),
            Path::Arbiter(_) | Path::Birth(_) | Path::Served(_) => Err("that is no path of a scene".into()),
        };
        let result = attempt(&mut ways).and_then(|counts| {
            if !counts {
                let asked = std::mem::replace(&mut ways.plain, true);
                attempt(&mut ways)?;
                ways.plain = asked;
            }
            Ok(())
        });
        tally.kills += 1;
        let image = match path {
            Path::Worker(_) | Path::Producer(_) => scene.pool.arbiter_pid(),
            _ => std::process::id(),
        };
        let len = ways.path.len();
        result.map(|()| ways.path.positions()).map_err(|why| {
            let at = at.map_or("the end".to_owned(), |at| at.to_string());
            let place = trace::place(image, tally.pc);
            format!("at {at} of {len}, {place}: {why}\nagain: step_kill --only {} --at {at}", path.name())
        })
    };
    let positions = round(None, tally)?;
    let to = wanted.to.unwrap_or(usize::MAX);
    let chosen: Vec<usize> = positions.iter().copied().filter(|at| (wanted.from..=to).contains(at)).collect();
    let stride = match wanted.stride {
        Some(stride) => stride,
        None if wanted.full => 1,
        None if wanted.every => odd(path.stride(chosen.len())),
        None => odd(chosen.len() / FEW + 1),
    };
    // Not those of the last run: in the end each has been one.
    let first = if wanted.stride.is_none() { positions::any_seed() as usize % stride } else { 0 };
    (tally.positions, tally.stride, tally.first) = (positions.len(), stride, first);
    for at in chosen.iter().skip(first).step_by(stride) {
        round(Some(*at), tally)?;
    }
    scene.quiet()
}

/// Or one less. What some rounds do every other time goes by their position, and has to come up both ways.
fn odd(stride: usize) -> usize {
    (stride - 1) | 1
}

impl Path {
    fn name(&self) -> &'static str {
        match self {
            Path::Worker(path) => path.name,
            Path::Client(path) => path.name,
            Path::Producer(path) => path.name,
            Path::Consumer(path) => path.name,
            Path::Arbiter(path) => path.name,
            Path::Birth(path) => path.name,
            Path::Served(path) => path.name,
        }
    }

    /// Every position of up to five thousand; where the way is long and most of it is another path's, too, a thousand,
    /// spread evenly, or, of whole streams and contexts, 250: to send and to receive, which is most of these, are paths.
    fn stride(&self, positions: usize) -> usize {
        match self {
            Path::Worker(path) if path.is_long() => positions / 1000 + 1,
            Path::Client(path) if path.mode != Mode::Park => positions / 500 + 1,
            Path::Producer(path) if path.is_long() => positions / 250 + 1,
            Path::Consumer(path) if path.is_long() => positions / 250 + 1,
            _ => positions / 5000 + 1,
        }
    }
}

impl Ways {
    /// Whether the victim of this round came to its place, or to where it sleeps behind the path's end. `false` if a thread of
    /// its process ran into a breakpoint that was not for it: it heard something just then. Such a round counts for nothing and
    /// is repeated by single steps.
    fn arrived(
        &self,
        arrival: Arrival,
        tracee: &Tracee,
        at: Option<usize>,
        tally: &mut Tally,
    ) -> Result<bool, Wrong> {
        match arrival {
            Arrival::Gone if tracee.was_trapped() && !self.plain => {
                tally.trapped += 1;
                return Ok(false);
            }
            Arrival::Gone | Arrival::Marker => {
                return Err(format!("the worker ended by itself, signal {:?}", tracee.ended_by()));
            }
            Arrival::Asleep if at.is_some_and(|at| at < self.path.len()) => tally.missed += 1,
            Arrival::Asleep | Arrival::There => {}
        }
        Ok(true)
    }
}

impl Wanted {
    fn read(mut args: impl Iterator<Item = String>) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        while let Some(arg) = args.next() {
            let mut number = || {
                let value = args.next().ok_or_else(|| format!("{arg} needs a value"))?;
                value.parse::<usize>().map_err(|e| format!("{arg} {value}: {e}"))
            };
            match arg.as_str() {
                "--at" => {
                    wanted.from = number()?;
                    wanted.to = Some(wanted.from);
                }
                "--from" => wanted.from = number()?,
                "--to" => wanted.to = Some(number()?),
                "--stride" => wanted.stride = Some(number()?.max(1)),
                "--plain" => wanted.plain = true,
                "--every" => wanted.every = true,
                "--full" => wanted.full = true,
                "--list" => wanted.list = true,
                "--steps" => wanted.steps = number()?,
                "--random" => wanted.random = Some(number()?),
                "--seed" => wanted.seed = Some(number()? as u64),
                "--only" => wanted.only = Some(args.next().ok_or("--only needs the name of a path")?),
                // What cargo passes on to any test.
                flag if flag.starts_with('-') => {}
                filter => wanted.filter = Some(filter.to_owned()),
            }
        }
        Ok(wanted)
    }

    /// The rounds of a path that goes from edge to edge, with these shares.
    fn rounds(&self, (places, edges): (usize, usize)) -> Rounds {
        let asked = self.to.is_some() || self.from > 0;
        Rounds {
            from: self.from,
            to: self.to.unwrap_or(usize::MAX),
            stride: self.stride,
            most: if self.full || asked {
                usize::MAX
            } else if self.every {
                edges
            } else {
                FEW / 2
            },
            steps: self.steps,
            random: self.random.unwrap_or(match (asked, self.full, self.every) {
                (true, ..) => 0,
                (_, true, _) => 10 * places,
                (_, _, true) => places,
                _ => 2,
            }),
            seed: self.seed.unwrap_or_else(positions::any_seed),
        }
    }

    /// Without optimisation it takes up to half a minute to walk a long path once, for three positions of it; and time limits
    /// pass on the way. What a default run leaves out of such a build is in `ci/step-kill.sh`, optimised.
    fn has_time_for(&self, path: &Path) -> bool {
        let asked = self.every || self.full || self.only.is_some() || self.filter.is_some();
        let is_long = match path {
            Path::Worker(path) => path.is_long(),
            Path::Producer(path) => path.is_long(),
            Path::Consumer(path) => path.is_long(),
            _ => false,
        };
        asked || !is_long || !cfg!(debug_assertions)
    }

    fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| only == name)
            && self.filter.as_deref().is_none_or(|part| name.contains(part))
    }
}

/// Whether a thread of another process can be traced here: tries it on a child.
fn may_trace() -> Result<(), String> {
    use stokehold::internals::sys::process::{Fork, exit_now, fork};
    match fork().map_err(|e| e.to_string())? {
        Fork::Child => loop {
            stokehold::internals::sys::clock::sleep(std::time::Duration::from_secs(1));
            if stokehold::internals::sys::process::parent_pid().is_none_or(|parent| parent.as_raw() == 1) {
                exit_now(0);
            }
        },
        Fork::Parent(child) => {
            let pid = child.as_raw() as u32;
            let traced = trace::Tracee::seize(pid, pid);
            match traced {
                Ok(mut tracee) => {
                    let stepped = tracee.step() != trace::Step::Gone;
                    tracee.kill();
                    if stepped { Ok(()) } else { Err("a child cannot be stepped".into()) }
                }
                Err(error) => {
                    let _ = nix::sys::signal::kill(
                        nix::unistd::Pid::from_raw(child.as_raw()),
                        nix::sys::signal::Signal::SIGKILL,
                    );
                    Err(error.to_string())
                }
            }
        }
    }
}
