//! Processes: parents, groups, stops, crashes, and the kernel's calls that are there.

use crate::harness::{Kid, Outcome, Skip, sleep_for_ever, state_of, until};
use crate::raw;
use crate::tests;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use std::io::IoSlice;
use std::os::fd::AsFd;
use std::time::Duration;
use stokehold::error::Kind;
use stokehold::internals::primitive::Ordering;
use stokehold::internals::sys::map::SharedWords;
use stokehold::internals::sys::process::{self, ExitStatus, Fork, Pid};
use stokehold::internals::sys::{errno_of, pidfd, socket};

tests![
    death_signal_comes_when_the_forking_thread_ends,
    death_signal_is_forgotten_by_a_change_of_user,
    death_signal_comes_when_the_parent_is_killed,
    orphan_exits_before_it_begins,
    stopped_process_is_ended_by_sigkill_only,
    group_is_killed_through_its_dead_leader,
    fork_is_refused_to_a_process_with_threads,
    crashes_are_told_apart,
    program_starts_itself_once_more,
    environment_variable_is_removed_by_one_task,
    calls_of_newer_kernels,
];

/// Set in the copy of this program that [`program_starts_itself_once_more`] starts.
const RESPAWNED: &str = "STOKEHOLD_FACTS_RESPAWNED";

fn raw_pid(words: &SharedWords, i: usize) -> Option<Pid> {
    Pid::from_raw(words.u32(i).load(Ordering::Acquire) as i32)
}

fn tell_pid(words: &SharedWords, i: usize) {
    words.u32(i).store(process::pid().as_raw() as u32, Ordering::Release);
}

fn death_signal_comes_when_the_forking_thread_ends() -> Outcome {
    let words = SharedWords::new(1).unwrap();
    let child = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: the process has two threads by now, so the child makes system calls only.
            let child = unsafe { libc::fork() };
            if child == 0 {
                let _ =
                    raw::syscall(libc::SYS_prctl, &[libc::PR_SET_PDEATHSIG as usize, libc::SIGKILL as usize]);
                words.u32(0).store(1, Ordering::Release);
                loop {
                    let _ = raw::syscall(libc::SYS_ppoll, &[0, 0, 0, 0, 0]);
                }
            }
            until(|| words.u32(0).load(Ordering::Acquire) == 1);
            child
        });
        thread.join().unwrap()
    });
    let child = pidfd::open(Pid::from_raw(child).unwrap()).unwrap();
    assert!(pidfd::wait_exited(child.as_fd(), None).unwrap());
    assert_eq!(pidfd::reap(child.as_fd()).unwrap(), Some(ExitStatus::Signaled(libc::SIGKILL)));
    Ok(())
}

fn death_signal_is_forgotten_by_a_change_of_user() -> Outcome {
    if process::uid() != 0 {
        return Err(Skip("needs root, to become somebody else".into()));
    }
    let kid = Kid::new(|| {
        assert_eq!(prctl::get_pdeathsig().unwrap(), Some(Signal::SIGKILL));
        let other = nix::unistd::Uid::from_raw(65534);
        nix::unistd::setresuid(other, other, other).unwrap();
        assert_eq!(process::uid(), 65534);
        assert_eq!(prctl::get_pdeathsig().unwrap(), None);
        0
    });
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    Ok(())
}

fn death_signal_comes_when_the_parent_is_killed() -> Outcome {
    prctl::set_child_subreaper(true).unwrap();
    let words = SharedWords::new(1).unwrap();
    let parent = Kid::new(|| {
        let _child = Kid::new(|| {
            tell_pid(&words, 0);
            sleep_for_ever()
        });
        sleep_for_ever()
    });
    until(|| raw_pid(&words, 0).is_some());
    let child = pidfd::open(raw_pid(&words, 0).unwrap()).unwrap();
    assert!(!pidfd::has_exited(child.as_fd()).unwrap());
    parent.kill();
    assert!(pidfd::wait_exited(child.as_fd(), None).unwrap());
    assert_eq!(parent.end(), ExitStatus::Signaled(libc::SIGKILL));
    Ok(())
}

