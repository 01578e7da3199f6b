//! The C programs: those of `examples/` and `tests/c/` are compiled with all warnings as errors, linked to the library
//! that cargo has just built, and run. The lines are those of libtest, one for each test of each program.
//!
//! A program that hangs is killed. After each none of its processes may be left, and no file: every run has a
//! directory of its own, and a mark in its environment that all its processes inherit.
//!
//! `ci/c-api.sh` runs this with other compilers and under other tools, by the environment:
//!
//! | variable | what | default |
//! |---|---|---|
//! | `STOKEHOLD_CC`, `STOKEHOLD_CXX` | the compilers | `cc`, `c++` |
//! | `STOKEHOLD_CFLAGS` | further flags for both, such as `-fsanitize=address` | |
//! | `STOKEHOLD_LINK` | `static` or `shared` | `static` |
//! | `STOKEHOLD_RUNNER` | what programs are run by, such as `valgrind -q` | |
//! | `STOKEHOLD_ARMED` | `address` or `valgrind`: that tool must find planted faults | |

#[path = "programs/armed.rs"]
mod armed;
#[path = "programs/compile.rs"]
mod compile;
#[path = "programs/process.rs"]
mod process;

use compile::{Compiled, Setup};
use process::{Ended, Run};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// What became of one test, and why.
enum Verdict {
    Ok,
    Failed(String),
    Skipped(String),
}

/// The name of a test, and what became of it.
type Line = (String, Verdict);

/// A test, or several that one program makes.
struct Job {
    name: &'static str,
    run: fn(&Setup, &str, Option<&str>) -> Vec<Line>,
}

const JOBS: &[Job] = &[
    // The long ones first: two run at a time.
    Job { name: "threads", run: c_program },
    Job { name: "pools", run: c_program },
    Job { name: "outcomes", run: c_program },
    Job { name: "streams", run: c_program },
    Job { name: "streams_freed", run: c_program },
    Job { name: "streams_to", run: c_program },
    Job { name: "contexts", run: c_program },
    Job { name: "contexts_misused", run: c_program },
    Job { name: "nested", run: c_program },
    Job { name: "leases", run: c_program },
    Job { name: "values", run: c_program },
    Job { name: "nothing", run: c_program },
    Job { name: "freeing", run: c_program },
    Job { name: "callbacks", run: c_program },
    Job { name: "panics", run: c_program },
    Job { name: "hosts", run: c_program },
    Job { name: "serve", run: c_program },
    Job { name: "submitted", run: c_program },
    Job { name: "cancel", run: c_program },
    Job { name: "deferred", run: c_program },
    Job { name: "exceptions", run: cxx_program },
    Job { name: "example_single", run: example_single },
    Job { name: "example_threads", run: example_threads },
    Job { name: "example_plugin", run: example_plugin },
    Job { name: "example_epoll", run: example_epoll },
    Job { name: "example_stream", run: example_stream },
    Job { name: "example_context", run: example_context },
    Job { name: "example_served", run: example_served },
    Job { name: "header_alone_c11", run: header },
    Job { name: "header_alone_cxx17", run: header },
    Job { name: "every_program_is_run", run: every_program_is_run },
    Job { name: "armed", run: armed::armed },
];

fn main() -> ExitCode {
    let options: Vec<String> = std::env::args().skip(1).collect();
    if options.iter().any(|o| o == "--list") {
        JOBS.iter().for_each(|job| println!("{}: test", job.name));
        return ExitCode::SUCCESS;
    }
    // `outcomes` runs all tests of outcomes.c, `outcomes::a_segfault` that one.
    let filters: Vec<&str> = options.iter().filter(|o| !o.starts_with('-')).map(String::as_str).collect();
    let chosen: Vec<(&Job, Option<&str>)> = JOBS
        .iter()
        .filter_map(|job| {
            let mut split = filters.iter().filter_map(|filter| filter.split_once("::"));
            if let Some((_, test)) = split.find(|(program, _)| *program == job.name) {
                return Some((job, Some(test)));
            }
            (filters.is_empty() || filters.iter().any(|f| job.name.contains(f))).then_some((job, None))
        })
        .collect();
    let setup = Setup::from_environment();
    println!("\nrunning {} programs: {setup}", chosen.len());
    let begin = Instant::now();
    let lines = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((job, test)) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let made = (job.run)(&setup, job.name, *test);
                    made.iter().for_each(print);
                    lines.lock().unwrap().extend(made);
                }
            });
        }
    });
    let lines = lines.into_inner().unwrap();
    let failed: Vec<&str> = lines
        .iter()
        .filter(|(_, v)| matches!(v, Verdict::Failed(_)))
        .map(|(name, _)| name.as_str())
        .collect();
    let skipped = lines.iter().filter(|(_, v)| matches!(v, Verdict::Skipped(_))).count();
    if !failed.is_empty() {
        println!("\nfailures:\n    {}", failed.join("\n    "));
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; {skipped} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
        if failed.is_empty() { "ok" } else { "FAILED" },
        lines.len() - failed.len() - skipped,
        failed.len(),
        JOBS.len() - chosen.len(),
        begin.elapsed().as_secs_f64()
    );
    setup.clean_up(failed.is_empty());
    ExitCode::from(if failed.is_empty() { 0 } else { 101 })
}

