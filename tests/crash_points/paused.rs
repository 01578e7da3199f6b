//! Who is stopped, or dies, at one particular step, while another does what makes that step a bad place for it.

use super::app::Storm;
use super::guard::{PoolGuard, kill, some, until};
use super::harness::{Kid, Outcome};
use super::journal::{Event, Journal, Record};
use super::judge::{STOP, judge};
use super::keyed::{item, keyed};
use super::law::{MAY_END, PLAIN, STREAM};
use super::plan::{self, Plan};
use super::pool::{PATH, Served};
use super::proc;
use super::rest::number as number_of;
use super::verdict::Verdict;
use nix::sys::signal::Signal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use stokehold::internals::crash::Action;
use stokehold::internals::sys::process::ExitStatus;
use stokehold::{App, Client, Code, Error, Options, Pending, Result, Value};

crate::tests![
    a_plan_in_the_environment_is_gone_by,
    a16_a_child_whose_parent_dies_before_it_has_settled_ends,
    a22_a_panic_in_a_forked_child_ends_the_child_and_nothing_else,
    a8_a_worker_that_stands_still_in_a_call_is_killed,
    b11_a_claim_of_a_call_that_was_submitted_again_fails,
    b11_a_result_of_a_call_that_was_given_up_is_dropped,
    b11_a_cancel_of_a_call_that_has_ended_is_none,
    b11_a_repair_of_a_call_that_was_given_up_lets_go_of_it,
    b13_a_wake_up_that_goes_down_with_its_client_is_made_up_for,
    b13_a_wake_up_that_goes_down_with_a_worker_is_made_up_for,
    b14_who_was_woken_dies_and_another_takes_the_call,
    f9_a_client_that_stands_still_keeps_its_own_call_and_nothing_else,
    f9_a_client_that_reads_no_further_costs_its_worker_and_nobody_else,
];

/// A plan, and a pool of so many workers with one thread each.
fn set(guard: &mut PoolGuard, workers: usize) -> (&'static Plan, Served) {
    let plan = plan::ours();
    plan.clear();
    (plan, Served::start_with(guard, workers, 1))
}

/// The next one to come to this point; nothing else is planned.
fn trap(plan: &Plan, name: &str, action: Action) {
    plan.clear();
    plan.arm(name, action);
}

/// Who has come to this point.
fn caught(plan: &Plan, name: &str) -> u32 {
    some(format!("somebody comes to {name}"), || plan.victim(name))
}

/// Who has come to this point and stands still.
fn stopped(plan: &Plan, name: &str) -> u32 {
    let pid = caught(plan, name);
    until("it stands still", || proc::thread_states(pid).iter().all(|state| *state == 'T'));
    pid
}

/// Until the clients are gone by themselves.
fn until_they_left(pool: &mut Served) {
    until("all clients are gone", || {
        pool.let_clients_come(0);
        pool.clients.is_empty()
    });
}

/// Until each line of this client is free, and none was found damaged. A line that its worker let go of is free when its
/// client next looks.
fn until_nothing_is_on_a_line(caller: &mut Caller) {
    until("each line is free", || {
        caller.call(1);
        let status = stokehold::status(PATH).unwrap();
        let is_none = |what: &str, of: &[&str]| {
            let counts = status.get(what).unwrap();
            of.iter().all(|name| number_of(counts, name) == Ok(0))
        };
        is_none("calls", &["queued", "running", "ended"]) && is_none("lanes", &["suspect"])
    });
}

/// All has ended well, and nothing is left of it.
fn ends_well(mut pool: Served) {
    pool.let_clients_go();
    pool.come_to_rest();
    pool.close();
    let (records, arbiter, complaints) = pool.end(ExitStatus::Exited(0));
    assert_eq!(complaints, [""; 0]);
    assert_eq!(judge(&records, arbiter).violations, [""; 0]);
}

/// Calls with their journal, of this process.
struct Caller {
    client: Client,
    next: u64,
}

/// What goes with a call, as the app knows it again.
fn coal(id: u64) -> Vec<u8> {
    item(id, 0, 96)
}

/// What a hanging call ends with, and no other.
const SOON_MS: u64 = 5_000;

