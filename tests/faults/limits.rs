//! Limits of the system: descriptors, sizes of files. An error that says what, and everything works again when there
//! is room.

use crate::app::{all_free, builder, call, fails, number, pattern, ready, works};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, kill, some, until};
use crate::harness::Outcome;
use crate::proc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use std::process;
use stokehold::{Bound, Client, Code, Error, Kind, Options};

crate::tests! {
    f5_every_counter_comes_round,
    no_files_of_that_size_for_a_lease,
    no_files_of_that_size_for_a_client,
    no_files_of_that_size_at_the_start,
    no_descriptors_for_a_lease,
    no_descriptors_for_a_result,
    no_descriptors_in_a_worker_for_an_argument,
    no_descriptors_in_a_worker_for_an_item,
    no_descriptors_in_the_arbiter_for_a_result,
    no_descriptors_for_a_client,
    no_descriptors_at_the_start,
    no_descriptors_in_the_arbiter_for_a_client,
    no_descriptors_in_the_arbiter_for_a_worker,
    more_bytes_than_a_client_may_have,
    results_that_nobody_lets_go_of,
}

/// Lives (16 bits), generations of calls (32) and serial numbers of regions (32) pass their ends in the middle of
/// ordinary work, with deaths, cancelled calls, leases and results that are held on to.
fn f5_every_counter_comes_round() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(2).numbers_left(12));
    let client = pool.client().unwrap();
    let mut lives = std::collections::BTreeSet::new();
    for round in 0..40i64 {
        for i in 0..4 {
            assert_eq!(number(call(&client, "add").args((round, i)).execute()), round + i);
        }
        let held: Vec<_> = (0..3).map(|i| call(&client, "add").args((round, i)).execute().unwrap()).collect();
        lives.extend(held.iter().map(|response| response.life()));
        let pending = call(&client, "nap").args((1,)).submit().unwrap();
        assert!(matches!(pending.cancel(), Ok(_) | Err(_)));
        // A region of its own each, on both sides.
        let fresh = pool.client().unwrap();
        let bytes = pattern(round, 1_000_000);
        let lease = fresh.lease_from(&bytes).unwrap();
        let echoed = call(&fresh, "lent_echo").args((lease,)).execute().unwrap();
        assert_eq!(echoed.as_bytes().unwrap(), bytes);
        if round % 2 == 0 {
            let before = ready(&client, 2, &[]);
            kill(before[0], Signal::SIGKILL);
            ready(&client, 2, &before[..1]);
        }
        for (i, response) in held.iter().enumerate() {
            assert_eq!(response.parse::<i64>().unwrap(), round + i as i64);
        }
    }
    assert!(
        lives.contains(&1) && lives.iter().any(|life| *life > u16::MAX - 13),
        "{lives:?} did not come round"
    );
    all_free(&client);
    works(&client);
    Ok(())
}

/// Lowers a limit of this process for a while.
fn with_limit<T>(resource: Resource, limit: u64, then: impl FnOnce() -> T) -> T {
    let (soft, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, limit.min(hard), hard).unwrap();
    let result = then();
    setrlimit(resource, soft, hard).unwrap();
    result
}

/// Leaves this process no descriptor, or so many.
fn with_descriptors<T>(free: u64, then: impl FnOnce() -> T) -> T {
    // Numbers count, not how many there are: all below the limit must be taken.
    let mut filler = Vec::new();
    let open = proc::descriptors(process::id());
    let limit = (0..).find(|n| !open.contains_key(n)).map_or(0, u64::from);
    let highest = open.keys().next_back().copied().map_or(0, u64::from) + 1;
    let limit = limit.max(highest);
    while proc::descriptors(process::id()).len() < limit as usize {
        filler.push(std::fs::File::open("/dev/null").unwrap());
    }
    with_limit(Resource::RLIMIT_NOFILE, limit + free, then)
}

