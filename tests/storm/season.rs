//! One pool from its start to its end, and what is done to it.

use super::app::Storm;
use super::client;
use super::guard::{PoolGuard, some, until};
use super::harness::Kid;
use super::journal::{Event, Journal, Record, pack};
use super::law::{CONTEXT, STREAM};
use super::plan::{Action, End, Role, Season, Step};
use super::proc;
use super::rest::{at_rest, list, number};
use super::totals;
use super::weather::GRACE;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use std::{fs, thread};
use stokehold::internals::client::Options;
use stokehold::internals::sys::process::{self, ExitStatus, Pid};
use stokehold::internals::sys::signal::Signal;
use stokehold::internals::sys::{clock, pidfd};
use stokehold::{Builder, Pool, Value};

pub const PATH: &str = "d/pool.sock";
pub const WORKERS: usize = 4;
const CLIENTS: usize = 3;
/// What a client may have that has little: less than the first region that it would need beside its lane.
const QUOTA: u64 = 1 << 20;
/// Longer than anything takes; less where something was broken that never gets done.
fn hung() -> Duration {
    super::from_env("STOKEHOLD_STORM_PATIENCE_MS").map_or(Duration::from_secs(40), Duration::from_millis)
}

/// What was done, and to whom.
#[derive(Debug, Default)]
pub struct Done {
    pub strikes: BTreeMap<(Role, Action), u64>,
    /// Steps for which there was nobody of their role.
    pub nobody: BTreeMap<Role, u64>,
    /// Processes that were struck to death, and were seen to be dead before their pool ended.
    pub deaths: u64,
    /// From a host's death until its arbiter was gone, with all that was the pool's, at most.
    pub orphaned: Duration,
}

impl Done {
    /// A storm that struck hardly anybody, nobody of a role, or nobody in one of its ways, shows nothing.
    pub fn is_armed(&self, wanted: u64) -> Result<(), String> {
        // Of a few, chance may spare more than the plan allows for.
        let least = if wanted < 1_000 { wanted * 3 / 4 } else { wanted };
        if self.deaths < least {
            return Err(format!("{} deaths where {wanted} were asked for", self.deaths));
        }
        if wanted < 1_000 {
            return Ok(());
        }
        let spared = |role: &&Role| !self.strikes.keys().any(|(struck, _)| struck == *role);
        if let Some(role) = Role::ALL.iter().find(spared) {
            return Err(format!("nobody struck {role:?}"));
        }
        // Those two are struck in other ways all the time, and to death at the end of a season.
        let lives = |role: &&Role| !self.strikes.keys().any(|(who, with)| who == *role && with.kills());
        if let Some(role) = [Role::Host, Role::Arbiter].iter().find(lives) {
            return Err(format!("nobody killed {role:?}"));
        }
        let unused = |action: &&Action| !self.strikes.keys().any(|(_, with)| with == *action);
        match Action::STRIKES.iter().find(unused) {
            Some(action) => Err(format!("nobody was struck with {action:?}")),
            None => Ok(()),
        }
    }
}

/// What is to be undone, and when.
struct Undo {
    at: Instant,
    pid: u32,
    action: Action,
    limit: libc::rlimit,
}

struct Storming<'s> {
    season: &'s Season,
    arbiter: u32,
    /// The arbiter, where it serves. Else it is its host's, which is the only client.
    server: Option<Kid>,
    clients: Vec<Kid>,
    /// Of the next client.
    number: u64,
    journal: Journal,
    /// As far as the journal was read.
    seen: usize,
    /// Which calls have items, which way, of which client process; and which worker has begun with them.
    streams: BTreeMap<u64, (u64, u32, Option<u32>)>,
    undo: Vec<Undo>,
    /// Who is to die.
    marked: BTreeMap<u32, OwnedFd>,
    done: &'s mut Done,
    complaints: Vec<String>,
}

