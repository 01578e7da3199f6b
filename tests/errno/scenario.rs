//! The life of a pool, as its host sees it, in phases. What fails is told; after each phase the pool, or else a new one, must
//! work, for the fault is over by then.

use super::app::Errno;
use super::marks::{Mark, Phase, tell};
use super::proc;
use std::process;
use std::time::{Duration, Instant};
use stokehold::internals::sys::{clock, process as sys};
use stokehold::{App, Builder, Client, Code, Context, Error, Pool, Response, Result, Stream};

/// The environment variable that says which of these it is to be.
pub const ROLE: &str = "STOKEHOLD_TEST_ERRNO";
/// The whole life of a pool.
pub const LIFE: &str = "life";
/// A worker dies, and for a while there is to be none in its place.
pub const FORKS: &str = "forks";

/// How long a pool may take until it works again; it has until then whatever it costs to start one.
const PATIENCE: Duration = Duration::from_secs(20);
const LARGE: usize = 1_000_000;

/// The host, the pool that it has at the moment, and the numbers of its calls.
struct Host {
    pool: Option<(Pool, Client)>,
    next: i64,
}

/// Runs it. The exit status says nothing; the marks do.
pub fn run() -> ! {
    let descriptors = proc::descriptors(process::id());
    let mut host = Host { pool: None, next: 1000 };
    if std::env::var(ROLE).as_deref() == Ok(FORKS) {
        host.forks();
        tell(Mark::Through, 0, 0, "");
        sys::exit_now(0)
    }
    host.phase(Phase::Start, Host::start);
    host.phase(Phase::Call, Host::calls);
    host.phase(Phase::Large, Host::large);
    host.phase(Phase::Stream, Host::streams);
    host.phase(Phase::Death, Host::death);
    let injected = host.phase(Phase::Shutdown, Host::shutdown);
    if injected > 0 {
        host.works(); // a pool of its own
        host.shutdown();
    }
    let now = proc::descriptors(process::id());
    if now != descriptors {
        complain(&format!("descriptors are left: {now:?}, were {descriptors:?}"));
    }
    let mapped = proc::mappings(process::id());
    if !mapped.is_empty() {
        complain(&format!("mappings are left: {mapped:?}"));
    }
    tell(Mark::Through, 0, 0, "");
    sys::exit_now(0)
}

impl Host {
    /// Runs a phase; then, if a fault was injected by now, proves that it left no damage.
    fn phase(&mut self, phase: Phase, run: impl FnOnce(&mut Host)) -> i64 {
        tell(Mark::Phase, phase as u64, 0, "");
        run(self);
        let injected = tell(Mark::Phase, Phase::None as u64, 0, "");
        if injected > 0 && phase != Phase::Shutdown {
            self.works();
        }
        injected
    }

    fn forks(&mut self) {
        let builder = Pool::builder().app::<Errno>().workers(1);
        match join(builder.restart_limit(3, 10_000).backoff_ms(2, 40)) {
            Ok(pool) => self.pool = Some(pool),
            Err(error) => return refused("start", &error),
        }
        tell(Mark::Phase, Phase::Death as u64, 0, "");
        self.judge(|client, id| client.call(Errno::NAME, "die").args((id,)).execute().map(drop));
        // Until somebody comes, in which time some of these are to be told that nobody will.
        let until = Instant::now() + PATIENCE;
        let mut works = false;
        while !works && Instant::now() < until {
            self.judge(|client, id| add(client, id, 1).inspect(|()| works = true));
            clock::sleep(Duration::from_millis(2));
        }
        if !works {
            complain("no worker came any more");
        }
        self.shutdown();
    }

    fn start(&mut self) {
        match start() {
            Ok(pool) => self.pool = Some(pool),
            Err(error) => refused("start", &error),
        }
    }

    fn calls(&mut self) {
        for _ in 0..3 {
            self.judge(|client, id| add(client, id, 7));
        }
        // By the other way, and with a deadline.
        self.judge(|client, id| {
            let sum = client.call(Errno::NAME, "add").args((id, 9)).deadline_ms(10_000).submit()?.wait()?;
            same(sum.parse::<i64>()? == id + 9)
        });
    }

    fn large(&mut self) {
        let bytes = bytes();
        self.judge(|client, id| {
            let lease = client.lease_from(&bytes)?;
            let back = client.call(Errno::NAME, "echo").args((id, &lease)).execute()?;
            same(back.as_bytes()? == bytes)
        });
        // By copy, and one that has what it needs there already.
        for _ in 0..2 {
            self.judge(|client, id| {
                let back = client.call(Errno::NAME, "echo").args((id, &bytes[..])).execute()?;
                same(back.as_bytes()? == bytes)
            });
        }
        if let Some((_, client)) = &self.pool {
            client.trim();
        }
    }