/// Sets the arbiter's own limit of descriptors to what it has, or back.
fn limit_arbiter(arbiter: u32, limit: Option<u64>) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one local.
    unsafe { libc::prlimit(arbiter as i32, libc::RLIMIT_NOFILE, std::ptr::null(), &mut old) };
    let soft = limit
        .unwrap_or_else(|| proc::descriptors(arbiter).keys().next_back().map_or(0, |n| u64::from(*n) + 1));
    let new = libc::rlimit { rlim_cur: soft, ..old };
    // SAFETY: reads one local.
    let answer = unsafe { libc::prlimit(arbiter as i32, libc::RLIMIT_NOFILE, &new, std::ptr::null_mut()) };
    assert_eq!(answer, 0);
    old.rlim_cur
}

fn no_files_of_that_size_for_a_lease() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for _ in 0..3 {
        let bytes = pattern(1, 10_000_000);
        let before = proc::descriptors(process::id()).len();
        let (lease, copied) = with_limit(Resource::RLIMIT_FSIZE, 1 << 20, || {
            works(&client);
            (client.lease(10_000_000), call(&client, "echo").args((&bytes[..],)).execute())
        });
        for error in [lease.unwrap_err(), fails(copied)] {
            assert!(matches!(error.kind(), Kind::Os { errno: libc::EFBIG, .. }), "{error}");
            assert!(error.to_string().contains("1048576"), "{error}");
        }
        assert_eq!(proc::descriptors(process::id()).len(), before);
        works(&client);
        assert_eq!(client.free_calls(), 64);
    }
    let lease = client.lease_from(&pattern(1, 10_000_000)).unwrap();
    let hash = call(&client, "work").args((1, lease, 0)).execute();
    assert_eq!(number(hash), crate::app::keyed(1, &pattern(1, 10_000_000)));
    Ok(())
}

fn no_files_of_that_size_for_a_client() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let error = with_limit(Resource::RLIMIT_FSIZE, 10_000, || pool.client().unwrap_err());
    assert!(error.to_string().contains("65536"), "{error}");
    base.reached();
    works(&pool.client().unwrap());
    Ok(())
}

fn no_files_of_that_size_at_the_start() -> Outcome {
    let mut guard = PoolGuard::new();
    let builder = builder(2);
    // The registry, a worker's results.
    for limit in [10_000, 100_000] {
        let error =
            with_limit(Resource::RLIMIT_FSIZE, limit, || builder.clone().start().map(drop).unwrap_err());
        assert_eq!(error.code(), Code::Start, "{error}");
        if limit < 65_536 {
            assert!(error.to_string().contains("10000"), "{error}");
        }
    }
    works(&guard.start(builder).client().unwrap());
    Ok(())
}

fn no_descriptors_for_a_lease() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client); // it knows the worker's results from now on
    // Too many bytes each time for what it has from the last time.
    for (free, len) in [(0, 5_000_000), (1, 20_000_000)] {
        let error = with_descriptors(free, || {
            works(&client);
            client.lease(len).unwrap_err()
        });
        assert!(matches!(error.kind(), Kind::Os { errno: libc::EMFILE, .. }), "{error}");
        works(&client);
        let bytes = pattern(2, len);
        let lease = client.lease_from(&bytes).unwrap();
        assert_eq!(number(call(&client, "work").args((2, lease, 0)).execute()), crate::app::keyed(2, &bytes));
    }
    Ok(())
}

/// The call has run, and this process cannot map where its result is.
fn no_descriptors_for_a_result() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    for len in [10, 1_000_000] {
        let error = with_descriptors(0, || fails(call(&client, "pattern").args((1, len)).execute()));
        assert_ne!(error.code(), Code::Protocol, "nothing was damaged: {error}");
        assert!(error.to_string().contains("descriptors"), "{error}");
        assert_eq!(client.free_calls(), 64);
        let response = call(&client, "pattern").args((1, len)).execute().unwrap();
        assert_eq!(response.as_bytes().unwrap(), pattern(1, len as usize));
    }
    Ok(())
}

