//! Signals: waits that go on through them, and the state that children get back.

use crate::harness::{Kid, Outcome};
use crate::raw;
use crate::tests;
use nix::sys::signal::Signal;
use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::time::Duration;
use stokehold::internals::primitive::{AtomicU32, Ordering};
use stokehold::internals::sys::futex::{self, Wait};
use stokehold::internals::sys::poll::{self, Readiness};
use stokehold::internals::sys::process::{self, ExitStatus};
use stokehold::internals::sys::signal::{Incoming, Saved};
use stokehold::internals::sys::{clock, memfd, pidfd, signal, socket};

tests![
    interrupted_futex_wait_says_so_and_its_timeout_holds,
    interrupted_sleep_and_poll_last_as_long_as_asked,
    interrupted_recv_and_send_go_on,
    interrupted_wait_for_a_process_goes_on,
    interrupted_allocation_of_memory_completes,
    saved_signal_state_is_what_an_exec_finds,
    blocked_signals_are_read_from_a_descriptor,
];

const SHORT: Duration = Duration::from_millis(30);
static TICKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn tick(_: libc::c_int) {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// A thousand SIGALRM a second, without SA_RESTART, while `body` runs; and at least one while it waited.
fn under_fire<T>(body: impl FnOnce() -> T) -> T {
    // SAFETY: a sigaction of zeroes is a valid one; the handler below it only adds to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = tick as extern "C" fn(libc::c_int) as libc::sighandler_t;
        assert_eq!(libc::sigaction(libc::SIGALRM, &action, ptr::null_mut()), 0);
    }
    set_timer(1000);
    let before = TICKS.load(Ordering::Relaxed);
    let answer = body();
    set_timer(0);
    assert!(TICKS.load(Ordering::Relaxed) > before, "no signal came: the test was not armed");
    answer
}

fn set_timer(interval_us: i64) {
    let time = libc::timeval { tv_sec: 0, tv_usec: interval_us };
    let timer = libc::itimerval { it_interval: time, it_value: time };
    let timer = ptr::from_ref(&timer).addr();
    raw::syscall(libc::SYS_setitimer, &[libc::ITIMER_REAL as usize, timer, 0]).unwrap();
}

fn lasts_at_least(duration: Duration, body: impl FnOnce()) {
    let before = clock::monotonic_ns();
    body();
    assert!(clock::monotonic_ns() - before >= duration.as_nanos() as u64);
}

fn interrupted_futex_wait_says_so_and_its_timeout_holds() -> Outcome {
    let word = AtomicU32::new(0);
    let mut interrupted = 0;
    lasts_at_least(SHORT, || {
        under_fire(|| {
            let end = clock::monotonic_ns() + SHORT.as_nanos() as u64;
            loop {
                let left = Duration::from_nanos(end.saturating_sub(clock::monotonic_ns()));
                match futex::wait(&word, 0, Some(left)) {
                    Wait::TimedOut => break,
                    Wait::Interrupted => interrupted += 1,
                    other => panic!("{other:?}"),
                }
            }
        });
    });
    assert!(interrupted > 0);
    Ok(())
}

fn interrupted_sleep_and_poll_last_as_long_as_asked() -> Outcome {
    let (a, _b) = socket::pair().unwrap();
    let me = pidfd::of_self().unwrap();
    lasts_at_least(SHORT, || under_fire(|| clock::sleep(SHORT)));
    lasts_at_least(SHORT, || {
        let readiness = under_fire(|| poll::readable(a.as_fd(), Some(SHORT)).unwrap());
        assert_eq!(readiness, Readiness::default());
    });
    lasts_at_least(SHORT, || {
        assert!(!under_fire(|| pidfd::wait_exited(me.as_fd(), Some(SHORT)).unwrap()));
    });
    Ok(())
}

fn interrupted_recv_and_send_go_on() -> Outcome {
    const BYTES: usize = 4 << 20; // more than a socket holds
    let (ours, theirs) = socket::pair().unwrap();
    let echo = Kid::new(|| {
        clock::sleep(SHORT);
        socket::send(theirs.as_fd(), &[IoSlice::new(b"late")], &[]).unwrap();
        clock::sleep(SHORT);
        i32::from(drain(&theirs, BYTES) != BYTES)
    });
    let mut answer = [0; 8];
    let received = under_fire(|| socket::recv(ours.as_fd(), &mut answer).unwrap().unwrap());
    assert_eq!(&answer[..received.bytes], b"late");
    under_fire(|| {
        let bytes = vec![0; BYTES];
        let mut sent = 0;
        while sent < BYTES {
            sent += socket::send(ours.as_fd(), &[IoSlice::new(&bytes[sent..])], &[]).unwrap().unwrap();
        }
    });
    assert_eq!(echo.end(), ExitStatus::Exited(0));
    Ok(())
}

