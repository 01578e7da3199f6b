//! Starting a pool: each way, and each way in which it cannot be.

use crate::app::{Birth, Faults, builder, call, fails, number, works};
use crate::guard::{PoolGuard, until};
use crate::harness::Outcome;
use crate::proc;
use nix::unistd;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{env, fs, process, thread};
use stokehold::{Absence, App, Builder, Code, Error, Kind, Pool};

crate::tests! {
    by_a_helper_program,
    by_fork_with_one_thread,
    what_is_in_a_buffer_is_written_once,
    by_fork_with_threads_is_refused,
    a_program_that_is_not_there,
    a_program_that_cannot_be_run,
    programs_that_never_call_init,
    a_thread_that_was_started_within_init,
    an_app_that_nobody_knows,
    an_app_that_only_the_helper_does_not_know,
    init_not_called,
    init_called_twice,
    inits_that_fail,
    inits_that_fail_in_one_worker_only,
    settings_that_cannot_be,
    a_pool_of_nobody,
    from_a_thread_that_ends,
    beside_busy_threads,
    the_variable_is_seen_by_nobody,
    two_pools_at_once,
}

/// The error of a start that must not succeed.
fn refused(builder: Builder) -> Error {
    match builder.start() {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

fn says(error: &Error, code: Code, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.code(), code, "{text}");
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} lacks one of {words:?}");
}

/// `main` of a host that forgot `init`. A test runs this program once more for it.
pub fn without_init() {
    if env::var_os("FAULTS_WITHOUT_INIT").is_some() {
        let error = refused(builder(1));
        says(&error, Code::Config, &["init was not called"]);
        stokehold::internals::sys::process::exit_now(42);
    }
}

fn by_a_helper_program() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).arbiter(env::current_exe().unwrap()));
    let client = pool.client().unwrap();
    works(&client);
    assert_eq!(fails(call(&client, "exit").args((1,)).execute()).code(), Code::WorkerDied);
    works(&client);
    pool.shutdown().unwrap();
    Ok(())
}

fn by_fork_with_one_thread() -> Outcome {
    let mut guard = PoolGuard::new();
    let kept = fs::File::create("note").unwrap();
    let pool = guard.start(builder(2).by_fork());
    assert!(
        proc::descriptors(pool.arbiter_pid()).values().all(|to| !to.ends_with("/note")),
        "the fork keeps the host's files open"
    );
    drop(kept);
    let client = pool.client().unwrap();
    works(&client);
    assert_eq!(fails(call(&client, "exit").args((1,)).execute()).code(), Code::WorkerDied);
    works(&client);
    Ok(())
}

/// A21: what the host has in a buffer is copied with it, and is the host's to write.
fn what_is_in_a_buffer_is_written_once() -> Outcome {
    let mut guard = PoolGuard::new();
    let (own, out) = (io::stdout().as_fd().try_clone_to_owned().unwrap(), fs::File::create("note").unwrap());
    unistd::dup2_stdout(&out).unwrap();
    print!("coal");
    let pool = guard.start(builder(8).by_fork());
    let client = pool.client().unwrap();
    works(&client);
    pool.shutdown().unwrap();
    io::stdout().flush().unwrap();
    unistd::dup2_stdout(&own).unwrap();
    assert_eq!(fs::read_to_string("note").unwrap(), "coal");
    Ok(())
}

fn by_fork_with_threads_is_refused() -> Outcome {
    let _guard = PoolGuard::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    thread::sleep(std::time::Duration::from_millis(1));
                }
            });
        }
        let error = refused(builder(1).by_fork());
        assert!(matches!(error.kind(), Kind::Threads { found: 3 }), "{error}");
        assert!(error.to_string().contains('3'), "{error}");
        done.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn a_program_that_is_not_there() -> Outcome {
    let _guard = PoolGuard::new();
    let error = refused(builder(1).arbiter("/nonexistent/stokehold"));
    says(&error, Code::Os, &["/nonexistent/stokehold", "No such file"]);
    Ok(())
}

