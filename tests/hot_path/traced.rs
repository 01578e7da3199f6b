//! The role of the program that makes the calls: rounds of 100,000 calls, with marks for strace around each, and a line
//! on standard output about the allocations in it.

use super::allocator;
use super::app::{Hot, mark, noise};
use super::harness::Skip;
use std::process::Command;
use std::time::{Duration, Instant};
use stokehold::{App, Client, Mode, Pool, Result};

/// The environment variable that asks for this role.
pub const ROLE: &str = "STOKEHOLD_TEST_HOT_PATH";
/// The round in which both sides make noise on purpose.
pub const ARMED: u32 = 0;

/// At least; more until one was not disturbed, and at most as many as fit into [`LONG_ENOUGH`].
const ROUNDS: u32 = 3;
const LONG_ENOUGH: Duration = Duration::from_secs(90);
/// A call that took longer was one whose thread, or its worker's, was off its processor. Less than after what a caller
/// looks whether the other side lives.
const DISTURBED: Duration = Duration::from_millis(10);
const CALLS: u64 = 100_000;
const WARM_UP: u64 = 5_000;

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

/// Makes the calls.
pub fn run() -> Result<()> {
    let pool = Pool::builder().app::<Hot>().wait(Mode::Spin).start()?;
    let client = pool.client()?;
    calls(&client, WARM_UP)?;
    round(&client, ARMED, || {
        noise();
        client.call(Hot::NAME, "noise").execute().map(drop)
    })?;
    let start = Instant::now();
    let mut undisturbed = false;
    let mut number = 1;
    while number <= ROUNDS || !undisturbed && start.elapsed() < LONG_ENOUGH {
        round(&client, number, || {
            undisturbed |= calls(&client, CALLS)? < DISTURBED;
            Ok(())
        })?;
        number += 1;
    }
    pool.shutdown()
}

/// Returns how long the longest took, or rather two of them.
fn calls(client: &Client, count: u64) -> Result<Duration> {
    let bytes = [7; 64];
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    for n in 0..count / 2 {
        let n = n as i64;
        let sum: i64 = client.call(Hot::NAME, "add").args((n, 1)).execute()?.parse()?;
        assert_eq!(sum, n + 1);
        assert_eq!(client.call(Hot::NAME, "echo").args((&bytes[..],)).execute()?.as_bytes()?, bytes);
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    Ok(longest)
}

fn round(client: &Client, number: u32, body: impl FnOnce() -> Result<()>) -> Result<()> {
    let (begin, end) = marks(number);
    let theirs = || client.call(Hot::NAME, "allocations").execute()?.parse::<u64>();
    // The marks of the worker lie outside of those of the host, and the counts outside of the marks.
    theirs()?;
    let worker = theirs()?;
    client.call(Hot::NAME, "mark").args((begin.as_str(),)).execute()?;
    mark(&begin);
    let host = allocator::count();
    body()?;
    let host = allocator::count() - host;
    mark(&end);
    client.call(Hot::NAME, "mark").args((end.as_str(),)).execute()?;
    let worker = theirs()? - worker;
    println!("round {number} {host} {worker}");
    Ok(())
}

/// The paths that are asked for at the beginning and at the end of a round.
pub fn marks(number: u32) -> (String, String) {
    (format!("/stokehold-mark-begin-{number}"), format!("/stokehold-mark-end-{number}"))
}

/// Runs the program in this role, and reads what it said.
pub fn rounds_of(command: &mut Command) -> std::result::Result<Vec<Round>, Skip> {
    let output = command.env(ROLE, "1").output().map_err(|e| Skip(format!("{command:?}: {e}")))?;
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