fn print((name, verdict): &Line) {
    match verdict {
        Verdict::Ok => println!("test {name} ... ok"),
        Verdict::Skipped(reason) => println!("test {name} ... ignored\nSKIPPED {name} ({reason})"),
        Verdict::Failed(why) => println!("test {name} ... FAILED\n{why}"),
    }
}

/// The tests of `tests/c/NAME.c`.
fn c_program(setup: &Setup, name: &str, test: Option<&str>) -> Vec<Line> {
    program(setup, name, test, setup.c(name, &format!("c-api/tests/c/{name}.c")))
}

/// The tests of `tests/c/NAME.cpp`.
fn cxx_program(setup: &Setup, name: &str, test: Option<&str>) -> Vec<Line> {
    program(setup, name, test, setup.cxx(name, &format!("c-api/tests/c/{name}.cpp")))
}

/// Runs a program that is made with `check.h`: a line for each test that it says it ran, and one for the program itself
/// if it did not end as it should.
fn program(setup: &Setup, name: &str, test: Option<&str>, compiled: Compiled) -> Vec<Line> {
    let path = match compiled {
        Compiled::To(path) => path,
        other => return vec![(name.to_owned(), other.verdict())],
    };
    let arguments: Vec<&str> = test.into_iter().collect();
    let run = Run::of(setup, name, &path, &arguments);
    let mut lines = Vec::new();
    let mut running = None;
    for line in run.output.lines() {
        if let Some(test) = line.strip_prefix("begin ") {
            running = Some(test);
        } else if let Some((test, verdict)) = line.strip_prefix("test ").and_then(|l| l.split_once(" ... ")) {
            let verdict = match verdict {
                "ok" => Verdict::Ok,
                _ => Verdict::Failed(run.errors.clone()),
            };
            lines.push((format!("{name}::{test}"), verdict));
            running = None;
        } else if let Some((test, reason)) = line.strip_prefix("SKIPPED ").and_then(|l| l.split_once(" (")) {
            lines
                .push((format!("{name}::{test}"), Verdict::Skipped(reason.trim_end_matches(')').to_owned())));
            running = None;
        }
    }
    let failed = lines.iter().filter(|(_, v)| matches!(v, Verdict::Failed(_))).count();
    let skipped = lines.iter().filter(|(_, v)| matches!(v, Verdict::Skipped(_))).count();
    let said = format!("{} passed, {failed} failed, {skipped} skipped", lines.len() - failed - skipped);
    let last = run.output.lines().last().unwrap_or_default();
    let why = match &run.ended {
        Ended::Exited(status) if *status == i32::from(failed > 0) => {
            (last != said || lines.is_empty()).then(|| format!("it says {last:?}, its lines {said:?}"))
        }
        ended => Some(ended.to_string()),
    };
    if let Some(why) = why.or(run.left) {
        let during = running.map(|test| format!(" during {test}")).unwrap_or_default();
        lines.push((name.to_owned(), Verdict::Failed(format!("{why}{during}\n{}", run.errors))));
    }
    lines
}

