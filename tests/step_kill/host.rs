//! The host of the pools whose arbiters are killed: a process of its own, for it waits while its arbiter is stepped.
//!
//! It goes round by round, as it is told over a socket: starts a pool, has calls in flight, says so; does what the arbiter is
//! to be stepped through, says so in the journal; and waits for what becomes of each call. The harness judges that. What a
//! pool may leave in its host, nothing, is looked at here.

use crate::app::{APP, Counter, Journal, LARGE, answer};
use crate::arbiters::{Act, Path};
use crate::scene::{DEADLINE_MS, PATIENCE, Wrong, mapped, own_descriptors, until};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;
use stokehold::internals::sys::process::{self, Fork, Pid};
use stokehold::internals::sys::{clock, pidfd, poll};
use stokehold::{Client, Kind, Mode, Options, Pending, Pool, Response};

/// The process, as the harness sees it. It dies with the harness.
#[derive(Debug)]
pub struct Host {
    socket: BufReader<UnixStream>,
    pub pid: u32,
}

/// A call, and what became of it; or something else that was asked for.
#[derive(Clone, Debug)]
pub struct End {
    /// What it was for.
    pub role: String,
    pub id: u64,
    /// How it ended, in a word.
    pub how: String,
    /// And in more.
    pub text: String,
}

const TWO_TICKS: Duration = Duration::from_millis(1100);

/// In the journal: the host is through with what it does, and waits.
pub const DONE: u64 = 1;
/// In the journal: its client has its calls in flight.
const THERE: u64 = 2;

impl Host {
    pub fn start(path: &Path, journal: &Journal) -> stokehold::Result<Host> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_read_timeout(Some(2 * PATIENCE))?;
        let parent = process::pid();
        match process::fork()? {
            Fork::Child => {
                drop(ours);
                let _ = process::die_with_parent(Signal::SIGKILL, parent);
                let mut life =
                    Life { path, journal, next: 0, descriptors: own_descriptors(), ends: Vec::new() };
                let served = life.serve(BufReader::new(theirs));
                process::exit_now(i32::from(served.is_err()))
            }
            Fork::Parent(pid) => Ok(Host { socket: BufReader::new(ours), pid: pid.as_raw() as u32 }),
        }
    }

    /// One more round, up to the calls that are in flight; the arbiter's number. Where it is the start that is stepped nothing
    /// has begun yet, and there is none.
    pub fn begin(&mut self) -> Result<Option<u32>, Wrong> {
        self.tell();
        let line = self.line()?;
        let number = line.strip_prefix("pid ").and_then(|n| n.parse().ok());
        let pid: u32 = number.ok_or_else(|| format!("the host could not begin: {line}"))?;
        Ok((pid != 0).then_some(pid))
    }

    /// Now it does what the arbiter is stepped through.
    pub fn tell(&mut self) {
        let _ = self.socket.get_mut().write_all(b"\n");
    }

    /// What became of everything.
    pub fn ends(&mut self) -> Result<Vec<End>, Wrong> {
        let mut ends = Vec::new();
        loop {
            let line = self.line()?;
            let mut fields = line.splitn(4, ' ').map(str::to_owned);
            match fields.next().as_deref() {
                Some("end") => return Ok(ends),
                Some("wrong") => return Err(format!("the host: {line}")),
                Some(role) => ends.push(End {
                    role: role.to_owned(),
                    id: fields.next().and_then(|id| id.parse().ok()).unwrap_or(0),
                    how: fields.next().unwrap_or_default(),
                    text: fields.next().unwrap_or_default(),
                }),
                None => {}
            }
        }
    }

    fn line(&mut self) -> Result<String, Wrong> {
        let mut line = String::new();
        match self.socket.read_line(&mut line) {
            Ok(0) => Err("the host ended".into()),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(format!("the host does not come to an end: {error}")),
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.pid as i32);
        let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(pid, None);
    }
}

/// The host's own side.
struct Life<'a> {
    path: &'a Path,
    journal: &'a Journal,
    next: u64,
    descriptors: usize,
    ends: Vec<String>,
}

/// A call that is waited for in the end.
struct Flying {
    role: &'static str,
    id: u64,
    pending: Pending,
}

