//! The role of the program that makes the calls: rounds of 100,000 calls, or items to the app and back, with marks for strace
//! around each, and a line on standard output about the allocations in it.

use super::allocator;
use super::app::{Hot, mark, noise};
use super::harness::Skip;
use std::process::Command;
use std::time::{Duration, Instant};
use stokehold::{App, Client, Context, Mode, Pool, Response, Result};

/// The environment variable that asks for this role.
pub const ROLE: &str = "STOKEHOLD_TEST_HOT_PATH";
/// The round in which both sides make noise on purpose.
pub const ARMED: u32 = 0;

/// At least; more until one was not disturbed, and at most as many as fit into [`LONG_ENOUGH`].
const ROUNDS: u32 = 3;
const LONG_ENOUGH: Duration = Duration::from_secs(40);
/// A call that took longer was one whose thread, or its worker's, was off its processor. Less than after what a caller
/// looks whether the other side lives.
const DISTURBED: Duration = Duration::from_millis(10);
const CALLS: u64 = 100_000;
const WARM_UP: u64 = 5_000;
const BYTES: [u8; 64] = [7; 64];

/// Events on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub host: u64,
    pub worker: u64,
}

/// What was counted in one round.
#[derive(Debug)]
pub struct Round {
    pub number: u32,
    pub allocations: Counts,
}

/// How this program reaches its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Calls,
    Context,
}

/// The worker's side of a round.
trait Worker {
    /// One round trip of a number and one of some bytes, checked.
    fn trips(&mut self, n: i64) -> Result<()>;
    fn allocations(&mut self) -> Result<u64>;
    fn mark(&mut self, path: &str) -> Result<()>;
    fn noise(&mut self) -> Result<()>;
}

impl Worker for Client {
    fn trips(&mut self, n: i64) -> Result<()> {
        let sum: i64 = self.call(Hot::NAME, "add").args((n, 1)).execute()?.parse()?;
        assert_eq!(sum, n + 1);
        assert_eq!(self.call(Hot::NAME, "echo").args((&BYTES[..],)).execute()?.as_bytes()?, BYTES);
        Ok(())
    }

    fn allocations(&mut self) -> Result<u64> {
        self.call(Hot::NAME, "allocations").execute()?.parse()
    }

    fn mark(&mut self, path: &str) -> Result<()> {
        self.call(Hot::NAME, "mark").args((path,)).execute().map(drop)
    }

    fn noise(&mut self) -> Result<()> {
        self.call(Hot::NAME, "noise").execute().map(drop)
    }
}

impl Worker for Context {
    fn trips(&mut self, n: i64) -> Result<()> {
        self.send(n)?;
        assert_eq!(item(self)?.parse::<i64>()?, n);
        self.send(&BYTES[..])?;
        assert_eq!(item(self)?.as_bytes()?, BYTES);
        Ok(())
    }

    fn allocations(&mut self) -> Result<u64> {
        self.send(("allocations", ""))?;
        item(self)?.parse()
    }

    fn mark(&mut self, path: &str) -> Result<()> {
        self.send(("mark", path))?;
        item(self).map(drop)
    }

    fn noise(&mut self) -> Result<()> {
        self.send(("noise", ""))?;
        item(self).map(drop)
    }
}

fn item(context: &mut Context) -> Result<Response> {
    context.next().expect("the app has not ended")
}

/// Makes the calls, or opens the context.
pub fn run(by: &str) -> Result<()> {
    let pool = Pool::builder().app::<Hot>().wait(Mode::Spin).start()?;
    let mut client = pool.client()?;
    if by == By::Calls.name() {
        rounds(&mut client)?;
    } else {
        let mut context = client.call(Hot::NAME, "dialog").context()?;
        rounds(&mut context)?;
        context.wait()?;
    }
    pool.shutdown()
}

fn rounds(worker: &mut impl Worker) -> Result<()> {
    trips(worker, WARM_UP)?;
    round(worker, ARMED, |worker| {
        noise();
        worker.noise()
    })?;
    let start = Instant::now();
    let mut undisturbed = false;
    let mut number = 1;
    while number <= ROUNDS || !undisturbed && start.elapsed() < LONG_ENOUGH {
        round(worker, number, |worker| {
            undisturbed |= trips(worker, CALLS)? < DISTURBED;
            Ok(())
        })?;
        number += 1;
    }
    Ok(())
}

/// Returns how long the longest took, or rather two of them.
fn trips(worker: &mut impl Worker, count: u64) -> Result<Duration> {
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    for n in 0..count / 2 {
        worker.trips(n as i64)?;
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    Ok(longest)
}

fn round<W: Worker>(worker: &mut W, number: u32, body: impl FnOnce(&mut W) -> Result<()>) -> Result<()> {
    let (begin, end) = marks(number);
    // The marks of the worker lie outside of those of the host, and the counts outside of the marks.
    worker.allocations()?;
    let theirs = worker.allocations()?;
    worker.mark(&begin)?;
    mark(&begin);
    let ours = allocator::count();
    body(worker)?;
    let ours = allocator::count() - ours;
    mark(&end);
    worker.mark(&end)?;
    let theirs = worker.allocations()? - theirs;
    println!("round {number} {ours} {theirs}");
    Ok(())
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Calls => "calls",
            By::Context => "context",
        }
    }
}

/// The paths that are asked for at the beginning and at the end of a round.
pub fn marks(number: u32) -> (String, String) {
    (format!("/stokehold-mark-begin-{number}"), format!("/stokehold-mark-end-{number}"))
}

/// Runs the program in this role, and reads what it said.
pub fn rounds_of(command: &mut Command, by: By) -> std::result::Result<Vec<Round>, Skip> {
    let output = command.env(ROLE, by.name()).output().map_err(|e| Skip(format!("{command:?}: {e}")))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{said}\n{complained}", output.status);
    let rounds: Vec<_> = said.lines().filter_map(parse).collect();
    assert!(rounds.len() >= 2, "{said}");
    Ok(rounds)
}

fn parse(line: &str) -> Option<Round> {
    let mut words = line.strip_prefix("round ")?.split(' ');
    let number = words.next()?.parse().ok()?;
    let host = words.next()?.parse().ok()?;
    let worker = words.next()?.parse().ok()?;
    Some(Round { number, allocations: Counts { host, worker } })
}
