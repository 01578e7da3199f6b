//! A pool that is served under a path: who gets in, how it ends, and whose the path is.

use crate::app::{builder, call, fails, number, open, ready, until_begun, works};
use crate::guard::{PoolGuard, kill, some, until};
use crate::harness::{Kid, Outcome, Skip};
use crate::proc;
use nix::sys::ptrace;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stokehold::internals::conn::{Link, Message};
use stokehold::internals::sys::process::ExitStatus;
use stokehold::internals::{sys, wire};
use stokehold::{Builder, Client, Code, Error, Options};

crate::tests! {
    another_process_joins_by_path,
    the_path_is_for_its_user_alone_from_the_first_moment,
    sigterm_drains_a_daemon_and_cleans_up,
    the_second_sigterm_means_now,
    sighup_does_not_end_a_daemon,
    a_daemon_that_is_killed_takes_its_pool_along,
    workers_of_a_daemon_inherit_nothing_of_it,
    a_path_that_is_served_is_refused,
    a_socket_of_a_killed_daemon_is_replaced,
    a_daemon_that_is_killed_at_any_point_of_its_start_is_replaced,
    what_no_daemon_made_stays,
    directories_that_are_not_ours_alone_are_refused,
    d14_paths_of_any_length,
    a_worker_of_a_daemon_is_replaced,
    a_client_of_another_layout_is_refused,
    silent_connections_are_closed,
    silent_connections_keep_nobody_out,
    a_client_that_is_no_process_is_refused,
    clients_leave_descriptors_for_workers,
    clients_leave_descriptors_for_workers_whatever_they_send,
    a_daemon_out_of_descriptors_recovers,
    a_client_of_another_user_is_sent_away,
    a_process_with_threads_does_not_serve,
}

const PATH: &str = "d/pool.sock";

/// A daemon of its own process.
fn serve_at(path: impl AsRef<Path>, builder: Builder) -> Kid {
    Kid::new(|| match builder.serve(path) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    })
}

/// One that is up, and a client.
fn served(workers: usize) -> (Kid, Client) {
    let kid = serve_at(PATH, builder(workers));
    let client = joined(PATH);
    ready(&client, workers, &[]);
    (kid, client)
}

fn joined(path: impl AsRef<Path>) -> Client {
    some("the pool is served", || Client::connect_path(path.as_ref(), Options::default()).ok())
}

fn refused(path: impl AsRef<Path>) -> Error {
    builder(1).serve(path).unwrap_err()
}

fn says(error: &Error, code: Code, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} lacks one of {words:?}");
}

fn signal(kid: &Kid, signal: Signal) {
    kill(kid.pid.as_raw() as u32, signal);
}

/// Ends a daemon in an orderly way; nothing of it is left in its directory, which goes, too.
fn end(kid: Kid) {
    signal(&kid, Signal::SIGTERM);
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    clean("d");
}

fn clean(dir: &str) {
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir(dir).unwrap();
}

fn another_process_joins_by_path() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(2);
    works(&client);
    let other = Kid::new(|| {
        let client = Client::connect_path(PATH, Options::default()).unwrap();
        works(&client);
        let lease = client.lease_from(&[7; 1 << 20]).unwrap();
        let echo = call(&client, "lent_echo").args((&lease,)).execute().unwrap();
        i32::from(echo.as_bytes().unwrap() != [7; 1 << 20])
    });
    assert_eq!(other.end(), ExitStatus::Exited(0));
    assert_eq!(client.worker_pids().len(), 2);
    assert_eq!(fs::read_to_string("d/pool.sock.pid").unwrap(), format!("{}\n", kid.pid));
    end(kid);
    assert_eq!(fails(call(&client, "add").args((1, 1)).execute()).started(), Some(false));
    let error = Client::connect_path(PATH, Options::default()).unwrap_err();
    says(&error, Code::Os, &[PATH, "No such file"]);
    Ok(())
}

fn the_path_is_for_its_user_alone_from_the_first_moment() -> Outcome {
    let _guard = PoolGuard::new();
    umask(Mode::empty());
    let (kid, client) = served(1);
    let mode = |path: &str| fs::metadata(path).unwrap().mode() & 0o7777;
    assert!(fs::metadata(PATH).unwrap().file_type().is_socket());
    assert_eq!(mode("d"), 0o700);
    for path in [PATH, "d/pool.sock.lock", "d/pool.sock.pid"] {
        assert_eq!(mode(path), 0o600, "{path}");
    }
    drop(client);
    end(kid);
    Ok(())
}