/// It is the worker that cannot get at the argument: the caller did nothing wrong.
fn no_descriptors_in_a_worker_for_an_argument() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    call(&client, "no_more_files").execute().unwrap();
    works(&client);
    let bytes = pattern(2, 5_000_000);
    let lease = client.lease_from(&bytes).unwrap();
    // Lent, and copied into the request's own block.
    let lent = call(&client, "work").args((2, lease, 0)).execute();
    let copied = call(&client, "work").args((2, &bytes[..], 0)).execute();
    for outcome in [lent, copied] {
        let error = fails(outcome);
        assert_eq!(error.code(), Code::App, "{error}");
        assert!(error.to_string().contains("descriptors"), "{error}");
    }
    works(&client);
    Ok(())
}

/// The same of what the opener of a context sends.
fn no_descriptors_in_a_worker_for_an_item() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let said = |error: Error| {
        assert_eq!(error.code(), Code::App, "{error}");
        assert!(error.to_string().contains("descriptors"), "{error}");
    };
    // Another client's, whose memory the worker has not met.
    let late = pool.client().unwrap();
    works(&late);
    drop(call(&client, "echo_context").context().unwrap());
    call(&client, "no_more_files").execute().unwrap();
    said(call(&late, "echo_context").context().unwrap_err());
    let bytes = pattern(2, 5_000_000);
    let lease = client.lease_from(&bytes).unwrap();
    for lent in [true, false] {
        let mut context = call(&client, "echo_context").context().unwrap();
        if lent {
            context.send(&lease).unwrap()
        } else {
            context.send(&bytes[..]).unwrap()
        }
        said(context.next().unwrap().unwrap_err());
        drop(context);
        all_free(&client);
    }
    works(&client);
    Ok(())
}

/// It is the arbiter that cannot take a worker's region: the worker lives on.
fn no_descriptors_in_the_arbiter_for_a_result() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let before = client.worker_pids();
    let limit = |soft| {
        let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: reads and writes only the two structs.
        unsafe { libc::prlimit(pool.arbiter_pid() as i32, libc::RLIMIT_NOFILE, std::ptr::null(), &mut old) };
        let new = libc::rlimit { rlim_cur: soft, ..old };
        // SAFETY: as above.
        unsafe { libc::prlimit(pool.arbiter_pid() as i32, libc::RLIMIT_NOFILE, &new, std::ptr::null_mut()) };
        old.rlim_cur
    };
    let old = limit(3);
    let error = fails(call(&client, "pattern").args((1, 5_000_000)).execute());
    limit(old);
    assert_eq!(error.code(), Code::App, "{error}");
    assert!(error.to_string().contains("descriptors"), "{error}");
    assert_eq!(client.worker_pids(), before);
    let response = call(&client, "pattern").args((1, 5_000_000)).execute().unwrap();
    assert_eq!(response.as_bytes().unwrap(), pattern(1, 5_000_000));
    Ok(())
}

fn no_descriptors_for_a_client() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let base = Baseline::of(&pool);
    let mut refused = 0;
    for free in 0..8 {
        let before = proc::descriptors(process::id());
        let outcome = with_descriptors(free, || pool.client().map(drop));
        if let Err(error) = outcome {
            refused += 1;
            let text = error.to_string();
            assert!(
                matches!(error.kind(), Kind::Os { errno: libc::EMFILE, .. }) || text.contains("descriptors"),
                "{free} free: {error:?}"
            );
        }
        assert_eq!(proc::descriptors(process::id()), before);
        base.reached();
    }
    assert!(refused > 0, "a client takes no descriptor");
    works(&pool.client().unwrap());
    Ok(())
}

fn no_descriptors_at_the_start() -> Outcome {
    let mut guard = PoolGuard::new();
    for free in 0..6 {
        let before = proc::descriptors(process::id());
        let outcome = with_descriptors(free, || builder(1).start().map(drop));
        assert_eq!(proc::descriptors(process::id()), before, "{free} free: {outcome:?}");
        if free == 0 {
            let error = outcome.unwrap_err();
            assert!(matches!(error.kind(), Kind::Os { errno: libc::EMFILE, .. }), "{error}");
        }
    }
    works(&guard.start(builder(1)).client().unwrap());
    Ok(())
}

