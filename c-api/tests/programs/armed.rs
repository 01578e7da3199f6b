//! A check must prove that it was armed: planted faults must be reported by the tool that programs run under.

use crate::compile::{Compiled, Setup};
use crate::process::{Ended, Run};
use crate::{Line, Verdict};

/// A fault of `armed.c`, and what the tool says about it.
const ADDRESS: &[(&str, &str)] = &[
    ("overflow", "heap-buffer-overflow"),
    ("after_free", "heap-use-after-free"),
    ("signed_overflow", "signed integer overflow"),
    ("leak", "LeakSanitizer: detected memory leaks"),
];
const VALGRIND: &[(&str, &str)] = &[
    ("overflow", "Invalid read"),
    ("after_free", "Invalid read"),
    ("uninitialised", "Conditional jump or move depends on uninitialised value"),
    ("leak", "definitely lost"),
];

pub fn armed(setup: &Setup, name: &str, _: Option<&str>) -> Vec<Line> {
    let faults = match setup.armed.as_str() {
        "" => &[],
        "address" => ADDRESS,
        "valgrind" => VALGRIND,
        other => return vec![(name.to_owned(), Verdict::Failed(format!("STOKEHOLD_ARMED is {other:?}")))],
    };
    let path = match setup.c(name, "c-api/tests/c/armed.c") {
        Compiled::To(path) => path,
        other => return vec![(name.to_owned(), other.verdict())],
    };
    // Without a fault it must be clean, or the rest would prove nothing.
    let quiet = Run::of(setup, name, &path, &["none"]);
    let good = matches!(quiet.ended, Ended::Exited(0)) && quiet.errors.is_empty() && quiet.left.is_none();
    let verdict =
        if good { Verdict::Ok } else { Verdict::Failed(format!("{}\n{}", quiet.ended, quiet.errors)) };
    let mut lines = vec![(format!("{name}::none"), verdict)];
    for (fault, said) in faults {
        let run = Run::of(setup, name, &path, &[fault]);
        let verdict = match run.ended {
            Ended::Exited(0) => Verdict::Failed(format!("{fault} was not found")),
            _ if run.errors.contains(said) => Verdict::Ok,
            ended => Verdict::Failed(format!("{ended}, without the words {said:?}:\n{}", run.errors)),
        };
        lines.push((format!("{name}::{fault}"), verdict));
    }
    lines
}