fn sigterm_drains_a_daemon_and_cleans_up() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    let queued = call(&client, "add").args((1, 1)).submit().unwrap();
    signal(&kid, Signal::SIGTERM);
    assert_eq!(queued.wait().unwrap_err().code(), Code::ShuttingDown);
    // Who comes now is told the same, and a second daemon has to wait.
    let late = Client::connect_path(PATH, Options::default()).unwrap();
    assert_eq!(fails(call(&late, "add").args((1, 1)).execute()).code(), Code::ShuttingDown);
    says(&refused(PATH), Code::Start, &["served already"]);
    open("gate");
    assert_eq!(number(running.wait()), 1);
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    clean("d");
    Ok(())
}

fn the_second_sigterm_means_now() -> Outcome {
    let _guard = PoolGuard::new();
    for second in [Signal::SIGTERM, Signal::SIGINT] {
        let kid = serve_at(PATH, builder(1).stop_grace_ms(3_600_000).timeout_ms(0));
        let client = joined(PATH);
        let id = second as i64;
        let running = call(&client, "spin").args((id,)).submit().unwrap();
        until_begun(id);
        signal(&kid, Signal::SIGTERM);
        until("it closes", || {
            let refused = call(&client, "add").args((1, 1)).execute();
            refused.is_err_and(|e| e.code() == Code::ShuttingDown)
        });
        signal(&kid, second);
        let error = running.wait().unwrap_err();
        assert_eq!((error.code(), error.started()), (Code::WorkerDied, Some(true)), "{error}");
        assert_eq!(kid.end(), ExitStatus::Exited(0));
        clean("d");
    }
    Ok(())
}

fn sighup_does_not_end_a_daemon() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    for _ in 0..3 {
        signal(&kid, Signal::SIGHUP);
        works(&client);
    }
    drop(client);
    end(kid);
    Ok(())
}

fn a_daemon_that_is_killed_takes_its_pool_along() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(2);
    let workers = client.worker_pids();
    let running = call(&client, "gate").args((1, "gate")).submit().unwrap();
    until_begun(1);
    kid.kill();
    let error = running.wait().unwrap_err();
    assert_eq!((error.code(), error.started()), (Code::ArbiterDied, Some(true)), "{error}");
    until("its workers are gone", || {
        workers.iter().all(|pid| proc::process(*pid).is_none_or(|p| p.state == 'Z'))
    });
    assert_eq!(kid.end(), ExitStatus::Signaled(9));
    assert_eq!(fails(call(&client, "add").args((1, 1)).execute()).code(), Code::ArbiterDied);
    fs::remove_dir_all("d").unwrap();
    Ok(())
}

/// Not its listener, its lock, its loop, its signals, its pidfds, nor those of clients and of other workers.
fn workers_of_a_daemon_inherit_nothing_of_it() -> Outcome {
    let _guard = PoolGuard::new();
    // What was open before it served belongs to the program, and stays.
    let kept = proc::descriptors(std::process::id());
    let (kid, client) = served(2);
    let clients: Vec<Client> = (0..5).map(|_| joined(PATH)).collect();
    works(&clients[4]);
    // One that is born among all that.
    let before = client.worker_pids();
    kill(before[0], Signal::SIGKILL);
    let worker = ready(&client, 2, &before[..1]).into_iter().find(|pid| !before.contains(pid)).unwrap();
    let mut theirs = proc::descriptors(worker);
    assert_eq!(theirs.get(&0).map(String::as_str), Some("/dev/null"));
    theirs.retain(|fd, to| kept.get(fd) != Some(to));
    let own = |to: &str| theirs.values().filter(|is| is.starts_with(to)).count();
    assert_eq!(own("socket:"), 2, "to the arbiter, for its control thread and the others: {theirs:?}");
    for foreign in ["anon_inode:[eventpoll]", "anon_inode:[signalfd]", "anon_inode:[pidfd]"] {
        assert_eq!(own(foreign), 0, "{theirs:?}");
    }
    assert!(theirs.values().all(|to| !to.contains("pool.sock")), "{theirs:?}");
    assert!(theirs.values().all(|to| !to.contains("pidfd")), "{theirs:?}");
    drop((clients, client));
    end(kid);
    Ok(())
}

