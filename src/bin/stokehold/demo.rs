//! The built-in demo app, `stokehold.demo:Demo`: small actions to try a pool with, every way for a worker to go
//! wrong on purpose, and what the benchmarks need. It depends on nothing else of the program, so that tests can
//! include this file with `#[path]`.

use sha2::{Digest, Sha256};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use stokehold::internals::sys::{clock, cpu, process};
use stokehold::{App, Args, Ctx, Error, Reply, Result, ValueRef};

/// See the table in [`App::call`].
#[derive(Debug, Default)]
pub struct Demo {
    ballast: Mutex<Vec<Vec<u8>>>,
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

/// Small values come back in the record, bytes that are larger in a block that the caller reads in place.
fn echo(value: Option<ValueRef<'_>>, ctx: &Ctx) -> Result<Reply> {
    match value {
        Some(ValueRef::Bytes(bytes)) if bytes.len() > SMALL => Ok(ctx.lease_from(bytes)?.into()),
        Some(value) => Ok(Reply::new(&value)),
        None => Ok(Reply::from(())),
    }
}

const FILL: u8 = 7;
const LINE: usize = 64;
const SMALL: usize = 256;
