//! `bench death`: a worker is killed in the middle of a call. How soon its caller knows, and how soon there is
//! another worker. A process counts as exited only when the kernel has freed its memory, so size matters.

use super::options::Options;
use super::place::{Place, Placement};
use super::report::{Report, Row};
use super::rig::Rig;
use super::stats::Series;
use crate::demo::Demo;
use crate::failure::Failure;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use stokehold::internals::sys::process::Pid;
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{clock, pidfd};
use stokehold::{App, Client, Code, Error, Mode, Result};

const SIZES: [usize; 2] = [0, 64 << 20];
const FULL_SIZE: usize = 1 << 30;
const KILLS: usize = 30;
/// How long a worker must have computed to be surely at work, and its caller asleep. One that is killed before it
/// began is no failure: the call goes to the next worker.
const AT_WORK_NS: u64 = 3_000_000;
/// How closely a new worker is looked for.
const LOOK: Duration = Duration::from_micros(100);
const GIVE_UP_NS: u64 = 30_000_000_000;

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    let placement = options.placement.unwrap_or(Placement::Free);
    let wait = options.wait.unwrap_or(Mode::Adaptive);
    let Some(place) = Place::take(placement)? else {
        report.skipped(&format!("death {}", placement.name()), "needs two processors");
        return Ok(());
    };
    // Deaths so soon after the start count as early ones: they must not degrade the pool or be waited for.
    let rig =
        Rig::start_with(&place, wait, 1, |builder| builder.restart_limit(10_000, 1_000).backoff_ms(1, 1))?;
    for bytes in SIZES.into_iter().chain(options.full.then_some(FULL_SIZE)) {
        let Times { error, handle, ready } = kills(&rig.client, bytes)?;
        for (case, series, handle) in [(TO_ERROR, error, Some(&handle)), (TO_READY, ready, None)] {
            if options.wants_case(case) {
                report.add(Row {
                    bench: "death",
                    case: case.into(),
                    wait: Some(wait),
                    placement: Some(placement),
                    bytes: Some(bytes as u64),
                    threads: Some(1),
                    p50_us: series.p50_us(),
                    p99_us: series.p99_us(),
                    baseline: handle.map(|_| "its pidfd".into()),
                    baseline_p50_us: handle.and_then(Series::p50_us),
                    baseline_p99_us: handle.and_then(Series::p99_us),
                    ratio: handle.and_then(|handle| series.ratio(handle)),
                    ..Row::default()
                });
            }
        }
    }
    Ok(rig.stop()?)
}

/// From the kill of a worker until …
#[derive(Default)]
struct Times {
    /// … its caller has the error.
    error: Series,
    /// … its handle says that it has exited: what everybody who only watches processes has to wait for.
    handle: Series,
    /// … another one is ready.
    ready: Series,
}

/// Kills workers of this ballast.
fn kills(client: &Client, bytes: usize) -> Result<Times> {
    let mut times = Times::default();
    let (order, orders) = bounded::<()>(0);
    let (outcome, outcomes) = bounded::<(u64, Option<Error>)>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || call_and_tell(client, &orders, &outcome));
        let result = (0..KILLS).try_for_each(|_| kill_one(client, bytes, &order, &outcomes, &mut times));
        drop(order); // ends the caller
        result
    })?;
    Ok(times)
}

/// The caller: a thread that waits for a call which cannot end well.
fn call_and_tell(client: &Client, orders: &Receiver<()>, outcome: &Sender<(u64, Option<Error>)>) {
    for () in orders {
        let ended = client.call(Demo::NAME, "spin_ms").args((60_000,)).execute().err();
        if outcome.send((clock::monotonic_ns(), ended)).is_err() {
            return;
        }
    }
}

fn kill_one(
    client: &Client,
    bytes: usize,
    order: &Sender<()>,
    outcomes: &Receiver<(u64, Option<Error>)>,
    times: &mut Times,
) -> Result<()> {
    if bytes > 0 {
        client.call(Demo::NAME, "ballast").args((bytes,)).execute()?;
    }
    let (pid, handle) = worker(client)?;
    let gone = || Error::bad_request("the calling thread is gone");
    order.send(()).map_err(|_| gone())?;
    until_at_work(pid)?;
    // Each is waited for by a thread of its own: the next worker may be ready before this one is gone.
    let (start, exited, ready) = std::thread::scope(|scope| {
        let gone = scope.spawn(|| pidfd::wait_exited(handle.as_fd(), None).map(|_| clock::monotonic_ns()));
        let start = clock::monotonic_ns();
        pidfd::send_signal(handle.as_fd(), Signal::SIGKILL)?;
        while !client.worker_pids().iter().any(|&other| other != pid) {
            if clock::monotonic_ns() - start > GIVE_UP_NS {
                return Err(Error::bad_request("no new worker within 30 s"));
            }
            clock::sleep(LOOK);
        }
        let ready = clock::monotonic_ns();
        let exited = gone.join().map_err(|_| Error::bad_request("a thread of the bench panicked"))??;
        Ok((start, exited, ready))
    })?;
    let (told, error) = outcomes.recv().map_err(|_| gone())?;
    match error {
        Some(error) if error.code() == Code::WorkerDied => {}
        Some(other) => return Err(other.context("a call whose worker was killed")),
        None => return Err(Error::bad_request("a call whose worker was killed ended well")),
    }
    let since = |ns: u64| u32::try_from(ns.saturating_sub(start)).unwrap_or(u32::MAX);
    times.error.add(&mut vec![since(told)]);
    times.handle.add(&mut vec![since(exited)]);
    times.ready.add(&mut vec![since(ready)]);
    Ok(())
}

/// Waits until this process has used the processor for a while.
fn until_at_work(pid: u32) -> Result<()> {
    let (start, before) = (clock::monotonic_ns(), processor_time_ns(pid));
    while processor_time_ns(pid).saturating_sub(before) < AT_WORK_NS {
        if clock::monotonic_ns() - start > GIVE_UP_NS {
            return Err(Error::bad_request("a worker did not begin a call within 30 s"));
        }
        clock::sleep(LOOK);
    }
    Ok(())
}

/// What all threads of a process together have used. See `schedstat` in `proc(5)`.
fn processor_time_ns(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let used = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    used.sum()
}

/// The one worker there is.
fn worker(client: &Client) -> Result<(u32, OwnedFd)> {
    let pid = client.worker_pids().first().copied().unwrap_or_default();
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let number = number.ok_or_else(|| Error::bad_request("there is no worker"))?;
    Ok((pid, pidfd::open(number)?))
}

const TO_ERROR: &str = "killed to error";
const TO_READY: &str = "killed to next ready";