impl Life<'_> {
    fn serve(&mut self, mut socket: BufReader<UnixStream>) -> std::io::Result<()> {
        let mut line = String::new();
        while socket.read_line(&mut line)? > 0 {
            if let Err(why) = self.round(&mut socket) {
                self.ends.push(format!("wrong {}", why.replace('\n', " / ")));
            }
            self.ends.push("end\n".into());
            let said = self.ends.join("\n");
            self.ends.clear();
            socket.get_mut().write_all(said.as_bytes())?;
        }
        Ok(())
    }

    fn round(&mut self, socket: &mut BufReader<UnixStream>) -> Result<(), String> {
        let done = match self.path.act {
            Act::BootMiddle | Act::Boot => self.boot(socket),
            _ => self.supervised(socket),
        };
        self.journal.set_stage(DONE);
        done?;
        self.nothing_is_left()
    }

    /// The pool comes about while its arbiter is stepped.
    fn boot(&mut self, socket: &mut BufReader<UnixStream>) -> Result<(), String> {
        next_line(socket, 0)?;
        let pool = match self.path.builder().start() {
            Ok(pool) => pool,
            Err(error) => {
                self.end("pool", 0, Err(error));
                return Ok(());
            }
        };
        if let Some(client) = self.client(&pool) {
            self.run(&client, "act");
        }
        self.journal.set_stage(DONE);
        match self.path.act {
            Act::BootMiddle => Ok(()), // its arbiter lives
            // Where there is none of this number, it is gone already.
            _ => handle(pool.arbiter_pid()).map_or(Ok(()), |arbiter| gone(&arbiter)),
        }
    }

    /// A pool that is there, and calls in flight.
    fn supervised(&mut self, socket: &mut BufReader<UnixStream>) -> Result<(), String> {
        let pool = self.path.builder().start().map_err(|e| format!("the pool does not start: {e}"))?;
        let client = pool.client().map_err(|e| format!("the first client: {e}"))?;
        let mut flying = Vec::new();
        let held = self.id();
        self.journal.hold(held);
        self.begin(&client, "hold", "held", held, &mut flying)?;
        if self.path.workers == 1 {
            let behind = self.id();
            flying.push(submit(&client, "run", "behind", behind, DEADLINE_MS)?);
        } else {
            // So that the other worker has met this client.
            self.run(&client, "warm");
        }
        let other = if self.path.act == Act::ClientDies { Some(self.other_client(&pool)?) } else { None };
        let workers = client.worker_pids();
        let arbiter = handle(pool.arbiter_pid())?;
        next_line(socket, pool.arbiter_pid())?;
        match self.path.act {
            Act::Tick => drop(pidfd::wait_exited(arbiter.as_fd(), Some(TWO_TICKS))),
            Act::WorkerDies | Act::Orphan => {
                kill(workers[0]);
                if self.path.act == Act::WorkerDies {
                    self.run(&client, "act");
                }
            }
            Act::ClientDies => {
                let pid = other.ok_or("no client")?;
                kill(pid);
                let _ = nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid as i32), None);
                self.run(&client, "act");
            }
            Act::Join => self.join(&pool),
            Act::Grow => self.grow(&client),
            Act::Late => {
                self.journal.release();
                let id = self.id();
                // Time enough to begin in, on any machine but the busiest.
                let late = submit(&client, "deaf", "late", id, 100)?;
                self.end("late", id, late.pending.wait());
                self.run(&client, "act");
            }
            Act::GiveUp => {
                self.journal.release();
                let id = self.id();
                let given_up = submit(&client, "deaf", "given-up", id, DEADLINE_MS)?;
                // Nobody comes any more where the arbiter is dead already.
                let _ = until(|| {
                    let gone = pidfd::has_exited(arbiter.as_fd()).unwrap_or(true);
                    (gone || self.journal.runs(id) == 1).then_some(())
                });
                self.end("given-up", id, given_up.pending.cancel());
                self.run(&client, "act");
            }
            // What was published before the end is fetched yet.
            Act::Stop => std::thread::scope(|scope| {
                let stop = scope.spawn(|| pool.stop());
                clock::sleep(Duration::from_millis(3));
                self.journal.release();
                for Flying { role, id, pending } in flying.drain(..) {
                    self.end(role, id, pending.wait());
                }
                stop.join().map_err(|_| "a panic".to_owned())?.map_err(|e| format!("stop: {e}"))
            })?,
            Act::StopNow => pool.kill().map_err(|e| format!("kill: {e}"))?,
            Act::BootMiddle | Act::Boot => {}
        }
        self.journal.set_stage(DONE);
        for Flying { role, id, pending } in flying {
            self.end(role, id, pending.wait());
        }
        gone(&arbiter)?;
        // Whoever asks afterwards hears the same, at once.
        let late = client.call(APP, "run").args((0,)).deadline_ms(DEADLINE_MS).execute();
        self.end("after", 0, late);
        Ok(())
    }

    /// One more client, everything that it is given, and its end.
    fn join(&mut self, pool: &Pool) {
        let Some(client) = self.client(pool) else { return };
        self.run(&client, "act");
        let id = self.id();
        let call = client.call(APP, "run").args((id as i64,)).deadline_ms(DEADLINE_MS);
        // By its descriptor, which the worker fetches.
        let Ok(completions) = client.completions() else { return };
        if let Err(error) = call.submit_to(&completions, 0) {
            return self.end("act", id, Err(error));
        }
        let outcome = until(|| {
            let done = completions.next_completion();
            if done.is_none() {
                let _ = poll::readable(completions.as_fd(), Some(PATIENCE));
            }
            done
        });
        match outcome {
            Some(done) => self.end("act", id, done.outcome),
            None => self.ends.push(format!("act {id} lost")),
        }
        // The worker becomes a client.
        let id = self.id();
        let inner = self.id();
        let call = client.call(APP, "ask").args((id as i64, inner as i64)).deadline_ms(DEADLINE_MS);
        let outcome = call.execute();
        self.asked(id, inner, outcome);
    }

    /// Memory on both sides that was not there before, and back.
    fn grow(&mut self, client: &Client) {
        let id = self.id();
        let lease = match client.lease(LARGE) {
            Ok(lease) => lease,
            Err(error) => return self.end("memory", id, Err(error)),
        };
        let call = client.call(APP, "large").args((id as i64, &lease)).deadline_ms(DEADLINE_MS);
        match call.execute() {
            Ok(response) => {
                let is_right = response
                    .as_bytes()
                    .is_ok_and(|bytes| bytes.len() == LARGE && bytes[..8] == answer(id).to_le_bytes());
                self.ends.push(format!("act {id} {}", if is_right { "ok" } else { "wrong-bytes" }));
            }
            Err(error) => self.end("act", id, Err(error)),
        }
        drop(lease);
        client.trim();
        self.run(client, "act");
    }

    fn client(&mut self, pool: &Pool) -> Option<Client> {
        match pool.client() {
            Ok(client) => Some(client),
            Err(error) => {
                self.end("client", 0, Err(error));
                None
            }
        }
    }

    /// A client in a process of its own, with one call that runs and one that waits. All workers are busy then.
    fn other_client(&mut self, pool: &Pool) -> Result<u32, String> {
        let socket = pool.client_socket().map_err(|e| e.to_string())?;
        let (runs, behind) = (self.id(), self.id());
        let parent = process::pid();
        let pid = match process::fork().map_err(|e| e.to_string())? {
            Fork::Parent(pid) => pid.as_raw() as u32,
            Fork::Child => {
                let _ = process::die_with_parent(Signal::SIGKILL, parent);
                let options = Options { mode: Mode::Park, ..Options::default() };
                let live = || -> Result<(), String> {
                    let client = Client::connect(socket, options).map_err(|e| e.to_string())?;
                    let mut flying = Vec::new();
                    self.begin(&client, "heed", "dead", runs, &mut flying)?;
                    flying.push(submit(&client, "run", "dead", behind, DEADLINE_MS)?);
                    self.journal.set_stage(THERE);
                    clock::sleep(2 * PATIENCE);
                    Ok(())
                };
                process::exit_now(i32::from(live().is_err()))
            }
        };
        until(|| (self.journal.stage() == THERE).then_some(())).ok_or("the other client is not there")?;
        self.ends.push(format!("dead {runs} dead"));
        self.ends.push(format!("dead {behind} dead"));
        Ok(pid)
    }

    /// A call that a worker has begun with.
    fn begin(
        &self,
        client: &Client,
        action: &'static str,
        role: &'static str,
        id: u64,
        flying: &mut Vec<Flying>,
    ) -> Result<(), String> {
        flying.push(submit(client, action, role, id, DEADLINE_MS)?);
        until(|| (self.journal.runs(id) == 1).then_some(())).ok_or(format!("no worker begins with {role}"))
    }

    /// One call, and its outcome.
    fn run(&mut self, client: &Client, role: &'static str) {
        let id = self.id();
        let outcome = client.call(APP, "run").args((id as i64,)).deadline_ms(DEADLINE_MS).execute();
        self.end(role, id, outcome);
    }

    fn asked(&mut self, id: u64, inner: u64, outcome: stokehold::Result<Response>) {
        let right = outcome.as_ref().ok().and_then(|r| r.parse::<i64>().ok()) == Some(answer(inner));
        match outcome {
            Ok(_) => self.ends.push(format!("act {id} {}", if right { "ok" } else { "wrong-number" })),
            Err(error) => self.end("ask", id, Err(error)),
        }
        self.ends.push(format!("inner {inner} inner"));
    }

    fn end(&mut self, role: &'static str, id: u64, outcome: stokehold::Result<Response>) {
        let (how, text) = match outcome.and_then(|response| response.parse::<i64>()) {
            Ok(number) if number == answer(id) => ("ok", String::new()),
            Ok(number) => ("wrong-number", number.to_string()),
            Err(error) => {
                let sign = |started: bool, with: &'static str, without: &'static str| {
                    if started { with } else { without }
                };
                let how = match *error.kind() {
                    Kind::ArbiterDied { started } => sign(started, "arbiter+", "arbiter-"),
                    Kind::WorkerDied { started, .. } => sign(started, "died+", "died-"),
                    Kind::Deadline { started, .. } => sign(started, "deadline+", "deadline-"),
                    Kind::Cancelled { started, .. } => sign(started, "cancelled+", "cancelled-"),
                    Kind::ShuttingDown => "shutting",
                    Kind::Start(_) => "start",
                    Kind::App(_) => "app",
                    _ => "other",
                };
                (how, error.to_string().replace('\n', " / "))
            }
        };
        self.ends.push(format!("{role} {id} {how} {text}"));
    }

    /// No descriptor, no mapping, no child.
    fn nothing_is_left(&self) -> Result<(), String> {
        let (mappings, descriptors) =
            (mapped(process::pid().as_raw() as u32, "memfd:stokehold"), own_descriptors());
        if mappings > 0 || descriptors != self.descriptors {
            return Err(format!(
                "{mappings} mappings are left, and {descriptors} descriptors where there were {}",
                self.descriptors
            ));
        }
        match nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            Err(nix::errno::Errno::ECHILD) => Ok(()),
            other => Err(format!("a child is left: {other:?}")),
        }
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn submit(
    client: &Client,
    action: &'static str,
    role: &'static str,
    id: u64,
    ms: u64,
) -> Result<Flying, String> {
    let call = client.call(APP, action).args((id as i64,)).deadline_ms(ms);
    let pending = call.submit().map_err(|e| format!("{role}: {e}"))?;
    Ok(Flying { role, id, pending })
}

