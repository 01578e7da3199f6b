//! Memory that cannot be had, who pays for it, and who may read it after whose death. Names begin with the line of the
//! list of faults that they are for, where there is one.

use crate::app::{all_free, builder, call, fails, is_filled, open, pattern, ready, until_begun, works};
use crate::baseline::Baseline;
use crate::guard::{PoolGuard, kill, until};
use crate::harness::{Kid, Outcome, Skip, sleep_for_ever};
use crate::proc;
use crate::regions::{files, filled, mapped, none_is_left};
use crate::tracer::Tracer;
use nix::sys::signal::Signal;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::{fs, io, process};
use stokehold::{Client, Code, Encode, Encoder, Kind, Options, Pool, WireError};

crate::tests! {
    b3_no_files_of_that_size_for_a_result,
    b4_each_pays_for_what_it_writes,
    b4_a_worker_without_memory_for_its_result,
    b16_a_view_stays_while_its_owner_goes_on,
    b16_what_a_killed_holder_held_is_used_again,
    d4_too_many_descriptors_on_their_way_from_a_client,
    d4_too_many_descriptors_on_their_way_from_the_arbiter,
    d16_a_worker_is_born_with_nothing_of_the_arbiters,
    a_lease_stays_lent_beside_an_argument_that_makes_a_call,
    b8_a_lease_outlives_its_client_and_is_not_written_while_it_is_read,
    an_argument_that_panics_keeps_nothing,
    an_item_that_panics_keeps_nothing,
    a_lease_survives_the_worker_that_read_it,
    the_lease_of_a_dead_client_is_freed,
    a_lease_can_be_read_after_the_arbiters_death,
}

const MIB: usize = 1 << 20;

/// Sets a limit of another process on the sizes of files; answers the one it had.
fn limit_files(pid: u32, soft: u64) -> u64 {
    let mut old = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one local.
    unsafe { libc::prlimit(pid as i32, libc::RLIMIT_FSIZE, std::ptr::null(), &mut old) };
    let new = libc::rlimit { rlim_cur: soft.min(old.rlim_max), ..old };
    // SAFETY: reads one local.
    let answer = unsafe { libc::prlimit(pid as i32, libc::RLIMIT_FSIZE, &new, std::ptr::null_mut()) };
    assert_eq!(answer, 0);
    old.rlim_cur
}

/// The arguments' side of this is `no_files_of_that_size_for_a_lease`.
fn b3_no_files_of_that_size_for_a_result() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let workers = client.worker_pids();
    let descriptors = proc::descriptors(workers[0]).len();
    for _ in 0..3 {
        let old = limit_files(workers[0], 1 << 20);
        for len in [5 * MIB, 40 * MIB] {
            let error = fails(call(&client, "fill").args((1, len)).execute());
            assert_eq!(error.code(), Code::App, "{error}");
            assert!(error.to_string().contains("1048576"), "{error}");
        }
        works(&client);
        limit_files(workers[0], old);
        assert_eq!(
            proc::descriptors(workers[0]).len(),
            descriptors,
            "of what could not be made nothing is left"
        );
    }
    let back = call(&client, "fill").args((7, 40 * MIB)).execute().unwrap();
    assert!(is_filled(back.as_bytes().unwrap(), 7));
    assert_eq!(client.worker_pids(), workers, "an error of a call, and no SIGXFSZ or SIGBUS");
    Ok(())
}

/// A control group for memory, below the one that this process is in. Removed when dropped.
struct Budget(PathBuf);

impl Budget {
    fn new() -> Result<Budget, Skip> {
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let first = |prefix: &str| own.lines().find_map(|line| line.split_once(prefix)).map(|(_, path)| path);
        let (parent, usage) = match (first(":memory:"), first("0::")) {
            (Some(path), _) => (format!("/sys/fs/cgroup/memory{path}"), "memory.usage_in_bytes"),
            (None, Some(path)) => (format!("/sys/fs/cgroup{path}"), "memory.current"),
            _ => return Err(Skip("no control groups".into())),
        };
        let dir = Path::new(&parent).join(format!("stokehold-{}", process::id()));
        fs::create_dir(&dir).map_err(|e| Skip(format!("control group {}: {e}", dir.display())))?;
        let budget = Budget(dir);
        match fs::metadata(budget.0.join(usage)) {
            Ok(_) => Ok(budget),
            Err(e) => Err(Skip(format!("no memory controller: {usage}: {e}"))),
        }
    }

    fn take_in(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }

