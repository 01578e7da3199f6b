//! The death mark: set by the kernel, seen by who can only read it, and no later than a pidfd fires.

use crate::harness::{Kid, Outcome, sleep_for_ever, until};
use crate::tests;
use nix::sys::signal::Signal;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::sync::Arc;
use stokehold::internals::primitive::Ordering;
use stokehold::internals::sys::map::Mapping;
use stokehold::internals::sys::memfd::{self, Seals};
use stokehold::internals::sys::process::{self, ExitStatus};
use stokehold::internals::sys::robust::{self, DeathMark};
use stokehold::internals::sys::{futex, pidfd};

tests![
    mark_is_set_when_the_pidfd_fires,
    mark_wakes_a_watcher_that_can_only_read,
    mark_is_set_by_exec_and_by_exit,
    mark_is_not_inherited_by_a_forked_child,
    mark_of_a_thread_tells_of_the_thread,
    mark_armed_twice_is_the_second,
];

const LEN: usize = 4096;

fn mark(mapping: &Mapping, i: usize) -> &DeathMark {
    assert!((i + 1) * size_of::<DeathMark>() <= mapping.len());
    // SAFETY: within the mapping, and aligned as mappings begin at pages. The kernel and the marked process write
    // only to the word inside, which is an atomic.
    unsafe { &*mapping.as_ptr().cast::<DeathMark>().add(i) }
}

/// A memory file, mapped for its owner and then sealed, and what a watcher has of it.
struct Shared {
    file: OwnedFd,
    own: Arc<Mapping>,
    watched: Mapping,
}

impl Shared {
    fn new() -> Shared {
        let file = memfd::create("facts-mark", LEN).unwrap();
        // Inherited, as the owner is a forked copy of this process here.
        let own = Arc::new(Mapping::shared_rw_inherited(file.as_fd(), LEN).unwrap());
        memfd::seal(file.as_fd(), Seals::SHRINK | Seals::GROW | Seals::FUTURE_WRITE | Seals::SEAL).unwrap();
        let watched = Mapping::shared_ro(file.as_fd(), LEN).unwrap();
        Shared { file, own, watched }
    }

    /// A process that arms mark 0 and then does this.
    fn owner(&self, then: impl FnOnce() -> i32) -> Kid {
        let kid = Kid::new(|| {
            robust::arm_in(self.own.clone(), 0).unwrap();
            then()
        });
        until(|| mark(&self.watched, 0).word().load(Ordering::Acquire) != 0);
        kid
    }
}

/// Sleeps on the mark, without a timeout, until it is set.
fn watch(file: BorrowedFd<'_>) -> i32 {
    let mapping = Mapping::shared_ro(file, LEN).unwrap();
    loop {
        let word = mark(&mapping, 0).word();
        let now = word.load(Ordering::Acquire);
        if robust::is_dead(word) {
            return 0;
        }
        futex::wait(word, now, None);
    }
}

fn mark_is_set_when_the_pidfd_fires() -> Outcome {
    let mut earlier = 0;
    for megabytes in [0, 1, 64] {
        let shared = Shared::new();
        let ready = Mapping::shared_rw_inherited(shared.file.as_fd(), LEN);
        assert!(ready.is_err(), "the file is sealed against further writers");
        let owner = shared.owner(|| {
            let ballast = vec![1u8; megabytes << 20];
            std::hint::black_box(&ballast);
            sleep_for_ever()
        });
        owner.until_asleep();
        let mark = mark(&shared.watched, 0);
        assert!(mark.is_armed() && !mark.is_dead());
        let tid = mark.word().load(Ordering::Acquire) & robust::TID_MASK;
        assert_eq!(tid, owner.pid.as_raw() as u32);
        owner.kill();
        while !mark.is_dead() {
            assert!(!pidfd::has_exited(owner.fd.as_fd()).unwrap() || mark.is_dead(), "pidfd before mark");
        }
        earlier += usize::from(!pidfd::has_exited(owner.fd.as_fd()).unwrap());
        assert!(!mark.is_armed());
        assert_eq!(owner.end(), ExitStatus::Signaled(libc::SIGKILL));
    }
    println!("  the mark was seen before the pidfd fired in {earlier} of 3 deaths");
    Ok(())
}

fn mark_wakes_a_watcher_that_can_only_read() -> Outcome {
    let shared = Shared::new();
    let owner = shared.owner(|| sleep_for_ever());
    let watcher = Kid::new(|| watch(shared.file.as_fd()));
    watcher.until_asleep();
    owner.kill();
    assert_eq!(watcher.end(), ExitStatus::Exited(0));
    assert_eq!(owner.end(), ExitStatus::Signaled(libc::SIGKILL));
    Ok(())
}

fn mark_is_set_by_exec_and_by_exit() -> Outcome {
    let shared = Shared::new();
    let replaced = shared.owner(|| {
        let mut shell = std::process::Command::new("/bin/sh");
        let _ = shell.args(["-c", "kill -STOP $$"]).exec();
        1
    });
    until(|| mark(&shared.watched, 0).is_dead());
    assert!(!pidfd::has_exited(replaced.fd.as_fd()).unwrap());
    drop(replaced);

    let shared = Shared::new();
    assert_eq!(shared.owner(|| 0).end(), ExitStatus::Exited(0));
    assert!(mark(&shared.watched, 0).is_dead());
    Ok(())
}

fn mark_is_not_inherited_by_a_forked_child() -> Outcome {
    let shared = Shared::new();
    let owner = shared.owner(|| {
        assert_eq!(Kid::new(|| 0).end(), ExitStatus::Exited(0));
        assert!(mark(&shared.own, 0).is_armed());
        process::stop_self().unwrap();
        0
    });
    until(|| crate::harness::state_of(owner.pid) == 'T');
    assert!(mark(&shared.watched, 0).is_armed());
    owner.kill(); // a stopped process leaves its mark, too
    owner.end();
    assert!(mark(&shared.watched, 0).is_dead());
    Ok(())
}

fn mark_of_a_thread_tells_of_the_thread() -> Outcome {
    let shared = Shared::new();
    let owner = Kid::new(|| {
        std::thread::scope(|scope| {
            scope.spawn(|| robust::arm_in(shared.own.clone(), 0).unwrap());
        });
        sleep_for_ever()
    });
    until(|| mark(&shared.watched, 0).is_dead());
    assert!(!pidfd::has_exited(owner.fd.as_fd()).unwrap());
    Ok(())
}

fn mark_armed_twice_is_the_second() -> Outcome {
    let shared = Shared::new();
    let owner = shared.owner(|| {
        robust::arm_in(shared.own.clone(), 64).unwrap();
        process::raise(Signal::SIGKILL).unwrap();
        1
    });
    assert_eq!(owner.end(), ExitStatus::Signaled(libc::SIGKILL));
    assert!(!mark(&shared.watched, 0).is_dead());
    assert!(mark(&shared.watched, 1).is_dead());
    Ok(())
}