/// A season: its journal, its arbiter, and what was wrong that is not in the journal.
pub fn run(season: &Season, guard: &mut PoolGuard, done: &mut Done) -> (Vec<Record>, u32, Vec<String>) {
    Journal::create();
    let journal = Journal::open();
    let process = Kid::new(|| {
        dies_of_segv();
        let ended = if season.has_host() {
            host(season)
        } else {
            process::new_session().unwrap(); // all that belongs to the pool is known by it
            pool(season).serve(PATH)
        };
        ended.inspect_err(|error| eprintln!("{error}")).is_err().into()
    });
    let (arbiter, server, clients) = if season.has_host() {
        let started = some("the host has its pool", || {
            journal.since(0).0.into_iter().find(|record| record.event == Event::Hosts)
        });
        (started.id as u32, None, vec![process])
    } else {
        (process.pid.as_raw() as u32, Some(process), Vec::new())
    };
    guard.adopt(arbiter);
    let mut storm = Storming {
        season,
        arbiter,
        server,
        clients,
        number: 1,
        journal,
        seen: 0,
        streams: BTreeMap::new(),
        undo: Vec::new(),
        marked: BTreeMap::new(),
        done,
        complaints: Vec::new(),
    };
    if !season.has_host() {
        some("the pool is up", || {
            storm.status().filter(|status| number(status, "workers_ready") == Ok(WORKERS as i64))
        });
    }
    for step in &season.steps {
        storm.let_clients_come();
        let end = Instant::now() + step.after;
        while Instant::now() < end {
            storm.undo(false);
            thread::sleep(step.after.min(Duration::from_millis(2)));
        }
        storm.strike(step);
        if storm.journal.is_nearly_full() {
            storm.complaints.push("the journal has no room for the rest of the plan".into());
            break;
        }
    }
    storm.let_clients_come();
    thread::sleep(season.rest);
    storm.end()
}

fn pool(season: &Season) -> Builder {
    let pool = Pool::builder().app::<Storm>().workers(WORKERS).threads(season.threads);
    let grace_ms = GRACE.as_millis() as u64;
    let pool = pool.restart_limit(10_000, 1_000).backoff_ms(1, 5).kill_grace_ms(200).stop_grace_ms(grace_ms);
    pool.stall_ms(30_000).keep_warm_ms(200)
}

/// A host with its pool, and two clients of its own.
fn host(season: &Season) -> stokehold::Result<()> {
    let pool = pool(season).start()?;
    let clients = [pool.client()?, pool.client()?];
    // From now on something may be done to it.
    Journal::ours().add(Event::Hosts, pool.arbiter_pid().into(), 0);
    thread::scope(|scope| {
        for (client, number) in clients.iter().zip(1..) {
            scope.spawn(move || client::call_on(client, number, season.seed));
        }
    });
    Journal::ours().add(Event::Left, 0, 0);
    Ok(())
}