    fn used(&self) -> usize {
        let read = |name: &str| fs::read_to_string(self.0.join(name)).ok()?.trim().parse().ok();
        read("memory.usage_in_bytes").or_else(|| read("memory.current")).unwrap()
    }

    fn limit(&self, bytes: usize) -> io::Result<()> {
        let set = |name: &str| fs::write(self.0.join(name), bytes.to_string());
        set("memory.limit_in_bytes").or_else(|_| set("memory.max"))
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        // Its processes may be on their way out.
        for _ in 0..1_000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn b4_each_pays_for_what_it_writes() -> Outcome {
    let budget = Budget::new()?;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    budget.take_in(client.worker_pids()[0]).map_err(|e| Skip(format!("a worker in a control group: {e}")))?;
    let len = 128 * MIB;
    // An argument is the host's, whoever reads it.
    let before = budget.used();
    let lease = filled(&client, 3, len);
    assert!(call(&client, "is_filled").args((3, &lease)).execute().unwrap().parse::<bool>().unwrap());
    let after = budget.used();
    assert!(after < before + len / 4, "the worker paid for its caller's memory: {before}, then {after}");
    // A result is the worker's, before and after anybody else has looked at it.
    let back = call(&client, "fill").args((4, len)).execute().unwrap();
    let charged = budget.used();
    assert!(
        charged >= after + len / 4 * 3,
        "somebody else paid for the worker's memory: {after}, then {charged}"
    );
    assert!(is_filled(back.as_bytes().unwrap(), 4));
    assert!(budget.used() >= after + len / 4 * 3);
    drop((back, lease, client, pool));
    Ok(())
}

/// It is the worker that ends, if anybody, and its caller has an outcome; the host lives on.
fn b4_a_worker_without_memory_for_its_result() -> Outcome {
    let budget = Budget::new()?;
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let workers = client.worker_pids();
    budget.take_in(workers[0]).map_err(|e| Skip(format!("a worker in a control group: {e}")))?;
    budget.limit(64 * MIB).map_err(|e| Skip(format!("a limit on memory: {e}")))?;
    let error = fails(call(&client, "fill").args((4, 512 * MIB)).execute());
    assert!(
        matches!(error.kind(), Kind::WorkerDied { started: true, .. } | Kind::App(_)),
        "the outcome of a call without memory: {error:?}"
    );
    if error.code() == Code::WorkerDied {
        ready(&client, 1, &workers);
    }
    // Its replacement is not in that group.
    works(&client);
    all_free(&client);
    drop((client, pool));
    Ok(())
}

fn b16_a_view_stays_while_its_owner_goes_on() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(50));
    let client = pool.client().unwrap();
    let other = pool.client().unwrap();
    // Small, in a region shared with others, and in one of its own.
    let sizes = [1_000, 100_000, 3 * MIB, 40 * MIB];
    let held = sizes.map(|len| call(&client, "pattern").args((1, len)).execute().unwrap());
    let views: Vec<&[u8]> = held.iter().map(|response| response.as_bytes().unwrap()).collect();
    let intact = |when: &str| {
        for (view, len) in views.iter().zip(sizes) {
            assert!(*view == pattern(1, len), "{len} bytes, {when}");
        }
    };
    let churn = |round: i64| {
        for len in sizes {
            let back = call(&other, "fill").args((round, len)).execute().unwrap();
            assert!(is_filled(back.as_bytes().unwrap(), round));
        }
    };
    (2..12).for_each(churn);
    intact("while the worker uses its memory again and again");
    std::thread::sleep(std::time::Duration::from_millis(1_200)); // what is idle is retired meanwhile
    (12..15).for_each(churn);
    intact("after others of the worker's regions were retired");
    let before = client.worker_pids();
    kill(before[0], Signal::SIGKILL);
    ready(&client, 1, &before);
    (15..20).for_each(churn);
    intact("after the worker's death, beside the next one");
    client.trim();
    intact("after everything else was given back");
    drop(held);
    until("its memory is free", || {
        works(&client);
        works(&other);
        none_is_left(&pool)
    });
    Ok(())
}

/// Memory that a client holds is used again only when its process is dead, and then at once.
fn b16_what_a_killed_holder_held_is_used_again() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).keep_warm_ms(50));
    let base = Baseline::of(&pool);
    let client = pool.client().unwrap();
    let worker = client.worker_pids()[0];
    let kid = elsewhere(&pool, |client| {
        let lease = filled(&client, 9, 40 * MIB);
        let result = call(&client, "fill").args((9, 40 * MIB)).execute().unwrap();
        let view = result.as_bytes().unwrap();
        fs::write("note", "").unwrap();
        assert!(is_filled(view, 9) && is_filled(&lease, 9));
        sleep_for_ever()
    });
    until("it holds memory", || Path::new("note").exists());
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(files(worker).len(), 1, "long idle, and held: not retired");
    kid.kill();
    kid.end();
    until("what it held is free", || {
        works(&client);
        none_is_left(&pool)
    });
    drop(client);
    base.reached();
    Ok(())
}

