//! What a pool does not do to its host, and what it does not take from it.

use crate::app::{begun, builder, call, fails, number, open, until_begun, works};
use crate::deaths::causes_are_told;
use crate::guard::{PoolGuard, kill, until};
use crate::harness::Outcome;
use crate::proc;
use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::wait::waitpid;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, process};
use stokehold::{Builder, Client, Code};

crate::tests! {
    workers_have_the_signal_state_that_the_host_had,
    a_host_that_ignores_its_children_hears_how_workers_ended,
    the_host_has_no_children,
    the_arbiter_is_in_no_group_of_the_host,
    an_interrupt_to_the_hosts_group_is_the_hosts_alone,
    nothing_is_inherited_that_is_not_ours,
    signals_that_interrupt_everything_change_nothing,
    sigterm_to_the_arbiter_drains_the_pool,
    the_hosts_own_signal_state_stays,
}

/// Each way to start a pool.
fn ways() -> [Builder; 3] {
    let kept = OPENED.get().unwrap().as_fd();
    [builder(2), builder(2).arbiter(env::current_exe().unwrap()), builder(2).by_fork().keep(kept)]
}

/// What this program opens within `init`, as it would a log.
static OPENED: OnceLock<File> = OnceLock::new();
const OPENED_PATH: &str = "/dev/zero";

/// To be called within `init`.
pub fn open_a_file() {
    let _ = OPENED.set(File::open(OPENED_PATH).unwrap());
}

fn workers_have_the_signal_state_that_the_host_had() -> Outcome {
    let mut guard = PoolGuard::new();
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGUSR1);
    blocked.add(Signal::SIGTERM);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None).unwrap();
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGUSR2, SigHandler::SigIgn) }.unwrap();
    for (way, builder) in ways().into_iter().enumerate() {
        let pool = guard.start(builder);
        let client = pool.client().unwrap();
        for line in ["SigBlk", "SigIgn", "SigCgt"] {
            let response = call(&client, "status").args((line,)).execute().unwrap();
            let theirs = without_runtimes(response.parse().unwrap());
            // A worker catches none, whatever the host catches: its handlers are not there.
            let mine = match line {
                "SigCgt" => 0,
                _ => without_runtimes(&proc::status(process::id(), line)),
            };
            assert_eq!(theirs, mine, "{line} by way {way}: {theirs:#x} {mine:#x}");
        }
    }
    Ok(())
}

/// The kernel reaps the children of whoever ignores SIGCHLD, and whoever that starts ignores it, too.
fn a_host_that_ignores_its_children_hears_how_workers_ended() -> Outcome {
    let mut guard = PoolGuard::new();
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
    for builder in ways() {
        let pool = guard.start(builder);
        let client = pool.client().unwrap();
        causes_are_told(&client);
        ignore_their_children(&client);
    }
    // SAFETY: as above.
    unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) }.unwrap();
    Ok(())
}

/// Workers ignore SIGCHLD, as who started their supervisor did.
pub fn ignore_their_children(client: &Client) {
    let ignored = call(client, "status").args(("SigIgn",)).execute().unwrap();
    assert!(without_runtimes(ignored.parse().unwrap()) & 1 << (libc::SIGCHLD - 1) != 0);
}

/// A set of signals without those of runtimes: 32 and 33 are the C library's, which catches them in processes that have
/// threads; SIGPIPE is ignored by Rust's in a host and goes to no child.
fn without_runtimes(set: &str) -> u64 {
    u64::from_str_radix(set, 16).unwrap() & !(0b11 << 31 | 1 << (libc::SIGPIPE - 1))
}

fn the_hosts_own_signal_state_stays() -> Outcome {
    let mut guard = PoolGuard::new();
    let state = || ["SigBlk", "SigIgn", "SigCgt"].map(|line| proc::status(process::id(), line));
    let before = state();
    for builder in ways() {
        let pool = guard.start(builder);
        works(&pool.client().unwrap());
        drop(pool);
        assert_eq!(state(), before);
    }
    Ok(())
}

fn the_host_has_no_children() -> Outcome {
    let mut guard = PoolGuard::new();
    for builder in ways() {
        let pool = guard.start(builder);
        let client = pool.client().unwrap();
        assert_eq!(fails(call(&client, "exit").args((1,)).execute()).code(), Code::WorkerDied);
        works(&client);
        assert_eq!(waitpid(None, None), Err(Errno::ECHILD));
    }
    assert_eq!(waitpid(None, None), Err(Errno::ECHILD));
    Ok(())
}

fn the_arbiter_is_in_no_group_of_the_host() -> Outcome {
    let mut guard = PoolGuard::new();
    let me = proc::process(process::id()).unwrap();
    for builder in ways() {
        let pool = guard.start(builder);
        let members = proc::session(pool.arbiter_pid());
        assert_eq!(members.len(), 3);
        for member in members {
            assert_ne!(member.group, me.group, "{member:?}");
            assert_ne!(member.session, me.session, "{member:?}");
            assert_eq!(member.group, member.pid, "each leads its own group: {member:?}");
        }
    }
    Ok(())
}

fn an_interrupt_to_the_hosts_group_is_the_hosts_alone() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    let before = client.worker_pids();
    // SAFETY: no handler is installed.
    unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) }.unwrap();
    nix::sys::signal::killpg(nix::unistd::getpgrp(), Signal::SIGINT).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    works(&client);
    assert_eq!(client.worker_pids(), before);
    Ok(())
}