fn a_path_that_is_served_is_refused() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let socket = fs::metadata(PATH).unwrap().ino();
    for path in [PATH, "./d/../d/pool.sock"] {
        says(&refused(path), Code::Start, &["pool.sock", "served already", &format!("process {}", kid.pid)]);
    }
    works(&client);
    works(&joined(PATH));
    assert_eq!(fs::metadata(PATH).unwrap().ino(), socket);
    // Another name in the same directory is another place.
    let second = serve_at("d/other.sock", builder(1));
    works(&joined("d/other.sock"));
    signal(&second, Signal::SIGTERM);
    assert_eq!(second.end(), ExitStatus::Exited(0));
    works(&client);
    end(kid);
    Ok(())
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

/// Whatever is in the way stays there, as it is.
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

fn what_no_daemon_made_stays() -> Outcome {
    let _guard = PoolGuard::new();
    fs::create_dir("d").unwrap();
    fs::set_permissions("d", fs::Permissions::from_mode(0o700)).unwrap();
    let identity = |path: &str| fs::symlink_metadata(path).map(|m| (m.ino(), m.mode())).unwrap();
    let stays = |words: &[&str]| {
        let before = identity(PATH);
        says(&refused(PATH), Code::Config, words);
        assert_eq!(identity(PATH), before);
        assert_eq!(fs::read_dir("d").unwrap().count(), 1, "no lock is left");
        fs::remove_file(PATH).unwrap();
    };
    // A living listener of somebody else, and a dead one.
    let listener = UnixListener::bind(PATH).unwrap();
    let before = identity(PATH);
    says(&refused(PATH), Code::Config, &["there already", "remove it"]);
    assert_eq!(identity(PATH), before);
    UnixStream::connect(PATH).unwrap();
    drop(listener);
    stays(&["there already", "remove it"]);
    // It pretends to be ours, and lives.
    let listener = UnixListener::bind(PATH).unwrap();
    fs::write("d/pool.sock.lock", "making\n").unwrap();
    says(&refused(PATH), Code::Config, &["somebody listens"]);
    UnixStream::connect(PATH).unwrap();
    drop(listener);
    fs::remove_file(PATH).unwrap();
    fs::write(PATH, "a file").unwrap();
    stays(&["there already"]);
    fs::create_dir("elsewhere").unwrap();
    symlink("../elsewhere/victim", PATH).unwrap();
    stays(&["there already"]);
    assert!(!Path::new("elsewhere/victim").exists());
    // The names beside it.
    for name in ["lock", "pid"] {
        let beside = format!("{PATH}.{name}");
        symlink("../elsewhere/victim", &beside).unwrap();
        says(&refused(PATH), Code::Config, &[name, "symbolic link"]);
        fs::remove_file(beside).unwrap();
        assert!(!Path::new("elsewhere/victim").exists());
    }
    fs::remove_dir("elsewhere").unwrap();
    for name in ["lock", "pid"] {
        let beside = format!("{PATH}.{name}");
        fs::write(&beside, "my notes").unwrap();
        says(&refused(PATH), Code::Config, &[name, "of ours"]);
        assert_eq!(fs::read_to_string(&beside).unwrap(), "my notes");
        fs::remove_file(beside).unwrap();
    }
    clean("d");
    Ok(())
}

