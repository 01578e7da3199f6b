//! The checker is to be doubted as well: a story that holds together, and what it says when one word of it is changed.

use super::app::NESTED;
use super::checker::Story;
use super::client::UNCONNECTED;
use super::harness::{Kid, Outcome, Test, sleep_for_ever};
use super::journal::{Event, Record, pack};
use super::law::{ASKED, ASKS, CONTEXT, MAY_END, PLAIN, STREAM, limited};
use super::pace::Pace;
use super::plan::{Action, End, Role, plan};
use super::proc::Process;
use super::rest::at_rest;
use super::season::{Done, ends_within};
use super::totals;
use super::verdict::Verdict;
use Event::*;
use std::time::Duration;
use stokehold::internals::sys::process::ExitStatus;
use stokehold::{CancelledBy, Cause, Error, Kill, Kind, Limit, Value};

pub const TESTS: &[Test] = &[
    ("the_same_seed_makes_the_same_plan", the_same_seed_makes_the_same_plan),
    ("a_story_that_is_changed_is_found_out", a_story_that_is_changed_is_found_out),
    ("what_explains_one_thing_explains_no_other", what_explains_one_thing_explains_no_other),
    ("an_outcome_that_comes_late_is_found_out", an_outcome_that_comes_late_is_found_out),
    ("the_pace_is_that_of_calls_that_were_spared", the_pace_is_that_of_calls_that_were_spared),
    ("apps_that_wait_for_each_other_are_no_hang", apps_that_wait_for_each_other_are_no_hang),
    ("a_pool_that_is_not_at_rest_is_found_out", a_pool_that_is_not_at_rest_is_found_out),
    ("a_pool_that_counts_otherwise_is_found_out", a_pool_that_counts_otherwise_is_found_out),
    ("a_storm_that_strikes_nobody_is_found_out", a_storm_that_strikes_nobody_is_found_out),
];

const ARBITER: u32 = 60;
const WORKER: u32 = 70;
const OTHER: u32 = 71;
const CLIENT: u32 = 80;
const KILLED: u32 = 81;

fn the_same_seed_makes_the_same_plan() -> Outcome {
    let text = |seed| format!("{:?}", plan(seed, 500));
    assert_eq!(text(7), text(7));
    assert_ne!(text(7), text(8));
    Ok(())
}

type Said = (Event, u32, u64, u64);

fn died(started: bool, pid: u32) -> u64 {
    died_of(Cause::Signal(libc::SIGKILL), started, pid)
}

fn died_of(cause: Cause, started: bool, pid: u32) -> u64 {
    went(Kind::WorkerDied { pid: Some(pid), cause, started })
}

fn struck(pid: u32, action: Action) -> Said {
    (Struck, 1, u64::from(pid), action as u64)
}

fn reaped(pid: u32, status: ExitStatus) -> Said {
    (Reaped, 1, u64::from(pid), pack(status))
}

fn went(kind: Kind) -> u64 {
    Verdict::of(&Err::<(), _>(Error::new(kind))).pack()
}

