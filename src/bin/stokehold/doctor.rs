//! `stokehold doctor`: tries, one by one, what a pool stands on, says in plain words what follows where something
//! is lacking, and in the end starts a pool and calls it.

use crate::demo::Demo;
use crate::failure::Failure;
use crate::help;
use lexopt::prelude::*;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::AtomicU32;
use std::time::Duration;
use stokehold::internals::shm::{Region, RegionKind, Results};
use stokehold::internals::sys::map::Mapping;
use stokehold::internals::sys::{clock, cpu, futex, memfd, pidfd, process};
use stokehold::{App, Error, Pool, Result};

/// What a check found.
enum Finding {
    /// All is well, and how well.
    Fine(String),
    /// A pool runs, but …
    Lacking(String),
    /// No pool can run.
    Fatal(String),
}

use Finding::{Fatal, Fine, Lacking};

type Check = fn() -> Result<Finding>;

const CHECKS: [(&str, Check); 14] = [
    ("kernel", kernel),
    ("memory files", memory_files),
    ("file size limit", file_size_limit),
    ("seals", seals),
    ("pidfd", process_handles),
    ("pidfd of a thread", thread_handles),
    ("futex", futex_words),
    ("futex, read-only", futex_read_only),
    ("death mark", death_mark),
    ("descriptors", descriptors),
    ("processors", processors),
    ("processor quota", quota),
    ("core files", core_files),
    ("a pool", a_pool),
];

