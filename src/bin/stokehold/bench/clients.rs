//! `bench clients`: what a call costs in a pool of many clients and workers, each of which has met each, beside the
//! same call in a pool as large that has one client. And what so many cost: time to connect, memory, descriptors.
//!
//! The many live in processes of a hundred each: one alone maps a region of each worker, and the kernel has a limit
//! on the mappings of a process. They are idle while the one that is measured calls.

use super::baseline::Kid;
use super::blocks::{Contender, Shape, interleave};
use super::options::Options;
use super::place::{Place, Placement};
use super::procfs;
use super::report::{Report, Row};
use super::rig::Rig;
use super::stats::{Series, median};
use super::wanted::{Of, Wanted};
use crate::demo::Demo;
use crate::failure::Failure;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stokehold::internals::sys::map::SharedWords;
use stokehold::internals::sys::{clock, fd};
use stokehold::{App, Client, Error, Result};

const CLIENTS: usize = 1_000;
const WORKERS: usize = 64;
/// Clients of one process.
const IN_A_PROCESS: usize = 100;
/// Descriptors that the arbiter has for each, and some.
const FDS_A_CLIENT: u64 = 5;
const FDS_A_WORKER: u64 = 8;
const FDS_BESIDE: u64 = 100;
/// How long a worker keeps a call at first, so that the next call goes to another.
const NAP_MS: u64 = 10;
const LONGEST_NAP_MS: u64 = 320;
const LOOK: Duration = Duration::from_millis(1);
const GIVE_UP_NS: u64 = 120_000_000_000;

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    let wait = options.wait.unwrap_or_default();
    let workers = options.workers.unwrap_or(WORKERS);
    let asked = options.clients.unwrap_or(CLIENTS);
    let (_, descriptors) = fd::raise_nofile()?;
    let room = descriptors.saturating_sub(FDS_A_WORKER * workers as u64 + FDS_BESIDE) / FDS_A_CLIENT;
    let clients = asked.min(room as usize);
    if clients < asked {
        report.skipped(
            &format!("clients {asked}"),
            &format!("{descriptors} descriptors a process are enough for {clients}"),
        );
    }
    if clients < 2 {
        return Ok(());
    }
    let Some(place) = Place::take(Placement::Free)? else { return Ok(()) };
    let alone = Rig::start(&place, wait, workers)?;
    meet_all(&alone.client, workers)?;
    let rig = Rig::start(&place, wait, workers)?;
    let before = Footprint::of(&rig)?;
    let mut processes = Vec::new();
    // The rig's own client is one of them, and the one that is measured.
    let mut left = clients - 1;
    while left > 0 {
        let count = left.min(IN_A_PROCESS);
        processes.push(Process::start(&rig, count, workers)?);
        left -= count;
    }
    meet_all(&rig.client, workers)?;
    let after = Footprint::of(&rig)?;

    let mut many = Echo { client: &rig.client, name: "many" };
    let mut one = Echo { client: &alone.client, name: "one client" };
    let series = interleave(&mut [&mut many, &mut one], Shape::SHORT, options.seconds)?;
    let row = |case: String| Row {
        bench: "clients",
        case,
        wait: Some(wait),
        placement: Some(Placement::Free),
        threads: Some(clients as u64),
        ..Row::default()
    };
    report.add(Row {
        bytes: Some(64),
        wanted: vec![Wanted::AtMost(Of::Ratio, 1.2)],
        ..row(format!("echo, {clients} clients, {workers} workers")).beside(
            &series[0],
            &format!("one client, {workers} workers"),
            &series[1],
        )
    });
    if let (Some(first), Some(last)) = (processes.first(), processes.last()) {
        let row = row(format!("connect, of the last {IN_A_PROCESS}"));
        report.add(row.beside(&last.connect, &format!("the first {IN_A_PROCESS}"), &first.connect));
    }
    let further = (clients - 1) as f64;
    let host = processes.first().map(|process| (process.own_kib, process.descriptors));
    for (case, value, unit) in [
        ("arbiter, memory of its own", Some(after.arbiter_kib), "KiB"),
        ("arbiter, memory a client", Some((after.arbiter_kib - before.arbiter_kib) / further), "KiB"),
        ("worker, memory a client", Some((after.worker_kib - before.worker_kib) / further), "KiB"),
        ("host, memory a client", host.map(|(kib, _)| kib), "KiB"),
        ("shared memory a client", Some((after.shared_kib - before.shared_kib) / further), "KiB"),
        ("arbiter, descriptors", Some(after.arbiter_fds), ""),
        ("worker, descriptors", Some(after.worker_fds), ""),
        ("host, descriptors a client", host.map(|(_, fds)| fds), ""),
        ("worker, mappings", Some(after.worker_maps), ""),
    ] {
        report.add(Row { value, unit, ..row(case.into()) });
    }
    alone.stop()?;
    rig.stop()?;
    Ok(())
}

/// Calls until every worker had one of this client's calls: each keeps its call for a moment, so that the others
/// take the rest.
fn meet_all(client: &Client, workers: usize) -> Result<()> {
    let mut met = BTreeSet::new();
    let mut nap = NAP_MS;
    while nap <= LONGEST_NAP_MS {
        let naps: Vec<_> =
            (0..workers).map(|_| client.call(Demo::NAME, "nap_ms").args((nap,)).submit()).collect();
        for pending in naps {
            let [who, _, _] = pending?.wait()?.parse::<[u64; 3]>()?;
            met.insert(who);
        }
        if met.len() == workers {
            return Ok(());
        }
        nap *= 2;
    }
    Err(Error::bad_request(format!("of {workers} workers only {} took a call of a client", met.len())))
}