/// A plain call, a stream, a context, one whose worker was killed in the middle, one that was killed before it began, and
/// one whose client was killed.
fn story() -> Vec<Said> {
    let well = Verdict::of(&Ok(())).pack();
    vec![
        (Issued, CLIENT, 1, PLAIN), // 0
        (Begin, WORKER, 1, 0),
        (End, WORKER, 1, 0),
        (Outcome, CLIENT, 1, well),
        (Issued, CLIENT, 2, STREAM), // 4
        (Begin, WORKER, 2, 0),
        (Send, WORKER, 2, 0),
        (Send, WORKER, 2, 1),
        (Got, CLIENT, 2, 0), // 8
        (Got, CLIENT, 2, 1),
        (End, WORKER, 2, 2),
        (Outcome, CLIENT, 2, well),
        (Issued, CLIENT, 3, CONTEXT), // 12
        (Begin, WORKER, 3, 0),
        (SendBack, CLIENT, 3, 0),
        (GotBack, WORKER, 3, 0),
        (Send, WORKER, 3, 0), // 16
        (Got, CLIENT, 3, 0),
        (End, WORKER, 3, 1),
        (Outcome, CLIENT, 3, well),
        (Issued, CLIENT, 4, STREAM), // 20
        (Begin, WORKER, 4, 0),
        (Send, WORKER, 4, 0),
        (Send, WORKER, 4, 1),
        (Got, CLIENT, 4, 0), // 24
        struck(WORKER, Action::Kill),
        (Outcome, CLIENT, 4, died(true, WORKER)),
        (Issued, CLIENT, 5, PLAIN), // 27
        (Outcome, CLIENT, 5, died(false, WORKER)),
        (Issued, KILLED, 6, STREAM), // 29
        (Begin, WORKER, 6, 0),
        struck(KILLED, Action::Kill), // 31
        reaped(KILLED, ExitStatus::Signaled(libc::SIGKILL)),
        (Left, CLIENT, 0, 0),
        reaped(CLIENT, ExitStatus::Exited(0)), // 34
    ]
}

fn leave_out(story: &mut Vec<Said>, which: std::ops::Range<usize>) {
    drop(story.drain(which));
}

/// One after another.
fn records(story: &[Said]) -> Vec<Record> {
    let record = |(at, &(event, pid, id, value))| Record { event, pid, id, value, at_ns: at as u64 };
    story.iter().enumerate().map(record).collect()
}

fn told(story: &[Said]) -> Vec<String> {
    Story::of(&records(story), ARBITER, 2).judge().violations
}

fn a_story_that_is_changed_is_found_out() -> Outcome {
    assert_eq!(told(&story()), [""; 0]);
    type Change = fn(&mut Vec<Said>);
    let changes: &[(&str, &str, Change)] = &[
        ("no outcome", "C1", |s| leave_out(s, 3..3 + 1)),
        ("two outcomes", "C1", |s| s.push(s[3])),
        ("two outcomes of a dead client's", "C1", |s| {
            s.extend([(Outcome, KILLED, 6, s[3].3), (Outcome, KILLED, 6, s[3].3)])
        }),
        ("runs twice", "C2", |s| s.push(s[1])),
        ("never ran and has a result", "C2", |s| leave_out(s, 1..3)),
        ("did not end and has a result", "C2", |s| leave_out(s, 2..2 + 1)),
        ("ran and was said not to", "C2", |s| s.push((Begin, WORKER, 5, 0))),
        ("another call's result", "C3", |s| s.push((Wrong, CLIENT, 1, 0))),
        ("an item that was not sent", "C4", |s| leave_out(s, 7..7 + 1)),
        ("an item twice", "C4", |s| s.insert(9, s[8])),
        ("an item left out", "C4", |s| leave_out(s, 8..8 + 1)),
        ("an end before the last item", "C4", |s| leave_out(s, 9..9 + 1)),
        ("an item back that was not sent", "C4", |s| leave_out(s, 14..14 + 1)),
        ("an item back that was lost", "C4", |s| leave_out(s, 15..15 + 1)),
        ("a death that nobody caused", "C7", |s| leave_out(s, 25..25 + 1)),
        ("a death of another kind", "C7", |s| s[25].3 = Action::Stop as u64),
        ("damage", "C7", |s| s[28].3 = went(Kind::Protocol("".into()))),
        ("a call that hung", "C7", |s| {
            s[28].3 = went(Kind::Deadline { started: false, limit: stokehold::Limit::Call });
        }),
        ("a queue that hung", "C7", |s| s[28].3 = went(Kind::ArbiterDied { started: false })),
        ("a stream that was given up", "C7", |s| s[26].3 = went(Kind::Closed)),
        ("a death before the deed", "C7", |s| s.swap(25, 26)),
        ("a client that crashes", "C7", |s| s[34] = reaped(CLIENT, ExitStatus::Signaled(libc::SIGSEGV))),
        ("a client that was struck otherwise", "C7", |s| s[31] = struck(KILLED, Action::NoMemory)),
        ("a client that panics", "C7", |s| s[34] = reaped(CLIENT, ExitStatus::Exited(101))),
        ("a client that ends for no reason", "C7", |s| s[32] = reaped(KILLED, ExitStatus::Exited(0))),
        ("a client that does not connect", "C7", |s| {
            s[32] = reaped(KILLED, ExitStatus::Exited(UNCONNECTED));
        }),
        ("a client of which nobody knows", "C7", |s| leave_out(s, 32..33)),
        ("a pool that ends before it is told to", "C7", |s| {
            s[28].3 = went(Kind::ShuttingDown);
            s.push((Closing, 1, u64::from(ARBITER), 0));
        }),
        ("a call that is cut short by a close that waits", "C7", |s| {
            s[26].3 = died_of(Cause::KilledByUs(Kill::Shutdown), true, WORKER);
            s.insert(26, (Closing, 1, u64::from(ARBITER), 0));
        }),
        ("a worker that hangs", "C7", |s| s[26].3 = died_of(Cause::Hung, true, WORKER)),
        ("a worker that ends for time that nobody limited", "C7", |s| {
            leave_out(s, 29..33); // nor did a client leave a call behind
            s[26].3 = died_of(Cause::KilledByUs(Kill::Deadline), true, WORKER);
        }),
        ("the same, of another's time", "C7", |s| {
            leave_out(s, 29..33);
            s[26].3 = died_of(Cause::KilledByUs(Kill::OthersDeadline), true, WORKER);
        }),
        ("a result of a call with little time that did not run", "C2", |s| {
            s[0].3 = PLAIN | MAY_END;
            leave_out(s, 1..3);
        }),
    ];
    for (what, law, change) in changes {
        let mut changed = story();
        change(&mut changed);
        let violations = told(&changed);
        assert!(violations.iter().any(|found| found.starts_with(law)), "{what}: {violations:?}");
    }
    Ok(())
}