/// Runs all checks.
pub fn run(mut parser: lexopt::Parser) -> std::result::Result<ExitCode, Failure> {
    match parser.next()? {
        None => {}
        Some(Short('h') | Long("help")) => {
            return Ok(help::say(help::DOCTOR));
        }
        Some(other) => return Err(other.unexpected().into()),
    }
    let mut can_run = true;
    for (name, check) in CHECKS {
        let finding = check().unwrap_or_else(|error| Fatal(error.to_string()));
        let (verdict, said) = match &finding {
            Fine(said) => ("ok", said),
            Lacking(said) => ("lacking", said),
            Fatal(said) => ("FAILED", said),
        };
        can_run &= !matches!(finding, Fatal(_));
        help::say(&format!("{verdict:<8} {name:<18} {said}\n"));
    }
    help::say(if can_run { "\nA pool can run here.\n" } else { "\nNo pool can run here.\n" });
    Ok(if can_run { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn kernel() -> Result<Finding> {
    let release = read("/proc/sys/kernel/osrelease");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    Ok(if version >= (5, 10) {
        Fine(format!("Linux {release}"))
    } else {
        Fatal(format!(
            "Linux {release} is older than 5.10, which has the seals and handles that a pool needs"
        ))
    })
}

fn memory_files() -> Result<Finding> {
    Ok(match memfd::create("stokehold-doctor", LARGE) {
        Ok(_) => Fine(format!("{} MiB at once; neither /dev/shm nor locked memory is needed", LARGE >> 20)),
        Err(error) => match memfd::create("stokehold-doctor", SMALL) {
            Ok(_) => Lacking(format!(
                "{} MiB at once cannot be had: {error}; large payloads will fail",
                LARGE >> 20
            )),
            Err(error) => Fatal(format!("none can be made: {error}")),
        },
    })
}

fn file_size_limit() -> Result<Finding> {
    let (soft, _) = limit(Resource::RLIMIT_FSIZE)?;
    Ok(if soft == RLIM_INFINITY {
        Fine("none".into())
    } else {
        Lacking(format!(
            "{soft} bytes (ulimit -f): it holds for shared memory, too; larger payloads will fail"
        ))
    })
}

fn seals() -> Result<Finding> {
    // Makes, maps and seals as every region is.
    let region = Region::create(RegionKind::Growth, SMALL)?;
    Mapping::shared_ro(region.fd(), SMALL)?;
    Ok(match Mapping::shared_rw(region.fd(), SMALL) {
        Err(_) => Fine("a reader of shared memory cannot write it or cut it off".into()),
        Ok(_) => Fatal("F_SEAL_FUTURE_WRITE has no effect: a reader could write its peer's memory".into()),
    })
}

fn process_handles() -> Result<Finding> {
    let own = pidfd::of_self()?;
    Ok(match pidfd::has_exited(own.as_fd())? {
        false => Fine("processes are watched by handles, not by numbers".into()),
        true => Fatal("a handle says that this very process has exited".into()),
    })
}

fn thread_handles() -> Result<Finding> {
    Ok(match pidfd::open_thread(process::thread_id()) {
        Ok(_) => Fine("the arbiter hears at once that a worker is dying".into()),
        Err(error) => Lacking(format!(
            "needs Linux 6.9 ({error}): the arbiter hears of the death of a worker with gigabytes of memory only \
             when they are freed, up to some 100 ms later"
        )),
    })
}

fn futex_words() -> Result<Finding> {
    let word = AtomicU32::new(0);
    Ok(match futex::wait(&word, 0, Some(MOMENT)) {
        futex::Wait::TimedOut => Fine("waiting costs no processor time".into()),
        other => Fatal(format!("a futex wait that should time out ended as {other:?}")),
    })
}

fn futex_read_only() -> Result<Finding> {
    let region = Region::create(RegionKind::Growth, SMALL)?;
    let fd = region.fd().try_clone_to_owned().map_err(|e| Error::os("dup", e.raw_os_error().unwrap_or(0)))?;
    let reader = Region::adopt(RegionKind::Growth, fd, SMALL)?;
    let answer = futex::wait(reader.at::<AtomicU32>(SMALL / 2), 0, Some(MOMENT));
    Ok(match answer {
        futex::Wait::TimedOut => Fine("a watcher can sleep on what it may not write".into()),
        other => Lacking(format!("ended as {other:?}: watchers look around in slices of time instead")),
    })
}

fn death_mark() -> Result<Finding> {
    let results = Results::create()?;
    let armed = std::thread::scope(|scope| scope.spawn(|| results.arm_mark()).join());
    match armed {
        Ok(armed) => armed?,
        Err(_) => return Ok(Fatal("the thread that should leave its mark panicked".into())),
    }
    // The kernel marks it on the thread's way out, which may be a moment after the join.
    let end = clock::monotonic_ns() + PATIENCE_NS;
    while !results.mark().is_dead() && clock::monotonic_ns() < end {
        clock::sleep(MOMENT);
    }
    Ok(if results.mark().is_dead() {
        Fine("callers learn of a killed worker before its memory is freed".into())
    } else {
        Lacking(
            "robust futexes have no effect: callers learn of a worker's death when its memory is freed"
                .into(),
        )
    })
}

fn descriptors() -> Result<Finding> {
    let (_, hard) = limit(Resource::RLIMIT_NOFILE)?;
    let clients = hard.saturating_sub(DESCRIPTORS_OF_WORKERS) / DESCRIPTORS_OF_A_CLIENT;
    Ok(if clients >= MAX_CLIENTS {
        Fine(format!("{hard} for the arbiter: enough for {MAX_CLIENTS} clients"))
    } else {
        Lacking(format!(
            "{hard} (ulimit -Hn): a pool of 64 workers takes about {clients} clients, not {MAX_CLIENTS}"
        ))
    })
}

fn processors() -> Result<Finding> {
    Ok(match cpu::usable() {
        1 => Lacking(
            "one: a call costs two switches, since caller and worker cannot run at the same time".into(),
        ),
        n => Fine(format!("{n} usable")),
    })
}

fn quota() -> Result<Finding> {
    Ok(match cpu::cgroup_quota() {
        None => Fine("none".into()),
        Some(quota) => Lacking(format!(
            "{quota} processors' worth of time: waiting never spins, since that would use it up; a call costs some \
             microseconds more"
        )),
    })
}

fn core_files() -> Result<Finding> {
    let pattern = read("/proc/sys/kernel/core_pattern");
    Ok(Fine(match pattern.strip_prefix('|') {
        Some(program) => {
            format!("piped to {}; workers write none", program.split(' ').next().unwrap_or(program))
        }
        None => format!("named {pattern:?}; workers write none"),
    }))
}

/// By re-execution of this program, as every host does.
fn a_pool() -> Result<Finding> {
    let begin = clock::monotonic_ns();
    let pool = Pool::builder().app::<Demo>().boot_timeout_ms(10_000).start()?;
    let started = clock::monotonic_ns();
    let client = pool.client()?;
    let sum: i64 = client.call(Demo::NAME, "add").args((2, 3)).deadline_ms(5_000).execute()?.parse()?;
    let lease = client.lease_from(&[7; SMALL])?;
    let len: usize = client.call(Demo::NAME, "len").args((&lease,)).deadline_ms(5_000).execute()?.parse()?;
    let called = clock::monotonic_ns();
    drop((lease, client));
    pool.shutdown()?;
    Ok(if (sum, len) == (5, SMALL) {
        let ms = |ns: u64| ns as f64 / 1e6;
        Fine(format!(
            "started in {:.1} ms, two first calls in {:.1} ms, stopped in {:.1} ms",
            ms(started - begin),
            ms(called - started),
            ms(clock::monotonic_ns() - called)
        ))
    } else {
        Fatal(format!("2 + 3 came back as {sum}, a length of {SMALL} as {len}"))
    })
}

fn limit(resource: Resource) -> Result<(u64, u64)> {
    getrlimit(resource).map_err(|errno| Error::os("getrlimit", errno as i32))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "unknown".into(), |text| text.trim().to_owned())
}

const SMALL: usize = 8 << 10;
const LARGE: usize = 64 << 20;
const MOMENT: Duration = Duration::from_millis(1);
const PATIENCE_NS: u64 = 1_000_000_000;
const MAX_CLIENTS: u64 = 1_024;
const DESCRIPTORS_OF_A_CLIENT: u64 = 5;
const DESCRIPTORS_OF_WORKERS: u64 = 64 * 6 + 16;
