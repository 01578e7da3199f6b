//! Actions of the app of the fault tests that are told of a cancel, and heed it or not.

use crate::app::{begin, until_open};
use crate::nested;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, thread};
use stokehold::{Args, Ctx, Reply, Result};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

/// Signals that came to this process, and to this thread.
static SIGNALS: AtomicU32 = AtomicU32::new(0);
thread_local! {
    static SIGNALS_HERE: Cell<u32> = const { Cell::new(0) };
}
static HELD: AtomicBool = AtomicBool::new(false);

extern "C" fn count(_: libc::c_int) {
    SIGNALS.fetch_add(1, Ordering::Release);
    SIGNALS_HERE.set(SIGNALS_HERE.get() + 1);
}

extern "C" fn hold(_: libc::c_int) {
    HELD.store(true, Ordering::Release);
    loop {
        pause();
    }
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) {
    // SAFETY: a handler that touches atomics and a thread's cell without a destructor, or sleeps for ever.
    unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
}

fn pause() {
    // SAFETY: sleeps until a signal was handled on this thread; not for ever, should one come between a look and this.
    unsafe { libc::poll(std::ptr::null_mut(), 0, 20_000) };
}

fn until_signalled(id: i64) {
    while SIGNALS.load(Ordering::Acquire) == 0 {
        thread::sleep(Duration::from_millis(1));
    }
    SIGNALS.store(0, Ordering::Release);
    begin(id + 1);
}

fn until_told(id: i64, ctx: &Ctx, then: impl FnOnce()) -> Result<Reply> {
    begin(id);
    let is_told = ctx.wait_cancelled(LONG);
    then();
    fs::write("note", format!("{:?}", ctx.check_cancelled()))?;
    if is_told {
        begin(id + 1);
    }
    Ok(Reply::from(id))
}

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    match action {
        // Sleeps until it is told, then takes its time. Its second beginning is its end.
        "until_told" => {
            let (id, ms): (i64, u64) = args.parse()?;
            until_told(id, ctx, || thread::sleep(Duration::from_millis(ms)))
        }
        // The same, until the test opens the gate.
        "until_told_and_open" => {
            let (id, gate): (i64, &str) = args.parse()?;
            until_told(id, ctx, || until_open(gate))
        }
        // The same, deferred, and on a thread that looks now and then.
        "later_until_told" => {
            let (id, ms): (i64, u64) = args.parse()?;
            begin(id);
            ctx.defer(move |later| {
                let wait = move || {
                    let is_told = later.wait_cancelled(LONG);
                    thread::sleep(Duration::from_millis(ms));
                    if is_told && later.is_cancelled() && later.check_cancelled().is_err() {
                        begin(id + 1);
                    }
                };
                thread::Builder::new().name("later".into()).spawn(wait).unwrap();
            })
        }
        // Sleeps in the kernel, and hears of nothing but a signal of its own thread.
        "pause" => {
            let (id,): (i64,) = args.parse()?;
            handle(libc::SIGUSR1, count);
            begin(id);
            // Whoever is awake for another reason did not get its signal.
            while SIGNALS_HERE.get() == 0 {
                pause();
            }
            SIGNALS_HERE.set(0);
            begin(id + 1);
            ctx.check_cancelled()?;
            Ok(Reply::from(id))
        }
        // The same, and goes on.
        "pause_deafly" => {
            let (id,): (i64,) = args.parse()?;
            handle(libc::SIGUSR1, count);
            begin(id);
            loop {
                pause();
                begin(id + 1);
            }
        }
        // Whichever thread gets it.
        "until_signalled" => {
            let (id,): (i64,) = args.parse()?;
            handle(libc::SIGUSR1, count);
            begin(id);
            until_signalled(id);
            Ok(Reply::from(id))
        }
        "later_until_signalled" => {
            let (id,): (i64,) = args.parse()?;
            handle(libc::SIGUSR1, count);
            ctx.defer(move |later| {
                let wait = move || {
                    let _later = later;
                    begin(id);
                    until_signalled(id);
                };
                thread::Builder::new().name("later".into()).spawn(wait).unwrap();
            })
        }
        // The one that listens to the arbiter does nothing else any more.
        "hold_first_thread" => {
            handle(libc::SIGUSR2, hold);
            let pid = std::process::id() as libc::pid_t;
            // SAFETY: a signal for a thread of this process, which has a handler for it.
            unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, libc::SIGUSR2) };
            while !HELD.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
            Ok(Reply::from(()))
        }
        other => nested::call(other, args, ctx),
    }
}