/// 64 bytes there and back, checked.
struct Echo<'a> {
    client: &'a Client,
    name: &'static str,
}

impl Contender for Echo<'_> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn trip(&mut self) -> Result<()> {
        let bytes = [7u8; 64];
        let response = self.client.call(Demo::NAME, "echo").args((&bytes[..],)).execute()?;
        if response.as_bytes()? != bytes {
            return Err(Error::bad_request("an echo came back changed"));
        }
        Ok(())
    }
}

/// A process with clients, which have met all workers. It sleeps until it is killed.
struct Process {
    connect: Series,
    /// Memory and descriptors for each of its clients.
    own_kib: f64,
    descriptors: f64,
    _kid: Kid,
}

impl Process {
    fn start(rig: &Rig, count: usize, workers: usize) -> Result<Process> {
        let words = SharedWords::new(FIRST_TIME + count)?;
        let sockets = (0..count).map(|_| rig.pool.client_socket()).collect::<Result<Vec<_>>>()?;
        let kid = Kid::fork(|| {
            let connected = connect(&words, sockets, workers);
            if let Err(error) = &connected {
                eprintln!("stokehold: a process of clients: {error}");
            }
            words.u32(STATE).store(if connected.is_ok() { READY } else { FAILED }, Ordering::Release);
            loop {
                clock::sleep(Duration::from_secs(3_600));
            }
        })?;
        let start = clock::monotonic_ns();
        while words.u32(STATE).load(Ordering::Acquire) == 0 {
            if clock::monotonic_ns() - start > GIVE_UP_NS {
                return Err(Error::bad_request("a process of clients is not ready within 120 s"));
            }
            clock::sleep(LOOK);
        }
        if words.u32(STATE).load(Ordering::Relaxed) != READY {
            return Err(Error::bad_request("a process of clients failed"));
        }
        let mut connect = Series::default();
        let times = (0..count).map(|i| words.u32(FIRST_TIME + i).load(Ordering::Relaxed));
        connect.add(&mut times.collect());
        let each = |word: usize| f64::from(words.u32(word).load(Ordering::Relaxed)) / count as f64;
        Ok(Process { connect, own_kib: each(OWN_KIB), descriptors: each(DESCRIPTORS), _kid: kid })
    }
}

/// The life of such a process until it sleeps.
fn connect(words: &SharedWords, sockets: Vec<OwnedFd>, workers: usize) -> Result<()> {
    let own_kib = || procfs::rss_anon_kib(std::process::id()).unwrap_or_default();
    // The sockets are clients' descriptors already.
    let (kib, fds) = (own_kib(), fd::open_count()? - sockets.len());
    let mut clients = Vec::with_capacity(sockets.len());
    for (number, socket) in sockets.into_iter().enumerate() {
        let start = clock::monotonic_ns();
        clients.push(Client::connect(socket, stokehold::Options::default())?);
        let took = clock::monotonic_ns() - start;
        words.u32(FIRST_TIME + number).store(u32::try_from(took).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
    clients.iter().try_for_each(|client| meet_all(client, workers))?;
    words.u32(OWN_KIB).store((own_kib() - kib) as u32, Ordering::Relaxed);
    words.u32(DESCRIPTORS).store((fd::open_count()? - fds) as u32, Ordering::Relaxed);
    std::mem::forget(clients); // they stay connected while the process lives
    Ok(())
}

/// What the arbiter and the workers of a pool hold.
struct Footprint {
    arbiter_kib: f64,
    arbiter_fds: f64,
    worker_kib: f64,
    worker_fds: f64,
    worker_maps: f64,
    shared_kib: f64,
}

impl Footprint {
    /// Of workers the median.
    fn of(rig: &Rig) -> Result<Footprint> {
        let arbiter = rig.pool.arbiter_pid();
        let pids = rig.client.worker_pids();
        let gone = || Error::bad_request("a process of the pool is gone");
        let number = |number: Option<u64>| number.map(|number| number as f64).ok_or_else(gone);
        let middle = |of: fn(u32) -> Option<u64>| {
            let numbers = pids.iter().map(|&pid| number(of(pid))).collect::<Result<Vec<_>>>()?;
            median(numbers).ok_or_else(gone)
        };
        Ok(Footprint {
            arbiter_kib: number(procfs::rss_anon_kib(arbiter))?,
            arbiter_fds: number(procfs::descriptors(arbiter))?,
            worker_kib: middle(procfs::rss_anon_kib)?,
            worker_fds: middle(procfs::descriptors)?,
            worker_maps: middle(procfs::mappings)?,
            shared_kib: number(procfs::memfd_kib(arbiter))?,
        })
    }
}

// Of the words shared with a process of clients, a line each.
const STATE: usize = 0;
const OWN_KIB: usize = 1;
const DESCRIPTORS: usize = 2;
const FIRST_TIME: usize = 3;
const READY: u32 = 1;
const FAILED: u32 = 2;
