//! The app that the workers run, and the journal in which it writes down each time it ran.
//!
//! The journal is memory of the harness that every process maps: what was counted there stays counted, whoever is
//! killed afterwards.

use crate::{scene, streamed};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use stokehold::internals::sys::signal::{self, Signal};
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

    /// The harness' own memory, for a process that it has forked to say how far it is.
    pub fn set_stage(&self, stage: u64) {
        self.stage_word().store(stage, Ordering::SeqCst);
    }

    /// What was said last.
    pub fn stage(&self) -> u64 {
        self.stage_word().load(Ordering::SeqCst)
    }

    /// How often an app has looked up from its work, in all.
    pub fn beats(&self) -> u64 {
        self.beat_word().load(Ordering::SeqCst)
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

    /// Stays as long as this call is held.
    pub fn stay(&self, id: u64) {
        while self.gate().load(Ordering::SeqCst) == id {
            self.pause();
        }
    }

    /// A moment in which an app is at work.
    fn pause(&self) {
        self.beat_word().fetch_add(1, Ordering::SeqCst);
        clock::sleep(Duration::from_micros(50));
    }

    /// One more.
    pub fn count(&self, id: u64) {
        self.counter(id).fetch_add(1, Ordering::SeqCst);
    }

    fn gate(&self) -> &AtomicU64 {
        self.head(0)
    }

    fn stage_word(&self) -> &AtomicU64 {
        self.head(1)
    }

    fn beat_word(&self) -> &AtomicU64 {
        self.head(2)
    }

    fn head(&self, word: usize) -> &AtomicU64 {
        assert!(word < 8, "that is a counter");
        // SAFETY: in bounds (just checked) and aligned: at the beginning of a page; an atomic may be changed by others.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().cast::<u64>().add(word)) }
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

/// The size of the blocks that memory is counted in.
pub const BLOCK: usize = 16 * 1024;

/// Takes so many blocks at once, or, if that is none, until there has to be memory for more: how many it took, and how many
/// regions there are for more.
fn room(args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    let (wanted,): (u64,) = args.parse()?;
    let grown = || scene::mapped(std::process::id(), "stokehold-growth") as u64;
    let mut blocks = Vec::new();
    while (blocks.len() as u64) < wanted || wanted == 0 && grown() == 0 {
        blocks.push(ctx.lease(BLOCK)?);
    }
    Ok(Reply::from((blocks.len() as u64, grown())))
}

/// Takes an argument, and gives a result, each in memory that its owner did not have before.
fn large(journal: &Journal, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    let (id, bytes): (i64, &[u8]) = args.parse()?;
    journal.count(id as u64);
    let mut lease = ctx.lease(LARGE)?;
    lease[..8].copy_from_slice(&answer(id as u64).to_le_bytes());
    lease[8] = bytes[LARGE - 1];
    Ok(Reply::from(lease))
}

/// Makes a call itself.
fn ask(journal: &Journal, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    let (id, inner): (i64, i64) = args.parse()?;
    journal.count(id as u64);
    let answer: i64 = ctx.call(APP, "run").args((inner,)).execute()?.parse()?;
    Ok(Reply::from(answer))
}

/// More than anybody has from the start.
pub const LARGE: usize = 1 << 20;

/// Where only an ancestor may trace (Yama): the harness is none of a worker, and not of the arbiter.
pub fn may_be_traced() {
    // SAFETY: takes two numbers; an error (a kernel without Yama) changes nothing.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::PR_SET_PTRACER_ANY) };
}

impl App for Counter {
    const NAME: &'static str = APP;

    fn init(_: &Ctx) -> Result<Self> {
        may_be_traced();
        // The pool's signal for calls that were given up: who is deaf to it is killed.
        signal::ignore(Signal::SIGUSR1)?;
        Journal::open().map(Counter)
    }

    fn call(&self, action: &str, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
        match action {
            "stream" => return streamed::stream(&self.0, args, ctx),
            "dialog" => return streamed::dialog(&self.0, args, ctx),
            "room" => return room(args, ctx),
            "large" => return large(&self.0, args, ctx),
            "ask" => return ask(&self.0, args, ctx),
            _ => {}
        }
        let (id,): (i64,) = args.parse()?;
        let id = id as u64;
        self.0.count(id);
        match action {
            "run" => {}
            // On the same thread, so that it can be stepped through.
            "defer" => return ctx.defer(move |later| later.reply(answer(id))),
            "hold" => self.0.stay(id),
            // For ever.
            "deaf" => loop {
                self.0.pause();
            },
            "heed" => {
                while !ctx.is_cancelled() {
                    self.0.pause();
                }
            }
            other => return Err(Error::no_action(other)),
        }
        Ok(Reply::from(answer(id)))
    }
}