fn orphan_exits_before_it_begins() -> Outcome {
    let kid = Kid::new(|| {
        let stranger = Pid::from_raw(i32::MAX).unwrap(); // beyond what pid_max can be
        process::die_with_parent(Signal::SIGKILL, stranger).unwrap();
        0
    });
    assert_eq!(kid.end(), ExitStatus::Exited(process::ORPHANED));
    Ok(())
}

fn stopped_process_is_ended_by_sigkill_only() -> Outcome {
    let kid = Kid::new(|| {
        process::stop_self().unwrap();
        0
    });
    until(|| state_of(kid.pid) == 'T');
    for signal in [Signal::SIGTERM, Signal::SIGABRT] {
        pidfd::send_signal(kid.fd.as_fd(), signal).unwrap();
        assert!(!pidfd::wait_exited(kid.fd.as_fd(), Some(Duration::from_millis(20))).unwrap());
        assert_eq!(pidfd::reap(kid.fd.as_fd()).unwrap(), None);
        assert_eq!(state_of(kid.pid), 'T');
    }
    kid.kill();
    assert_eq!(kid.end(), ExitStatus::Signaled(libc::SIGKILL));
    Ok(())
}

fn group_is_killed_through_its_dead_leader() -> Outcome {
    prctl::set_child_subreaper(true).unwrap();
    for reap_the_leader_first in [false, true] {
        let words = SharedWords::new(1).unwrap();
        let leader = Kid::new(|| {
            process::new_group(process::pid()).unwrap();
            if process::fork().unwrap() == Fork::Child {
                tell_pid(&words, 0);
                sleep_for_ever();
            }
            until(|| raw_pid(&words, 0).is_some());
            0
        });
        let group = leader.pid;
        until(|| state_of(group) == 'Z');
        let member = pidfd::open(raw_pid(&words, 0).unwrap()).unwrap();
        let mut zombie = Some(leader);
        if reap_the_leader_first {
            assert_eq!(zombie.take().unwrap().end(), ExitStatus::Exited(0));
        }
        process::kill_group(group, Signal::SIGKILL).unwrap();
        assert!(pidfd::wait_exited(member.as_fd(), None).unwrap());
        assert_eq!(pidfd::reap(member.as_fd()).unwrap(), Some(ExitStatus::Signaled(libc::SIGKILL)));
        drop(zombie);
        let nobody = process::kill_group(group, Signal::SIGKILL).unwrap_err();
        assert_eq!(errno_of(&nobody), Some(libc::ESRCH));
    }
    Ok(())
}

fn fork_is_refused_to_a_process_with_threads() -> Outcome {
    assert_eq!(process::task_count().unwrap(), 1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let refused = process::fork().unwrap_err();
            assert_eq!(*refused.kind(), Kind::Threads { found: 2 });
        });
    });
    until(|| process::task_count().unwrap() == 1);
    assert_eq!(Kid::new(|| 3).end(), ExitStatus::Exited(3));
    Ok(())
}

fn crashes_are_told_apart() -> Outcome {
    process::set_core_limit(0).unwrap();
    assert_eq!(Kid::new(|| process::segfault()).end(), ExitStatus::Signaled(libc::SIGSEGV));
    let raised = |signal| Kid::new(move || process::raise(signal).map_or(1, |()| 0)).end();
    assert_eq!(raised(Signal::SIGKILL), ExitStatus::Signaled(libc::SIGKILL));
    assert_eq!(raised(Signal::SIGTERM), ExitStatus::Signaled(libc::SIGTERM));
    assert_eq!(Kid::new(|| process::exit_now(9)).end(), ExitStatus::Exited(9));
    assert_eq!(ExitStatus::Signaled(9).to_string(), "signal 9");
    Ok(())
}

fn program_starts_itself_once_more() -> Outcome {
    let (ours, theirs) = socket::pair().unwrap();
    let mut copy = process::spawn_self(theirs, (RESPAWNED, "yes")).unwrap();
    let expected = process::exe_identity().unwrap().to_be_bytes();
    socket::send(ours.as_fd(), &[IoSlice::new(&expected)], &[]).unwrap();
    assert_eq!(copy.wait().unwrap(), Some(ExitStatus::Exited(42)));
    Ok(())
}