fn no_descriptors_in_the_arbiter_for_a_client() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let arbiter = pool.arbiter_pid();
    // A lane that no worker has mapped yet: its calls wait until one can.
    let old = limit_arbiter(arbiter, None);
    let waiting = call(&client, "note").args((1,)).submit().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert!(!waiting.is_ready(), "the limit limits nothing");
    limit_arbiter(arbiter, Some(old));
    assert_eq!(number(waiting.wait()), 1);
    let mut refused = 0;
    for extra in [0, 1, 2, 3, 4, 5, 6] {
        let old = limit_arbiter(arbiter, None);
        let now = limit_arbiter(arbiter, Some(0));
        limit_arbiter(arbiter, Some(now + extra));
        let outcome = pool.client();
        works(&client);
        limit_arbiter(arbiter, Some(old));
        if let Err(error) = outcome {
            assert_ne!(error.code(), Code::ArbiterDied, "it lives, with {extra} descriptors: {error}");
            refused += 1;
        }
        works(&client);
        works(&pool.client().unwrap());
    }
    assert!(refused > 0, "there was room for all of them");
    Ok(())
}

fn no_descriptors_in_the_arbiter_for_a_worker() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let arbiter = pool.arbiter_pid();
    for extra in 0..12 {
        let before = ready(&client, 1, &[]);
        let old = limit_arbiter(arbiter, None);
        let now = limit_arbiter(arbiter, Some(0));
        // A dead worker frees some before the next needs them.
        limit_arbiter(arbiter, Some((now + extra).saturating_sub(4)));
        kill(before[0], Signal::SIGKILL);
        std::thread::sleep(std::time::Duration::from_millis(100));
        limit_arbiter(arbiter, Some(old));
        ready(&client, 1, &before);
        some("calls go through again", || call(&client, "add").args((2, 3)).execute().ok());
        until("no zombie and no stranger is left of it", || {
            proc::session(arbiter).len() == 2 && proc::session(arbiter).iter().all(|p| p.state != 'Z')
        });
    }
    works(&client);
    Ok(())
}

fn more_bytes_than_a_client_may_have() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let quota = 20 << 20;
    let options = Options { quota, ..Options::default() };
    let client = Client::connect(pool.client_socket().unwrap(), options).unwrap();
    let error = client.lease(30 << 20).unwrap_err();
    assert!(
        matches!(error.kind(), Kind::Overloaded { bound: Bound::Bytes, limit } if *limit == quota),
        "{error}"
    );
    let error = client.lease((1 << 30) + 1).unwrap_err();
    assert_eq!(error.code(), Code::BadRequest, "{error}");
    let kept = client.lease(1 << 20).unwrap();
    works(&client);
    drop(kept);
    for _ in 0..50 {
        drop(client.lease(2 << 20).unwrap()); // given back, it is there again
    }
    Ok(())
}

/// A worker has 256 result records. When clients hold them all, further calls end, and not their worker.
fn results_that_nobody_lets_go_of() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let clients: Vec<_> = (0..5).map(|_| pool.client().unwrap()).collect();
    let before = clients[0].worker_pids();
    let mut held = Vec::new();
    let mut refused = 0;
    for i in 0..300 {
        match call(&clients[i % 5], "pattern").args((i, 100)).execute() {
            Ok(response) => held.push((i, response)),
            Err(error) => {
                assert!(matches!(error.kind(), Kind::Overloaded { bound: Bound::Results, .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!((held.len(), refused), (256, 44));
    for (i, response) in held {
        assert_eq!(response.as_bytes().unwrap(), pattern(i as i64, 100));
    }
    clients.iter().for_each(works);
    clients.iter().for_each(all_free);
    assert_eq!(clients[0].worker_pids(), before);
    Ok(())
}