impl Caller {
    /// The number is nobody else's.
    fn connect(number: u64) -> Caller {
        Caller { client: Client::connect_path(PATH, Options::default()).unwrap(), next: number << 32 }
    }

    fn issue(&mut self, way: u64) -> u64 {
        self.next += 1;
        Journal::ours().add(Event::Issued, self.next, way);
        self.next
    }

    /// One that takes so long.
    fn submit(&mut self, way: u64, work: Duration) -> (u64, Result<Pending>) {
        let id = self.issue(way);
        let call = self.client.call(Storm::NAME, "work");
        let (bytes, us) = (coal(id), work.as_micros() as u64);
        (id, call.args((id as i64, &bytes[..], us)).deadline_ms(SOON_MS).submit())
    }

    fn ended<T>(id: u64, outcome: Result<T>) -> Option<Error> {
        Journal::ours().add(Event::Outcome, id, Verdict::of(&outcome).pack());
        outcome.err()
    }

    fn wait(id: u64, pending: Result<Pending>) -> Option<Error> {
        let outcome = pending.and_then(Pending::wait).and_then(|response| response.parse::<i64>());
        if let Ok(result) = &outcome {
            assert_eq!(*result, keyed(id, &coal(id)));
        }
        Caller::ended(id, outcome)
    }

    /// Calls that go well.
    fn call(&mut self, times: usize) {
        for _ in 0..times {
            let (id, pending) = self.submit(PLAIN, Duration::ZERO);
            let error = Caller::wait(id, pending);
            assert!(error.is_none(), "{error:?}");
        }
    }
}

/// A number for each that calls.
fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A client process that does this, and leaves.
fn client(does: impl FnOnce(&mut Caller)) -> Kid {
    let number = number();
    Kid::new(|| {
        let mut caller = Caller::connect(number);
        does(&mut caller);
        drop(caller);
        Journal::ours().add(Event::Left, number, 0);
        0
    })
}

/// That of a test's own process, which also leaves.
fn bystander(does: impl FnOnce(&mut Caller)) {
    let mut caller = Caller::connect(number());
    does(&mut caller);
    drop(caller);
    Journal::ours().add(Event::Left, 0, 0);
}

/// What a plan in the environment says, each process goes by for itself.
fn a_plan_in_the_environment_is_gone_by() -> Outcome {
    // SAFETY: a test's process has one thread.
    unsafe { std::env::set_var("STOKEHOLD_CRASH_POINTS", "worker.run.begun:3:kill,boot.told:1:sleep=1") };
    let mut guard = PoolGuard::new();
    let pool = Served::start_with(&mut guard, 1, 1);
    let mut caller = Caller::connect(0);
    for _ in 0..2 {
        caller.call(2);
        let (id, pending) = caller.submit(PLAIN, Duration::ZERO);
        let error = Caller::wait(id, pending).unwrap();
        assert_eq!((error.code(), error.started()), (Code::WorkerDied, Some(true)), "{error}");
    }
    drop(caller);
    pool.close();
    assert_eq!(pool.end(ExitStatus::Exited(0)).2, [""; 0]);
    Ok(())
}

/// A16: the arbiter dies when its child has not asked to die with it yet.
fn a16_a_child_whose_parent_dies_before_it_has_settled_ends() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, pool) = set(&mut guard, 2);
    // Asleep, not stopped: the kernel would continue it when its group is left alone, and end it by SIGHUP.
    trap(plan, "spawn.forked", Action::Sleep(2_000));
    pool.kill_a_worker();
    let child = caught(plan, "spawn.forked");
    let arbiter = pool.arbiter();
    let boots = plan.passed("boot.marked");
    pool.kill(arbiter);
    until("its parent is dead", || proc::process(arbiter).is_none_or(|process| process.state == 'Z'));
    assert!(proc::process(child).is_some_and(|process| process.state == 'S'), "it has not settled");
    until("it finds itself alone", || proc::process(child).is_none_or(|process| process.state == 'Z'));
    assert_eq!(plan.passed("boot.marked"), boots, "and does nothing more");
    let (_, _, complaints) = pool.end(ExitStatus::Signaled(libc::SIGKILL));
    assert_eq!(complaints, [""; 0]);
    Ok(())
}