    fn streams(&mut self) {
        self.judge(|client, id| {
            let mut stream = client.call(Errno::NAME, "count").args((id, 50)).stream()?;
            for at in 0..50 {
                same(next(&mut stream)?.parse::<i64>()? == id + at)?;
            }
            same(stream.wait()?.parse::<i64>()? == 50)
        });
        let bytes = bytes();
        self.judge(|client, id| {
            let mut context: Context = client.call(Errno::NAME, "dialog").args((id,)).context()?;
            for n in 0..5 {
                context.send(n)?;
                same(answer(&mut context)?.parse::<i64>()? == n + id)?;
            }
            context.send(&bytes[..])?;
            same(answer(&mut context)?.as_bytes()? == bytes)?;
            context.finish();
            same(context.wait()?.parse::<i64>()? == id)
        });
    }

    /// The worker dies in a call, and another takes its place.
    fn death(&mut self) {
        let Some((_, client)) = &self.pool else { return };
        let before = client.worker_pids();
        let id = self.next;
        self.judge(|client, id| match client.call(Errno::NAME, "die").args((id,)).execute() {
            Ok(_) => Err(Error::app("Alive", "it did not die")),
            Err(error) => Err(error),
        });
        let Some((_, client)) = &self.pool else { return };
        debug_assert!(self.next > id);
        let until = Instant::now() + PATIENCE;
        while client.worker_pids().is_empty() || client.worker_pids() == before {
            if Instant::now() > until || add(client, 0, 0).is_err_and(|e| is_gone(&e)) {
                return; // the fault, perhaps; whoever asks whether it works again will say
            }
            clock::sleep(Duration::from_millis(1));
        }
        self.judge(|client, id| add(client, id, 3));
    }

    fn shutdown(&mut self) {
        let Some((pool, client)) = self.pool.take() else { return };
        drop(client);
        if let Err(error) = pool.stop() {
            refused("stop", &error);
            // It was not told, or could not be waited for. That is not for ever.
            if let Err(error) = pool.stop() {
                complain(&format!("the pool cannot be stopped: {}", text(&error)));
            }
        }
    }

    /// One call, whose outcome is told.
    fn judge(&mut self, call: impl FnOnce(&Client, i64) -> Result<()>) {
        let Some((_, client)) = &self.pool else { return };
        let id = self.next;
        self.next += 1000;
        match call(client, id) {
            Ok(()) => tell(Mark::Ok, id as u64, 0, ""),
            Err(error) => {
                let started = error.started().map_or(2, u64::from);
                tell(Mark::Failed, id as u64, started, &text(&error))
            }
        };
    }

    fn connect_again(&mut self) {
        if let Some((pool, client)) = &mut self.pool {
            match pool.client() {
                Ok(another) => *client = another,
                Err(error) if is_gone(&error) => self.pool = None,
                Err(_) => {}
            }
        }
    }

    /// Waits until a call goes through; of another pool, if this one is not to be had any more.
    fn works(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            if self.pool.is_none() {
                match start() {
                    Ok(pool) => self.pool = Some(pool),
                    Err(error) if Instant::now() > until => {
                        return complain(&format!("no pool can be started: {}", text(&error)));
                    }
                    Err(_) => {}
                }
            }
            if let Some((_, client)) = &self.pool {
                match add(client, 0, 1) {
                    Ok(()) => break,
                    Err(error) if is_gone(&error) => self.pool = None,
                    Err(error) if Instant::now() > until => {
                        return complain(&format!("the pool does not work: {}", text(&error)));
                    }
                    // One whose connection broke is of no more use, and says so; the pool is.
                    Err(error) if error.code() == Code::Protocol => self.connect_again(),
                    Err(_) => {}
                }
            }
            clock::sleep(Duration::from_millis(2));
        }
        tell(Mark::Works, 0, 0, "");
    }
}

fn start() -> Result<(Pool, Client)> {
    let builder = Pool::builder().app::<Errno>().workers(1).restart_limit(1000, 1000).backoff_ms(1, 5);
    join(builder.kill_grace_ms(200).stop_grace_ms(5_000))
}

fn join(builder: Builder) -> Result<(Pool, Client)> {
    let pool = builder.start()?;
    let client = pool.client()?;
    Ok((pool, client))
}

fn add(client: &Client, id: i64, n: i64) -> Result<()> {
    let sum = client.call(Errno::NAME, "add").args((id, n)).execute()?;
    same(sum.parse::<i64>()? == id + n)
}

fn next(stream: &mut Stream) -> Result<Response> {
    stream.next().unwrap_or_else(|| Err(Error::app("Short", "the stream ended too soon")))
}

fn answer(context: &mut Context) -> Result<Response> {
    context.next().unwrap_or_else(|| Err(Error::app("Short", "the dialog ended too soon")))
}

fn same(is: bool) -> Result<()> {
    if !is {
        complain("a result is another call's, or damaged");
    }
    Ok(())
}

/// Whether the pool is gone, with all that it had.
fn is_gone(error: &Error) -> bool {
    matches!(error.code(), Code::ArbiterDied | Code::ShuttingDown)
}

fn bytes() -> Vec<u8> {
    (0..LARGE).map(|at| (at * 7 % 251) as u8).collect()
}

fn text(error: &Error) -> String {
    format!("{:?}: {error}", error.code())
}

fn refused(what: &str, error: &Error) {
    tell(Mark::Refused, 0, 0, &format!("{what}: {}", text(error)));
}

fn complain(what: &str) {
    tell(Mark::Complaint, 0, 0, what);
}