/// A client in a process of its own.
fn elsewhere(pool: &Pool, life: impl FnOnce(Client)) -> Kid {
    let socket = pool.client_socket().unwrap();
    Kid::new(|| {
        life(Client::connect(socket, Options::default()).unwrap());
        0
    })
}

/// No thread of a process sends a message from now on, as though too many descriptors were on their way.
fn sends_nothing(pid: u32) -> Result<Tracer, Skip> {
    let inject = "inject=sendmsg:error=ETOOMANYREFS";
    let tracer = Tracer::new(pid, &["-f", "-e", "trace=all", "-e", inject])?;
    until("strace sees a system call", || !tracer.seen().is_empty());
    Ok(tracer)
}

fn d4_too_many_descriptors_on_their_way_from_a_client() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let socket = pool.client_socket().unwrap();
    let kid = Kid::new(|| {
        let client = Client::connect(socket, Options::default()).unwrap();
        works(&client);
        fs::write("note", "").unwrap();
        until("it may go on", || Path::new("gate").exists());
        let before = proc::descriptors(process::id()).len();
        for len in [3 * MIB, 40 * MIB] {
            let error = client.lease(len).unwrap_err();
            assert!(matches!(error.kind(), Kind::Os { errno: libc::ETOOMANYREFS, .. }), "{error}");
        }
        assert_eq!(proc::descriptors(process::id()).len(), before, "what was not sent is closed");
        works(&client);
        fs::write("note2", "").unwrap();
        until("it may go on", || Path::new("gate2").exists());
        let lease = filled(&client, 5, 40 * MIB);
        let same = call(&client, "is_filled").args((5, &lease)).execute().unwrap();
        assert!(same.parse::<bool>().unwrap());
        0
    });
    until("the client has begun", || Path::new("note").exists());
    let injected = sends_nothing(kid.pid.as_raw() as u32);
    fs::write("gate", "").unwrap();
    if injected.is_ok() {
        until("the client was refused", || {
            Path::new("note2").exists() || proc::status(kid.pid.as_raw() as u32, "State").starts_with('Z')
        });
    }
    let skip = injected.map(drop);
    if skip.is_err() {
        kid.kill();
    }
    fs::write("gate2", "").unwrap();
    let status = kid.end();
    skip?;
    assert_eq!(status, stokehold::internals::sys::process::ExitStatus::Exited(0));
    Ok(())
}

/// What the arbiter cannot send now it sends later: nobody is taken for broken.
fn d4_too_many_descriptors_on_their_way_from_the_arbiter() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    works(&client);
    let workers = client.worker_pids();
    let lease = filled(&client, 6, 40 * MIB);
    let pending = {
        // The worker has to fetch the client's region, and is answered with a descriptor.
        let _injected = sends_nothing(pool.arbiter_pid())?;
        let pending = call(&client, "is_filled").args((6, &lease)).submit().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(700)); // a tick and more, in which it is tried again
        assert!(!pending.is_ready(), "the injection injects nothing");
        pending
    };
    assert!(pending.wait().unwrap().parse::<bool>().unwrap());
    assert_eq!(client.worker_pids(), workers);
    works(&pool.client().unwrap());
    Ok(())
}