/// A22: before the child's descriptors are closed, and after.
fn a22_a_panic_in_a_forked_child_ends_the_child_and_nothing_else() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, mut pool) = set(&mut guard, 2);
    bystander(|caller| {
        for point in ["spawn.forked", "spawn.settled", "spawn.swept", "boot.marked", "boot.started"] {
            trap(plan, point, Action::Panic);
            pool.kill_a_worker();
            let child = caught(plan, point);
            until("it is gone", || proc::process(child).is_none());
            // Were it in the arbiter's loop it would answer as that, too: each of these asks once more.
            for _ in 0..20 {
                let status = stokehold::status(PATH).unwrap();
                assert_eq!(number_of(&status, "pid"), Ok(i64::from(pool.arbiter())));
            }
            // It is caught where the worker's own life begins, and goes no further up.
            let status = stokehold::status(PATH).unwrap();
            let why = status.get("boot_failure").and_then(|failure| failure.get("why"));
            let why = why.and_then(Value::as_str).unwrap_or_default();
            assert!(why.ends_with("exit status 70"), "{point}: {why:?}");
            // Not one that is being born: that would come to the next point, and be killed there.
            until("it is replaced", || {
                let status = stokehold::status(PATH).unwrap();
                number_of(&status, "workers_ready") == Ok(2)
            });
            caller.call(5);
        }
    });
    pool.come_to_rest();
    ends_well(pool);
    Ok(())
}

/// A8: SIGTERM does nothing to it. Nor to one that loops (A7): what is done about them is the same.
fn a8_a_worker_that_stands_still_in_a_call_is_killed() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, pool) = set(&mut guard, 2);
    bystander(|caller| {
        for point in [
            "worker.run.claimed",
            "worker.run.begun",
            "worker.run.answered",
            "worker.result.named",
            "worker.complete.placed",
        ] {
            trap(plan, point, Action::Stop);
            let mut ms = 300;
            // No worker may have come to it in that time: once more, with twice as much.
            let error = loop {
                let id = caller.issue(PLAIN | MAY_END);
                let bytes = coal(id);
                let call = caller.client.call(Storm::NAME, "work").args((id as i64, &bytes[..], 0_u64));
                let error = Caller::ended(id, call.deadline_ms(ms).execute()).unwrap();
                if error.started() != Some(false) {
                    break error;
                }
                ms *= 2;
            };
            let worker = stopped(plan, point);
            assert_eq!(error.code(), Code::Deadline, "{point}: {error}");
            caller.call(5); // by the other one
            until("it is killed", || proc::process(worker).is_none());
            caller.call(5);
        }
    });
    ends_well(pool);
    Ok(())
}

/// B11: between a worker's look at the ring and its swap of the word its call is cancelled, and the line used again.
fn b11_a_claim_of_a_call_that_was_submitted_again_fails() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, pool) = set(&mut guard, 2);
    bystander(|caller| {
        caller.call(1);
        trap(plan, "worker.claim.looked", Action::Stop);
        let (id, pending) = caller.submit(PLAIN | MAY_END, Duration::ZERO);
        let worker = stopped(plan, "worker.claim.looked");
        // Unless the other worker was awake and has taken it.
        Caller::ended(id, pending.unwrap().cancel());
        caller.call(50);
        // One that is queued on that line when the worker goes on: the other worker is busy.
        let (busy, first) = caller.submit(PLAIN, Duration::from_millis(100));
        let (queued, second) = caller.submit(PLAIN, Duration::from_millis(10));
        kill(worker, Signal::SIGCONT);
        assert!(Caller::wait(queued, second).is_none());
        assert!(Caller::wait(busy, first).is_none());
        caller.call(50);
    });
    ends_well(pool);
    Ok(())
}

