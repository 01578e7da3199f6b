//! `bench throughput`: calls a second. One client thread that keeps 64 calls in flight, beside a bare call table;
//! and threads that execute one call after the other.

use super::baseline::{Partner, Table};
use super::options::Options;
use super::place::{Place, Placement};
use super::report::{Report, Row, mode_name};
use super::rig::Rig;
use super::stats::median;
use super::wanted::{Of, Wanted};
use crate::demo::Demo;
use crate::failure::Failure;
use crossbeam::utils::CachePadded;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use stokehold::internals::sys::clock;
use stokehold::{App, Client, Error, Mode, Pending, Result};

const IN_FLIGHT: usize = 64;
/// Short, so that on a busy machine half of the blocks at least run without being interrupted.
const BLOCK: u64 = 1_000;
const TABLE_BLOCK: u64 = 5_000;
/// Calls before each block: the worker may have gone to sleep during the other's.
const WARM_UP: u64 = 200;
const THREADS: [usize; 3] = [1, 2, 4];
const SLICE: Duration = Duration::from_millis(20);

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    for wait in [Mode::Adaptive, Mode::Spin, Mode::Park] {
        // Parked is for who asks.
        let by_default = wait != Mode::Park || options.wait == Some(Mode::Park);
        let placement = options.placement.unwrap_or(Placement::Two);
        if !by_default || !options.wants(wait, placement) || !options.wants_case(SATURATED) {
            continue;
        }
        let Some(place) = Place::take(placement)? else {
            report.skipped(
                &format!("throughput {} {}", mode_name(wait), placement.name()),
                "needs two processors",
            );
            continue;
        };
        saturated(options, report, &place, wait)?;
    }
    let (wait, placement) =
        (options.wait.unwrap_or(Mode::Adaptive), options.placement.unwrap_or(Placement::Free));
    if options.wants_case(CONCURRENT)
        && !options.limits
        && let Some(place) = Place::take(placement)?
    {
        concurrent(options, report, &place, wait)?;
    }
    Ok(())
}

/// One thread, 64 in flight, first in first out.
fn saturated(options: &Options, report: &mut Report, place: &Place, wait: Mode) -> Result<()> {
    let partner = Partner::new(place.partner())?;
    let mut tables = [
        (TABLE, Table::new(&partner)),
        (CLAIMS, Table::of_claims(&partner)),
        (WORDS, Table::of_words(&partner)),
    ];
    let rig = Rig::start(place, wait, 1)?;
    let mut ours = Vec::new();
    let mut theirs = tables.each_ref().map(|_| Vec::new());
    let start = clock::monotonic_ns();
    while ours.len() < 3 || seconds_since(start) < options.seconds {
        rig.wake()?;
        pipeline(&rig.client, WARM_UP)?;
        ours.push(pipeline(&rig.client, BLOCK)?);
        rig.rest()?;
        for ((_, table), rates) in tables.iter_mut().zip(&mut theirs) {
            table.block(WARM_UP)?;
            rates.push(table.block(TABLE_BLOCK)?);
        }
    }
    for ((name, _), theirs) in tables.iter().zip(theirs) {
        let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
        report.add(Row {
            bench: "throughput",
            case: SATURATED.into(),
            wait: Some(wait),
            placement: Some(place.placement()),
            bytes: Some(64),
            threads: Some(1),
            per_s: median(ours.clone()),
            baseline: Some((*name).into()),
            baseline_per_s: median(theirs),
            ratio: median(ratios),
            wanted: if *name == TABLE { WANTED.to_vec() } else { Vec::new() },
            ..Row::default()
        });
    }
    rig.stop()
}

/// Makes `calls` calls with 64 in flight and checks each result; how many that were a second.
fn pipeline(client: &Client, calls: u64) -> Result<f64> {
    let mut flying: VecDeque<(u64, Pending)> = VecDeque::with_capacity(IN_FLIGHT);
    let mut sent = 0;
    let start = clock::monotonic_ns();
    while sent < calls || !flying.is_empty() {
        while sent < calls && flying.len() < IN_FLIGHT {
            let bytes = numbered(sent);
            flying.push_back((sent, client.call(Demo::NAME, "echo").args((&bytes[..],)).submit()?));
            sent += 1;
        }
        if let Some((number, pending)) = flying.pop_front() {
            let response = pending.wait()?;
            if response.as_bytes()? != numbered(number) {
                return Err(Error::bad_request(format!("call {number} has another call's result")));
            }
        }
    }
    Ok(calls as f64 * 1e9 / (clock::monotonic_ns() - start).max(1) as f64)
}

/// 64 bytes that differ from call to call.
fn numbered(number: u64) -> [u8; 64] {
    let mut bytes = [7; 64];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Threads of one client, each with one call at a time. The median of the rates over short slices of time.
fn concurrent(options: &Options, report: &mut Report, place: &Place, wait: Mode) -> Result<()> {
    let rig = Rig::start(place, wait, 1)?;
    for threads in THREADS {
        let counts: Vec<CachePadded<AtomicU64>> = (0..threads).map(|_| CachePadded::default()).collect();
        let stop = AtomicBool::new(false);
        let (client, stop) = (&rig.client, &stop);
        let rates = std::thread::scope(|scope| {
            let start = |count| scope.spawn(move || calls(client, count, stop));
            let running: Vec<_> = counts.iter().map(|count| start(count)).collect();
            let rates = rates(&counts, options.seconds);
            stop.store(true, Ordering::Relaxed);
            let ended = running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(panicked())));
            ended.collect::<Result<()>>().map(|()| rates)
        })?;
        report.add(Row {
            bench: "throughput",
            case: CONCURRENT.into(),
            wait: Some(wait),
            placement: Some(place.placement()),
            bytes: Some(64),
            threads: Some(threads as u64),
            per_s: median(rates),
            ..Row::default()
        });
    }
    rig.stop()
}

/// One call after the other until it is told to stop.
fn calls(client: &Client, count: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let bytes = numbered(count.load(Ordering::Relaxed));
        let response = client.call(Demo::NAME, "echo").args((&bytes[..],)).execute()?;
        if response.as_bytes()? != bytes {
            return Err(Error::bad_request("an echo came back changed"));
        }
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// How fast the sum of the counts grows, slice by slice.
fn rates(counts: &[CachePadded<AtomicU64>], seconds: f64) -> Vec<f64> {
    let sum = || counts.iter().map(|count| count.load(Ordering::Relaxed)).sum::<u64>();
    let start = clock::monotonic_ns();
    let (mut last, mut before) = (start, sum());
    let mut rates = Vec::new();
    while seconds_since(start) < seconds {
        clock::sleep(SLICE);
        let (now, count) = (clock::monotonic_ns(), sum());
        rates.push((count - before) as f64 * 1e9 / (now - last).max(1) as f64);
        (last, before) = (now, count);
    }
    rates
}

fn panicked() -> Error {
    Error::bad_request("a measuring thread panicked")
}

fn seconds_since(start: u64) -> f64 {
    (clock::monotonic_ns() - start) as f64 / 1e9
}

/// Against the table that moves the bytes.
const WANTED: [Wanted; 2] = [Wanted::AtLeast(Of::PerS, 2e6), Wanted::AtLeast(Of::Ratio, 0.4)];
const SATURATED: &str = "64 in flight";
const TABLE: &str = "bare call table";
const CLAIMS: &str = "bare table of claims";
const WORDS: &str = "bare words, no bytes";
const CONCURRENT: &str = "threads";
