//! What each participant did and saw, in a file that all of them map: it outlives whoever is killed.
//!
//! A record is four words: what happened, to which call, with what, and when. The first one is written last. A place
//! whose writer died in between stays empty.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use stokehold::internals::sys::clock;
use stokehold::internals::sys::map::Mapping;
use stokehold::internals::sys::process::ExitStatus;

pub const FILE: &str = "journal";

/// Records of a season.
const ROOM: usize = 3 << 20;
/// Words before the first record.
const HEAD: usize = 8;
const LEN: usize = (HEAD + ROOM * 4) * 8;

const NEXT: usize = 0;
const STOP: usize = 1;
/// Who is to exit; several may be asked before the first one looks.
const EXIT: usize = 2;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Event {
    /// A client is about to send a call; the value is its way.
    Issued = 1,
    /// A client has its one outcome. See [`Verdict`](super::verdict::Verdict).
    Outcome,
    /// An app begins with a call.
    Begin,
    /// An app is about to answer well.
    End,
    /// An app is about to send this item.
    Send,
    /// A client has this item.
    Got,
    /// A client is about to send this item to its app.
    SendBack,
    /// An app has this item.
    GotBack,
    /// What came was not what was sent.
    Wrong,
    /// Something is done to a process: the id is its pid, the value the action.
    Struck,
    /// A client process ends by itself.
    Left,
    /// A client process has ended: the id is its pid, the value how. See [`pack`].
    Reaped,
    /// The arbiter is about to be told to close; the value is not 0 if what runs is not waited for.
    Closing,
    /// A host has started its pool: the id is the arbiter's pid.
    Hosts,
}

impl Event {
    fn of(raw: u8) -> Option<Event> {
        use Event::*;
        let all = [
            Issued, Outcome, Begin, End, Send, Got, SendBack, GotBack, Wrong, Struck, Left, Reaped, Closing,
            Hosts,
        ];
        all.into_iter().find(|event| *event as u8 == raw)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub event: Event,
    pub pid: u32,
    pub id: u64,
    pub value: u64,
    pub at_ns: u64,
}

pub struct Journal(Mapping);

impl Journal {
    /// A fresh one, in this directory.
    pub fn create() {
        let _ = std::fs::remove_file(FILE);
        File::create(FILE).unwrap().set_len(LEN as u64).unwrap();
    }

    /// Waits for a descriptor: a squeeze must not silence who is squeezed, and passes.
    pub fn open() -> Journal {
        let mut file = OpenOptions::new();
        let file = crate::guard::some("a descriptor for the journal", || {
            file.read(true)
                .write(true)
                .open(FILE)
                .map_err(|error| assert_eq!(error.raw_os_error(), Some(libc::EMFILE)))
                .ok()
        });
        Journal(Mapping::shared_rw_inherited(file.as_fd(), LEN).unwrap())
    }

    /// That of this process, which opens it when it first has something to say.
    pub fn ours() -> &'static Journal {
        static OURS: OnceLock<Journal> = OnceLock::new();
        OURS.get_or_init(Journal::open)
    }

    pub fn add(&self, event: Event, id: u64, value: u64) {
        let at = self.word(NEXT).fetch_add(1, Ordering::Relaxed) as usize;
        assert!(at < ROOM, "the journal is full");
        let place = HEAD + at * 4;
        self.word(place + 1).store(id, Ordering::Relaxed);
        self.word(place + 2).store(value, Ordering::Relaxed);
        self.word(place + 3).store(clock::monotonic_ns(), Ordering::Relaxed);
        let first = u64::from(std::process::id()) << 8 | event as u64;
        self.word(place).store(first, Ordering::Release);
    }

    /// The records from this place on, and where the next look begins.
    pub fn since(&self, from: usize) -> (Vec<Record>, usize) {
        let next = (self.word(NEXT).load(Ordering::Acquire) as usize).min(ROOM);
        ((from..next).filter_map(|at| self.read(at)).collect(), next)
    }

    fn read(&self, at: usize) -> Option<Record> {
        let place = HEAD + at * 4;
        let first = self.word(place).load(Ordering::Acquire);
        let word = |at| self.word(place + at).load(Ordering::Relaxed);
        let event = Event::of(first as u8)?;
        Some(Record { event, pid: (first >> 8) as u32, id: word(1), value: word(2), at_ns: word(3) })
    }

    /// Clients are to end.
    pub fn stop(&self) {
        self.word(STOP).store(1, Ordering::Relaxed);
    }

    /// Also when there is not much room left.
    pub fn is_stopped(&self) -> bool {
        self.word(STOP).load(Ordering::Relaxed) != 0 || self.is_nearly_full()
    }

    pub fn is_nearly_full(&self) -> bool {
        self.word(NEXT).load(Ordering::Relaxed) as usize > ROOM - ROOM / 8
    }

    /// This process is to exit with status 0 when it next looks.
    pub fn ask_to_exit(&self, pid: u32) {
        self.word(exit_of(pid)).store(u64::from(pid), Ordering::Relaxed);
    }

    /// Exits if it was asked to.
    pub fn heed(&self) {
        let pid = std::process::id();
        if self.word(exit_of(pid)).load(Ordering::Relaxed) == u64::from(pid) {
            stokehold::internals::sys::process::exit_now(0);
        }
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        assert!(at < LEN / 8);
        // SAFETY: inside the mapping, aligned, and atomic to all who have it.
        unsafe { &*self.0.as_ptr().cast::<AtomicU64>().add(at) }
    }
}

fn exit_of(pid: u32) -> usize {
    EXIT + pid as usize % (HEAD - EXIT)
}

/// How a process ended, in a record.
pub fn pack(status: ExitStatus) -> u64 {
    match status {
        ExitStatus::Exited(status) => status as u64,
        ExitStatus::Signaled(signal) => SIGNALED | signal as u64,
    }
}

pub fn unpack(value: u64) -> ExitStatus {
    match value & SIGNALED {
        0 => ExitStatus::Exited(value as i32),
        _ => ExitStatus::Signaled((value & !SIGNALED) as i32),
    }
}

const SIGNALED: u64 = 1 << 32;
