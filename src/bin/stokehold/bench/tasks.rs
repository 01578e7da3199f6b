//! `bench tasks`: 100 callers, 4 workers, tasks that sleep 10 ms; beside 4 threads that do the same sleeps and
//! nothing else. What the library adds to a task is the time that its worker was without one although tasks wait, and
//! the time from the task's end until its caller has the result; beside the same of 4 threads that take tasks from
//! a channel.

use super::options::Options;
use super::place::{Place, Placement};
use super::report::{Report, Row};
use super::rig::Rig;
use super::stats::{Series, median};
use super::wanted::{Of, Wanted};
use crate::demo::Demo;
use crate::failure::Failure;
use crossbeam::channel::{Sender, bounded, unbounded};
use std::collections::BTreeMap;
use std::time::Duration;
use stokehold::internals::sys::clock;
use stokehold::{App, Client, Error, Result};

const CALLERS: usize = 100;
const WORKERS: usize = 4;
/// A client has 64 calls in flight.
const CLIENTS: usize = 2;
const TASK_MS: u64 = 10;
/// How long a block lasts.
const BLOCK_NS: u64 = 1_000_000_000;
const LEAST_ROUNDS: usize = 3;

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    let placement = options.placement.unwrap_or(Placement::Free);
    let wait = options.wait.unwrap_or_default();
    let Some(place) = Place::take(placement)? else {
        report.skipped(&format!("tasks {}", placement.name()), "needs two processors");
        return Ok(());
    };
    let rig = Rig::start(&place, wait, WORKERS)?;
    let further = rig.pool.client()?;
    let clients: [&Client; CLIENTS] = [&rig.client, &further];
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut by_us, mut by_threads) = (Added::default(), Added::default());
    let start = clock::monotonic_ns();
    while ours.len() < LEAST_ROUNDS || (clock::monotonic_ns() - start) as f64 / 1e9 < options.seconds {
        let block = Block::of(tasks(&clients)?)?;
        ours.push(block.per_s);
        by_us.add(&block);
        theirs.push(Block::of(sleeps()?)?.per_s);
        by_threads.add(&Block::of(channel()?)?);
    }
    let row = |case: &str| Row {
        bench: "tasks",
        case: case.into(),
        wait: Some(wait),
        placement: Some(placement),
        threads: Some(CALLERS as u64),
        ..Row::default()
    };
    let ratios = ours.iter().zip(&theirs).map(|(ours, theirs)| ours / theirs).collect();
    report.add(Row {
        per_s: median(ours),
        baseline: Some("4 threads".into()),
        baseline_per_s: median(theirs),
        ratio: median(ratios),
        wanted: vec![Wanted::AtLeast(Of::Ratio, 0.995)],
        ..row("10 ms tasks")
    });
    for (case, ours, theirs, wanted) in [
        ("worker between two tasks", &by_us.between, &by_threads.between, None),
        ("task's end to its caller", &by_us.delivery, &by_threads.delivery, None),
        ("added to a task", &by_us.both, &by_threads.both, Some(Wanted::AtMost(Of::P99Us, 200.0))),
    ] {
        let wanted = wanted.into_iter().collect();
        report.add(Row { wanted, ..row(case).beside(ours, "4 threads and a channel", theirs) });
    }
    drop(further);
    Ok(rig.stop()?)
}

/// One task: who did it, from when to when, and when its caller knew.
#[derive(Clone, Copy, Debug)]
struct Task {
    who: u64,
    began: u64,
    ended: u64,
    known: u64,
}

/// Tasks of a block, in the order in which each worker did them.
struct Block {
    per_s: f64,
    workers: Vec<Vec<Task>>,
}

impl Block {
    fn of(tasks: Vec<Task>) -> Result<Block> {
        let mut workers: BTreeMap<u64, Vec<Task>> = BTreeMap::new();
        for task in tasks {
            workers.entry(task.who).or_default().push(task);
        }
        let mut workers: Vec<Vec<Task>> = workers.into_values().collect();
        workers.iter_mut().for_each(|tasks| tasks.sort_unstable_by_key(|task| task.began));
        if workers.len() != WORKERS || workers.iter().any(|tasks| tasks.len() < 2) {
            return Err(Error::bad_request("not every worker had a task"));
        }
        // Each worker's own rate, from the end of its first task to the end of its last: callers that stop at
        // different times do not count.
        let rate = |tasks: &Vec<Task>| {
            let took = tasks[tasks.len() - 1].ended - tasks[0].ended;
            (tasks.len() - 1) as f64 * 1e9 / took.max(1) as f64
        };
        let per_s = workers.iter().map(rate).sum();
        Ok(Block { per_s, workers })
    }