/// Says how far it is, and waits until it is to go on.
fn next_line(socket: &mut BufReader<UnixStream>, pid: u32) -> Result<(), String> {
    socket.get_mut().write_all(format!("pid {pid}\n").as_bytes()).map_err(|e| e.to_string())?;
    socket.read_line(&mut String::new()).map(drop).map_err(|e| e.to_string())
}

/// Waits for the arbiter's death.
fn gone(arbiter: &OwnedFd) -> Result<(), String> {
    match pidfd::wait_exited(arbiter.as_fd(), Some(PATIENCE)) {
        Ok(true) => Ok(()),
        other => Err(format!("the arbiter lives on: {other:?}")),
    }
}

fn handle(pid: u32) -> Result<OwnedFd, String> {
    let pid = Pid::from_raw(pid as i32).ok_or("no arbiter")?;
    pidfd::open(pid).map_err(|e| e.to_string())
}

fn kill(pid: u32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), Signal::SIGKILL);
}

impl Path {
    /// The pool.
    pub fn builder(&self) -> stokehold::Builder {
        let patient = PATIENCE.as_millis() as u64;
        let builder = Pool::builder()
            .app::<Counter>()
            .workers(self.workers)
            .wait(Mode::Park)
            .restart_limit(10_000, 1)
            .backoff_ms(1, 1)
            .kill_grace_ms(patient);
        match self.act {
            Act::Late => builder.kill_grace_ms(1),
            Act::GiveUp => builder
                .cancel_signal(Signal::SIGUSR1 as i32)
                .cancel_grace_ms(0)
                .signal_grace_ms(1)
                .kill_grace_ms(1),
            _ => builder,
        }
    }
}
