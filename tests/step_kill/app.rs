//! The app that the workers run, and the journal in which it writes down each time it ran.
//!
//! The journal is memory of the harness that every process maps: what was counted there stays counted, whoever is
//! killed afterwards.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use stokehold::internals::sys::{clock, memfd, process};
use stokehold::{App, Args, Ctx, Error, Reply, Result};

/// Where the journal is: named in the environment, since workers keep no descriptor of the harness.
const VARIABLE: &str = "STEP_KILL_JOURNAL";
/// Calls that can be told apart.
const CALLS: usize = 1 << 20;

/// How often each call ran, and which one is to be held.
#[derive(Debug)]
pub struct Journal {
    map: memmap2::MmapRaw,
}

impl Journal {
    /// The harness' own. It lives as long as the descriptor, which is the harness' for good.
    pub fn create() -> Result<Journal> {
        let fd = memfd::create("step-kill-journal", 64 + CALLS * 4)?;
        let path = format!("/proc/{}/fd/{}", process::pid(), fd.as_raw_fd());
        // SAFETY: the harness has one thread, so nobody else reads the environment meanwhile.
        unsafe { std::env::set_var(VARIABLE, path) };
        let journal = Journal { map: memmap2::MmapRaw::map_raw(&File::from(fd.try_clone()?))? };
        std::mem::forget::<OwnedFd>(fd);
        Ok(journal)
    }

    fn open() -> Result<Journal> {
        let path = std::env::var_os(VARIABLE).ok_or_else(|| Error::app("Journal", "there is none"))?;
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Journal { map: memmap2::MmapRaw::map_raw(&file)? })
    }

    /// How often this call ran.
    pub fn runs(&self, id: u64) -> u32 {
        self.counter(id).load(Ordering::SeqCst)
    }

    /// From now on the call of this number stays in the app until [`release`](Journal::release).
    pub fn hold(&self, id: u64) {
        self.gate().store(id, Ordering::SeqCst);
    }

    /// Nothing is held any more.
    pub fn release(&self) {
        self.gate().store(0, Ordering::SeqCst);
    }

    fn gate(&self) -> &AtomicU64 {
        // SAFETY: in bounds and aligned: the first word of a page; an atomic may be changed by others.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast()) }
    }

    fn counter(&self, id: u64) -> &AtomicU32 {
        assert!((id as usize) < CALLS, "the journal is full");
        // SAFETY: in bounds (just checked) and aligned; an atomic may be changed by others.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(64 + id as usize * 4).cast()) }
    }
}

/// The app: counts, and answers with a number that only this call can have.
#[derive(Debug)]
pub struct Counter(Journal);

/// Its name.
pub const APP: &str = "step:Counter";

/// What the call of this number answers.
pub fn answer(id: u64) -> i64 {
    id as i64 * 31 + 7
}

impl App for Counter {
    const NAME: &'static str = APP;

    fn init(_: &Ctx) -> Result<Self> {
        // Where only an ancestor may trace (Yama), the harness is none of a worker: its parent is the arbiter.
        // SAFETY: takes two numbers; an error (a kernel without Yama) changes nothing.
        unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
        Journal::open().map(Counter)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        let (id,): (i64,) = args.parse()?;
        let id = id as u64;
        self.0.counter(id).fetch_add(1, Ordering::SeqCst);
        match action {
            "run" => {}
            // On the same thread, so that it can be stepped through.
            "defer" => return ctx.defer(move |later| later.reply(answer(id))),
            "hold" => {
                while self.0.gate().load(Ordering::SeqCst) == id {
                    clock::sleep(Duration::from_micros(50));
                }
            }
            other => return Err(Error::no_action(other)),
        }
        Ok(Reply::from(answer(id)))
    }
}