/// A call that asks for another, which fails; and then a change after which nothing explains how that ended.
fn what_explains_one_thing_explains_no_other() -> Outcome {
    let os = went(Kind::Os { call: "", errno: libc::EMFILE });
    let app_of = |class: &str| Verdict::of(&Err::<(), _>(Error::app(class, ""))).pack();
    let app = || app_of("Os");
    let cancelled = went(Kind::Cancelled { by: CancelledBy::Parent, started: true });
    let well = Verdict::of(&Ok(())).pack();
    let ends = [(Left, CLIENT, 0, 0), reaped(CLIENT, ExitStatus::Exited(0))];
    let asks = |by_asked: &[Said], by_asker: &[Said]| {
        let begin = [(Issued, CLIENT, 1, ASKS), (Begin, WORKER, 1, 0), (Issued, WORKER, 1 | NESTED, ASKED)];
        [&begin, by_asked, by_asker, &ends].concat()
    };
    let asked = |value| vec![(Begin, OTHER, 1 | NESTED, 0), (Outcome, WORKER, 1 | NESTED, value)];
    let done =
        vec![(Begin, OTHER, 1 | NESTED, 0), (End, OTHER, 1 | NESTED, 0), (Outcome, WORKER, 1 | NESTED, well)];
    let failed = [struck(OTHER, Action::NoFiles)].into_iter().chain(asked(os)).collect::<Vec<_>>();
    let lost = [reaped(KILLED, ExitStatus::Signaled(libc::SIGKILL))];
    let given_up = |asker: u32| {
        let begin = [(Issued, asker, 1, ASKS), (Begin, WORKER, 1, 0), (Issued, WORKER, 1 | NESTED, ASKED)];
        [&begin, &asked(cancelled)[..]].concat()
    };
    let squeezed = |pid, action| {
        vec![
            (Issued, CLIENT, 1, PLAIN),
            struck(pid, action),
            (Begin, WORKER, 1, 0),
            (Outcome, CLIENT, 1, os),
            ends[0],
            ends[1],
        ]
    };
    let went_with = |value| {
        let mut story = squeezed(WORKER, Action::NoFiles);
        story[3].3 = value;
        story
    };
    let orphaned = |action| {
        let mut story = squeezed(ARBITER, action);
        story[3].3 = app_of("ArbiterDied");
        story
    };
    let late_squeeze = || {
        let mut story = squeezed(WORKER, Action::NoFiles);
        story.swap(1, 3);
        story
    };
    let hung = |pid, cause| {
        let died = (Outcome, CLIENT, 1, died_of(cause, true, WORKER));
        vec![
            (Issued, CLIENT, 1, PLAIN),
            (Begin, WORKER, 1, 0),
            struck(pid, Action::Stop),
            died,
            ends[0],
            ends[1],
        ]
    };
    let nested_lost = |pid| {
        let answer = (Outcome, CLIENT, 1, app());
        asks(
            &[struck(pid, Action::Kill), (Begin, OTHER, 1 | NESTED, 0), (End, OTHER, 1 | NESTED, 0)],
            &[answer],
        )
    };
    let closed = |now| {
        let died = died_of(Cause::KilledByUs(Kill::Shutdown), true, WORKER);
        let closing = (Closing, 1, u64::from(ARBITER), now);
        vec![
            (Issued, CLIENT, 1, PLAIN),
            (Begin, WORKER, 1, 0),
            closing,
            (Outcome, CLIENT, 1, died),
            ends[0],
            ends[1],
        ]
    };
    let deadline = Cause::KilledByUs(Kill::Deadline);
    let stories: &[(&str, Vec<Said>, Vec<Said>)] = &[
        (
            "an app error is that of the call that was made for it",
            asks(&failed, &[(Outcome, CLIENT, 1, app())]),
            asks(&done, &[(Outcome, CLIENT, 1, app())]),
        ),
        (
            "a call ends with that in which it was made",
            [&given_up(KILLED)[..], &[struck(KILLED, Action::Kill)], &lost].concat(),
            [&given_up(CLIENT)[..], &[(End, WORKER, 1, 0), (Outcome, CLIENT, 1, well)], &ends].concat(),
        ),
        ("a call without an outcome is that of a worker that died", nested_lost(WORKER), nested_lost(OTHER)),
        ("the worker's squeeze", squeezed(WORKER, Action::NoFiles), squeezed(OTHER, Action::NoFiles)),
        ("the caller's squeeze", squeezed(CLIENT, Action::NoMemory), squeezed(CLIENT, Action::Stop)),
        ("the arbiter's squeeze", squeezed(ARBITER, Action::NoFiles), late_squeeze()),
        ("a squeeze is no excuse for a panic", went_with(app()), went_with(app_of("Panic"))),
        (
            "nor is a call that was made for it",
            asks(&failed, &[(Outcome, CLIENT, 1, app())]),
            asks(&failed, &[(Outcome, CLIENT, 1, app_of("Panic"))]),
        ),
        ("the arbiter was killed", orphaned(Action::Kill), orphaned(Action::Stop)),
        ("a close that waits for nobody", closed(1), closed(0)),
        ("a worker was stopped", hung(WORKER, Cause::Hung), hung(OTHER, Cause::Hung)),
        ("a worker was stopped, and a caller's time up", hung(WORKER, deadline), hung(OTHER, deadline)),
    ];
    for (what, well, badly) in stories {
        assert_eq!(told(well), [""; 0], "{what}");
        assert!(told(badly).iter().any(|found| found.starts_with('C')), "{what}: and else it is found out");
    }
    Ok(())
}

