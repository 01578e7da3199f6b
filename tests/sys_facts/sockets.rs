//! Sockets, and descriptors: passed, inherited, lost.

use crate::harness::{Kid, Outcome, Skip, sleep_for_ever, until};
use crate::raw;
use crate::tests;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};
use nix::sys::signal::Signal;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use stokehold::internals::limits::MAX_FRAME_FDS;
use stokehold::internals::primitive::Ordering;
use stokehold::internals::sys::map::{Mapping, SharedWords};
use stokehold::internals::sys::memfd::{self, Seals};
use stokehold::internals::sys::process::{self, ExitStatus};
use stokehold::internals::sys::socket::{self, Received};
use stokehold::internals::sys::{errno_of, fd, pidfd, poll, signal};

tests![
    peer_credentials_of_an_inherited_pair_are_its_creators,
    passed_descriptor_without_room_is_lost_and_its_bytes_arrive,
    passed_descriptors_come_as_far_as_there_is_room,
    descriptor_closed_here_but_open_in_a_child_goes_on_firing,
    socket_end_is_no_sign_of_death,
    send_to_a_closed_peer_raises_no_signal,
    lane_is_made_passed_checked_and_mapped,
    close_all_except_leaves_what_is_kept,
    close_all_except_works_without_close_range,
    raised_descriptor_limit_is_the_hard_one,
];