/// Runs a program that prints what it is expected to print.
fn example(setup: &Setup, name: &str, source: &str, arguments: &[&str], expected: &[&str]) -> Vec<Line> {
    let verdict = match setup.c(name, &format!("c-api/examples/{source}.c")) {
        Compiled::To(path) => {
            let run = Run::of(setup, name, &path, arguments);
            let lines: Vec<&str> = run.output.lines().collect();
            let agree = lines.len() == expected.len()
                && lines.iter().zip(expected).all(|(line, expected)| is_like(line, expected));
            match (run.ended, run.left) {
                (Ended::Exited(0), None) if agree && run.errors.is_empty() => Verdict::Ok,
                (ended, left) => Verdict::Failed(format!(
                    "{ended}, {}\n{}{}expected {expected:?}",
                    left.unwrap_or_default(),
                    run.output,
                    run.errors
                )),
            }
        }
        other => other.verdict(),
    };
    vec![(name.to_owned(), verdict)]
}

/// Whether a line is what was expected, in which one `*` stands for anything.
fn is_like(line: &str, expected: &str) -> bool {
    match expected.split_once('*') {
        Some((begin, end)) => line.strip_prefix(begin).is_some_and(|rest| rest.ends_with(end)),
        None => line == expected,
    }
}

fn example_single(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    example(
        setup,
        name,
        "single",
        &[],
        &["2 + 3 = 5", "crash: worker * died (signal 6) after the call had started"],
    )
}

fn example_threads(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    example(setup, name, "threads", &[], &["8 of 8 threads: 50 calls of 1048576 bytes each"])
}

fn example_plugin(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    match setup.c("example_helper", "c-api/examples/helper.c") {
        Compiled::To(helper) => {
            let helper = helper.display().to_string();
            example(setup, name, "plugin", &[&helper], &["hello stoker, 6 letters"])
        }
        other => vec![(name.to_owned(), other.verdict())],
    }
}

fn example_epoll(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    // One worker: in the order in which they were sent.
    let counts = [(10, 4), (1000, 168), (100_000, 9592), (1_000_000, 78_498)];
    let expected = counts.map(|(limit, primes)| format!("primes below {limit}: {primes}"));
    example(setup, name, "epoll", &[], &expected.each_ref().map(String::as_str))
}

fn example_stream(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    example(setup, name, "stream", &[], &["shovel", "the", "coal", "3 words", "enough"])
}

fn example_context(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    example(setup, name, "context", &[], &["ready", "shovel", "the", "coal", "3 lines"])
}

fn example_served(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    match setup.object("libletters.so", "c-api/examples/library.c") {
        Compiled::To(library) => {
            let library = library.display().to_string();
            let expected = ["6 letters", "the daemon ended with 0"];
            // The directory stays, and is made elsewhere: of a run nothing may be left.
            let socket = setup.work.join("served/pool.sock").display().to_string();
            let lines = example(setup, name, "served", &[&library, &socket], &expected);
            // Its own export is all that it shows of itself.
            lines.into_iter().chain([("example_library_exports".to_owned(), exports(&library))]).collect()
        }
        other => vec![(name.to_owned(), other.verdict())],
    }
}

/// A library of apps that is linked with the archive must not offer the archive's symbols to others.
fn exports(library: &str) -> Verdict {
    let output = match std::process::Command::new("nm").args(["-D", "--defined-only", library]).output() {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        _ => return Verdict::Skipped("there is no nm".into()),
    };
    let names = output.lines().filter_map(|line| line.split_whitespace().last());
    let others: Vec<&str> = names.filter(|n| *n != "stokehold_app_library").collect();
    if others.is_empty() { Verdict::Ok } else { Verdict::Failed(format!("it exports {others:?}")) }
}

/// The header alone, in each language.
fn header(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    let verdict = setup.header_alone(name.ends_with("cxx17")).verdict();
    vec![(name.to_owned(), verdict)]
}

/// A program that nobody runs is a check that passes silently.
fn every_program_is_run(_: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut unknown = Vec::new();
    for (dir, prefix) in [("tests/c", ""), ("examples", "example_")] {
        for entry in fs::read_dir(here.join(dir)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let Some((stem, "c" | "cpp")) = file.rsplit_once('.') else { continue };
            let job = format!("{prefix}{stem}");
            let known = JOBS.iter().any(|j| j.name == job)
                || ["example_helper", "example_library", "memcheck"].contains(&job.as_str());
            if !known {
                unknown.push(format!("{dir}/{file}"));
            }
        }
    }
    let verdict = match unknown.as_slice() {
        [] => Verdict::Ok,
        some => Verdict::Failed(format!("nothing runs {some:?}")),
    };
    vec![(name.to_owned(), verdict)]
}