fn a_program_that_cannot_be_run() -> Outcome {
    let _guard = PoolGuard::new();
    fs::write("note", "no program").unwrap();
    let path = env::current_dir().unwrap().join("note");
    says(&refused(builder(1).arbiter(&path)), Code::Os, &["note", "ermission denied"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    says(&refused(builder(1).arbiter(&path)), Code::Os, &["note"]);
    Ok(())
}

fn programs_that_never_call_init() -> Outcome {
    let _guard = PoolGuard::new();
    says(&refused(builder(1).arbiter("/bin/true")), Code::Start, &["stokehold::init"]);
    says(&refused(builder(1).arbiter("/bin/false")), Code::Start, &["stokehold::init"]);
    // It reads its standard input, for ever.
    let error = refused(builder(1).arbiter("/bin/cat").start_timeout_ms(300));
    says(&error, Code::Start, &["stokehold::init"]);
    Ok(())
}

/// What starts a thread when it is run as an arbiter: within `init`, as some loggers do.
pub fn start_a_thread() {
    if env::var_os(THREADED).is_some() {
        thread::spawn(crate::harness::sleep_for_ever);
    }
}

const THREADED: &str = "FAULTS_START_A_THREAD";

fn a_thread_that_was_started_within_init() -> Outcome {
    // SAFETY: this process has one thread.
    unsafe { env::set_var(THREADED, "1") };
    let mut guard = PoolGuard::new();
    let error = builder(1).start().map(drop).unwrap_err();
    assert!(error.to_string().contains("a thread was started"), "{error}");
    // SAFETY: as above.
    unsafe { env::remove_var(THREADED) };
    works(&guard.start(builder(1)).client().unwrap());
    Ok(())
}

fn an_app_that_nobody_knows() -> Outcome {
    let _guard = PoolGuard::new();
    says(&refused(Pool::builder().app_named("no:App")), Code::Config, &["no:App"]);
    Ok(())
}

fn an_app_that_only_the_helper_does_not_know() -> Outcome {
    let _guard = PoolGuard::new();
    let error = refused(builder(1).app_named("no:App").arbiter(env::current_exe().unwrap()));
    says(&error, Code::Start, &["no:App", Faults::NAME, Birth::NAME]);
    Ok(())
}

fn init_not_called() -> Outcome {
    let _guard = PoolGuard::new();
    let status =
        process::Command::new(env::current_exe().unwrap()).env("FAULTS_WITHOUT_INIT", "1").status().unwrap();
    assert_eq!(status.code(), Some(42));
    Ok(())
}

fn init_called_twice() -> Outcome {
    let mut guard = PoolGuard::new();
    let error = stokehold::init(|apps| Ok(apps)).unwrap_err();
    says(&error, Code::Config, &["twice"]);
    let pool = guard.start(builder(1));
    works(&pool.client().unwrap());
    Ok(())
}

fn inits_that_fail() -> Outcome {
    let mut guard = PoolGuard::new();
    let builder = |boot_timeout_ms| {
        let builder = Pool::builder().app::<Birth>().workers(2).boot_timeout_ms(boot_timeout_ms);
        builder.restart_limit(1, 60_000).backoff_ms(1, 5)
    };
    let ways = [
        ("error", &["Damp", "the coal is wet"][..]),
        ("long error", &["Damp", "the coal is wet"]),
        ("panic", &["the coal is wet"]),
        ("exit", &["ended before it was ready", "exit status 5"]),
        ("first thread", &["ended before it was ready"]),
        ("hang", &["not ready after the 150 ms"]),
    ];
    for (how, words) in ways {
        fs::write("boot", how).unwrap();
        let error = refused(builder(if how == "hang" { 150 } else { 60_000 }));
        says(&error, Code::Start, words);
        assert_eq!(error.to_string().matches("cannot start").count(), 1, "{error}");
        until("nothing of it is left", || proc::working_in(&env::current_dir().unwrap()).is_empty());
    }
    fs::remove_file("boot").unwrap();
    let pool = guard.start(builder(60_000));
    number(pool.client().unwrap().call(Birth::NAME, "pid").execute());
    Ok(())
}

/// The pool is not degraded by it, and never has all its workers.
fn inits_that_fail_in_one_worker_only() -> Outcome {
    let mut guard = PoolGuard::new();
    fs::write("boot", "three only").unwrap();
    fs::create_dir("kept").unwrap();
    let builder = |workers| Pool::builder().app::<Birth>().workers(workers).start_timeout_ms(20_000);
    says(&refused(builder(4)), Code::Start, &["a worker ended before it was ready", "exit status 5"]);
    until("nothing of it is left", || proc::working_in(&env::current_dir().unwrap()).is_empty());
    (0..3).for_each(|at| fs::remove_file(format!("kept/{at}")).unwrap());
    number(guard.start(builder(3)).client().unwrap().call(Birth::NAME, "pid").execute());
    Ok(())
}

fn settings_that_cannot_be() -> Outcome {
    let mut guard = PoolGuard::new();
    let config = |builder: Builder, words: &[&str]| says(&refused(builder), Code::Config, words);
    config(builder(65), &["65", "64"]);
    config(builder(1).threads(0), &["0 threads", "64"]);
    config(builder(1).threads(65), &["65", "64"]);
    config(builder(64).threads(3), &["64", "3", "128"]);
    config(Pool::builder(), &["0 apps", "256"]);
    config(builder(1).backoff_ms(0, 10), &["0"]);
    config(builder(1).backoff_ms(10, 5), &["10", "5"]);
    config(builder(1).boot_timeout_ms(0), &["0"]);
    config(builder(1).restart_limit(10_001, 1_000), &["10001", "10000"]);
    config(builder(1).restart_limit(1, 0), &["0"]);
    // One less is fine, and a worker with 64 threads takes 64 calls.
    let pool = guard.start(builder(1).threads(64));
    let client = pool.client().unwrap();
    let pending: Vec<_> =
        (0..64).map(|id| call(&client, "gate").args((id, "gate")).submit().unwrap()).collect();
    (0..64).for_each(crate::app::until_begun);
    crate::app::open("gate");
    pending.into_iter().for_each(|p| drop(p.wait().unwrap()));
    Ok(())
}

fn a_pool_of_nobody() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(0));
    let error = fails(call(&pool.client().unwrap(), "add").execute());
    assert!(matches!(error.kind(), Kind::NoWorkers { reason: Absence::NoWorkers }), "{error}");
    Ok(())
}