fn directories_that_are_not_ours_alone_are_refused() -> Outcome {
    let _guard = PoolGuard::new();
    fs::create_dir("real").unwrap();
    let rights = |mode| fs::set_permissions("real", fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o755, 0o770, 0o701, 0o1777] {
        rights(mode);
        says(&refused("real/pool.sock"), Code::Config, &["real", "chmod 700"]);
    }
    rights(0o700);
    symlink("real", "link").unwrap();
    for path in ["link/pool.sock", "link/./pool.sock", "link//pool.sock"] {
        says(&refused(path), Code::Config, &["link", "symbolic link"]);
    }
    fs::remove_file("link").unwrap();
    fs::write("link", "").unwrap();
    says(&refused("link/pool.sock"), Code::Config, &["link"]);
    fs::remove_file("link").unwrap();
    for path in ["", "/", "real/.."] {
        says(&refused(path), Code::Config, &["no path of a socket"]);
    }
    says(&refused("nowhere/at/all/pool.sock"), Code::Os, &["nowhere/at/all", "No such file"]);
    clean("real");
    if !nix::unistd::geteuid().is_root() {
        return Err(Skip("only root can give a directory away; the rest held".into()));
    }
    fs::create_dir("theirs").unwrap();
    fs::set_permissions("theirs", fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown("theirs", Some(65534), None).unwrap();
    says(&refused("theirs/pool.sock"), Code::Config, &["theirs", "65534"]);
    clean("theirs");
    Ok(())
}

fn d14_paths_of_any_length() -> Outcome {
    let _guard = PoolGuard::new();
    let deep: PathBuf = ["d".repeat(200), "e".repeat(200)].iter().collect();
    fs::create_dir(deep.parent().unwrap()).unwrap();
    // An address holds 107 bytes; the name may have 80, the directory any number.
    let path = deep.join("n".repeat(80));
    let kid = serve_at(&path, builder(1));
    let client = joined(&path);
    works(&client);
    signal(&kid, Signal::SIGTERM);
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    says(&refused(deep.join("n".repeat(81))), Code::Config, &["81 bytes", "80"]);
    clean(deep.to_str().unwrap());
    clean(deep.parent().unwrap().to_str().unwrap());
    Ok(())
}

fn a_worker_of_a_daemon_is_replaced() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(2);
    for action in ["kill", "segfault", "abort"] {
        let before = client.worker_pids();
        let error = fails(call(&client, action).execute());
        assert_eq!((error.code(), error.started()), (Code::WorkerDied, Some(true)), "{error}");
        until("another is there", || {
            let now = client.worker_pids();
            now.len() == 2 && now != before
        });
        works(&client);
    }
    drop(client);
    end(kid);
    Ok(())
}

fn link(path: &str) -> Link {
    Link::new(UnixStream::connect(path).unwrap().into())
}

fn a_client_of_another_layout_is_refused() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let mut stranger = link(PATH);
    let me = stokehold::internals::sys::pidfd::of_self().unwrap();
    let hello = Message::new(wire::Kind::Hello).with("layout", 1).with("pid", 1).with_fd(me);
    let error = stranger.ask(hello, wire::Kind::Welcome, Some(Duration::from_secs(20))).unwrap_err();
    says(&error, Code::Incompatible, &["layout 0x1 "]);
    works(&client);
    drop((stranger, client));
    end(kid);
    Ok(())
}

fn silent_connections_are_closed() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let mut mute = UnixStream::connect(PATH).unwrap();
    let mut stammering = UnixStream::connect(PATH).unwrap();
    // Half a header.
    std::io::Write::write_all(&mut stammering, b"GD\x01\x40\0\0").unwrap();
    for stream in [&mut mute, &mut stammering] {
        let mut buffer = [0; 16];
        // Closed with what was not read yet is a reset.
        let ended = match stream.read(&mut buffer) {
            Ok(n) => n == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
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
    let kid = Kid::new(|| {
        setrlimit(Resource::RLIMIT_NOFILE, 100, 100).unwrap();
        builder(2).serve(PATH).map_or(1, |()| 0)
    });
    let client = joined(PATH);
    ready(&client, 2, &[]);
    let mut others = Vec::new();
    let error = loop {
        match Client::connect_path(PATH, Options::default()) {
            Ok(client) => others.push(client),
            Err(error) => break error,
        }
        assert!(others.len() < 100);
    };
    assert!(error.to_string().contains("open more"), "{error}");
    assert!(others.len() >= 3, "{}", others.len());
    for _ in 0..3 {
        let before = client.worker_pids();
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        ready(&client, 2, &before);
        works(&client);
    }
    drop(others);
    works(&joined(PATH));
    drop(client);
    end(kid);
    Ok(())
}

/// Those that are let in may not either: with what they register, what they send unasked, and by coming all at once.
fn clients_leave_descriptors_for_workers_whatever_they_send() -> Outcome {
    let _guard = PoolGuard::new();
    let kid = Kid::new(|| {
        setrlimit(Resource::RLIMIT_NOFILE, 200, 200).unwrap();
        builder(2).serve(PATH).map_or(1, |()| 0)
    });
    let client = joined(PATH);
    ready(&client, 2, &[]);
    let replaced = || {
        let before = client.worker_pids();
        before.iter().for_each(|pid| kill(*pid, Signal::SIGKILL));
        ready(&client, 2, &before);
        works(&client);
    };
    // They connect while there is room, and say HELLO when there is none.
    let mut links: Vec<Link> = (0..80).map(|_| link(PATH)).collect();
    let welcome = |link: &mut Link| {
        let me = stokehold::internals::sys::pidfd::of_self().unwrap();
        let layout = stokehold::internals::shm::layout_hash() as i64;
        let hello = Message::new(wire::Kind::Hello).with("layout", layout).with("pid", 1).with_fd(me);
        link.ask(hello, wire::Kind::Welcome, Some(Duration::from_secs(20)))
    };
    let errors: Vec<Error> = links.iter_mut().filter_map(|link| welcome(link).err()).collect();
    assert!(!errors.is_empty() && errors.iter().all(|e| e.to_string().contains("open more")), "{errors:?}");
    replaced();
    drop(links);
    // Descriptors that no message announces.
    let files: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(PATH).unwrap()).collect();
    for stream in &files {
        for byte in b"GD" {
            let null = fs::File::open("/dev/null").unwrap();
            let null = [null.as_fd(); 4];
            let part = std::io::IoSlice::new(std::slice::from_ref(byte));
            sys::socket::send(stream.as_fd(), &[part], &null).unwrap();
        }
    }
    replaced();
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
    replaced();
    drop((leases, greedy, others, client));
    end(kid);
    Ok(())
}