fn nothing_is_inherited_that_is_not_ours() -> Outcome {
    let mut guard = PoolGuard::new();
    let file = File::create("note").unwrap();
    // SAFETY: takes numbers and answers one. This copy lacks the mark that it is to be closed at an exec.
    let copy = unsafe { libc::dup2(file.as_raw_fd(), 100) };
    assert_eq!(copy, 100);
    for (way, builder) in ways().into_iter().enumerate() {
        let pool = guard.start(builder);
        let client = pool.client().unwrap();
        works(&client);
        let mine = proc::descriptors(process::id());
        let allowed = |n: u32, to: &str| match n {
            0 => to == "/dev/null",
            1 | 2 => mine.get(&n).is_some_and(|own| own == to),
            _ => to.starts_with("socket:") || to.starts_with("/memfd:stokehold-") || to == OPENED_PATH,
        };
        let in_arbiter = proc::descriptors(pool.arbiter_pid());
        assert!(
            in_arbiter.values().any(|to| to == OPENED_PATH),
            "the arbiter's log by way {way}: {in_arbiter:?}"
        );
        for (n, to) in &in_arbiter {
            assert!(allowed(*n, to) || to.starts_with("anon_inode:"), "arbiter by way {way}: {n} is {to}");
        }
        // Once more after a death: the arbiter has more to give away by mistake then.
        for _ in 0..2 {
            let listed = call(&client, "open_files").execute().unwrap();
            let listed: Vec<String> = listed.parse().unwrap();
            assert!(listed.iter().any(|line| line.ends_with(OPENED_PATH)), "a log by way {way}: {listed:?}");
            for line in listed {
                let (n, to) = line.split_once(' ').unwrap();
                let n: u32 = n.parse().unwrap();
                // The listing itself has the directory open, and the control thread has a timer.
                let own = to.starts_with("/proc/") || to == "anon_inode:[timerfd]";
                assert!(allowed(n, to) || own, "worker by way {way}: {n} is {to}");
                if to.starts_with("socket:") {
                    assert!(
                        !mine.values().any(|own| own == to),
                        "worker by way {way}: {n} is the host's {to}"
                    );
                }
            }
            assert_eq!(fails(call(&client, "kill").execute()).code(), Code::WorkerDied);
        }
    }
    // SAFETY: takes a number; nobody else knows it.
    unsafe { libc::close(100) };
    Ok(())
}

fn signals_that_interrupt_everything_change_nothing() -> Outcome {
    static TIMES: AtomicU32 = AtomicU32::new(0);
    extern "C" fn count(_: libc::c_int) {
        TIMES.fetch_add(1, Ordering::Relaxed);
    }
    let mut guard = PoolGuard::new();
    let action = nix::sys::signal::SigAction::new(
        SigHandler::Handler(count),
        nix::sys::signal::SaFlags::empty(), // without SA_RESTART
        SigSet::empty(),
    );
    // SAFETY: a handler that touches one atomic number may run at any time.
    unsafe { nix::sys::signal::sigaction(Signal::SIGALRM, &action) }.unwrap();
    let timer = |us| {
        let every = libc::timeval { tv_sec: 0, tv_usec: us };
        let timer = libc::itimerval { it_interval: every, it_value: every };
        // SAFETY: reads one local.
        assert_eq!(unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) }, 0);
    };
    timer(1_000);
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    for id in 0..500 {
        assert_eq!(number(call(&client, "note").args((id,)).execute()), id);
    }
    let bytes = vec![7; 10_000_000];
    let lease = client.lease_from(&bytes).unwrap();
    let echoed = call(&client, "lent_echo").args((lease,)).execute().unwrap();
    assert_eq!(echoed.as_bytes().unwrap(), bytes);
    let slow = call(&client, "work").args((1000, b"".as_slice(), 50)).execute();
    assert!(slow.is_ok());
    assert_eq!(fails(call(&client, "exit").args((1,)).execute()).code(), Code::WorkerDied);
    drop(echoed);
    pool.shutdown().unwrap();
    timer(0);
    let times = TIMES.load(Ordering::Relaxed);
    assert!(times > 10, "{times} interruptions");
    Ok(())
}

fn sigterm_to_the_arbiter_drains_the_pool() -> Outcome {
    let mut guard = PoolGuard::new();
    // Once: what runs may finish. Twice: now.
    for times in [1, 2] {
        let pool = guard.start(builder(1).stop_grace_ms(60_000));
        let client = pool.client().unwrap();
        let running = call(&client, "gate").args((times, "gate")).submit().unwrap();
        until_begun(times);
        let queued = call(&client, "note").args((10 + times,)).submit().unwrap();
        kill(pool.arbiter_pid(), Signal::SIGTERM);
        assert_eq!(fails(queued.wait()).code(), Code::ShuttingDown);
        if times == 2 {
            kill(pool.arbiter_pid(), Signal::SIGTERM);
            let error = fails(running.wait());
            assert_eq!(error.code(), Code::WorkerDied, "{error}");
        } else {
            open("gate");
            assert_eq!(number(running.wait()), times);
            std::fs::remove_file("gate").unwrap();
        }
        until("the pool is gone", || proc::session(pool.arbiter_pid()).is_empty());
        assert_eq!(begun(10 + times), 0);
    }
    Ok(())
}