    /// Something of each task, from the one before it in the same worker.
    fn each(&self, number: impl Fn(&Task, &Task) -> u64) -> Vec<u32> {
        let pairs = self.workers.iter().flat_map(|tasks| tasks.windows(2));
        pairs.map(|pair| u32::try_from(number(&pair[0], &pair[1])).unwrap_or(u32::MAX)).collect()
    }
}

/// What was added to the tasks of many blocks.
#[derive(Default)]
struct Added {
    /// Its worker was without a task.
    between: Series,
    /// Its caller did not know yet.
    delivery: Series,
    both: Series,
}

impl Added {
    fn add(&mut self, block: &Block) {
        let between = |before: &Task, task: &Task| task.began.saturating_sub(before.ended);
        let delivery = |task: &Task| task.known.saturating_sub(task.ended);
        self.between.add(&mut block.each(between));
        self.delivery.add(&mut block.each(|_, task| delivery(task)));
        self.both.add(&mut block.each(|before, task| between(before, task) + delivery(task)));
    }
}

/// A block of ours.
fn tasks(clients: &[&Client]) -> Result<Vec<Task>> {
    let until = clock::monotonic_ns() + BLOCK_NS;
    together(CALLERS, |caller| {
        let client = clients[caller % clients.len()];
        let mut done = Vec::new();
        while clock::monotonic_ns() < until {
            let response = client.call(Demo::NAME, "nap_ms").args((TASK_MS,)).execute()?;
            let known = clock::monotonic_ns();
            let [who, began, ended] = response.parse::<[u64; 3]>()?;
            done.push(Task { who, began, ended, known });
        }
        Ok(done)
    })
}

/// A block of the threads that only sleep.
fn sleeps() -> Result<Vec<Task>> {
    let until = clock::monotonic_ns() + BLOCK_NS;
    together(WORKERS, |thread| {
        let mut done = Vec::new();
        while clock::monotonic_ns() < until {
            let began = clock::monotonic_ns();
            clock::sleep(Duration::from_millis(TASK_MS));
            let ended = clock::monotonic_ns();
            done.push(Task { who: thread as u64, began, ended, known: ended });
        }
        Ok(done)
    })
}

/// A block of as many callers and threads, which take tasks from a channel.
fn channel() -> Result<Vec<Task>> {
    let until = clock::monotonic_ns() + BLOCK_NS;
    let ended = || Error::bad_request("a channel ended");
    let (give, take) = unbounded::<Sender<[u64; 3]>>();
    std::thread::scope(|scope| {
        for who in 0..WORKERS as u64 {
            let take = take.clone();
            scope.spawn(move || {
                for answer in take {
                    let began = clock::monotonic_ns();
                    clock::sleep(Duration::from_millis(TASK_MS));
                    let _ = answer.send([who, began, clock::monotonic_ns()]);
                }
            });
        }
        drop(take);
        let done = together(CALLERS, |_| {
            let (answer, answered) = bounded(1);
            let mut done = Vec::new();
            while clock::monotonic_ns() < until {
                give.send(answer.clone()).map_err(|_| ended())?;
                let [who, began, ended] = answered.recv().map_err(|_| ended())?;
                done.push(Task { who, began, ended, known: clock::monotonic_ns() });
            }
            Ok(done)
        });
        drop(give); // ends the threads
        done
    })
}

fn together(threads: usize, body: impl Fn(usize) -> Result<Vec<Task>> + Sync) -> Result<Vec<Task>> {
    let body = &body;
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|number| scope.spawn(move || body(number))).collect();
        let mut all = Vec::new();
        for thread in running {
            let panicked = || Err(Error::bad_request("a measuring thread panicked"));
            all.extend(thread.join().unwrap_or_else(|_| panicked())?);
        }
        Ok(all)
    })
}