fn from_a_thread_that_ends() -> Outcome {
    let mut guard = PoolGuard::new();
    for by_helper in [false, true] {
        let pool = thread::spawn(move || {
            let builder = builder(2);
            let builder = if by_helper { builder.arbiter(env::current_exe().unwrap()) } else { builder };
            builder.start().unwrap()
        });
        let pool = pool.join().unwrap();
        guard.adopt(pool.arbiter_pid());
        let client = pool.client().unwrap();
        thread::sleep(std::time::Duration::from_millis(50)); // a death signal would come at once
        works(&client);
        // A worker whose forking thread would be gone, too.
        assert_eq!(fails(call(&client, "exit").args((1,)).execute()).code(), Code::WorkerDied);
        works(&client);
        let client = thread::spawn(move || pool.client().map(|client| (pool, client))).join().unwrap();
        works(&client.unwrap().1);
    }
    Ok(())
}

/// How often a host with busy threads starts a pool: `ci/full` says a thousand times.
pub fn starts() -> u64 {
    env::var("STOKEHOLD_STARTS").map_or(50, |times| times.parse().unwrap())
}

/// A20.
fn beside_busy_threads() -> Outcome {
    let mut guard = PoolGuard::new();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for i in 0..8 {
            let done = &done;
            scope.spawn(move || {
                let mut kept = Vec::new();
                while !done.load(Ordering::Relaxed) {
                    kept.push(vec![i as u8; 100 + kept.len()]);
                    if kept.len() == 500 {
                        kept.clear();
                        thread::yield_now();
                    }
                }
            });
        }
        for _ in 0..starts() {
            let pool = guard.start(builder(2));
            works(&pool.client().unwrap());
        }
        done.store(true, Ordering::Relaxed);
    });
    Ok(())
}

fn the_variable_is_seen_by_nobody() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    assert!(env::var_os("STOKEHOLD_ARBITER").is_none());
    let client = pool.client().unwrap();
    let seen = call(&client, "variable").args(("STOKEHOLD_ARBITER",)).execute().unwrap();
    assert_eq!(seen.parse::<&str>().unwrap(), "");
    Ok(())
}

fn two_pools_at_once() -> Outcome {
    let mut guard = PoolGuard::new();
    let (one, two) = (guard.start(builder(1)), guard.start(builder(1)));
    let (a, b) = (one.client().unwrap(), two.client().unwrap());
    works(&a);
    works(&b);
    // The lease of a stranger is refused and not read as something else.
    let lease = a.lease_from(&[1; 1000]).unwrap();
    assert_eq!(fails(call(&b, "echo").args((&lease,)).execute()).code(), Code::BadRequest);
    assert_eq!(b.free_calls(), 64);
    drop(one);
    assert!(fails(call(&a, "add").args((1, 1)).execute()).is_retryable());
    works(&b);
    Ok(())
}