impl Storming<'_> {
    fn status(&self) -> Option<Value> {
        stokehold::status(PATH).ok()
    }

    fn arbiter(&self) -> u32 {
        self.arbiter
    }

    /// In the place of those that are gone.
    fn let_clients_come(&mut self) {
        let (gone, alive): (Vec<Kid>, Vec<Kid>) =
            self.clients.drain(..).partition(|kid| pidfd::has_exited(kid.fd.as_fd()).unwrap_or(true));
        self.clients = alive;
        gone.into_iter().for_each(|kid| self.gone(kid));
        while self.clients.len() < CLIENTS && !self.season.has_host() {
            let (number, seed) = (self.number, self.season.seed);
            let has_little = self.season.squeezes && number % 4 == 3;
            self.number += 1;
            self.clients.push(Kid::new(|| {
                dies_of_segv();
                if !has_little {
                    return client::live(PATH, number, seed);
                }
                Journal::ours().add(Event::Struck, std::process::id().into(), Action::Quota as u64);
                client::live_with(PATH, number, seed, Options { quota: QUOTA, ..Options::default() })
            }));
        }
    }

    fn gone(&mut self, kid: Kid) {
        let pid = kid.pid.as_raw() as u64;
        self.journal.add(Event::Reaped, pid, pack(kid.end()));
    }

    /// Reads what has happened, to know who streams.
    fn catch_up(&mut self) {
        let (new, seen) = self.journal.since(self.seen);
        self.seen = seen;
        for record in new {
            match record.event {
                Event::Issued if matches!(record.value & 7, STREAM | CONTEXT) => {
                    self.streams.insert(record.id, (record.value & 7, record.pid, None));
                }
                Event::Begin => drop(self.streams.get_mut(&record.id).map(|with| with.2 = Some(record.pid))),
                Event::Outcome => drop(self.streams.remove(&record.id)),
                _ => {}
            }
        }
    }

    /// Of those who have a call with items begun.
    fn streaming(&mut self, whose: impl Fn(&(u64, u32, Option<u32>)) -> Option<u32>) -> Vec<u32> {
        self.catch_up();
        self.streams.values().filter(|with| with.2.is_some()).filter_map(whose).collect()
    }

    /// Those of a role, of a pool that nobody can ask.
    fn seen(&mut self, role: Role) -> Vec<u32> {
        let there = proc::session(self.arbiter()).into_iter().filter(|process| process.state != 'Z');
        let there: Vec<proc::Process> = there.collect();
        let arbiter = self.arbiter();
        let workers = there.iter().filter(|process| process.parent == arbiter).map(|process| process.pid);
        match role {
            Role::StreamingWorker => {
                let workers: Vec<u32> = workers.collect();
                self.streaming(|(.., worker)| worker.filter(|pid| workers.contains(pid)))
            }
            // The one that was started last, at best.
            Role::BootingWorker => workers.max().into_iter().collect(),
            _ => workers.collect(),
        }
    }

    /// Those of a role.
    fn candidates(&mut self, role: Role) -> Vec<u32> {
        match role {
            Role::Arbiter => return vec![self.arbiter()],
            Role::Grandchild => {
                let all = proc::session(self.arbiter()).into_iter();
                let all = all.filter(|process| process.name == "sleep" && process.state != 'Z');
                return all.map(|process| process.pid).collect();
            }
            Role::Host => return self.clients.iter().map(|kid| kid.pid.as_raw() as u32).collect(),
            _ if self.season.has_host() => return self.seen(role),
            _ => {}
        }
        let Some(status) = self.status() else { return Vec::new() };
        let workers = |wanted: &dyn Fn(&Value) -> bool| -> Vec<u32> {
            let all = list(&status, "workers").unwrap().iter().filter(|worker| wanted(worker));
            all.filter_map(|worker| worker.get("pid")?.as_int()).map(|pid| pid as u32).collect()
        };
        let is = |worker: &Value, state: &str| worker.get("state").and_then(Value::as_str) == Some(state);
        let ours: Vec<u32> = self.clients.iter().map(|kid| kid.pid.as_raw() as u32).collect();
        let clients = |calls: &str| -> Vec<u32> {
            let has =
                |client: &&Value| client.get("calls").is_some_and(|all| number(all, calls).unwrap() > 0);
            let all = list(&status, "clients").unwrap().iter().filter(has);
            let pids = all.filter_map(|client| client.get("pid")?.as_int()).map(|pid| pid as u32);
            pids.filter(|pid| ours.contains(pid)).collect()
        };
        match role {
            Role::IdleWorker => {
                workers(&|worker| is(worker, "ready") && number(worker, "running").unwrap() == 0)
            }
            Role::BusyWorker => {
                workers(&|worker| is(worker, "ready") && number(worker, "running").unwrap() > 0)
            }
            Role::BootingWorker => workers(&|worker| is(worker, "booting")),
            Role::StreamingWorker => {
                let ready = workers(&|worker| is(worker, "ready"));
                self.streaming(|(.., worker)| worker.filter(|pid| ready.contains(pid)))
            }
            Role::ClientStreaming | Role::ClientInContext => {
                let wanted = if role == Role::ClientStreaming { STREAM } else { CONTEXT };
                let is_wanted = |way: &u64, pid: &u32| *way == wanted && ours.contains(pid);
                self.streaming(|(way, client, _)| Some(*client).filter(|pid| is_wanted(way, pid)))
            }
            Role::ClientQueued => clients("queued"),
            Role::ClientRunning => clients("running"),
            Role::Grandchild | Role::Host | Role::Arbiter => unreachable!("asked of nobody"),
        }
    }

    fn strike(&mut self, step: &Step) {
        // A state that lasts for moments is waited for a little.
        let end = Instant::now() + Duration::from_millis(100);
        let mut candidates = self.candidates(step.role);
        while candidates.is_empty() && Instant::now() < end && step.role != Role::Grandchild {
            if step.role == Role::BootingWorker
                && let Some(other) = self.candidates(Role::IdleWorker).first()
            {
                self.act(*other, Action::Kill, step);
            }
            candidates = self.candidates(step.role);
        }
        candidates.sort_unstable();
        candidates.dedup();
        let pid = candidates.get(step.pick as usize % candidates.len().max(1));
        if !pid.is_some_and(|pid| self.act(*pid, step.action, step)) {
            *self.done.nobody.entry(step.role).or_default() += 1;
            return;
        }
        *self.done.strikes.entry((step.role, step.action)).or_default() += 1;
        if step.role == Role::Arbiter {
            // Nobody is asked anything meanwhile.
            thread::sleep(step.span);
            self.undo(true);
        }
    }

    /// `false` if it is there no more.
    fn act(&mut self, pid: u32, action: Action, step: &Step) -> bool {
        let Some(handle) = Pid::from_raw(pid as i32).and_then(|pid| pidfd::open(pid).ok()) else {
            return false;
        };
        // Not somebody who has its number now.
        let is_ours = proc::process(pid).is_some_and(|p| p.session == self.arbiter())
            || self.clients.iter().any(|kid| kid.pid.as_raw() as u32 == pid);
        if !is_ours || pidfd::has_exited(handle.as_fd()).unwrap_or(true) {
            return false;
        }
        self.journal.add(Event::Struck, u64::from(pid), action as u64);
        let mut undo = Undo {
            at: Instant::now() + step.span,
            pid,
            action,
            limit: libc::rlimit { rlim_cur: 0, rlim_max: 0 },
        };
        let signal = |signal| drop(pidfd::send_signal(handle.as_fd(), signal));
        match action {
            Action::Kill => signal(Signal::SIGKILL),
            Action::Segv => signal(Signal::SIGSEGV),
            Action::Exit => self.journal.ask_to_exit(pid),
            Action::Stop => {
                signal(Signal::SIGSTOP);
                self.undo.push(undo);
            }
            Action::Quota => return false, // of a client, from its start
            Action::NoFiles | Action::NoMemory => {
                if let Some(old) = limit(pid, action, None) {
                    undo.limit = old;
                    // Those that it has it may go on to poll.
                    let least = if action == Action::NoFiles { 8 } else { 0 };
                    limit(pid, action, Some(libc::rlimit { rlim_cur: least, ..old }));
                    self.undo.push(undo);
                }
            }
        }
        if action.kills() {
            self.marked.insert(pid, handle);
        }
        true
    }

    /// Whatever was for a while that is over.
    fn undo(&mut self, all: bool) {
        let now = Instant::now();
        let (due, later) = self.undo.drain(..).partition(|undo| all || undo.at <= now);
        self.undo = later;
        for Undo { pid, action, limit: old, .. } in due {
            match action {
                Action::Stop => super::guard::kill(pid, nix::sys::signal::Signal::SIGCONT),
                // What was squeezed twice has its first limit in the end: that is undone last.
                action => drop(limit(pid, action, Some(libc::rlimit { rlim_cur: old.rlim_max, ..old }))),
            }
        }
    }

    fn end(mut self) -> (Vec<Record>, u32, Vec<String>) {
        let arbiter = self.arbiter();
        if self.season.end == End::Calm {
            self.undo(true);
            self.journal.stop();
            self.wait_for_clients();
            self.count();
        }
        let dead = self.marked.values().filter(|marked| pidfd::has_exited(marked.as_fd()).unwrap_or(false));
        self.done.deaths += dead.count() as u64;
        let tell_to_close = |now: u64| {
            self.journal.add(Event::Closing, u64::from(arbiter), now);
            super::guard::kill(arbiter, nix::sys::signal::Signal::SIGTERM);
        };
        let mut struck = None;
        let wanted = match self.season.end {
            End::Calm | End::Closed(None) => {
                tell_to_close(0);
                ExitStatus::Exited(0)
            }
            End::Closed(Some(after)) => {
                tell_to_close(0);
                thread::sleep(after);
                tell_to_close(1);
                ExitStatus::Exited(0)
            }
            End::ArbiterKilled(action) => {
                self.journal.add(Event::Struck, u64::from(arbiter), action as u64);
                let signal = if action == Action::Kill { libc::SIGKILL } else { libc::SIGSEGV };
                super::guard::kill(arbiter, nix::sys::signal::Signal::try_from(signal).unwrap());
                struck = Some((Role::Arbiter, action));
                ExitStatus::Signaled(signal)
            }
            End::HostEnded(action) => {
                self.journal.add(Event::Closing, u64::from(arbiter), 1);
                let host = self.clients.first().map(|host| host.pid.as_raw() as u32);
                let step =
                    Step { after: Duration::ZERO, role: Role::Host, action, span: Duration::ZERO, pick: 0 };
                if host.is_some_and(|host| self.act(host, action, &step)) {
                    struck = Some((Role::Host, action));
                }
                ExitStatus::Exited(0)
            }
        };
        if let Some(struck) = struck {
            *self.done.strikes.entry(struck).or_default() += 1;
            self.done.deaths += 1;
        }
        self.undo(true);
        self.wait_for_clients();
        let since = Instant::now();
        let leader = arbiter;
        match self.server.take() {
            Some(server) => {
                let in_time = pidfd::wait_exited(server.fd.as_fd(), Some(hung())).unwrap();
                assert!(in_time, "the arbiter does not end");
                let status = server.end();
                if status != wanted {
                    self.complaints.push(format!("the arbiter ended with {status:?}"));
                }
            }
            // A15: it goes with its host, and everything with it.
            None => {
                until("nothing of a pool is left whose host is gone", || {
                    proc::session(leader).iter().all(|process| process.state == 'Z')
                });
                self.done.orphaned = self.done.orphaned.max(since.elapsed());
            }
        }
        let arbiter_killed = matches!(self.season.end, End::ArbiterKilled(_));
        // What apps started ends with their workers' group, which a dead arbiter does not kill: that is left to whoever
        // supervises it.
        let is_over = |process: &proc::Process| process.state == 'Z' || process.name == "sleep";
        until("no arbiter and no worker is left", || proc::session(leader).iter().all(is_over));
        if arbiter_killed {
            let left = proc::session(leader).into_iter().filter(|process| process.state != 'Z');
            left.for_each(|process| super::guard::kill(process.pid, nix::sys::signal::Signal::SIGKILL));
        }
        until("nothing of the pool is left", || {
            proc::session(leader).iter().all(|process| process.state == 'Z')
        });
        if arbiter_killed {
            fs::remove_dir_all("d").unwrap();
        }
        let _ = fs::remove_dir("d");
        let records = self.journal.since(0).0;
        (records, leader, self.complaints)
    }

    /// Those that live end by themselves.
    fn wait_for_clients(&mut self) {
        for kid in std::mem::take(&mut self.clients) {
            if let Err(why) = ends_within(&kid, hung()) {
                let doing = self.what_it_does(kid.pid.as_raw() as u32);
                self.complaints.push(format!("{why}: {doing}"));
                kid.kill();
            }
            self.gone(kid);
        }
    }

    /// Of one that does not end: its calls without an outcome, and what its threads ask of the kernel.
    fn what_it_does(&self, pid: u32) -> String {
        let mut open = BTreeMap::new();
        for record in self.journal.since(0).0.into_iter().filter(|record| record.pid == pid) {
            match record.event {
                Event::Issued => drop(open.insert(record.id, record)),
                Event::Outcome => drop(open.remove(&record.id)),
                _ => {}
            }
        }
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        let calls = tasks.map(|task| fs::read_to_string(task.path().join("syscall")).unwrap_or_default());
        let calls: Vec<String> = calls.collect();
        format!("now {}, {open:?}, {:?}, {calls:?}", clock::monotonic_ns(), proc::thread_states(pid))
    }

    /// The pool comes to rest.
    fn count(&mut self) {
        let end = Instant::now() + hung();
        loop {
            let status = self.status();
            let there = proc::session(self.arbiter());
            let rest = status.as_ref().ok_or_else(|| "C6: no status".to_owned());
            match rest.and_then(|status| at_rest(status, WORKERS, &there)) {
                Ok(()) => {
                    let (records, _) = self.journal.since(0);
                    let status = status.as_ref().unwrap_or_else(|| unreachable!("it was at rest"));
                    return self.complaints.extend(totals::check(&records, self.arbiter(), status));
                }
                Err(why) if Instant::now() > end => {
                    self.complaints.push(format!("{why}: {status:?}\n{there:?}"));
                    return;
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// Whoever has an outcome of each of its calls comes to its end.
pub fn ends_within(kid: &Kid, patience: Duration) -> Result<(), String> {
    match pidfd::wait_exited(kid.fd.as_fd(), Some(patience)).unwrap() {
        true => Ok(()),
        false => Err(format!("C8: client {} has a call without an outcome", kid.pid)),
    }
}

/// Rust's own handler would take the first SIGSEGV that is sent for a fault that comes again.
fn dies_of_segv() {
    // SAFETY: the default action runs nothing of ours.
    unsafe { libc::signal(libc::SIGSEGV, libc::SIG_DFL) };
}

/// What a process had, and has from now on.
fn limit(pid: u32, action: Action, new: Option<libc::rlimit>) -> Option<libc::rlimit> {
    let which = if action == Action::NoFiles { libc::RLIMIT_NOFILE } else { libc::RLIMIT_FSIZE };
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let new = new.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: two limits of ours, of which the first is read and the second written.
    let answer = unsafe { libc::prlimit(pid as i32, which, new, &mut old) };
    (answer == 0).then_some(old)
}