/// B11: between the result's place and the swap of the word the call is given up.
fn b11_a_result_of_a_call_that_was_given_up_is_dropped() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, pool) = set(&mut guard, 2);
    bystander(|caller| {
        for point in
            ["worker.run.claimed", "worker.run.begun", "worker.result.written", "worker.complete.placed"]
        {
            trap(plan, point, Action::Stop);
            let (id, pending) = caller.submit(PLAIN | MAY_END, Duration::ZERO);
            let worker = stopped(plan, point);
            let error = Caller::ended(id, pending.unwrap().cancel()).unwrap();
            assert_eq!((error.code(), error.started()), (Code::Cancelled, Some(true)), "{error}");
            caller.call(5);
            kill(worker, Signal::SIGCONT);
            caller.call(20);
            until_nothing_is_on_a_line(caller);
        }
    });
    ends_well(pool);
    Ok(())
}

/// B11: between the look of who cancels and its swap the call ends.
fn b11_a_cancel_of_a_call_that_has_ended_is_none() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, mut pool) = set(&mut guard, 1);
    trap(plan, "cancel.looked", Action::Stop);
    let canceller = client(|caller| {
        let (id, pending) = caller.submit(PLAIN | MAY_END, Duration::from_millis(1_000));
        let pending = pending.unwrap();
        until("a worker has it", || {
            Journal::ours().since(0).0.iter().any(|record| record.event == Event::Begin && record.id == id)
        });
        let outcome = pending.cancel().and_then(|response| response.parse::<i64>());
        assert_eq!(*outcome.as_ref().unwrap(), keyed(id, &coal(id)), "the result came first");
        assert!(Caller::ended(id, outcome).is_none());
        caller.call(10);
    });
    let stands = stopped(plan, "cancel.looked");
    assert_eq!(stands, canceller.pid.as_raw() as u32);
    bystander(|caller| caller.call(10)); // behind it: the worker is one
    kill(stands, Signal::SIGCONT);
    pool.clients.push(canceller);
    ends_well(pool);
    Ok(())
}

/// B11: between the arbiter's look at a dead worker's call and its swap the caller gives that up.
fn b11_a_repair_of_a_call_that_was_given_up_lets_go_of_it() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, pool) = set(&mut guard, 1);
    bystander(|caller| {
        for _ in 0..3 {
            trap(plan, "arbiter.repair.looked", Action::Stop);
            plan.arm("worker.run.begun", Action::Kill);
            let (id, pending) = caller.submit(PLAIN | MAY_END, Duration::ZERO);
            let arbiter = stopped(plan, "arbiter.repair.looked");
            assert_eq!(arbiter, pool.arbiter());
            let error = Caller::ended(id, pending.unwrap().cancel()).unwrap();
            assert_eq!((error.code(), error.started()), (Code::Cancelled, Some(true)), "{error}");
            kill(arbiter, Signal::SIGCONT);
            until_nothing_is_on_a_line(caller);
            caller.call(10);
        }
    });
    ends_well(pool);
    Ok(())
}

/// B13: a client has taken the only worker's idle bit, and dies or stands still before it rings.
fn b13_a_wake_up_that_goes_down_with_its_client_is_made_up_for() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, mut pool) = set(&mut guard, 1);
    for action in [Action::Kill, Action::Stop] {
        bystander(|caller| {
            trap(plan, "client.submit.token", action);
            let takes = client(|caller| {
                while plan.victim("client.submit.token").is_none() {
                    std::thread::sleep(Duration::from_millis(20)); // the worker sleeps by then, or does the next time
                    caller.call(1);
                }
            });
            let pid = caught(plan, "client.submit.token");
            caller.call(1);
            kill(pid, Signal::SIGCONT);
            pool.clients.push(takes);
        });
        until_they_left(&mut pool);
    }
    ends_well(pool);
    Ok(())
}

