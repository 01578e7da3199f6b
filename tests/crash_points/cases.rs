//! Each point, and each action: somebody comes to the point while all goes on, and it happens to him.

use super::guard::{PoolGuard, some};
use super::harness::{Outcome, Test};
use super::judge::judge;
use super::plan::{self, Plan};
use super::pool::Served;
use super::proc;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stokehold::internals::crash::{Action, NAMES};
use stokehold::internals::sys::process::ExitStatus;

/// So many tests, which take turns with the points.
const SHARDS: usize = 6;

pub fn tests() -> Vec<Test> {
    macro_rules! shards {
        ($($at:literal)*) => { [$((concat!("points_", $at), shard::<$at> as fn() -> Outcome)),*] };
    }
    let shards: [Test; SHARDS] = shards!(0 1 2 3 4 5);
    shards.to_vec()
}

/// Clients at a time.
const CLIENTS: usize = 2;
/// Calls of others that have to go well before it is believed that they go on.
const ENOUGH: usize = 8;
/// Nobody comes to the point.
const UNREACHED: Duration = Duration::from_secs(20);
/// When something is done so that somebody may.
const NUDGE: Duration = Duration::from_millis(100);
/// When what it needs is planned once more.
const HELP: Duration = Duration::from_millis(30);

const ACTIONS: [Action; 5] = [Action::Kill, Action::Stop, Action::Sleep(20), Action::Exit, Action::Panic];

/// Points that stand before a system call, and errors of it.
const CALLS: &[(&str, &[i32])] = &[
    ("grow.create", &[libc::ENOMEM, libc::EMFILE, libc::ENOSPC]),
    ("arbiter.spawn", &[libc::EAGAIN, libc::ENOMEM]),
    ("arbiter.accept", &[libc::EMFILE, libc::ENOBUFS, libc::ECONNABORTED]),
    ("arbiter.fetch", &[libc::EMFILE]),
];

/// Points that are come to when a pool closes.
const AT_CLOSE: &[&str] = &[
    "worker.stop.told",
    "worker.stop.over",
    "refuse.looked",
    "arbiter.stop",
    "arbiter.refuse",
    "arbiter.drain",
    "arbiter.exit",
];

/// Points that are come to because of what happens at another.
const HELPERS: &[(&str, &str, Action)] = &[
    ("worker.quiesce.restored", "worker.quiesce.cleared", Action::Sleep(20)),
    ("armed.taken", "client.armed", Action::Sleep(20)),
    ("client.withdraw.looked", "worker.run.begun", Action::Sleep(20)),
    ("client.withdrawn", "worker.run.begun", Action::Sleep(20)),
    ("arbiter.repair.looked", "worker.run.begun", Action::Kill),
    ("arbiter.repair.moved", "worker.run.begun", Action::Kill),
    ("arbiter.reclaim.looked", "client.submit.token", Action::Kill),
    ("arbiter.reclaim.moved", "client.submit.token", Action::Kill),
];

