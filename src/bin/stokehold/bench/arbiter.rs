//! `bench arbiter`: the supervisor at rest. How often it wakes, what it computes, and how much memory is its own;
//! with one client, and with many.

use super::options::Options;
use super::place::{Place, Placement};
use super::procfs;
use super::report::{Report, Row};
use super::rig::Rig;
use super::wanted::{Of, Wanted};
use crate::failure::Failure;
use std::time::Duration;
use stokehold::internals::sys::clock;
use stokehold::{Client, Error, Result};

const CLIENTS: usize = 200;
const WORKERS: usize = 4;
/// Wake-ups come twice a second: a window of less says little.
const LEAST_SECONDS: f64 = 10.0;
/// After what was started and connected.
const SETTLE: Duration = Duration::from_millis(1_500);
const LOOK: Duration = Duration::from_millis(1);
/// How long it may sleep before it counts as one that does not wake at all.
const GIVE_UP_NS: u64 = 5_000_000_000;
const BASE_KIB: f64 = 8.0 * 1024.0;
const CLIENT_KIB: f64 = 2.0;

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    let wait = options.wait.unwrap_or_default();
    let workers = options.workers.unwrap_or(WORKERS);
    let many = options.clients.unwrap_or(CLIENTS);
    let Some(place) = Place::take(Placement::Free)? else { return Ok(()) };
    let rig = Rig::start(&place, wait, workers)?;
    let arbiter = rig.pool.arbiter_pid();
    let row = |case: String, clients: usize| Row {
        bench: "arbiter",
        case,
        wait: Some(wait),
        threads: Some(clients as u64),
        ..Row::default()
    };
    let mut further: Vec<Client> = Vec::new();
    let mut memory = Vec::new();
    for clients in [1, many] {
        while further.len() + 1 < clients {
            further.push(rig.pool.client()?);
        }
        clock::sleep(SETTLE);
        let rest = Rest::of(arbiter, options.seconds.max(LEAST_SECONDS))?;
        let own_kib = procfs::rss_anon_kib(arbiter).ok_or_else(gone)? as f64;
        memory.push(own_kib);
        report.add(Row {
            per_s: Some(rest.wakes_per_s),
            wanted: vec![Wanted::AtMost(Of::PerS, 2.0)],
            ..row(format!("wake-ups at rest, {clients} clients"), clients)
        });
        report.add(Row {
            value: Some(rest.busy_us_per_s),
            unit: "µs a s",
            ..row(format!("processor time at rest, {clients} clients"), clients)
        });
        report.add(Row {
            value: Some(own_kib),
            unit: "KiB",
            wanted: vec![Wanted::AtMost(Of::Value, BASE_KIB + CLIENT_KIB * clients as f64)],
            ..row(format!("memory of its own, {clients} clients"), clients)
        });
    }
    if many > 1 {
        report.add(Row {
            value: Some((memory[1] - memory[0]) / (many - 1) as f64),
            unit: "KiB",
            wanted: vec![Wanted::AtMost(Of::Value, CLIENT_KIB)],
            ..row("memory of its own, one more client".into(), many)
        });
    }
    drop(further);
    Ok(rig.stop()?)
}

/// What a process with one thread does while nobody wants anything of it.
struct Rest {
    wakes_per_s: f64,
    busy_us_per_s: f64,
}

impl Rest {
    /// Over a window that begins with a wake-up, so that it holds as many as there are periods in it.
    fn of(pid: u32, seconds: f64) -> Result<Rest> {
        let sleeps = || procfs::sleeps(pid).ok_or_else(gone);
        let first = sleeps()?;
        let start = clock::monotonic_ns();
        while sleeps()? == first {
            if clock::monotonic_ns() - start > GIVE_UP_NS {
                break; // it does not wake: that is what is then reported
            }
            clock::sleep(LOOK);
        }
        let (before, busy) = (sleeps()?, procfs::processor_time_ns(pid));
        let start = clock::monotonic_ns();
        clock::sleep(Duration::from_secs_f64(seconds));
        let took = (clock::monotonic_ns() - start) as f64 / 1e9;
        let wakes_per_s = (sleeps()? - before) as f64 / took;
        let busy_us_per_s = (procfs::processor_time_ns(pid) - busy) as f64 / 1e3 / took;
        Ok(Rest { wakes_per_s, busy_us_per_s })
    }
}

fn gone() -> Error {
    Error::bad_request("the arbiter is gone")
}