fn d16_a_worker_is_born_with_nothing_of_the_arbiters() -> Outcome {
    let mut guard = PoolGuard::new();
    // Workers that come when the arbiter has much to leave to them by mistake: clients, workers, regions.
    let pool = guard.start(builder(3));
    let clients: Vec<_> = (0..4).map(|_| pool.client().unwrap()).collect();
    let lease = filled(&clients[0], 1, 40 * MIB);
    let arbiter = proc::descriptors(pool.arbiter_pid());
    let kinds =
        ["anon_inode:[eventpoll]", "anon_inode:[pidfd]", "anon_inode:[eventfd]", "anon_inode:[signalfd]"];
    assert!(
        arbiter.values().any(|to| to == kinds[0])
            && arbiter.values().filter(|to| *to == kinds[1]).count() > 3,
        "what is looked for is there: {arbiter:?}"
    );
    let allowed =
        |to: &str, others: &[&str]| to.starts_with("socket:") || others.iter().any(|o| to.contains(o));
    for _ in 0..2 {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 3 {
            let born = call(&clients[seen.len()], "born_with").execute().unwrap();
            let (pid, open): (u32, Vec<String>) = born.parse().unwrap();
            if !seen.insert(pid) {
                continue;
            }
            let open: Vec<(u32, &str)> = open
                .iter()
                .map(|l| l.split_once(' ').unwrap())
                .map(|(n, to)| (n.parse().unwrap(), to))
                .collect();
            for (n, to) in &open {
                let standard = *n < 3 && !to.starts_with("anon_inode:") && !to.starts_with("socket:");
                // Its own timers and events are made after its birth, and before its apps'.
                let own = [
                    "anon_inode:[timerfd]",
                    "stokehold-registry",
                    "stokehold-board",
                    "stokehold-results",
                    "/dev/zero",
                    "/proc/",
                ];
                assert!(standard || allowed(to, &own), "worker {pid}: {n} is {to}; all: {open:?}");
            }
            let sockets: Vec<_> = open.iter().filter(|(_, to)| to.starts_with("socket:")).collect();
            assert_eq!(sockets.len(), 2, "control and fetch: {open:?}");
            for (n, to) in sockets {
                assert!(
                    !arbiter.values().any(|its| its == to),
                    "worker {pid}: {n} is the arbiter's end, {to}"
                );
            }
            kill(pid, Signal::SIGKILL);
            ready(&clients[0], 3, &[pid]);
        }
    }
    assert!(is_filled(&lease, 1));
    Ok(())
}

/// An argument that makes calls of its own while it is encoded, with a lease and without, and then so many bytes.
struct Calling<'c>(&'c Client, usize);

impl Encode for Calling<'_> {
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        let lease = self.0.lease_from(b"coal").unwrap();
        call(self.0, "echo").args((&lease,)).execute().unwrap();
        call(self.0, "echo").args((&b"coke"[..],)).execute().unwrap();
        e.bytes(&vec![0; self.1])
    }
}

fn a_lease_stays_lent_beside_an_argument_that_makes_a_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    // In its record, and in a block of its own.
    for (round, gate, len) in [(1, "gate1", 0), (2, "gate2", 10_000)] {
        let lease = filled(&client, 8, MIB);
        let held = call(&client, "hold_filled").args((round, gate, &lease));
        let held = held.kwargs([("late", Calling(&client, len))]).submit().unwrap();
        crate::app::until_begun(round);
        drop(lease);
        let others: Vec<_> = (0..4).map(|_| filled(&client, 9, MIB)).collect();
        fs::write(gate, "").unwrap();
        assert!(held.wait().unwrap().parse::<bool>().unwrap(), "the worker read what was not lent to it");
        drop(others);
        fs::remove_file(gate).unwrap();
    }
    all_free(&client);
    Ok(())
}

/// The first time that it is encoded, or the second.
struct Panicking(Cell<u32>);

impl Encode for Panicking {
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        let left = self.0.get();
        assert!(left > 0, "the coal is wet");
        self.0.set(left - 1);
        e.bytes(&vec![0; 5 * MIB])
    }
}

/// B8: who is gone cannot say any more until when its leases are read.
fn b8_a_lease_outlives_its_client_and_is_not_written_while_it_is_read() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).cancel_grace_ms(600_000));
    let clients = [(); 3].map(|()| pool.client().unwrap());
    let [mut read, mut let_go, mut unsent] =
        clients.each_ref().map(|client| client.lease_from(b"coal").unwrap());
    let [first, second, third] = clients;
    assert_eq!(call(&second, "echo").args((&let_go,)).execute().unwrap().as_bytes().unwrap(), b"coal");
    let pending = call(&first, "gate").args((1, "gate")).kwargs([("lent", &read)]).submit().unwrap();
    until_begun(1);
    assert_eq!(fails(pending.cancel()).code(), Code::Cancelled);
    assert!(read.try_as_mut().is_none());
    drop((first, second, third));
    assert!(read.try_as_mut().is_none(), "its worker has it still");
    assert_eq!(&read[..], b"coal");
    assert!(let_go.try_as_mut().is_some() && unsent.try_as_mut().is_some());
    open("gate");
    Ok(())
}

