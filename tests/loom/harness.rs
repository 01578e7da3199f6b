//! What the models share: the explorer, memory that must not be raced on, the kernel's futex, a crash after
//! step k, and a lane and a board of loom's atomics.

use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use std::cell::Cell;
use std::sync::OnceLock;
use std::time::Duration;
use stokehold::internals::primitive::{AtomicU32, AtomicU64, Ordering};
use stokehold::internals::ring::{
    Bits, CallLine, Doorbell, Futex, Generation, Life, Parker, Producer, Queue, SubmitRing, wake_idle,
    wake_one,
};

/// Generation of the first submission in every model.
pub const G: Generation = Generation(7);

/// Explores a model and says how many executions that took, so that a run shows it was armed.
pub fn explore(name: &str, model: impl Fn() + Sync + Send + 'static) {
    static EXECUTIONS: std::sync::Mutex<Vec<(String, u64)>> = std::sync::Mutex::new(Vec::new());
    let start = std::time::Instant::now();
    let key = name.to_owned();
    loom::model(move || {
        {
            let mut all = EXECUTIONS.lock().unwrap_or_else(|e| e.into_inner());
            match all.iter_mut().find(|(n, _)| *n == key) {
                Some((_, count)) => *count += 1,
                None => all.push((key.clone(), 1)),
            }
        }
        model();
    });
    let all = EXECUTIONS.lock().unwrap_or_else(|e| e.into_inner());
    let count = all.iter().find(|(n, _)| n == name).map_or(0, |(_, count)| *count);
    println!("model {name}: {count} executions in {:.1} s", start.elapsed().as_secs_f32());
}

/// Whether this switch is chosen. Those that break what the room's callers must do are looked at by the models,
/// the others by the room itself.
pub fn sabotaged(switch: &str) -> bool {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    cfg!(sabotage) && CHOSEN.get_or_init(|| std::env::var("STOKEHOLD_SABOTAGE").unwrap_or_default()) == switch
}

/// A full fence of a caller's, or none with the switch.
pub fn full_fence(switch: &str) {
    if !sabotaged(switch) {
        stokehold::internals::primitive::fence(Ordering::SeqCst);
    }
}

pub fn life(n: u16) -> Life {
    Life::new(n).unwrap()
}

/// Plain memory: a request, a result block. Loom reports any two accesses that are not ordered.
#[derive(Debug)]
pub struct Block(UnsafeCell<u64>);

// SAFETY: loom itself checks that no access races with a write; finding the one that does is the purpose.
unsafe impl Sync for Block {}

impl Block {
    pub fn new(value: u64) -> Block {
        Block(UnsafeCell::new(value))
    }

    pub fn read(&self) -> u64 {
        // SAFETY: `with` has checked, and panics otherwise, that no write is concurrent with this read.
        self.0.with(|p| unsafe { *p })
    }

    pub fn write(&self, value: u64) {
        // SAFETY: `with_mut` has checked, and panics otherwise, that no access is concurrent with this write.
        self.0.with_mut(|p| unsafe { *p = value });
    }
}

/// The kernel's futex for one word: compares under its lock. No sleep ends by time, so a wake-up that is lost
/// leaves everybody asleep, which loom reports.
#[derive(Debug)]
pub struct Kernel {
    wakes: Mutex<u32>,
    sleepers: Condvar,
}

impl Kernel {
    pub fn new() -> Kernel {
        Kernel { wakes: Mutex::new(0), sleepers: Condvar::new() }
    }
}

impl Futex for Kernel {
    fn wait(&self, word: &AtomicU32, expected: u32, _timeout: Option<Duration>) {
        let mut wakes = self.wakes.lock().unwrap();
        if word.load(Ordering::Relaxed) != expected {
            return;
        }
        let before = *wakes;
        while *wakes == before {
            wakes = self.sleepers.wait(wakes).unwrap();
        }
    }

    fn wake_all(&self, _word: &AtomicU32) {
        *self.wakes.lock().unwrap() += 1;
        self.sleepers.notify_all();
    }
}

/// A process that takes so many steps and then none: `steps.next()?` before each.
#[derive(Debug)]
pub struct Steps(Cell<usize>);

impl Steps {
    pub fn new(count: usize) -> Steps {
        Steps(Cell::new(count))
    }

    pub fn next(&self) -> Option<()> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(())
    }
}

/// A lane at index 0.
#[derive(Debug)]
pub struct Lane {
    pub lines: Vec<CallLine>,
    pub head: AtomicU64,
    pub tail: AtomicU64,
    pub slots: Vec<AtomicU64>,
}

impl Lane {
    pub fn new(calls: usize, capacity: usize) -> Lane {
        Lane {
            lines: (0..calls).map(|_| CallLine::new(G)).collect(),
            head: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            slots: (0..capacity).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub fn ring(&self) -> SubmitRing<'_> {
        SubmitRing { head: &self.head, tail: &self.tail, slots: &self.slots }
    }

    pub fn queue<'a>(&'a self, board: &'a Board) -> Queue<'a> {
        Queue { lines: &self.lines, ring: self.ring(), pending: board.pending(), index: 0 }
    }

    /// Submits, takes back, submits again: entries that the model finds in its ring.
    pub fn cancelled(&self, board: &Board, producer: &mut Producer, call: usize, generation: Generation) {
        self.queue(board).submit(producer, call, generation).unwrap();
        assert!(self.lines[call].withdraw(generation));
    }
}

/// A board of `parkers` parkers.
#[derive(Debug)]
pub struct Board {
    pending: Vec<AtomicU64>,
    idle: Vec<AtomicU64>,
    doorbells: Vec<Doorbell>,
    pub kernels: Vec<Kernel>,
}

impl Board {
    pub fn new(parkers: usize) -> Board {
        Board {
            pending: vec![AtomicU64::new(0)],
            idle: vec![AtomicU64::new(0)],
            doorbells: (0..parkers).map(|_| Doorbell::new()).collect(),
            kernels: (0..parkers).map(|_| Kernel::new()).collect(),
        }
    }

    pub fn pending(&self) -> Bits<'_> {
        Bits(&self.pending)
    }

    pub fn idle(&self) -> Bits<'_> {
        Bits(&self.idle)
    }

    pub fn parker(&self, me: usize) -> Parker<'_> {
        Parker { idle: self.idle(), me, doorbell: &self.doorbells[me] }
    }

    pub fn ring(&self, parker: usize) {
        self.doorbells[parker].ring(&self.kernels[parker]);
    }

    pub fn wake_one(&self, prefer: Option<usize>) {
        wake_one(self.idle(), prefer, |parker| self.ring(parker));
    }

    pub fn wake_idle(&self) {
        wake_idle(self.idle(), |parker| self.ring(parker));
    }

    /// What the arbiter does after a death, and when a tick finds a call still queued: everybody, unseen.
    pub fn ring_everybody(&self) {
        for (parker, doorbell) in self.doorbells.iter().enumerate() {
            self.idle().clear(parker);
            doorbell.ring_always(&self.kernels[parker]);
        }
    }
}
