//! The door of a daemon: who is let in, what those who come may cost it, and who takes over from one that was killed.

use crate::app::{builder, ready, works};
use crate::guard::{PoolGuard, Stopped, kill, until};
use crate::harness::{Kid, Outcome, Skip};
use crate::input::{PATIENCE, hello, hello_with};
use crate::proc;
use crate::serve::{PATH, end, joined, says, served};
use crate::tracer::Tracer;
use nix::sys::ptrace;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::shm::layout_hash;
use stokehold::internals::sys::process::ExitStatus;
use stokehold::internals::sys::{dir, event, socket};
use stokehold::internals::wire::Kind;
use stokehold::{Client, Code, Error, Options, Result};

crate::tests! {
    a_client_of_another_layout_is_refused,
    a_client_that_is_no_process_is_refused,
    a_client_of_another_user_is_sent_away,
    silent_connections_are_closed,
    silent_connections_keep_nobody_out,
    clients_leave_descriptors_for_workers,
    clients_leave_descriptors_for_workers_whatever_they_send,
    a_daemon_out_of_descriptors_recovers,
    d1_who_waits_is_heard_though_no_event_can_tell,
    a_socket_of_a_killed_daemon_is_replaced,
    a_daemon_that_is_killed_at_any_point_of_its_start_is_replaced,
}

fn link(path: &str) -> Link {
    Link::new(UnixStream::connect(path).unwrap().into())
}

/// Says HELLO, and hears whether that is let in.
fn greet(link: &mut Link, hello: Message) -> Result<Message> {
    link.ask(hello, Kind::Welcome, PATIENCE)
}

/// A daemon of two workers that may have so many descriptors, and a client.
fn served_within(descriptors: u64) -> (Kid, Client) {
    let kid = Kid::new(|| {
        setrlimit(Resource::RLIMIT_NOFILE, descriptors, descriptors).unwrap();
        builder(2).serve(PATH).map_or(1, |()| 0)
    });
    let client = joined(PATH);
    ready(&client, 2, &[]);
    (kid, client)
}

/// Clients come until one is refused: those that were let in, and what that one was told.
fn crowd() -> (Vec<Client>, Error) {
    let mut inside = Vec::new();
    loop {
        match Client::connect_path(PATH, Options::default()) {
            Ok(client) => inside.push(client),
            Err(error) => return (inside, error),
        }
        assert!(inside.len() < 100);
    }
}

/// Both workers are killed, and replaced.
fn are_replaced(client: &Client) {
    let before = client.worker_pids();
    before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
    ready(client, 2, &before);
    works(client);
}

/// B18, C14.
fn a_client_of_another_layout_is_refused() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let mut stranger = link(PATH);
    let error = greet(&mut stranger, hello(1)).unwrap_err();
    says(&error, Code::Incompatible, &["layout 0x1 "]);
    works(&client);
    drop((stranger, client));
    end(kid);
    Ok(())
}

/// HELLO brings a handle to the process; what else it may bring could tell lies, or take its time to answer.
fn a_client_that_is_no_process_is_refused() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let event = event::Event::new().unwrap();
    for fd in [fs::File::open("/dev/null").unwrap().into(), event.as_fd().try_clone_to_owned().unwrap()] {
        let error = greet(&mut link(PATH), hello_with(layout_hash(), fd)).unwrap_err();
        says(&error, Code::BadRequest, &["no handle to a process"]);
    }
    works(&client);
    drop(client);
    end(kid);
    Ok(())
}

fn a_client_of_another_user_is_sent_away() -> Outcome {
    let _guard = PoolGuard::new();
    if !nix::unistd::geteuid().is_root() {
        return Err(Skip("only root can become another user".into()));
    }
    let (kid, client) = served(1);
    // As if somebody had opened the door: a socket that all may connect to, and a way past its directory.
    fs::set_permissions(PATH, fs::Permissions::from_mode(0o666)).unwrap();
    let handle = dir::handle(Path::new(PATH)).unwrap();
    let theirs = Kid::new(|| {
        nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).unwrap();
        let path = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
        // Its own library would not talk to a pool of another user either.
        let error = Client::connect_path(&path, Options::default()).unwrap_err();
        says(&error, Code::Incompatible, &["served by user 0"]);
        let error = greet(&mut link(&path), hello(layout_hash())).unwrap_err();
        says(&error, Code::Incompatible, &["user 0's", "65534"]);
        0
    });
    assert_eq!(theirs.end(), ExitStatus::Exited(0));
    drop(handle);
    works(&client);
    drop(client);
    end(kid);
    Ok(())
}

fn silent_connections_are_closed() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let mut mute = UnixStream::connect(PATH).unwrap();
    let mut stammering = UnixStream::connect(PATH).unwrap();
    // Half a header.
    stammering.write_all(b"GD\x01\x40\0\0").unwrap();
    for stream in [&mut mute, &mut stammering] {
        let mut buffer = [0; 16];
        // Closed with what was not read yet is a reset.
        let ended = match stream.read(&mut buffer) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(ended);
    }
    // One that said HELLO may be silent for as long as it likes: it has been for longer.
    works(&client);
    drop(client);
    end(kid);
    Ok(())
}

