//! A pool that is served under a path: how it is found, how it ends, and whose the path is.

use crate::app::{builder, call, fails, number, open, ready, until_begun, works};
use crate::deaths::causes_are_told;
use crate::guard::{PoolGuard, kill, some, until};
use crate::harness::{Kid, Outcome, Skip};
use crate::hygiene::ignore_their_children;
use crate::proc;
use nix::sys::signal::{self, SigHandler, Signal};
use nix::sys::stat::{Mode, umask};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;
use stokehold::internals::sys::fd;
use stokehold::internals::sys::process::ExitStatus;
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
    who_may_not_serve_goes_on_as_it_was,
    what_no_daemon_made_stays,
    directories_that_are_not_ours_alone_are_refused,
    d14_paths_of_any_length,
    a_worker_of_a_daemon_is_replaced,
    a_daemon_whose_starter_ignores_its_children_tells_how_workers_ended,
    a_process_with_threads_does_not_serve,
}

pub const PATH: &str = "d/pool.sock";

/// A daemon of its own process.
pub fn serve_at(path: impl AsRef<Path>, builder: Builder) -> Kid {
    Kid::new(|| match builder.serve(path) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{error}");
            1
        }
    })
}

/// One that is up, and a client.
pub fn served(workers: usize) -> (Kid, Client) {
    let kid = serve_at(PATH, builder(workers));
    let client = joined(PATH);
    ready(&client, workers, &[]);
    (kid, client)
}

/// A client, once there is somebody to be one of.
pub fn joined(path: impl AsRef<Path>) -> Client {
    some("the pool is served", || Client::connect_path(path.as_ref(), Options::default()).ok())
}

fn refused(path: impl AsRef<Path>) -> Error {
    builder(1).serve(path).unwrap_err()
}

/// Who is refused goes on as it was: with what it does when a child of it ends, and how many descriptors it may have.
fn who_may_not_serve_goes_on_as_it_was() -> Outcome {
    let _guard = PoolGuard::new();
    let (kid, _client) = served(1);
    let other = Kid::new(|| {
        stokehold::internals::sys::signal::ignore(Signal::SIGCHLD).unwrap();
        fd::set_nofile_soft(500).unwrap();
        let state = || (proc::status(process::id(), "SigIgn"), fd::nofile().unwrap());
        let before = state();
        says(&refused(PATH), Code::Start, &["served already"]);
        says(
            &builder(1).app_library("no such").serve("d/other.sock").unwrap_err(),
            Code::Start,
            &["no such"],
        );
        assert_eq!(state(), before);
        0
    });
    assert_eq!(other.end(), ExitStatus::Exited(0));
    end(kid);
    Ok(())
}

/// That an error is of this kind, and names all of this.
pub fn says(error: &Error, code: Code, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} lacks one of {words:?}");
}

fn signal(kid: &Kid, signal: Signal) {
    kill(kid.pid.as_raw() as u32, signal);
}

/// Ends a daemon in an orderly way; nothing of it is left in its directory, which goes, too.
pub fn end(kid: Kid) {
    signal(&kid, Signal::SIGTERM);
    assert_eq!(kid.end(), ExitStatus::Exited(0));
    clean("d");
}

fn clean(dir: &str) {
    let left: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    fs::remove_dir(dir).unwrap();
}

/// As supervisors and shells do.
fn a_daemon_whose_starter_ignores_its_children_tells_how_workers_ended() -> Outcome {
    let _guard = PoolGuard::new();
    let kid = Kid::new(|| {
        // SAFETY: no handler is installed.
        unsafe { signal::signal(Signal::SIGCHLD, SigHandler::SigIgn) }.unwrap();
        i32::from(builder(2).serve(PATH).is_err())
    });
    let client = joined(PATH);
    ready(&client, 2, &[]);
    causes_are_told(&client);
    ignore_their_children(&client);
    // What is kept of them, when the callers may have known it from other news.
    let status = stokehold::status(PATH).unwrap();
    let deaths = format!("{status:?}");
    for cause in ["exit status 3", "exit status 0", "signal 11"] {
        assert!(deaths.contains(cause), "{cause:?} is not in {deaths}");
    }
    drop(client);
    end(kid);
    Ok(())
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

/// Whatever is in the way stays there, as it is.
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