fn from_env(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn shard<const AT: usize>() -> Outcome {
    let (points, actions) = (from_env("STOKEHOLD_POINTS"), from_env("STOKEHOLD_ACTIONS"));
    let plan = plan::ours();
    let mut guard = PoolGuard::new();
    let mut wrong = 0;
    let mut outcomes = BTreeMap::new();
    for name in NAMES.iter().skip(AT).step_by(SHARDS).filter(|name| name.starts_with(&points)) {
        let calls = CALLS.iter().filter(|(call, _)| call == name).flat_map(|(_, errors)| errors.iter());
        let errors = calls.map(|errno| Action::Errno(*errno));
        for action in ACTIONS.into_iter().chain(errors) {
            if !format!("{action:?}").to_lowercase().contains(&actions.to_lowercase()) {
                continue;
            }
            let begin = Instant::now();
            let (told, complaints) = case(&mut guard, plan, name, action);
            println!("{name} {action:?}: {} ms, {told}", begin.elapsed().as_millis());
            complaints.iter().take(5).for_each(|complaint| println!("    {complaint}"));
            wrong += usize::from(!complaints.is_empty());
            *outcomes.entry(complaints.is_empty()).or_insert(0) += 1;
        }
    }
    assert_eq!(wrong, 0, "cases that went wrong");
    Ok(())
}

/// What came of it, and what was wrong.
fn case(guard: &mut PoolGuard, plan: &Plan, name: &str, action: Action) -> (String, Vec<String>) {
    plan.clear();
    let mut pool = Served::start(guard);
    let closes = AT_CLOSE.contains(&name);
    // Those who stop or leave are at work already; the others are caught with the first call that they make.
    let is_warm = matches!(action, Action::Stop | Action::Exit) || closes;
    if is_warm {
        pool.let_clients_come(CLIENTS);
        wait_for_calls(&mut pool, 0);
    }
    plan.arm(name, action);
    help(plan, name);
    if closes {
        pool.close();
    }
    let Some(victim) = bring_about(&mut pool, plan, name, closes) else {
        pool.complaints.push(format!("nobody comes to {name}"));
        return finish(pool, None, action, closes);
    };
    let is_arbiters = victim == pool.arbiter();
    let ends_pool = is_arbiters && matches!(action, Action::Kill | Action::Exit | Action::Panic);
    if action == Action::Stop {
        some("it is stopped", || proc::thread_states(victim).iter().all(|state| *state == 'T').then_some(()));
        match is_arbiters || closes {
            true => std::thread::sleep(Duration::from_millis(50)),
            false => wait_for_calls(&mut pool, victim),
        }
        super::guard::kill(victim, Signal::SIGCONT);
    }
    if !ends_pool && !closes {
        pool.let_clients_come(CLIENTS);
        wait_for_calls(&mut pool, victim);
    }
    // What a panic of ours leaves undone goes with the process: where apps are called the worker lives on.
    if action == Action::Panic && !is_arbiters && !pool.has_client(victim) {
        pool.kill(victim);
    }
    finish(pool, Some(victim).filter(|_| ends_pool), action, closes)
}

/// Until somebody comes to the point.
fn bring_about(pool: &mut Served, plan: &Plan, name: &str, closes: bool) -> Option<u32> {
    let begin = Instant::now();
    let (mut nudged, mut helped) = (begin, begin);
    let mut turn = 0;
    while begin.elapsed() < UNREACHED {
        if let Some(victim) = plan.victim(name) {
            plan.forget();
            return Some(victim);
        }
        if closes {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        pool.let_clients_come(CLIENTS);
        if helped.elapsed() > HELP {
            helped = Instant::now();
            help(plan, name);
        }
        if nudged.elapsed() > NUDGE {
            nudged = Instant::now();
            turn += 1;
            match turn % 3 {
                0 => pool.kill_a_client(),
                1 => pool.kill_a_worker(),
                _ => pool.be_visited(),
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

/// Has happen what this point is come to for.
fn help(plan: &Plan, name: &str) {
    let helpers = HELPERS.iter().filter(|(point, ..)| *point == name);
    helpers.for_each(|(_, helper, action)| plan.arm(helper, *action));
}

/// Others than this one go on.
fn wait_for_calls(pool: &mut Served, victim: u32) {
    let end = Instant::now() + UNREACHED;
    let mut well = 0;
    pool.went_well(victim);
    while well < ENOUGH && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(1));
        pool.let_clients_come(CLIENTS);
        well += pool.went_well(victim);
    }
    if well < ENOUGH {
        pool.complaints.push(format!("C7: {well} calls of others went well in {UNREACHED:?}"));
    }
}

fn finish(mut pool: Served, ended: Option<u32>, action: Action, closed: bool) -> (String, Vec<String>) {
    pool.let_clients_go();
    if ended.is_none() && !closed {
        pool.come_to_rest();
        pool.close();
    }
    let wanted = match (ended, action) {
        (None, _) | (_, Action::Exit) => ExitStatus::Exited(0),
        (_, Action::Panic) => ExitStatus::Exited(101),
        _ => ExitStatus::Signaled(libc::SIGKILL),
    };
    let (records, arbiter, mut complaints) = pool.end(wanted);
    let found = judge(&records, arbiter);
    complaints.extend(found.violations);
    (format!("{} calls: {:?}", found.issued, found.outcomes), complaints)
}
