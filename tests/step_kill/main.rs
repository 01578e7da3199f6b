//! SIGKILL after every instruction.
//!
//! A worker, or a client, is moved through one routine of the data plane one instruction at a time and killed with
//! SIGKILL after the first, in the next round after the second, and so on to the routine's end. After each kill
//! everything is looked at that the others may expect: the caller has exactly one outcome, and the one that the
//! moment of the death allows; the app ran at most once; the next call succeeds; lanes and descriptors come back.
//! The pool and the peers live on through all rounds of a path, only the victim is replaced.
//!
//! `step_kill [FILTER] [--every] [--full] [--only PATH] [--at K] [--from K] [--to K] [--stride N] [--plain] [--list]`
//!
//! Without more it takes a few positions of each path, spread evenly, as one test among the others. `--every` takes
//! each position, but of the long paths a thousand: that is what CI runs (`ci/step-kill.sh`); `--full` takes each of
//! those, too. `--plain` goes everywhere by single steps.

mod app;
mod clients;
mod peer;
mod report;
mod scene;
mod trace;
mod workers;

use report::Tally;
use scene::{Scene, Wrong};
use std::process::ExitCode;
use stokehold::Mode;
use trace::Trail;

/// What one path kills.
#[derive(Clone, Copy)]
enum Path {
    Worker(workers::Path),
    Client(clients::Path),
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
}

/// Positions of each path when nothing more is asked for. Without optimisation the paths are ten times as long.
const FEW: usize = if cfg!(debug_assertions) { 8 } else { 24 };

fn main() -> ExitCode {
    // Also in the arbiter's copy, where this does not return.
    let started = stokehold::init(|apps| {
        if std::env::var_os("STEP_KILL_LOG").is_some() {
            env_logger::init();
        }
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
    let begin = std::time::Instant::now();
    let (mut passed, mut failed, mut kills) = (0, 0, 0);
    for path in &all {
        let mut tally = Tally::new();
        let result = run(path, &wanted, &mut tally);
        println!("{}: {tally}", path.name());
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
    };
    let mut scene =
        Scene::new(workers, mode, caller, 0).map_err(|e| format!("the pool does not start: {e}"))?;
    let mut ways = Ways { plain: wanted.plain, ..Ways::default() };
    let mut round = |at: Option<usize>, tally: &mut Tally| {
        let result = match path {
            Path::Worker(path) => workers::round(&mut scene, path, at, &mut ways, tally),
            Path::Client(path) => clients::round(&mut scene, path, at, &mut ways, tally),
        };
        tally.kills += 1;
        let image = match path {
            Path::Worker(_) => scene.pool.arbiter_pid(),
            Path::Client(_) => std::process::id(),
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
        None if wanted.every => path.stride(chosen.len()),
        None => chosen.len() / FEW + 1,
    };
    for at in chosen.iter().step_by(stride) {
        round(Some(*at), tally)?;
    }
    tally.positions = positions.len();
    tally.stride = stride;
    scene.quiet()
}

impl Path {
    fn name(&self) -> &'static str {
        match self {
            Path::Worker(path) => path.name,
            Path::Client(path) => path.name,
        }
    }

    /// Every position; where the way is long and most of it is another path's, too, a thousand, spread evenly.
    fn stride(&self, positions: usize) -> usize {
        match self {
            Path::Worker(path) if path.is_long() => positions / 1000 + 1,
            Path::Client(path) if path.mode != Mode::Park => positions / 500 + 1,
            _ => 1,
        }
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
                "--only" => wanted.only = Some(args.next().ok_or("--only needs the name of a path")?),
                // What cargo passes on to any test.
                flag if flag.starts_with('-') => {}
                filter => wanted.filter = Some(filter.to_owned()),
            }
        }
        Ok(wanted)
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