/// The copy's side of [`program_starts_itself_once_more`]; returns in every other process.
pub fn if_respawned() {
    if std::env::var_os(RESPAWNED).is_none() {
        return;
    }
    process::unset_env(RESPAWNED).unwrap();
    let stdin = std::io::stdin();
    assert!(socket::is_unix_stream(stdin.as_fd()).unwrap());
    let mut expected = [0; 8];
    socket::recv(stdin.as_fd(), &mut expected).unwrap();
    let same = u64::from_be_bytes(expected) == process::exe_identity().unwrap();
    let alone = process::task_count().unwrap() == 1;
    process::exit_now(if same && alone && std::env::var_os(RESPAWNED).is_none() { 42 } else { 1 })
}

fn environment_variable_is_removed_by_one_task() -> Outcome {
    const NAME: &str = "STOKEHOLD_FACTS_VARIABLE";
    // SAFETY: a test process has one thread.
    unsafe { std::env::set_var(NAME, "x") };
    process::unset_env(NAME).unwrap();
    assert!(std::env::var_os(NAME).is_none());
    Ok(())
}

/// What 5.10 has must be there; what is newer is only told.
fn calls_of_newer_kernels() -> Outcome {
    let known = |number, arguments: &[usize]| raw::syscall(number, arguments) != Err(libc::ENOSYS);
    let needed = [
        ("close_range", known(libc::SYS_close_range, &[900_000, 900_001, 0])),
        ("clone3", known(libc::SYS_clone3, &[0, 0])),
        ("pidfd_open", known(libc::SYS_pidfd_open, &[0, 0])),
        ("pidfd_send_signal", known(libc::SYS_pidfd_send_signal, &[usize::MAX, 0, 0, 0])),
    ];
    let (a, _b) = socket::pair().unwrap();
    let me = pidfd::of_self().unwrap();
    let peer_pidfd = {
        let (mut value, mut len): (i32, u32) = (-1, 4);
        let (value, len) = (std::ptr::from_mut(&mut value).addr(), std::ptr::from_mut(&mut len).addr());
        let socket = std::os::fd::AsRawFd::as_raw_fd(&a) as usize;
        let (level, name) = (libc::SOL_SOCKET as usize, 77 /* SO_PEERPIDFD */);
        raw::syscall(libc::SYS_getsockopt, &[socket, level, name, value, len]).is_ok()
    };
    let pidfd_info = {
        let mut info = [0u64; 8]; // struct pidfd_info of 64 bytes
        let request = 0xc040_ff0b_u32 as usize; // _IOWR(0xff, 11, 64 bytes)
        let number = std::os::fd::AsRawFd::as_raw_fd(&me) as usize;
        raw::syscall(libc::SYS_ioctl, &[number, request, info.as_mut_ptr().addr()]).is_ok()
    };
    let landlock = raw::syscall(libc::SYS_landlock_create_ruleset, &[0, 0, 1]);
    let newer = [
        ("futex_waitv", known(libc::SYS_futex_waitv, &[0, 0, 0, 0, 0])),
        ("mseal", known(462, &[1, 0, 0])),
        ("PIDFD_GET_INFO", pidfd_info),
        ("SO_PEERPIDFD", peer_pidfd),
        ("landlock", landlock.is_ok()),
        ("seccomp", known(libc::SYS_seccomp, &[usize::MAX, 0, 0])),
    ];
    let tell = |list: &[(&str, bool)]| {
        let words: Vec<_> =
            list.iter().map(|(name, is)| format!("{name} {}", if *is { "yes" } else { "no" })).collect();
        words.join(", ")
    };
    println!("  needed: {}", tell(&needed));
    println!("  newer: {}; landlock ABI {}", tell(&newer), landlock.unwrap_or(0));
    assert!(needed.iter().all(|(_, is)| *is), "{}", tell(&needed));
    Ok(())
}
