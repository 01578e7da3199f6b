//! System calls that fail. A program lives through the life of a pool: start, calls, large payloads, streams, the death of a
//! worker, an orderly end; and one of the system calls that its processes make is made to fail, another one in each case. F10:
//! each of them × six errors × its first five occurrences in each part of that life.
//!
//!     cargo test --test errno                               one of each call of each process
//!     STOKEHOLD_ERRNO_SECONDS=60 cargo test --test errno    others, until a minute is over
//!     STOKEHOLD_ERRNO_SECONDS=all cargo test --test errno   all there are: `ci/errno.sh --full`
//!     STOKEHOLD_SEED=7 cargo test --test errno              the choice of this seed again
//!     STOKEHOLD_ERRNO_ONLY='Arbiter Death clone' cargo test --test errno    those whose name contains this

#[allow(dead_code)] // shared with tests that use all of it
#[path = "../common/harness.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../common/proc.rs"]
mod proc;

mod app;
mod calls;
mod judge;
mod marks;
mod scenario;
mod sweep;
mod trace;

use calls::Call;
use harness::{Outcome, Skip};
use marks::{Mark, Phase};
use std::collections::BTreeSet;
use std::env;

use std::time::Duration;
use stokehold::internals::sys::{cpu, process};
use sweep::{Wanted, from_env};
use trace::{Fault, Place, Role, Seen};

pub fn main() {
    let registered = stokehold::init(|apps| {
        env_logger::Builder::new().filter_level(log::LevelFilter::Warn).parse_default_env().init();
        apps.add::<app::Errno>()
    });
    registered.unwrap();
    if env::var_os(scenario::ROLE).is_some() {
        scenario::run();
    }
    harness::run_within(Duration::from_secs(3600), TESTS)
}

const TESTS: &[harness::Test] = &[
    ("f10_any_system_call_may_fail", f10_any_system_call_may_fail),
    ("a19_no_forks_for_a_while", a19_no_forks_for_a_while),
    ("f10_a_boot_that_fails_once_is_tried_again", f10_a_boot_that_fails_once_is_tried_again),
    ("f10_a_boot_that_fails_always_is_told", f10_a_boot_that_fails_always_is_told),
];

/// F10; D7: EINTR anywhere.
fn f10_any_system_call_may_fail() -> Outcome {
    can_be_traced()?;
    let time = match env::var("STOKEHOLD_ERRNO_SECONDS").as_deref() {
        Ok("all") => None,
        Ok(seconds) => seconds.parse().ok().map(Duration::from_secs),
        Err(_) => Some(Duration::ZERO),
    };
    let random = || process::getrandom_u128().unwrap() as u32;
    sweep::sweep(&Wanted {
        time,
        seed: from_env("STOKEHOLD_SEED").unwrap_or_else(|| random().into()),
        only: env::var("STOKEHOLD_ERRNO_ONLY").ok(),
        at_a_time: (cpu::usable() + 1).clamp(2, 4), // some of them wait
    })
}

/// A19: the arbiter cannot fork for a while. It waits longer each time, says that the pool is degraded, and goes on once it can.
fn a19_no_forks_for_a_while() -> Outcome {
    can_be_traced()?;
    for (number, errno) in [(libc::EAGAIN, "EAGAIN"), (libc::ENOMEM, "ENOMEM")] {
        let call = Call::new(libc::SYS_clone, [0; 6]);
        let place = Place { role: Role::Arbiter, phase: Phase::Death, call };
        let fault = Fault { place, nth: 1, times: 10, errno: number };
        let dir = sweep::Dir::new("errno-forks");
        let seen = trace::run(scenario::FORKS, Some(fault), &dir.0);
        let wrong = judge::judge(Some(&fault), &seen);
        assert!(wrong.is_empty(), "{errno}: {wrong:?}\n{}", seen.output);
        assert_eq!(seen.injected, 10, "{errno}: it goes on trying");
        let degraded =
            seen.told.iter().any(|told| told.text.starts_with("NoWorkers: no workers: the pool is degraded"));
        assert!(degraded, "{errno}: {:?}", seen.told);
        let lines = seen.output.matches("cannot be started").count();
        assert!((1..=10).contains(&lines), "{errno}: {lines} lines\n{}", seen.output);
    }
    Ok(())
}

/// F10: what stands in a worker's way and passes fails no start; and a boot that fails late takes no call with it.
fn f10_a_boot_that_fails_once_is_tried_again() -> Outcome {
    can_be_traced()?;
    // In the order in which they are made: a process of its own, HELLO, READY.
    let steps = [
        (libc::SYS_setpgid, 1, libc::EPERM),
        (libc::SYS_sendmsg, 1, libc::ENOMEM),
        (libc::SYS_sendmsg, 2, libc::EIO),
    ];
    for (number, nth, errno) in steps {
        for (scenario, phase) in [(scenario::LIFE, Phase::Start), (scenario::FORKS, Phase::Death)] {
            let place = Place { role: Role::Worker, phase, call: Call::new(number, [0; 6]) };
            let fault = Fault { place, nth, times: 1, errno };
            let seen = life(scenario, fault);
            assert_eq!(seen.injected, 1, "{fault}");
            // The one that dies by its own hand.
            let died: BTreeSet<u64> = seen
                .told
                .iter()
                .filter(|told| told.text.starts_with("WorkerDied"))
                .map(|told| told.a)
                .collect();
            assert_eq!(died.len(), 1, "{fault}: {:?}", seen.told);
            assert!(seen.told.iter().all(|told| told.mark != Mark::Refused), "{fault}: {:?}", seen.told);
        }
    }
    Ok(())
}

/// F10: what does not pass fails the start in the end, which says what it was.
fn f10_a_boot_that_fails_always_is_told() -> Outcome {
    can_be_traced()?;
    let place = Place { role: Role::Worker, phase: Phase::None, call: Call::new(libc::SYS_setpgid, [0; 6]) };
    let seen = life(scenario::FORKS, Fault { place, nth: 1, times: usize::MAX - 1, errno: libc::EPERM });
    assert!(seen.injected > 1, "it goes on trying: {:?}", seen.told);
    let refused = seen.told.iter().find(|told| told.mark == Mark::Refused).expect("no error of the start");
    assert!(refused.text.contains("a worker cannot boot: setpgid"), "{refused}");
    Ok(())
}

/// With this fault, and nothing wrong.
fn life(scenario: &str, fault: Fault) -> Seen {
    let dir = sweep::Dir::new("errno-boot");
    let seen = trace::run(scenario, Some(fault), &dir.0);
    let wrong = judge::judge(Some(&fault), &seen);
    assert!(wrong.is_empty(), "{fault}: {wrong:?}\n{}", seen.output);
    seen
}

fn can_be_traced() -> Outcome {
    trace::probe().map_err(Skip)
}
