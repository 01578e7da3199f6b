//! The arbiter is killed while all its workers compute. How soon a caller knows, and how long a worker goes on.

use super::{GIVE_UP_NS, LOOK, TO_ARBITER_DIED, TO_LAST_INSTRUCTION, until_at_work};
use crate::bench::options::Options;
use crate::bench::place::Place;
use crate::bench::procfs;
use crate::bench::report::{Report, Row};
use crate::bench::rig::Rig;
use crate::bench::stats::Series;
use crate::bench::wanted::{Of, Wanted};
use crate::demo::Demo;
use std::os::fd::AsFd;
use stokehold::internals::sys::process::Pid;
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{clock, pidfd};
use stokehold::{App, Client, Code, Error, Mode, Result};

const WORKERS: usize = 4;
/// A pool each.
const KILLS: usize = 30;
/// Longer than any of this takes.
const SPIN_MS: u64 = 60_000;

pub fn run(options: &Options, report: &mut Report, place: &Place) -> Result<()> {
    let wait = options.wait.unwrap_or(Mode::Adaptive);
    let mut times = Times::default();
    for _ in 0..KILLS {
        let rig = Rig::start(place, wait, WORKERS)?;
        kill_one(&rig, &mut times)?;
    }
    for (case, series, limit_us) in [
        (TO_ARBITER_DIED, &times.error, 250_000.0),
        // With so few samples the p99 is the longest of them.
        (TO_LAST_INSTRUCTION, &times.last, 100_000.0),
    ] {
        if options.wants_case(case) {
            report.add(Row {
                bench: "death",
                case: case.into(),
                wait: Some(wait),
                placement: Some(place.placement()),
                threads: Some(1),
                wanted: vec![Wanted::AtMost(Of::P99Us, limit_us)],
                ..Row::default().beside(series, "its pidfd", &times.handle)
            });
        }
    }
    Ok(())
}

/// From the kill of the arbiter until …
#[derive(Default)]
struct Times {
    /// … a caller whose call runs has the error.
    error: Series,
    /// … its handle says that it has exited.
    handle: Series,
    /// … no thread of any worker can execute an instruction of its program any more.
    last: Series,
}

fn kill_one(rig: &Rig, times: &mut Times) -> Result<()> {
    let client = &rig.client;
    let pids = client.worker_pids();
    let number = i32::try_from(rig.pool.arbiter_pid()).ok().and_then(Pid::from_raw);
    let arbiter = pidfd::open(number.ok_or_else(|| Error::bad_request("the arbiter has no pid"))?)?;
    let (start, exited, last, told) = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(|| call(client))).collect();
        pids.iter().try_for_each(|&pid| until_at_work(pid))?;
        if pids.len() != WORKERS || !pids.iter().all(|&pid| procfs::runs(pid)) {
            return Err(Error::bad_request("not all workers are at work"));
        }
        let gone = scope.spawn(|| pidfd::wait_exited(arbiter.as_fd(), None).map(|_| clock::monotonic_ns()));
        let start = clock::monotonic_ns();
        pidfd::send_signal(arbiter.as_fd(), Signal::SIGKILL)?;
        while pids.iter().any(|&pid| procfs::runs(pid)) {
            if clock::monotonic_ns() - start > GIVE_UP_NS {
                return Err(Error::bad_request("a worker goes on without its arbiter"));
            }
            clock::sleep(LOOK);
        }
        let last = clock::monotonic_ns();
        let panicked = || Error::bad_request("a thread of the bench panicked");
        let exited = gone.join().map_err(|_| panicked())??;
        let told = callers.into_iter().map(|caller| caller.join().unwrap_or_else(|_| Err(panicked())));
        Ok((start, exited, last, told.collect::<Result<Vec<u64>>>()?))
    })?;
    let since = |ns: u64| u32::try_from(ns.saturating_sub(start)).unwrap_or(u32::MAX);
    times.error.add(&mut told.into_iter().map(since).collect());
    times.handle.add(&mut vec![since(exited)]);
    times.last.add(&mut vec![since(last)]);
    Ok(())
}

/// A call that can only end with the arbiter; when its caller knew.
fn call(client: &Client) -> Result<u64> {
    let ended = client.call(Demo::NAME, "spin_ms").args((SPIN_MS,)).execute();
    let told = clock::monotonic_ns();
    match ended {
        Err(error) if error.code() == Code::ArbiterDied => Ok(told),
        Err(other) => Err(other.context("a call whose arbiter was killed")),
        Ok(_) => Err(Error::bad_request("a call whose arbiter was killed ended well")),
    }
}
