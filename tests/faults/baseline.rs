//! What an arbiter has open when it is at rest, to be compared with what it has later.

use crate::guard::some;
use crate::proc;
use std::process::Command;
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

    /// The same of a pool whose clients have all left, which the arbiter may not have heard of yet, or not be done with.
    pub fn without_clients(pool: &Pool) -> Baseline {
        some("what the clients had is let go of", || {
            let (kinds, _) = Baseline::count(pool.arbiter_pid());
            let theirs = ["/memfd:stokehold-control", "/memfd:stokehold-requests"];
            (!kinds.iter().any(|kind| theirs.contains(&kind.as_str()))).then_some(())
        });
        Baseline::of(pool)
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
        let open = Baseline::count(self.arbiter);
        if open != self.open {
            self.tell_more();
        }
        assert_eq!(open, self.open, "the arbiter has not let go of everything");
    }

    /// Who has the other ends, and what the arbiter waits in.
    fn tell_more(&self) {
        let sockets = Command::new("ss").arg("-xanp").output();
        let sockets = sockets.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        sockets
            .iter()
            .flat_map(|all| all.lines())
            .filter(|line| line.contains("stokehold"))
            .for_each(|l| println!("{l}"));
        for file in ["status", "wchan", "syscall"] {
            println!("{file}: {:?}", std::fs::read_to_string(format!("/proc/{}/{file}", self.arbiter)));
        }
        println!("{:?}", proc::descriptors(self.arbiter));
    }
}