fn silent_connections_keep_nobody_out() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let daemon = kid.pid.as_raw() as u32;
    let base = proc::descriptors(daemon).len();
    let flood: Vec<UnixStream> = (0..1_000).map(|_| UnixStream::connect(PATH).unwrap()).collect();
    works(&joined(PATH));
    works(&client);
    assert!(proc::descriptors(daemon).len() < base + 300, "silent ones are bounded");
    drop(flood);
    until("what they took is given back", || proc::descriptors(daemon).len() <= base);
    drop(client);
    end(kid);
    Ok(())
}

/// Clients may not take what is needed to replace workers.
fn clients_leave_descriptors_for_workers() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served_within(100);
    let (others, error) = crowd();
    assert!(error.to_string().contains("open more"), "{error}");
    assert!(others.len() >= 3, "{}", others.len());
    (0..3).for_each(|_| are_replaced(&client));
    drop(others);
    works(&joined(PATH));
    drop(client);
    end(kid);
    Ok(())
}

/// Those that are let in may not either: with what they register, what they send unasked, and by coming all at once.
fn clients_leave_descriptors_for_workers_whatever_they_send() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served_within(200);
    let daemon = kid.pid.as_raw() as u32;
    let base = proc::descriptors(daemon).len() + 5; // a worker may be on its way
    // They connect while there is room, and say HELLO when there is none.
    let mut links: Vec<Link> = (0..80).map(|_| link(PATH)).collect();
    let errors: Vec<Error> =
        links.iter_mut().filter_map(|link| greet(link, hello(layout_hash())).err()).collect();
    assert!(!errors.is_empty() && errors.iter().all(|e| e.to_string().contains("open more")), "{errors:?}");
    are_replaced(&client);
    drop(links);
    // Nothing at all. Once the next one has its answer, all of them have been looked at.
    let silent: Vec<UnixStream> = (0..200).map(|_| UnixStream::connect(PATH).unwrap()).collect();
    if let Err(error) = Client::connect_path(PATH, Options::default()) {
        assert!(error.to_string().contains("open more"), "{error}");
    }
    let open = proc::descriptors(daemon).len();
    // A worker may take 16: of what is kept for three, the two that live leave at least those of the next.
    assert!(open <= 200 - 16, "{open} of 200 are open, and a worker may have to be started");
    are_replaced(&client);
    drop(silent);
    until("who was silent is forgotten", || proc::descriptors(daemon).len() <= base);
    // Descriptors that no message announces.
    let files: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(PATH).unwrap()).collect();
    let mut sent = 0;
    for stream in &files {
        for byte in b"GD" {
            let null = fs::File::open("/dev/null").unwrap();
            let null = [null.as_fd(); 4];
            let part = IoSlice::new(std::slice::from_ref(byte));
            match socket::send(stream.as_fd(), &[part], &null) {
                Ok(_) => sent += null.len(),
                // It was turned away for want of room before it had said it all.
                Err(error) => assert!(error.to_string().contains("Broken pipe"), "{error}"),
            }
        }
    }
    assert!(sent >= 200, "{sent} are no more than there is room for");
    are_replaced(&client);
    drop(files);
    // Memory for arguments.
    let mut leases = Vec::new();
    let greedy = joined(PATH);
    let others: Vec<Client> = (0..5).map(|_| joined(PATH)).collect();
    let error = others.iter().chain([&greedy]).find_map(|client| {
        (0..60).find_map(|_| client.lease(32 << 20).map(|lease| leases.push(lease)).err())
    });
    let error = error.unwrap().to_string();
    assert!(error.contains("open more"), "{error}");
    are_replaced(&client);
    drop((leases, greedy, others, client));
    end(kid);
    Ok(())
}

/// Not even for a moment to send somebody away with: told by a timer, since the listener does not tell again.
fn a_daemon_out_of_descriptors_recovers() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    works(&client);
    let daemon = kid.pid.as_raw() as u32;
    // No number is left but those in use; the one in reserve is among them.
    let used = proc::descriptors(daemon).into_keys().max().unwrap() + 1;
    let before = limit_descriptors(daemon, used.into());
    // Holes are filled first; then everybody is told why, and nobody is left hanging.
    let mut others = Vec::new();
    for _ in 0..50 {
        // What the daemon has open for a moment only may be a hole for the next one.
        let (inside, error) = crowd();
        assert!(error.to_string().contains("Too many open files"), "{error}");
        others.extend(inside);
        assert!(others.len() < 100);
    }
    works(&client);
    // Below what is in use: the reserve is of no use either, and who comes has to wait until it is better.
    limit_descriptors(daemon, 3);
    let waiting = UnixStream::connect(PATH).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    works(&client);
    limit_descriptors(daemon, before);
    let mut link = Link::new(waiting.into());
    link.ask(Message::new(Kind::Status), Kind::Response, PATIENCE).unwrap();
    works(&joined(PATH));
    drop((others, client));
    end(kid);
    Ok(())
}

