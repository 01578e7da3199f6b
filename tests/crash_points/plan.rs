//! What is planned, in memory that all processes of a test share, and what became of it.

use super::journal::{Event, Journal};
use super::judge::{ERRNO, EXIT, KILL, PANIC, SLEEP, STOP};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use stokehold::internals::crash::{Action, Cell, NAMES, index, share};

/// That of this process and all its descendants.
pub struct Plan {
    cells: &'static [Cell],
    /// Who came to each when something was planned.
    victims: &'static [AtomicU64],
}

static OURS: OnceLock<Plan> = OnceLock::new();

/// Made in the test's own process, before it has any other.
pub fn ours() -> &'static Plan {
    OURS.get_or_init(|| {
        let len = (size_of::<AtomicU64>() + size_of::<Cell>()) * NAMES.len();
        // SAFETY: a new mapping where the kernel likes changes nothing that there is.
        let place = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_ne!(place, libc::MAP_FAILED);
        let victims = place.cast::<AtomicU64>();
        // SAFETY: mapped for good, aligned, zeroed, which is what an empty plan is; and nothing but atomics.
        let plan = unsafe {
            let cells = std::slice::from_raw_parts(victims.add(NAMES.len()).cast(), NAMES.len());
            Plan { cells, victims: std::slice::from_raw_parts(victims, NAMES.len()) }
        };
        share(plan.cells, witness);
        plan
    })
}

/// What is done to a process is in the journal before it is done.
fn witness(at: usize, action: Action) {
    let pid = u64::from(std::process::id());
    Journal::ours().add(Event::Struck, pid, code(action));
    ours().victims[at].store(pid, Ordering::SeqCst);
}

/// As the journal has it.
pub fn code(action: Action) -> u64 {
    match action {
        Action::Kill => KILL,
        Action::Stop => STOP,
        Action::Sleep(_) => SLEEP,
        Action::Exit => EXIT,
        Action::Panic => PANIC,
        Action::Errno(_) => ERRNO,
    }
}

impl Plan {
    pub fn arm(&self, name: &str, action: Action) {
        self.cells[index(name)].arm(1, action);
    }

    /// Nothing is planned any more.
    pub fn forget(&self) {
        self.cells.iter().for_each(|cell| _ = cell.disarm());
    }

    /// Nothing is planned, and nothing happened so far.
    pub fn clear(&self) {
        self.forget();
        self.victims.iter().for_each(|victim| victim.store(0, Ordering::SeqCst));
    }

    /// How often anybody came to this point.
    pub fn passed(&self, name: &str) -> u64 {
        self.cells[index(name)].passed()
    }

    /// Who came to this point when something was planned.
    pub fn victim(&self, name: &str) -> Option<u32> {
        Some(self.victims[index(name)].load(Ordering::SeqCst) as u32).filter(|pid| *pid != 0)
    }
}
