//! The built-in demo app, `stokehold.demo:Demo`: small actions to try a pool with, every way for a worker to go
//! wrong on purpose, and what the benchmarks need. It depends on nothing else of the program, so that tests can
//! include this file with `#[path]`.

use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use stokehold::internals::sys::{clock, cpu, process};
use stokehold::{App, Args, Ctx, Error, Reply, Result, ValueRef};

/// See the table in [`App::call`].
#[derive(Debug, Default)]
pub struct Demo {
    ballast: Mutex<Vec<Vec<u8>>>,
    /// When the last app call that waited for it learnt that it was cancelled, monotonic nanoseconds.
    told_ns: AtomicU64,
}

impl App for Demo {
    const NAME: &'static str = "stokehold.demo:Demo";

    fn init(_: &Ctx) -> Result<Self> {
        Ok(Demo::default())
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "echo" => echo(args.first()?, ctx),
            "add" => {
                let (a, b): (i64, i64) = args.parse()?;
                Ok(Reply::from(a.wrapping_add(b)))
            }
            "digest" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(format!("{:x}", Sha256::digest(bytes))))
            }
            // `n` bytes back, built where the caller reads them.
            "fill" => {
                let (len,): (usize,) = args.parse()?;
                let mut out = ctx.lease(len)?;
                out.fill(FILL);
                Ok(out.into())
            }
            // `n` bytes back that nobody wrote: whatever was there before.
            "lend" => {
                let (len,): (usize,) = args.parse()?;
                Ok(ctx.lease(len)?.into())
            }
            // How many bytes came, without reading one of them.
            "len" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(bytes.len()))
            }
            // One byte of every cache line.
            "touch" => {
                let (bytes,): (&[u8],) = args.parse()?;
                Ok(Reply::from(touch_lines(bytes)))
            }
            "sleep_ms" => {
                let (ms,): (u64,) = args.parse()?;
                clock::sleep(Duration::from_millis(ms));
                Ok(Reply::from(ms))
            }
            // Who slept, from when to when.
            "nap_ms" => {
                let (ms,): (u64,) = args.parse()?;
                let began = clock::monotonic_ns();
                clock::sleep(Duration::from_millis(ms));
                Ok(Reply::from([u64::from(std::process::id()), began, clock::monotonic_ns()]))
            }
            "spin_ms" => {
                let (ms,): (u64,) = args.parse()?;
                let end = clock::monotonic_ns().saturating_add(ms.saturating_mul(1_000_000));
                while clock::monotonic_ns() < end {
                    std::hint::spin_loop();
                }
                Ok(Reply::from(ms))
            }
            // A stream of `n` words, one each so many milliseconds.
            "tokens" => {
                let (n, delay_ms): (u64, u64) = args.parse()?;
                let mut sink = ctx.sink()?;
                for at in 0..n {
                    if delay_ms > 0 && ctx.wait_cancelled(Duration::from_millis(delay_ms)) {
                        ctx.check_cancelled()?;
                    }
                    sink.send(WORDS[(at % WORDS.len() as u64) as usize])?;
                }
                Ok(Reply::end())
            }
            // What the opener sends, back to it; in the end how many items that were.
            "echo_context" => {
                let mut dialog = ctx.started("ready")?;
                let mut count = 0_u64;
                loop {
                    let Some(item) = dialog.recv()? else { break };
                    let value = item.value()?.to_owned()?;
                    drop(item); // its place is the opener's again
                    dialog.send(value)?;
                    count += 1;
                }
                Ok(Reply::from(count))
            }
            "pid" => Ok(Reply::from(std::process::id())),
            // Binds the app thread that runs this call to one processor.
            "pin" => {
                let (number,): (usize,) = args.parse()?;
                cpu::pin(&[number])?;
                Ok(Reply::from(number))
            }
            // Makes this worker's resident memory `n` bytes larger, for as long as it lives.
            "ballast" => {
                let (len,): (usize,) = args.parse()?;
                self.ballast.lock().unwrap_or_else(PoisonError::into_inner).push(vec![FILL; len]);
                Ok(Reply::from(len))
            }
            // A stream of the numbers from 0 to below `n`.
            "count" => {
                let (n,): (i64,) = args.parse()?;
                Ok(Reply::stream(0..n))
            }
            // A stream of `n` blocks of so many bytes, each copied into a lease, and its number before them.
            "blocks" => {
                let (n, len): (u64, usize) = args.parse()?;
                blocks(n, len, ctx)
            }
            // A stream of one item, and no end before it is cancelled.
            "until_cancelled" => {
                ctx.sink()?.send(())?;
                while !ctx.wait_cancelled(Duration::from_secs(60)) {}
                self.told_ns.store(clock::monotonic_ns(), Ordering::Relaxed);
                Err(ctx.error("Demo", "nobody waits for this"))
            }
            "told_ns" => Ok(Reply::from(self.told_ns.load(Ordering::Relaxed))),
            "fail" => {
                let said: Option<String> =
                    if args.is_empty() { None } else { Some(args.parse::<(String,)>()?.0) };
                Err(ctx.error("Demo", said.as_deref().unwrap_or("failed as asked")))
            }
            "panic" => panic!("panicked as asked"),
            "abort" => std::process::abort(),
            "exit" => {
                let status = if args.is_empty() { 0 } else { args.parse::<(i32,)>()?.0 };
                process::exit_now(status)
            }
            "segv" => process::segfault(),
            // Until somebody sends SIGCONT, which the arbiter does not: it kills it when the deadline has passed.
            "stop" => {
                process::stop_self()?;
                Ok(Reply::from("continued"))
            }
            other => Err(Error::no_action(other)),
        }
    }
}

/// Reads one byte of every cache line, and returns their sum. The benchmarks run the same function over memory of
/// their own.
#[inline(never)]
pub fn touch_lines(bytes: &[u8]) -> i64 {
    bytes.iter().step_by(LINE).fold(0, |sum, &byte| sum + i64::from(byte))
}

/// The number of a block, as its first bytes say it.
pub fn number_of(block: &[u8]) -> Option<u64> {
    block.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn blocks(n: u64, len: usize, ctx: &Ctx) -> Result<Reply> {
    let source = vec![FILL; len];
    let mut sink = ctx.sink()?;
    for number in 0..n {
        let mut block = ctx.lease_from(&source)?;
        if let Some(first) = block.first_chunk_mut() {
            *first = number.to_le_bytes();
        }
        sink.send(block)?;
    }
    Ok(Reply::end())
}

/// Small values come back in the record, bytes that are larger in a block that the caller reads in place.
fn echo(value: Option<ValueRef<'_>>, ctx: &Ctx) -> Result<Reply> {
    match value {
        Some(ValueRef::Bytes(bytes)) if bytes.len() > SMALL => Ok(ctx.lease_from(bytes)?.into()),
        Some(value) => Ok(Reply::new(&value)),
        None => Ok(Reply::from(())),
    }
}

const WORDS: [&str; 8] = ["coal", "on", "the", "fire", "and", "steam", "in", "the boiler"];
const FILL: u8 = 7;
const LINE: usize = 64;
const SMALL: usize = 256;
