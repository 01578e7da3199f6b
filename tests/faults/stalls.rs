//! An arbiter that stands still, and that it does not do so by itself: calls need it for nothing but deaths, memory and
//! news, and it waits in one place only.

use crate::app::{Random, all_free, builder, call, fails, keyed, number, pattern, ready, works};
use crate::guard::{PoolGuard, Stopped, kill};
use crate::harness::{Outcome, Skip};
use crate::tracer::Tracer;
use nix::sys::signal::Signal;
use stokehold::Code;

crate::tests! {
    f7_calls_go_on_while_the_arbiter_is_stopped,
    f7_the_arbiter_waits_in_one_place_only,
    a18_nobody_is_signalled_by_a_number_that_may_be_anothers,
}

fn f7_calls_go_on_while_the_arbiter_is_stopped() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let (client, other) = (pool.client().unwrap(), pool.client().unwrap());
    // What is mapped once is there.
    let bytes = pattern(1, 200_000);
    let large = || call(&client, "lent_echo").args((client.lease_from(&bytes).unwrap(),)).execute().unwrap();
    (0..20).for_each(|_| assert_eq!(large().as_bytes().unwrap(), bytes));
    works(&other);
    let stopped = Stopped::new(pool.arbiter_pid());
    let mut random = Random(7);
    for i in 0..300 {
        let client = if random.below(2) == 0 { &client } else { &other };
        assert_eq!(number(call(client, "work").args((i, b"x".as_slice(), 0)).execute()), keyed(i, b"x"));
        if i % 10 == 0 {
            assert_eq!(large().as_bytes().unwrap(), bytes);
            let items = call(client, "keyed").args((50, 0)).stream().unwrap();
            assert_eq!(items.collect::<Result<Vec<_>, _>>().unwrap().len(), 50);
        }
    }
    // Limits are kept by those who wait.
    let endless = call(&client, "spin").args((1_000,)).deadline_ms(300).submit().unwrap();
    assert_eq!(fails(endless.wait()).code(), Code::Deadline);
    // Its worker is still in that, and nobody replaces it: what comes now waits until somebody does.
    let before = client.worker_pids();
    let waiting = call(&client, "add").args((1, 2)).submit().unwrap();
    before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
    drop(stopped);
    assert_eq!(number(waiting.wait()), 3);
    ready(&client, 1, &before);
    works(&client);
    drop(other);
    all_free(&client);
    Ok(())
}

/// The system calls of an arbiter that does all that it does: deaths, births, clients that come and go, memory, questions;
/// and the end.
fn traced(filter: &[&str], ends: bool) -> Result<String, Skip> {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2));
    let client = pool.client().unwrap();
    works(&client);
    let tracer = Tracer::new(pool.arbiter_pid(), &[&["-y"], filter].concat())?;
    for round in 0..5 {
        let before = ready(&client, 2, &[]);
        kill(before[0], Signal::SIGKILL);
        let fresh = pool.client().unwrap();
        let bytes = pattern(round, 1_000_000);
        let lease = fresh.lease_from(&bytes).unwrap();
        assert_eq!(call(&fresh, "lent_echo").args((lease,)).execute().unwrap().as_bytes().unwrap(), bytes);
        let error = fails(call(&client, "spin").args((round,)).deadline_ms(20).execute());
        assert_eq!(error.code(), Code::Deadline, "{error}");
        ready(&client, 2, &before[..1]);
    }
    if ends {
        pool.stop().unwrap();
        return Ok(tracer.follow());
    }
    let trace = tracer.detach();
    works(&client);
    Ok(trace)
}

/// It sleeps in `epoll_wait`; all else returns at once.
fn f7_the_arbiter_waits_in_one_place_only() -> Outcome {
    let trace = traced(&[], false)?;
    assert!(
        ["epoll_wait", "clone", "waitid", "recvmsg", "memfd_create"].iter().all(|c| trace.contains(c)),
        "{trace}"
    );
    let waits: Vec<&str> = trace.lines().filter(|line| may_wait(line)).collect();
    assert!(waits.is_empty(), "{waits:#?}");
    Ok(())
}

/// A process by its pidfd; a group by the number of a leader that nobody has reaped yet.
fn a18_nobody_is_signalled_by_a_number_that_may_be_anothers() -> Outcome {
    let trace = traced(&["-e", "trace=kill,tkill,tgkill,pidfd_send_signal,waitid,wait4"], true)?;
    let (mut reaped, mut groups, mut processes) = (Vec::new(), 0, 0);
    for line in trace.lines() {
        let (name, arguments) = line.split_once('(').unwrap_or((line, ""));
        match name {
            "pidfd_send_signal" => processes += 1,
            "kill" => {
                let number = arguments.split(',').next().unwrap().parse::<i64>().unwrap();
                assert!(number < -1, "{line}");
                assert!(!reaped.contains(&-number), "its leader is reaped: {line}\n{trace}");
                groups += 1;
            }
            "waitid" if !line.contains("WNOWAIT") => {
                let pid = arguments.split("si_pid=").nth(1).and_then(|rest| rest.split(',').next());
                reaped.extend(pid.map(|pid| pid.parse::<i64>().unwrap()));
            }
            "waitid" => {}
            _ => assert!(!line.contains('('), "{line}"),
        }
    }
    // Five that were killed, and at the end the two that are there, of which one does not let go.
    let counts = (groups, processes, reaped.len());
    assert!(counts.0 >= 7 && counts.1 >= 2 && counts.2 >= 7, "{counts:?}:\n{trace}");
    Ok(())
}

/// Whether a system call may keep its thread for as long as somebody else likes.
fn may_wait(line: &str) -> bool {
    let (name, arguments) = line.split_once('(').unwrap_or((line, ""));
    match name {
        "futex" => arguments.contains("FUTEX_WAIT") || arguments.contains("FUTEX_LOCK"),
        "wait4" | "waitid" => !arguments.contains("WNOHANG"),
        "flock" => !arguments.contains("LOCK_NB"),
        // That a descriptor does not wait may be another's word by now. One in which strace let go shows no flags.
        "recvmsg" | "sendmsg" => !arguments.contains("MSG_DONTWAIT") && !arguments.contains("<detached ...>"),
        "ppoll" => !arguments.contains("{tv_sec=0, tv_nsec=0}"),
        "poll" | "select" | "pselect6" | "epoll_pwait2" | "nanosleep" | "clock_nanosleep" | "pause"
        | "rt_sigtimedwait" | "rt_sigsuspend" | "connect" | "fsync" | "fdatasync" | "msync" | "sync"
        | "syncfs" => true,
        _ => false,
    }
}
