//! A worker is killed in the middle of a call. How soon its caller knows, and how soon there is another worker. A
//! process counts as exited only when the kernel has freed its memory, so size matters.

use super::{GIVE_UP_NS, LOOK, TO_ERROR, TO_READY, until_at_work};
use crate::bench::options::Options;
use crate::bench::place::Place;
use crate::bench::procfs;
use crate::bench::report::{Report, Row};
use crate::bench::rig::Rig;
use crate::bench::stats::Series;
use crate::bench::wanted::{Of, Wanted};
use crate::demo::Demo;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::os::fd::AsFd;
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{clock, pidfd};
use stokehold::{App, Client, Code, Error, Mode, Result};

const SIZES: [usize; 2] = [0, 64 << 20];
/// Asked for. Two such workers are there at a time: one that dies, and the next.
const FULL_SIZES: [usize; 2] = [1 << 30, 4 << 30];
const KILLS: usize = 30;
/// Of those that take seconds to fill.
const FULL_KILLS: usize = 10;

pub fn run(options: &Options, report: &mut Report, place: &Place) -> Result<()> {
    let wait = options.wait.unwrap_or(Mode::Adaptive);
    // Deaths so soon after the start count as early ones: they must not degrade the pool or be waited for.
    let rig =
        Rig::start_with(place, wait, 1, |builder| builder.restart_limit(10_000, 1_000).backoff_ms(1, 1))?;
    let full = if options.full { &FULL_SIZES[..] } else { &[] };
    for &bytes in SIZES.iter().chain(full) {
        let available = procfs::available_kib().unwrap_or_default() << 10;
        if available < 3 * bytes as u64 {
            report.skipped(
                &format!("{TO_ERROR}, {} MiB", bytes >> 20),
                &format!("{} MiB of memory are available, and it takes three times as much", available >> 20),
            );
            continue;
        }
        let Times { error, handle, ready } = kills(&rig, bytes)?;
        for (case, series, handle) in [(TO_ERROR, error, Some(&handle)), (TO_READY, ready, None)] {
            if options.wants_case(case) {
                report.add(Row {
                    bench: "death",
                    case: case.into(),
                    wait: Some(wait),
                    placement: Some(place.placement()),
                    bytes: Some(bytes as u64),
                    threads: Some(1),
                    p50_us: series.p50_us(),
                    p99_us: series.p99_us(),
                    baseline: handle.map(|_| "its pidfd".into()),
                    baseline_p50_us: handle.and_then(Series::p50_us),
                    baseline_p99_us: handle.and_then(Series::p99_us),
                    ratio: handle.and_then(|handle| series.ratio(handle)),
                    wanted: vec![Wanted::AtMost(Of::P99Us, limit_us(case, bytes))],
                    ..Row::default()
                });
            }
        }
    }
    rig.stop()
}

/// At 4 GiB an error may take longer. The app has nothing to start.
fn limit_us(case: &str, bytes: usize) -> f64 {
    match case {
        TO_READY => 50_000.0,
        _ if bytes > 64 << 20 => 10_000.0,
        _ => 2_000.0,
    }
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
fn kills(rig: &Rig, bytes: usize) -> Result<Times> {
    let mut times = Times::default();
    let (order, orders) = bounded::<()>(0);
    let (outcome, outcomes) = bounded::<(u64, Option<Error>)>(1);
    std::thread::scope(|scope| {
        scope.spawn(move || call_and_tell(&rig.client, &orders, &outcome));
        let kills = if bytes > SIZES[1] { FULL_KILLS } else { KILLS };
        let result = (0..kills).try_for_each(|_| kill_one(rig, bytes, &order, &outcomes, &mut times));
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
    rig: &Rig,
    bytes: usize,
    order: &Sender<()>,
    outcomes: &Receiver<(u64, Option<Error>)>,
    times: &mut Times,
) -> Result<()> {
    let client = &rig.client;
    if bytes > 0 {
        client.call(Demo::NAME, "ballast").args((bytes,)).execute()?;
    }
    let (pid, handle) = rig.worker()?;
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