fn send_byte(to: &OwnedFd, fds: &[BorrowedFd<'_>]) {
    assert_eq!(socket::send(to.as_fd(), &[IoSlice::new(b"x")], fds).unwrap(), Some(1));
}

fn recv(from: &OwnedFd) -> Received {
    socket::recv(from.as_fd(), &mut [0; 16]).unwrap().unwrap()
}

/// Lets this process open exactly `n` more descriptors.
fn leave_room_for(n: usize) {
    let free: Vec<OwnedFd> = (0..=n).map(|_| fd::dev_null().unwrap()).collect();
    fd::set_nofile_soft(free.last().unwrap().as_raw_fd() as u64).unwrap();
}

fn peer_credentials_of_an_inherited_pair_are_its_creators() -> Outcome {
    let (ours, theirs) = socket::pair().unwrap();
    let creator = process::pid().as_raw();
    let kid = Kid::new(|| i32::from(socket::peer_credentials(theirs.as_fd()).unwrap().pid != creator));
    let shown = socket::peer_credentials(ours.as_fd()).unwrap();
    assert_eq!((shown.pid, shown.uid), (creator, process::uid()));
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    Ok(())
}

fn passed_descriptor_without_room_is_lost_and_its_bytes_arrive() -> Outcome {
    let (a, b) = socket::pair().unwrap();
    send_byte(&a, &[a.as_fd()]);
    leave_room_for(0);
    let received = recv(&b);
    assert_eq!((received.bytes, received.fds.len(), received.truncated), (1, 0, true));
    send_byte(&a, &[]);
    assert!(!recv(&b).truncated);
    Ok(())
}

fn passed_descriptors_come_as_far_as_there_is_room() -> Outcome {
    let (a, b) = socket::pair().unwrap();
    send_byte(&a, &[a.as_fd(); MAX_FRAME_FDS]);
    leave_room_for(1);
    let received = recv(&b);
    assert_eq!((received.bytes, received.fds.len(), received.truncated), (1, 1, true));
    drop(received);
    send_byte(&a, &[a.as_fd()]); // what came and was dropped left its room
    assert_eq!(recv(&b).fds.len(), 1);
    Ok(())
}

fn descriptor_closed_here_but_open_in_a_child_goes_on_firing() -> Outcome {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let mut events = [EpollEvent::empty()];
    for deregister in [false, true] {
        let (watched, peer) = socket::pair().unwrap();
        epoll.add(&watched, EpollEvent::new(EpollFlags::EPOLLIN, 7)).unwrap();
        let child = Kid::new(|| sleep_for_ever());
        if deregister {
            epoll.delete(&watched).unwrap();
        }
        drop(watched);
        send_byte(&peer, &[]);
        let fired = epoll.wait(&mut events, 20u16).unwrap();
        assert_eq!(fired, usize::from(!deregister));
        drop(child);
        assert_eq!(epoll.wait(&mut events, 0u16).unwrap(), 0);
    }
    Ok(())
}

/// A grandchild holds the worker's socket, and its memory, when the worker is gone.
fn socket_end_is_no_sign_of_death() -> Outcome {
    let words = SharedWords::new(1).unwrap();
    let (ours, theirs) = socket::pair().unwrap();
    let worker = Kid::new(|| {
        process::new_group(process::pid()).unwrap();
        if let process::Fork::Child = process::fork().unwrap() {
            loop {
                words.u64(0).fetch_add(1, Ordering::Relaxed);
            }
        }
        sleep_for_ever()
    });
    drop(theirs);
    until(|| words.u64(0).load(Ordering::Relaxed) > 0);
    worker.kill();
    assert!(pidfd::wait_exited(worker.fd.as_fd(), None).unwrap());

    let at_death = words.u64(0).load(Ordering::Relaxed);
    until(|| words.u64(0).load(Ordering::Relaxed) > at_death + 1000);
    let end = poll::readable(ours.as_fd(), Some(Duration::from_millis(5))).unwrap();
    assert_eq!(end, poll::Readiness::default());

    process::kill_group(worker.pid, Signal::SIGKILL).unwrap();
    let end = poll::readable(ours.as_fd(), None).unwrap();
    assert!(end.hangup);
    assert_eq!(recv(&ours).bytes, 0);
    assert_eq!(worker.end(), ExitStatus::Signaled(libc::SIGKILL));
    Ok(())
}

fn send_to_a_closed_peer_raises_no_signal() -> Outcome {
    signal::reset_to_default().unwrap();
    let plain_write = Kid::new(|| {
        let (a, _) = socket::pair().unwrap();
        i32::from(nix::unistd::write(&a, b"x").is_ok())
    });
    assert_eq!(plain_write.end(), ExitStatus::Signaled(libc::SIGPIPE), "SIGPIPE is armed");
    let (a, _) = socket::pair().unwrap();
    let refused = socket::send(a.as_fd(), &[IoSlice::new(b"x")], &[]).unwrap_err();
    assert_eq!(errno_of(&refused), Some(libc::EPIPE));
    Ok(())
}

fn lane_is_made_passed_checked_and_mapped() -> Outcome {
    let needed = Seals::SHRINK | Seals::GROW | Seals::FUTURE_WRITE | Seals::SEAL;
    let (ours, theirs) = socket::pair().unwrap();
    let reader = Kid::new(|| {
        let received = recv(&theirs);
        let [requests, control] = &received.fds[..] else { return 1 };
        memfd::check(requests.as_fd(), needed, 64 << 10).unwrap();
        memfd::check(control.as_fd(), Seals::SHRINK | Seals::GROW | Seals::SEAL, 8 << 10).unwrap();
        assert!(memfd::check(control.as_fd(), needed, 8 << 10).is_err());
        let requests = Mapping::shared_ro(requests.as_fd(), 64 << 10).unwrap();
        let control = Mapping::shared_rw(control.as_fd(), 8 << 10).unwrap();
        // SAFETY: both are longer than that, and the writer waits for this process to end.
        unsafe { *control.as_ptr() = *requests.as_ptr().add(60_000) + 1 };
        0
    });
    let requests = memfd::create("facts-requests", 64 << 10).unwrap();
    let control = memfd::create("facts-control", 8 << 10).unwrap();
    let requests_map = Mapping::shared_rw(requests.as_fd(), 64 << 10).unwrap();
    let control_map = Mapping::shared_rw(control.as_fd(), 8 << 10).unwrap();
    memfd::seal(requests.as_fd(), needed).unwrap();
    memfd::seal(control.as_fd(), Seals::SHRINK | Seals::GROW | Seals::SEAL).unwrap();
    // SAFETY: within the mapping, which the reader has not been sent yet.
    unsafe { *requests_map.as_ptr().add(60_000) = 41 };
    send_byte(&ours, &[requests.as_fd(), control.as_fd()]);
    assert_eq!(reader.end(), ExitStatus::Exited(0));
    // SAFETY: within the mapping, and its other writer is dead.
    assert_eq!(unsafe { *control_map.as_ptr() }, 42);
    Ok(())
}

fn close_all_except_leaves_what_is_kept() -> Outcome {
    closing_leaves_what_is_kept();
    Ok(())
}

fn close_all_except_works_without_close_range() -> Outcome {
    if !raw::deny(libc::SYS_close_range, libc::ENOSYS, None) {
        return Err(Skip("no seccomp".into()));
    }
    assert_eq!(raw::syscall(libc::SYS_close_range, &[900_000, 900_001, 0]), Err(libc::ENOSYS));
    closing_leaves_what_is_kept();
    Ok(())
}

fn closing_leaves_what_is_kept() {
    let kid = Kid::new(|| {
        let mut all: Vec<OwnedFd> = (0..20).map(|_| fd::dev_null().unwrap()).collect();
        let keep = [all.remove(17), all.remove(4), all.remove(0)];
        fd::close_all_except(&[0, 2, 1, 1].map(|n: usize| keep[n].as_raw_fd())).unwrap();
        let is_open =
            |number: i32| raw::syscall(libc::SYS_fcntl, &[number as usize, libc::F_GETFD as usize]).is_ok();
        assert!(keep.iter().all(|fd| is_open(fd.as_raw_fd())));
        assert!(all.iter().all(|fd| !is_open(fd.as_raw_fd())));
        all.into_iter().for_each(std::mem::forget);
        let standard = (0..3).filter(|&number| is_open(number)).count();
        assert_eq!(fd::open_count().unwrap(), keep.len() + standard);
        0
    });
    assert_eq!(kid.end(), ExitStatus::Exited(0));
}

fn raised_descriptor_limit_is_the_hard_one() -> Outcome {
    fd::set_nofile_soft(100).unwrap();
    let (old, new) = fd::raise_nofile().unwrap();
    let (soft, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    assert_eq!((old, new, soft), (100, hard, hard));
    fd::set_nofile_soft(old).unwrap();
    fd::set_nofile_soft(u64::MAX).unwrap();
    assert_eq!(fd::raise_nofile().unwrap(), (hard, hard));
    Ok(())
}