/// After so many of them the others have their turn, and a new event is asked for, which may fail for want of memory.
fn d1_who_waits_is_heard_though_no_event_can_tell() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    works(&client);
    let daemon = kid.pid.as_raw() as u32;
    // Each that comes in is a watch of its own; the listener is the next one.
    let links = without_memory(daemon, 33, || (0..40).map(|_| link(PATH)).collect::<Vec<_>>())?;
    for mut link in links {
        link.ask(Message::new(Kind::Status), Kind::Response, PATIENCE).unwrap();
    }
    // And what one says.
    let mut chatty = link(PATH);
    chatty.ask(Message::new(Kind::Status), Kind::Response, PATIENCE).unwrap();
    without_memory(daemon, 1, || (0..100).for_each(|_| chatty.send(Message::new(Kind::Status)).unwrap()))?;
    for _ in 0..100 {
        chatty.receive(PATIENCE).unwrap().expect("an answer");
    }
    drop((chatty, client));
    end(kid);
    Ok(())
}

/// While a daemon is stopped something happens, of which it hears when there is no memory for this of its watches.
fn without_memory<T>(daemon: u32, nth: usize, happens: impl FnOnce() -> T) -> std::result::Result<T, Skip> {
    let stopped = Stopped::new(daemon);
    let what = happens();
    let inject = format!("inject=epoll_ctl:error=ENOMEM:when={nth}");
    let tracer = Tracer::new(daemon, &["-e", "trace=epoll_ctl", "-e", &inject])?;
    drop(stopped);
    until("it was told", || tracer.seen().contains("INJECTED"));
    let trace = tracer.detach();
    assert!(trace.contains("EPOLL_CTL_MOD"), "{trace}");
    Ok(what)
}

/// Sets the limit of another process; returns what it was.
fn limit_descriptors(pid: u32, limit: u64) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let pid = pid as libc::pid_t;
    // SAFETY: `old` is valid for the write of one rlimit; nothing is read.
    assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &mut old) }, 0);
    let new = libc::rlimit { rlim_cur: limit, ..old };
    // SAFETY: `new` is an initialised rlimit; nothing is written.
    assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &new, std::ptr::null_mut()) }, 0);
    old.rlim_cur
}

fn a_socket_of_a_killed_daemon_is_replaced() -> Outcome {
    let _guard = PoolGuard::new();
    for _ in 0..3 {
        let (kid, client) = served(1);
        works(&client);
        kid.kill();
        assert_eq!(kid.end(), ExitStatus::Signaled(9));
        assert!(fs::metadata(PATH).unwrap().file_type().is_socket(), "nobody was there to remove it");
    }
    // One that was killed between the making of its socket and the note of it.
    fs::write("d/pool.sock.lock", "making\n").unwrap();
    let (kid, client) = served(1);
    works(&client);
    end(kid);
    Ok(())
}

/// After each system call that leaves something else for the next one to find.
fn a_daemon_that_is_killed_at_any_point_of_its_start_is_replaced() -> Outcome {
    let _guard = PoolGuard::new();
    let mut seen = vec![Vec::new()];
    let whole = [("pool.sock", ""), ("pool.sock.lock", "numbers"), ("pool.sock.pid", "numbers")];
    while seen.last().is_none_or(|last| *last != whole) {
        let kid = Kid::new(|| {
            if ptrace::traceme().is_err() {
                return NOT_TRACED;
            }
            raise(Signal::SIGSTOP).unwrap();
            builder(1).serve(PATH).map_or(1, |()| 0)
        });
        let pid = Pid::from_raw(kid.pid.as_raw());
        let left = loop {
            match waitpid(pid, None).unwrap() {
                WaitStatus::Stopped(..) => {}
                WaitStatus::Exited(_, NOT_TRACED) => return Err(Skip("ptrace is not permitted".into())),
                other => panic!("{other:?}"),
            }
            let left = what_is_left();
            if !seen.contains(&left) {
                break left;
            }
            ptrace::syscall(pid, None).unwrap();
        };
        kid.kill();
        kid.end();
        let (next, client) = served(1);
        works(&client);
        drop(client);
        end(next);
        seen.push(left);
    }
    assert!(seen.len() > 5, "{seen:?}");
    Ok(())
}

const NOT_TRACED: i32 = 77;

/// The names in a daemon's directory, and what kind of thing is said in each.
fn what_is_left() -> Vec<(&'static str, &'static str)> {
    let names = ["pool.sock", "pool.sock.lock", "pool.sock.pid"];
    let there = names.into_iter().filter_map(|name| {
        let path = Path::new("d").join(name);
        fs::symlink_metadata(&path).ok()?;
        let text = fs::read_to_string(&path).unwrap_or_default();
        let said = match text.chars().next() {
            None => "",
            Some('m') => "making",
            Some('0'..='9') => "numbers",
            Some(_) => panic!("{text:?}"),
        };
        Some((name, said))
    });
    there.collect()
}