fn an_argument_that_panics_keeps_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut lease = client.lease_from(b"coal").unwrap();
    for round in 0..70 {
        let argument = Panicking(Cell::new(round % 2));
        let sent = call(&client, "echo").args((&lease, argument));
        assert!(catch_unwind(AssertUnwindSafe(|| sent.execute())).is_err());
        assert_eq!(client.free_calls(), 64);
        assert!(lease.try_as_mut().is_some());
    }
    client.trim();
    assert_eq!(mapped(process::id()).len(), 0);
    // Nor does what is encoded for no call, once there is one.
    lease.encode(&mut Encoder::new(&mut [0; 64])).unwrap();
    assert!(lease.try_as_mut().is_none());
    works(&client);
    assert!(lease.try_as_mut().is_some());
    Ok(())
}

fn an_item_that_panics_keeps_nothing() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut lease = client.lease_from(b"coal").unwrap();
    let mut context = call(&client, "echo_context").context().unwrap();
    for round in 0..70 {
        let item = (&lease, Panicking(Cell::new(round % 2)));
        assert!(catch_unwind(AssertUnwindSafe(|| context.send(item))).is_err());
        assert!(lease.try_as_mut().is_some());
    }
    context.send(7).unwrap();
    assert_eq!(context.next().unwrap().unwrap().parse::<i64>().unwrap(), 7);
    assert_eq!(context.wait().unwrap().parse::<i64>().unwrap(), 1, "nothing else was sent");
    client.trim();
    let mapped = mapped(process::id());
    assert!(mapped.len() <= 1, "a small one is kept, which the context was in: {mapped:?}");
    Ok(())
}

fn a_lease_survives_the_worker_that_read_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut lease = filled(&client, 8, 40 * MIB);
    for _ in 0..3 {
        let before = client.worker_pids();
        assert!(call(&client, "is_filled").args((8, &lease)).execute().unwrap().parse::<bool>().unwrap());
        let error = fails(call(&client, "die_with").args((&lease,)).execute());
        assert_eq!(error.code(), Code::WorkerDied, "{error}");
        ready(&client, 1, &before);
        assert!(is_filled(&lease, 8));
    }
    // Nobody reads it any more: it is its owner's to write.
    all_free(&client);
    lease.fill(9);
    assert!(call(&client, "is_filled").args((9, &lease)).execute().unwrap().parse::<bool>().unwrap());
    Ok(())
}

fn the_lease_of_a_dead_client_is_freed() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1).kill_grace_ms(60_000)); // it may take its time to let go
    let base = Baseline::of(&pool);
    let worker = pool.client().unwrap().worker_pids()[0];
    base.reached();
    for round in 0..3 {
        let kid = elsewhere(&pool, |client| {
            let lease = filled(&client, 8, 40 * MIB);
            // Once read and given back, once with a call that has it.
            call(&client, "is_filled").args((8, &lease)).execute().unwrap();
            let _sent = call(&client, "hold_filled").args((round, "gate", &lease)).submit().unwrap();
            crate::app::until_begun(round);
            fs::write("note", "").unwrap();
            sleep_for_ever()
        });
        until("it has lent", || Path::new("note").exists());
        assert_eq!(mapped(worker).len(), 1, "the worker reads it");
        kid.kill();
        kid.end();
        fs::write("gate", "").unwrap();
        until("its memory is free", || none_is_left(&pool));
        base.reached();
        fs::remove_file("gate").unwrap();
        fs::remove_file("note").unwrap();
    }
    let client = pool.client().unwrap();
    assert_eq!(client.worker_pids(), [worker]);
    works(&client);
    Ok(())
}

fn a_lease_can_be_read_after_the_arbiters_death() -> Outcome {
    let mut guard = PoolGuard::new();
    let pool = guard.start(builder(1));
    let client = pool.client().unwrap();
    let mut lease = filled(&client, 8, 40 * MIB);
    let small = client.lease_from(b"coal").unwrap();
    let result = call(&client, "fill").args((7, 40 * MIB)).execute().unwrap();
    kill(pool.arbiter_pid(), Signal::SIGKILL);
    let error = fails(call(&client, "hold").args((1, "gate", &small)).execute());
    assert_eq!(error.code(), Code::ArbiterDied, "{error}");
    for _ in 0..2 {
        assert!(is_filled(&lease, 8) && is_filled(result.as_bytes().unwrap(), 7) && *small == *b"coal");
        let error = fails(call(&client, "is_filled").args((8, &lease)).execute());
        assert_eq!(error.code(), Code::ArbiterDied, "{error}");
        assert_eq!(error.started(), Some(false));
        assert_eq!(client.lease(MIB).unwrap_err().code(), Code::ArbiterDied);
        client.trim();
    }
    lease.fill(1); // no call carries it
    drop(result);
    client.trim();
    assert!(is_filled(&lease, 1));
    Ok(())
}
