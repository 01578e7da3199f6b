//! What an arbiter has open when it is at rest, to be compared with what it has later.

use crate::guard::some;
use crate::proc;
use std::thread;
use std::time::{Duration, Instant};
use stokehold::Pool;

pub struct Baseline {
    pub arbiter: u32,
    pub open: Open,
}

/// The kinds of its descriptors, and how many of our memory files it has mapped.
pub type Open = (Vec<String>, usize);

impl Baseline {
    pub fn of(pool: &Pool) -> Baseline {
        let arbiter = pool.arbiter_pid();
        let mut open = Baseline::count(arbiter);
        // What it answered to the start may be on its way yet.
        some("the arbiter is at rest", || {
            thread::sleep(Duration::from_millis(20));
            let before = std::mem::replace(&mut open, Baseline::count(arbiter));
            (before == open).then_some(())
        });
        Baseline { arbiter, open }
    }

    pub fn count(arbiter: u32) -> Open {
        let unnumbered = |to: String| to.split(['[', ' ']).next().unwrap_or("").to_owned();
        let mut kinds: Vec<_> = proc::descriptors(arbiter).into_values().map(unnumbered).collect();
        kinds.sort();
        (kinds, proc::mappings(arbiter).len())
    }

    /// Waits until it has closed the sockets of every client that is gone. It may keep more of them than that.
    pub fn client_forgotten(&self) {
        let sockets = |open: &Open| open.0.iter().filter(|kind| *kind == "socket:").count();
        some("the arbiter has noticed that the client is gone", || {
            thread::sleep(Duration::from_millis(5));
            (sockets(&Baseline::count(self.arbiter)) <= sockets(&self.open)).then_some(())
        });
    }

    /// Waits until it has no more and no less.
    pub fn reached(&self) {
        let end = Instant::now() + Duration::from_secs(20);
        while Baseline::count(self.arbiter) != self.open && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(Baseline::count(self.arbiter), self.open, "the arbiter has not let go of everything");
    }
}