fn an_outcome_that_comes_late_is_found_out() -> Outcome {
    let mut late = records(&story());
    late[3].at_ns += 60_000_000_000;
    let violations = Story::of(&late, ARBITER, 2).judge().violations;
    assert!(violations.iter().any(|found| found.starts_with("C8")), "{violations:?}");
    let hangs = Kid::new(|| sleep_for_ever());
    assert!(ends_within(&hangs, Duration::from_millis(20)).is_err_and(|why| why.starts_with("C8")));
    hangs.kill();
    assert_eq!(ends_within(&hangs, Duration::from_secs(30)), Ok(()));
    Ok(())
}

/// Of three calls whose worker, whose client, or whom nobody touched, and one that had a limit.
fn the_pace_is_that_of_calls_that_were_spared() -> Outcome {
    let (well, limit) = (Verdict::of(&Ok(())).pack(), limited(PLAIN | MAY_END, 1));
    let late = went(Kind::Deadline { started: false, limit: Limit::Call });
    let mut story = vec![struck(WORKER, Action::Stop), struck(KILLED, Action::Kill)];
    let calls = [(CLIENT, WORKER, PLAIN, well), (KILLED, OTHER, PLAIN, well), (CLIENT, OTHER, PLAIN, well)];
    for ((client, worker, way, outcome), id) in calls.into_iter().zip(1..) {
        story.extend([(Issued, client, id, way), (Begin, worker, id, 0), (Outcome, client, id, outcome)]);
    }
    story.extend([(Issued, CLIENT, 4, limit), (Outcome, CLIENT, 4, late)]);
    let mut records = records(&story);
    let last = records.len() - 1;
    records[last].at_ns += 1_500_000;
    let pace = |records: &[Record]| {
        let story = Story::of(records, ARBITER, 2);
        let pace = Pace::of(&story.told, &story.weather);
        (pace.took_ns, pace.late_ns, pace.passed_over)
    };
    assert_eq!(pace(&records), (vec![2], vec![500_001], 0));
    // Long before them, it touches none.
    records[..2].iter_mut().for_each(|strike| strike.at_ns = 0);
    records[2..].iter_mut().for_each(|record| record.at_ns += 10_000_000_000);
    assert_eq!(pace(&records), (vec![2, 2, 2], vec![500_001], 0));
    // The last one with a result waits while one that was sent after it is begun.
    let at_ns = records[8].at_ns;
    records[9..11].iter_mut().for_each(|record| record.at_ns = at_ns + 3_000_000_000);
    let later = |event, value, after_ns| Record { event, pid: CLIENT, id: 5, value, at_ns: at_ns + after_ns };
    records.extend([
        later(Issued, PLAIN, 1),
        later(Begin, 0, 2_000_000_000),
        later(Outcome, well, 2_000_000_001),
    ]);
    assert_eq!(pace(&records).2, 1);
    let stopped = self::records(&[struck(ARBITER, Action::Stop)])[0];
    records.push(Record { at_ns: at_ns + 5, ..stopped });
    assert_eq!(pace(&records).2, 0, "it may have waited for the arbiter before it was sent");
    Ok(())
}