/// HELLO brings a handle to the process; what else it may bring could tell lies, or take its time to answer.
fn a_client_that_is_no_process_is_refused() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, client) = served(1);
    let event = sys::event::Event::new().unwrap();
    for fd in [fs::File::open("/dev/null").unwrap().into(), event.as_fd().try_clone_to_owned().unwrap()] {
        let layout = stokehold::internals::shm::layout_hash() as i64;
        let hello = Message::new(wire::Kind::Hello).with("layout", layout).with("pid", 1).with_fd(fd);
        let error = link(PATH).ask(hello, wire::Kind::Welcome, Some(Duration::from_secs(20))).unwrap_err();
        says(&error, Code::BadRequest, &["no handle to a process"]);
    }
    works(&client);
    drop(client);
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
    let error = loop {
        match Client::connect_path(PATH, Options::default()) {
            Ok(client) => others.push(client),
            Err(error) => break error,
        }
        assert!(others.len() < 100);
    };
    assert!(error.to_string().contains("Too many open files"), "{error}");
    for _ in 0..50 {
        let error = Client::connect_path(PATH, Options::default()).unwrap_err();
        assert!(error.to_string().contains("Too many open files"), "{error}");
    }
    works(&client);
    // Below what is in use: the reserve is of no use either, and who comes has to wait until it is better.
    limit_descriptors(daemon, 3);
    let waiting = UnixStream::connect(PATH).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    works(&client);
    limit_descriptors(daemon, before);
    let mut link = Link::new(waiting.into());
    let answer =
        link.ask(Message::new(wire::Kind::Status), wire::Kind::Response, Some(Duration::from_secs(20)));
    answer.unwrap();
    works(&joined(PATH));
    drop((others, client));
    end(kid);
    Ok(())
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

fn a_client_of_another_user_is_sent_away() -> Outcome {
    let _guard = PoolGuard::new();
    if !nix::unistd::geteuid().is_root() {
        return Err(Skip("only root can become another user".into()));
    }
    let (kid, client) = served(1);
    // As if somebody had opened the door: a socket that all may connect to, and a way past its directory.
    fs::set_permissions(PATH, fs::Permissions::from_mode(0o666)).unwrap();
    let handle = stokehold::internals::sys::dir::handle(Path::new(PATH)).unwrap();
    let theirs = Kid::new(|| {
        nix::unistd::setuid(nix::unistd::Uid::from_raw(65534)).unwrap();
        let path = format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd());
        // Its own library would not talk to a pool of another user either.
        let error = Client::connect_path(&path, Options::default()).unwrap_err();
        says(&error, Code::Incompatible, &["served by user 0"]);
        let mut link = link(&path);
        let me = stokehold::internals::sys::pidfd::of_self().unwrap();
        let layout = stokehold::internals::shm::layout_hash() as i64;
        let hello = Message::new(wire::Kind::Hello).with("layout", layout).with("pid", 1).with_fd(me);
        let error = link.ask(hello, wire::Kind::Welcome, Some(Duration::from_secs(20))).unwrap_err();
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

fn a_process_with_threads_does_not_serve() -> Outcome {
    let _guard = PoolGuard::new();
    std::thread::scope(|scope| {
        let (_tell, told) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || told.recv());
        says(&refused(PATH), Code::Threads, &["2 threads"]);
    });
    assert!(!Path::new("d").exists());
    Ok(())
}
