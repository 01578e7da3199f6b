//! The actions of the fault tests' app that answer later, or take longer than they should and say so.

use crate::app::{begin, keyed, pattern};
use crate::obedient;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};
use stokehold::internals::sys::process as sys;
use stokehold::{Args, Ctx, Deferred, Error, Reply, Result};

/// Calls that wait to be answered by another call.
static KEPT: Mutex<Vec<(i64, Deferred)>> = Mutex::new(Vec::new());

/// No items, and it does not go quietly.
struct Bursts;

impl Iterator for Bursts {
    type Item = i64;

    fn next(&mut self) -> Option<i64> {
        None
    }
}

impl Drop for Bursts {
    fn drop(&mut self) {
        panic!("the boiler bursts");
    }
}

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    match action {
        "later" => {
            let (id, gate): (i64, String) = args.parse()?;
            begin(id);
            ctx.defer(move |later| {
                spawn(move || {
                    wait_at(&gate);
                    later.reply(id);
                });
            })
        }
        "later_at_once" => {
            let (id,): (i64,) = args.parse()?;
            ctx.defer(move |later| later.reply(id))
        }
        "later_fail" => {
            let (is_callers,): (bool,) = args.parse()?;
            ctx.defer(move |later| {
                later.fail(match is_callers {
                    true => Error::bad_request("not that coal"),
                    false => Error::app("Fire", "the boiler is out"),
                });
            })
        }
        "later_later" => {
            let again = ctx.defer(|_| unreachable!("it was never returned"))?;
            ctx.defer(move |later| later.reply(again))
        }
        // Answers with what is no answer, and whose drop panics; after an item of its own, or without.
        "later_bursts" => {
            let (streams,): (bool,) = args.parse()?;
            let bursts = Bursts;
            if streams {
                ctx.sink()?.send(1)?;
                return ctx.defer(move |_| drop(bursts));
            }
            ctx.defer(move |later| later.reply(Reply::stream(bursts)))
        }
        // What was lent, and what was copied: read again, later, elsewhere.
        "later_echo" => {
            let (id, _, _, gate): (i64, &[u8], &[u8], String) = args.parse()?;
            begin(id);
            ctx.defer(move |later| {
                spawn(move || {
                    wait_at(&gate);
                    let answer = || {
                        let (id, lent, copied, _): (i64, &[u8], &[u8], &str) = later.args()?.parse()?;
                        Ok(Reply::from((keyed(id, lent), copied)))
                    };
                    let answer = answer();
                    later.answer(answer);
                });
            })
        }
        "later_bytes" => {
            let (id, len): (i64, usize) = args.parse()?;
            ctx.defer(move |later| {
                spawn(move || {
                    let lease = later.lease_from(&pattern(id, len)).map(Reply::from);
                    later.answer(lease);
                });
            })
        }
        "later_drop" => ctx.defer(drop),
        "later_panic" => {
            let (elsewhere,): (bool,) = args.parse()?;
            let panics = |later: Deferred| {
                let _later = later;
                panic!("the ash is hot");
            };
            ctx.defer(move |later| match elsewhere {
                true => spawn(move || panics(later)),
                false => panics(later),
            })
        }
        "later_or_not" => {
            let _unused = ctx.defer(|later| later.reply(1))?;
            Err(ctx.error("Fire", "the boiler is out"))
        }
        "later_keep" => {
            let (id,): (i64,) = args.parse()?;
            let reply = ctx.defer(move |later| {
                kept().push((id, later));
                begin(id);
            })?;
            Ok(reply)
        }
        "answer_kept" => {
            let all = std::mem::take(&mut *kept());
            let count = all.len();
            all.into_iter().for_each(|(id, later)| later.reply(id));
            Ok(Reply::from(count))
        }
        "later_exit" => {
            let (status,): (i32,) = args.parse()?;
            ctx.defer(move |later| {
                spawn(move || {
                    let _later = later;
                    sys::exit_now(status)
                });
            })
        }
        "later_until_abandoned" => {
            let (id, _): (i64, &[u8]) = args.parse()?;
            begin(id);
            ctx.defer(|later| {
                spawn(move || {
                    while !later.is_cancelled() {
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            })
        }
        "later_alive" => {
            let (id, ms): (i64, u64) = args.parse()?;
            ctx.defer(move |later| {
                spawn(move || {
                    at_work(ms, || later.keep_alive(), || later.is_cancelled());
                    later.reply(id);
                });
            })
        }
        "alive" => {
            let (id, ms): (i64, u64) = args.parse()?;
            at_work(ms, || ctx.keep_alive(), || ctx.is_cancelled());
            Ok(Reply::from(id))
        }
        "alive_then_stuck" => {
            let (_, ms): (i64, u64) = args.parse()?;
            at_work(ms, || ctx.keep_alive(), || ctx.is_cancelled());
            std::fs::write("note", "")?;
            loop {
                thread::sleep(Duration::from_secs(1));
            }
        }
        other => obedient::call(other, args, ctx),
    }
}

fn kept() -> std::sync::MutexGuard<'static, Vec<(i64, Deferred)>> {
    KEPT.lock().unwrap()
}

/// Under a name of its own: a thread inherits that of the app thread that starts it.
fn spawn(run: impl FnOnce() + Send + 'static) {
    thread::Builder::new().name("later".into()).spawn(run).unwrap();
}

fn wait_at(gate: &str) {
    while !Path::new(gate).exists() {
        thread::sleep(Duration::from_millis(1));
    }
}

/// Works for so long, and says so all the time.
fn at_work(ms: u64, keep_alive: impl Fn(), is_cancelled: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_millis(ms);
    while Instant::now() < end && !is_cancelled() {
        keep_alive();
        thread::sleep(Duration::from_millis(10));
    }
}
