//! A pool that is served, with clients that make calls of all kinds, until it is closed or its arbiter is gone.

use super::app::Storm;
use super::client;
use super::guard::{PoolGuard, kill, some, until};
use super::harness::Kid;
use super::journal::{Event, Journal, Record, pack};
use super::judge::KILL;
use super::proc;
use super::rest::{at_rest, number};
use nix::sys::signal::Signal;
use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use stokehold::internals::sys::pidfd;
use stokehold::internals::sys::process::{self, ExitStatus};
use stokehold::{Client, Options, Pool, Value};

pub const PATH: &str = "d/pool.sock";
const WORKERS: usize = 3;
/// Of each worker. Without one of them there are still more than calls that wait for calls.
const THREADS: usize = 3;
/// Longer than anything takes.
pub const HUNG: Duration = Duration::from_secs(40);

pub struct Served {
    server: Kid,
    workers: usize,
    pub journal: Journal,
    pub clients: Vec<Kid>,
    /// Of the next client.
    number: u64,
    /// As far as the journal was read.
    seen: usize,
    pub complaints: Vec<String>,
}

impl Served {
    /// With a fresh journal, and no client yet.
    pub fn start(guard: &mut PoolGuard) -> Served {
        Served::start_with(guard, WORKERS, THREADS)
    }

    /// With so many workers, of so many threads.
    pub fn start_with(guard: &mut PoolGuard, workers: usize, threads: usize) -> Served {
        Journal::create();
        let server = Kid::new(|| {
            process::new_session().unwrap(); // all that belongs to the pool is known by it
            let pool = Pool::builder().app::<Storm>().workers(workers).threads(threads);
            let pool = pool.restart_limit(10_000, 1_000).backoff_ms(1, 5).kill_grace_ms(200);
            match pool.stop_grace_ms(5_000).stall_ms(30_000).keep_warm_ms(200).serve(PATH) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("{error}");
                    1
                }
            }
        });
        guard.adopt(server.pid.as_raw() as u32);
        let journal = Journal::open();
        let (clients, complaints) = (Vec::new(), Vec::new());
        let served = Served { server, workers, journal, clients, number: 1, seen: 0, complaints };
        some("the pool is up", || {
            stokehold::status(PATH)
                .ok()
                .filter(|status| number(status, "workers_ready") == Ok(workers as i64))
        });
        served
    }

    pub fn arbiter(&self) -> u32 {
        self.server.pid.as_raw() as u32
    }

    pub fn has_client(&self, pid: u32) -> bool {
        self.clients.iter().any(|kid| kid.pid.as_raw() as u32 == pid)
    }

    /// One more.
    pub fn join(&mut self) {
        let number = self.number;
        self.number += 1;
        self.clients.push(Kid::new(|| client::live(PATH, number, number)));
    }

    /// In the place of those that are gone.
    pub fn let_clients_come(&mut self, wanted: usize) {
        let all = std::mem::take(&mut self.clients);
        for kid in all {
            match pidfd::has_exited(kid.fd.as_fd()).unwrap_or(true) {
                true => self.gone(kid),
                false => self.clients.push(kid),
            }
        }
        while self.clients.len() < wanted {
            self.join();
        }
    }

    pub fn gone(&mut self, kid: Kid) {
        let pid = kid.pid.as_raw() as u64;
        self.journal.add(Event::Reaped, pid, pack(kid.end()));
    }

    /// Calls that went well since the last look, of other clients than this process.
    pub fn went_well(&mut self, victim: u32) -> usize {
        let (records, seen) = self.journal.since(self.seen);
        self.seen = seen;
        let well = |record: &&Record| {
            record.event == Event::Outcome && record.value as u16 == 0 && record.pid != victim
        };
        records.iter().filter(well).count()
    }

    /// One that comes only to go again.
    pub fn be_visited(&mut self) {
        self.clients.push(Kid::new(|| match Client::connect_path(PATH, Options::default()) {
            Ok(client) => {
                drop(client);
                Journal::ours().add(Event::Left, 0, 0);
                0
            }
            Err(_) => client::UNCONNECTED,
        }));
    }

    pub fn kill_a_worker(&self) {
        if let Some(pid) = self.workers().into_iter().max() {
            self.kill(pid);
        }
    }

    /// Those that live. The arbiter is not asked: it may be the one that is to come to a point.
    pub fn workers(&self) -> Vec<u32> {
        let there = proc::session(self.arbiter()).into_iter();
        let workers = there.filter(|process| process.parent == self.arbiter() && process.state != 'Z');
        workers.map(|process| process.pid).collect()
    }

    pub fn kill_a_client(&self) {
        if let Some(kid) = self.clients.first() {
            self.kill(kid.pid.as_raw() as u32);
        }
    }

    pub fn kill(&self, pid: u32) {
        self.journal.add(Event::Struck, pid.into(), KILL);
        kill(pid, Signal::SIGKILL);
    }

    /// It is told to end.
    pub fn close(&self) {
        self.journal.add(Event::Closing, self.arbiter().into(), 0);
        kill(self.arbiter(), Signal::SIGTERM);
    }

    /// All that is asked has an outcome, and those who asked go.
    pub fn let_clients_go(&mut self) {
        self.journal.stop();
        for kid in std::mem::take(&mut self.clients) {
            if !pidfd::wait_exited(kid.fd.as_fd(), Some(HUNG)).unwrap() {
                self.complaints.push(format!("C8: client {} has a call without an outcome", kid.pid));
                kid.kill();
            }
            self.gone(kid);
        }
    }

    /// C6.
    pub fn come_to_rest(&mut self) {
        let end = Instant::now() + HUNG;
        loop {
            let status = stokehold::status(PATH);
            let there = proc::session(self.arbiter());
            let rest = status.as_ref().map_err(|error| format!("C6: no status: {error}"));
            match rest.and_then(|status: &Value| at_rest(status, self.workers, &there)) {
                Ok(()) => return,
                Err(why) if Instant::now() > end => {
                    self.complaints.push(format!("{why}: {status:?}\n{there:?}"));
                    return;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The arbiter ends, of what was done to it or as it was told, and nothing is left. What everybody wrote down, and what
    /// was wrong besides.
    pub fn end(mut self, wanted: ExitStatus) -> (Vec<Record>, u32, Vec<String>) {
        let arbiter = self.arbiter();
        if !pidfd::wait_exited(self.server.fd.as_fd(), Some(HUNG)).unwrap() {
            self.complaints.push("the arbiter does not end".into());
            self.server.kill();
        }
        let status = self.server.end();
        if status != wanted {
            self.complaints.push(format!("the arbiter ended with {status}, not {wanted}"));
        }
        // What apps started is theirs, and outlives an arbiter that was killed.
        let of_an_app = |process: &proc::Process| process.state == 'Z' || process.name == "sleep";
        until("no arbiter and no worker is left", || proc::session(arbiter).iter().all(of_an_app));
        let left = proc::session(arbiter).into_iter().filter(|process| process.state != 'Z');
        left.for_each(|process| kill(process.pid, Signal::SIGKILL));
        until("nothing is left", || proc::session(arbiter).iter().all(|process| process.state == 'Z'));
        let _ = fs::remove_dir_all("d");
        (self.journal.since(0).0, arbiter, self.complaints)
    }
}