/// Two calls that ask for others, for whom nobody has a thread; they end with their time.
fn apps_that_wait_for_each_other_are_no_hang() -> Outcome {
    let late = went(Kind::Deadline { started: true, limit: Limit::Call });
    let story = [
        (Issued, CLIENT, 1, ASKS),
        (Issued, CLIENT, 2, ASKS),
        (Begin, WORKER, 1, 0),
        (Begin, OTHER, 2, 0),
        (Outcome, CLIENT, 1, late),
        (Outcome, CLIENT, 2, late),
        (Left, CLIENT, 0, 0),
        reaped(CLIENT, ExitStatus::Exited(0)),
    ];
    let mut records = records(&story);
    records[4..].iter_mut().for_each(|record| record.at_ns += 20_000_000_000);
    let found = |records: &[Record], threads| Story::of(records, ARBITER, threads).judge().violations.len();
    assert_eq!((found(&records, 2), found(&records, 3)), (0, 2), "a third thread could have taken theirs");
    records[3].at_ns += 15_000_000_000;
    assert_eq!(found(&records, 2), 2, "one waits for a moment only");
    Ok(())
}

fn dict(pairs: &[(&str, Value)]) -> Value {
    Value::Dict(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn a_pool_that_is_not_at_rest_is_found_out() -> Outcome {
    let worker = |pid: u32, state: &str, running: i64| {
        dict(&[("pid", i64::from(pid).into()), ("state", state.into()), ("running", running.into())])
    };
    let calls = |queued: i64, running: i64, ended: i64| {
        dict(&[("queued", queued.into()), ("running", running.into()), ("ended", ended.into())])
    };
    let lanes = |open: i64, suspect: i64, closing: i64| {
        dict(&[("open", open.into()), ("suspect", suspect.into()), ("closing", closing.into())])
    };
    let fields = [
        ("pid", i64::from(ARBITER).into()),
        ("workers_ready", 2.into()),
        ("workers", Value::List(vec![worker(WORKER, "ready", 0), worker(OTHER, "ready", 0)])),
        ("calls", calls(0, 0, 0)),
        ("lanes", lanes(1, 0, 0)),
        ("clients_connected", 1.into()),
    ];
    let process =
        |pid, parent, state| Process { pid, name: "".into(), state, parent, group: 0, session: ARBITER };
    let there = [process(ARBITER, 1, 'S'), process(WORKER, ARBITER, 'S'), process(OTHER, ARBITER, 'S')];
    let child = process(90, WORKER, 'Z'); // an app's
    assert_eq!(at_rest(&dict(&fields), 2, &[&there[..], &[child]].concat()), Ok(()));
    let is_found_out = |what: &str, status: &Value, there: &[Process]| {
        let rest = at_rest(status, 2, there);
        assert!(rest.as_ref().is_err_and(|why| why.starts_with("C6")), "{what}: {rest:?}");
    };
    let zombie = [&there[..], &[process(90, ARBITER, 'Z')]].concat();
    is_found_out("a worker that nobody reaped", &dict(&fields), &zombie);
    let stray = [&there[..], &[process(90, 1, 'S')]].concat();
    is_found_out("what an app of a dead worker started", &dict(&fields), &stray);
    is_found_out("a worker that is only told of", &dict(&fields), &there[..2]);
    for (at, (name, _)) in fields.iter().enumerate() {
        let mut without = fields.to_vec();
        without.remove(at);
        is_found_out(&format!("{name} is not told"), &dict(&without), &there);
    }
    let changes = [
        (1, 1.into()),
        (2, Value::List(vec![worker(WORKER, "ready", 0)])),
        (2, Value::List(vec![worker(WORKER, "ready", 0), worker(OTHER, "leaving", 0)])),
        (2, Value::List(vec![worker(WORKER, "ready", 0), worker(OTHER, "ready", 1)])),
        (3, calls(1, 0, 0)),
        (3, calls(0, 1, 0)),
        (3, calls(0, 0, 1)),
        (3, dict(&[("queued", 0.into()), ("running", 0.into())])),
        (4, lanes(0, 0, 0)),
        (4, lanes(2, 0, 0)),
        (4, lanes(1, 1, 0)),
        (4, lanes(1, 0, 1)),
        (5, 2.into()),
    ];
    for (at, value) in changes {
        let mut changed = fields.to_vec();
        changed[at].1 = value;
        is_found_out(&format!("{:?}", changed[at]), &dict(&changed), &there);
    }
    let mut crowd = fields.to_vec();
    (crowd[4].1, crowd[5].1) = (lanes(3, 0, 0), 3.into());
    is_found_out("a client that is left", &dict(&crowd), &there);
    Ok(())
}

/// What the story's pool would tell of itself, and then with one number of it changed.
fn a_pool_that_counts_otherwise_is_found_out() -> Outcome {
    let worker = |pid: u32| dict(&[("pid", i64::from(pid).into())]);
    // One of three workers was killed; the call that never began was lost before it did.
    let right = [
        ("calls", 6),
        ("lost_begun", 1),
        ("lost_unbegun", 1),
        ("refused", 0),
        ("workers_started", 3),
        ("workers_died", 1),
        ("clients", 2),
    ];
    let told = |totals: &[(&str, i64)]| {
        let totals: Vec<(&str, Value)> =
            totals.iter().map(|(name, count)| (*name, (*count).into())).collect();
        let workers = Value::List(vec![worker(OTHER), worker(OTHER + 1)]);
        totals::check(&records(&story()), ARBITER, &dict(&[("workers", workers), ("totals", dict(&totals))]))
    };
    assert_eq!(told(&right), [""; 0]);
    let lies = [
        ("calls", 5),
        ("calls", 8),
        ("lost_begun", 3),
        ("lost_unbegun", 65),
        ("refused", 2),
        ("workers_started", 2),
        ("workers_started", 4),
        ("workers_died", 0),
        ("workers_died", 2),
        ("clients", 1),
        ("clients", 6),
    ];
    for (name, count) in lies {
        let mut changed = right;
        changed.iter_mut().filter(|(what, _)| *what == name).for_each(|what| what.1 = count);
        let found = told(&changed);
        assert!(found.iter().any(|why| why.starts_with("C5")), "{name} {count}: {found:?}");
    }
    for at in 0..right.len() {
        let mut without = right.to_vec();
        without.remove(at);
        assert!(told(&without).iter().any(|why| why.starts_with("C5")), "{}", right[at].0);
    }
    Ok(())
}

fn a_storm_that_strikes_nobody_is_found_out() -> Outcome {
    let all = || -> Vec<(Role, Action)> {
        let with = |role: &Role| Action::STRIKES.map(|action| (*role, action));
        Role::ALL.iter().flat_map(with).collect()
    };
    let done = |deaths, strikes: Vec<(Role, Action)>| {
        let strikes = strikes.into_iter().map(|strike| (strike, 1)).collect();
        Done { strikes, deaths, ..Done::default() }.is_armed(1_000)
    };
    assert_eq!(done(1_000, all()), Ok(()));
    assert!(done(700, all()).is_err());
    let without = |what: &str, spared: &dyn Fn(Role, Action) -> bool| {
        let mut some = all();
        some.retain(|(role, action)| !spared(*role, *action));
        let why = done(1_000, some);
        assert!(why.as_ref().is_err_and(|why| why.contains(what)), "{what}: {why:?}");
    };
    for spared in Role::ALL {
        without(&format!("nobody struck {spared:?}"), &|role, _| role == spared);
    }
    for spared in [Role::Host, Role::Arbiter] {
        without(&format!("nobody killed {spared:?}"), &|role, action| role == spared && action.kills());
    }
    for spared in Action::STRIKES {
        without(&format!("with {spared:?}"), &|_, action| action == spared);
    }
    // What is planned for the shortest of which that is asked.
    for seed in 0..50 {
        let plan = plan(seed, 1_000);
        let ends = |is: fn(&End) -> bool| plan.iter().filter(|season| is(&season.end)).count();
        assert!(ends(|end| matches!(end, End::ArbiterKilled(_))) > 1, "seed {seed}");
        assert!(ends(|end| matches!(end, End::HostEnded(_))) > 1, "seed {seed}");
        assert!(ends(|end| matches!(end, End::Closed(None))) > 1, "seed {seed}");
        assert!(ends(|end| matches!(end, End::Closed(Some(_)))) > 1, "seed {seed}");
    }
    Ok(())
}