/// B13: a worker has published and taken the flag of who sleeps, and dies before it wakes him.
fn b13_a_wake_up_that_goes_down_with_a_worker_is_made_up_for() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, mut pool) = set(&mut guard, 1);
    for point in ["worker.complete.done", "bell.taken"] {
        let waits = client(|caller| {
            let (id, pending) = caller.submit(PLAIN, Duration::from_millis(1_000));
            assert!(Caller::wait(id, pending).is_none(), "the result was there");
        });
        let is_its = |record: &&Record| record.pid == waits.pid.as_raw() as u32;
        until("its call runs", || {
            let all = pool.journal.since(0).0;
            let issued = all.iter().filter(is_its).find(|record| record.event == Event::Issued);
            issued.is_some_and(|call| all.iter().any(|r| r.event == Event::Begin && r.id == call.id))
        });
        trap(plan, point, Action::Kill);
        let victim = caught(plan, point);
        assert_ne!(victim, waits.pid.as_raw() as u32);
        pool.clients.push(waits);
        until_they_left(&mut pool);
    }
    ends_well(pool);
    Ok(())
}

/// B14: a worker was woken for a call, and dies before it looks for it.
fn b14_who_was_woken_dies_and_another_takes_the_call() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, pool) = set(&mut guard, 2);
    bystander(|caller| {
        for action in [Action::Kill, Action::Stop] {
            trap(plan, "worker.park.woken", action);
            let woken = some("somebody is woken", || {
                std::thread::sleep(Duration::from_millis(20)); // they sleep by then, or do the next time
                caller.call(1);
                plan.victim("worker.park.woken")
            });
            kill(woken, Signal::SIGCONT);
        }
    });
    ends_well(pool);
    Ok(())
}

/// F9: wherever it stands still, others have all that is not its own call's.
fn f9_a_client_that_stands_still_keeps_its_own_call_and_nothing_else() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, mut pool) = set(&mut guard, 1);
    let points = [
        "client.submit.recorded",
        "client.submit.published",
        "client.submit.slot",
        "client.submit.appended",
        "client.submit.hinted",
        "bell.asleep",
        "bell.woken",
        "client.outcome.seen",
        "client.outcome.read",
        "client.release.looked",
        "client.release.moved",
    ];
    for point in points {
        trap(plan, point, Action::Stop);
        let stands = client(|caller| {
            let (id, pending) = caller.submit(PLAIN, Duration::from_millis(50)); // it sleeps meanwhile
            let error = Caller::wait(id, pending);
            assert!(error.is_none(), "{error:?}");
            caller.call(3);
        });
        let pid = stopped(plan, point);
        assert_eq!(pid, stands.pid.as_raw() as u32, "{point}");
        bystander(|caller| caller.call(70)); // more than there are lines
        let status = stokehold::status(PATH).unwrap();
        let calls = status.get("calls").unwrap();
        let all = ["queued", "running", "ended"].map(|name| number_of(calls, name).unwrap());
        assert!(all.iter().sum::<i64>() <= 1, "{point}: {calls:?}");
        kill(pid, Signal::SIGCONT);
        pool.clients.push(stands);
        until_they_left(&mut pool);
    }
    ends_well(pool);
    Ok(())
}

/// F9: its worker waits for room that does not come, until its call's deadline; then it is another worker's life.
fn f9_a_client_that_reads_no_further_costs_its_worker_and_nobody_else() -> Outcome {
    let mut guard = PoolGuard::new();
    let (plan, mut pool) = set(&mut guard, 1);
    let before = pool.workers();
    trap(plan, "client.stream.popped", Action::Stop);
    let stands = client(|caller| {
        let id = caller.issue(STREAM | MAY_END);
        let args = (id as i64, 1_000_000_u64, 1_000_usize);
        let stream =
            caller.client.call(Storm::NAME, "stream").args(args).deadline_ms(1_000).stream().unwrap();
        let error = stream.into_iter().find_map(Result::err).unwrap();
        assert!(matches!(error.code(), Code::Deadline | Code::WorkerDied), "{error}");
        Caller::ended(id, Err::<(), _>(error));
        caller.call(10);
    });
    let pid = stopped(plan, "client.stream.popped");
    assert_eq!(pid, stands.pid.as_raw() as u32);
    // By the worker that comes in the place of the one that this client keeps.
    bystander(|caller| caller.call(70));
    until("the one that it keeps is killed", || !pool.workers().contains(&before[0]));
    Journal::ours().add(Event::Struck, before[0].into(), STOP); // what its death comes of
    kill(pid, Signal::SIGCONT);
    pool.clients.push(stands);
    ends_well(pool);
    Ok(())
}