fn drain(from: &OwnedFd, wanted: usize) -> usize {
    let mut buffer = vec![0; 64 << 10];
    let mut got = 0;
    while got < wanted {
        match socket::recv(from.as_fd(), &mut buffer).unwrap().unwrap().bytes {
            0 => break,
            bytes => got += bytes,
        }
    }
    got
}

fn interrupted_wait_for_a_process_goes_on() -> Outcome {
    let script = ["-c", "sleep 0.05; exit 3"];
    let null = || stokehold::internals::sys::fd::dev_null().unwrap();
    let path = std::path::Path::new("/bin/sh");
    let mut child = process::spawn(path, &script, null(), &[]).unwrap();
    assert_eq!(under_fire(|| child.wait().unwrap()), Some(ExitStatus::Exited(3)));
    let child = process::spawn(path, &script, null(), &[]).unwrap();
    let handle = pidfd::open(child.pid()).unwrap();
    assert!(under_fire(|| pidfd::wait_exited(handle.as_fd(), None).unwrap()));
    assert_eq!(pidfd::reap(handle.as_fd()).unwrap(), Some(ExitStatus::Exited(3)));
    Ok(())
}

fn interrupted_allocation_of_memory_completes() -> Outcome {
    const BYTES: usize = 64 << 20;
    let file = under_fire(|| {
        let file = memfd::create("facts", BYTES).unwrap();
        clock::sleep(Duration::from_millis(3)); // a quick machine needs no longer for it than a tick
        file
    });
    let blocks = nix::sys::stat::fstat(&file).unwrap().st_blocks as usize;
    assert!(blocks * 512 >= BYTES);
    Ok(())
}

fn saved_signal_state_is_what_an_exec_finds() -> Outcome {
    signal::reset_to_default().unwrap();
    signal::ignore(Signal::SIGUSR2).unwrap();
    signal::ignore(Signal::SIGPIPE).unwrap();
    let host = Saved::now().unwrap().not_ignoring(Signal::SIGPIPE);
    let bit = |signal: Signal| 1u64 << (signal as i32 - 1);
    assert_eq!(host.to_bits(), (0, bit(Signal::SIGUSR2)));

    let (blocked, ignored) = host.to_bits();
    let restored = Saved::from_bits(blocked | bit(Signal::SIGHUP) | 1 << 39, ignored);
    let (ours, theirs) = socket::pair().unwrap();
    let kid = Kid::new(|| {
        under_fire(|| clock::sleep(Duration::from_millis(3))); // leaves a handler
        signal::ignore(Signal::SIGTERM).unwrap();
        signal::block_all().unwrap();
        restored.restore().unwrap();
        assert_eq!(Saved::now().unwrap(), restored);
        stokehold::internals::sys::fd::replace_stdin(theirs.as_fd()).unwrap();
        let name = raw::c("/bin/cat");
        let file = raw::c("/proc/self/status");
        let output = raw::syscall(libc::SYS_dup3, &[0, 1, 0]);
        assert_eq!(output, Ok(1));
        let arguments = [name.as_ptr(), file.as_ptr(), ptr::null()];
        let environment: [*const u8; 1] = [ptr::null()];
        // Not through std, which empties the mask.
        let (arguments, environment) = (arguments.as_ptr().addr(), environment.as_ptr().addr());
        raw::syscall(libc::SYS_execve, &[name.as_ptr().addr(), arguments, environment]).unwrap_err()
    });
    drop(theirs);
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    let mut status = vec![0; 64 << 10];
    let length = socket::recv(ours.as_fd(), &mut status).unwrap().unwrap().bytes;
    let status = String::from_utf8_lossy(&status[..length]).into_owned();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let of_libc = 1 << 31 | 1 << 32;
    assert_eq!((field("SigBlk:") & !of_libc, field("SigIgn:") & !of_libc), restored.to_bits());
    Ok(())
}

fn blocked_signals_are_read_from_a_descriptor() -> Outcome {
    let incoming = Incoming::new(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]).unwrap();
    let now = Some(Duration::ZERO);
    assert!(!poll::readable(incoming.as_fd(), now).unwrap().ready);
    let me = pidfd::of_self().unwrap();
    let kid = Kid::new(|| {
        pidfd::send_signal(me.as_fd(), Signal::SIGTERM).unwrap();
        0
    });
    let pid = kid.pid;
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    assert!(poll::readable(incoming.as_fd(), None).unwrap().ready);
    let mut arrived: Vec<_> = std::iter::from_fn(|| incoming.next().unwrap()).collect();
    arrived.sort_by_key(|a| a.signal as i32);
    let expected = [(Signal::SIGTERM, Some(pid)), (Signal::SIGCHLD, Some(pid))];
    assert_eq!(arrived.iter().map(|a| (a.signal, a.sender)).collect::<Vec<_>>(), expected);
    assert!(!poll::readable(incoming.as_fd(), now).unwrap().ready);
    Ok(())
}
