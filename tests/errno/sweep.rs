//! All faults there are, or a choice of them, on both processors.

use super::calls::errno_name;
use super::harness::{Kid, Outcome};
use super::judge::judge;
use super::marks::Phase;
use super::scenario;
use super::trace::{self, Fault, Place, Role, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fmt, fs, process};

/// How often a call is made to fail in a phase, each time another of its occurrences.
const OCCURRENCES: usize = 5;

/// What was asked for.
pub struct Wanted {
    /// Beyond one of each call of each process; all there are without.
    pub time: Option<Duration>,
    pub seed: u64,
    /// Only those whose name contains this.
    pub only: Option<String>,
    pub at_a_time: usize,
}

/// How one case went.
#[derive(Clone, Copy)]
struct Verdict {
    case: u16,
    injected: bool,
    failed: bool,
    ms: u32,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { role, phase, call } = self.place;
        write!(f, "{role:?} {phase:?} {call} {} #{}", errno_name(self.errno), self.nth)?;
        if self.times > 1 { write!(f, " x{}", self.times) } else { Ok(()) }
    }
}

/// Runs the cases that are wanted.
pub fn sweep(wanted: &Wanted) -> Outcome {
    let begin = Instant::now();
    let dir = Dir::new("errno");
    let counted = trace::run(scenario::LIFE, None, &dir.0);
    let wrong = judge(None, &counted);
    assert!(wrong.is_empty(), "without a fault: {wrong:?}\n{}", counted.output);
    let unknown: BTreeSet<String> =
        counted.counts.keys().filter(|p| !p.call.is_known()).map(|p| p.call.to_string()).collect();
    // Another kernel, or C library, makes others.
    if !unknown.is_empty() {
        println!("LEFT OUT, not in the table of system calls: {unknown:?}");
    }

    let (cases, first) = cases(&counted, wanted);
    println!("STOKEHOLD_SEED={}: {} of {} cases first", wanted.seed, first, cases.len());
    assert!(cases.len() < usize::from(u16::MAX) && !cases.is_empty());
    let until = wanted.time.map(|time| begin + time);
    let verdicts = run(&cases, first, until, wanted.at_a_time);

    let count = |f: fn(&Verdict) -> bool| verdicts.iter().filter(|v| f(v)).count();
    let (injected, failures) = (count(|v| v.injected), count(|v| v.failed));
    let mut slowest = verdicts.clone();
    slowest.sort_by_key(|v| std::cmp::Reverse(v.ms));
    for verdict in slowest.iter().take(5) {
        println!("{} ms: {}", verdict.ms, cases[usize::from(verdict.case)]);
    }
    let hit = |v: &&Verdict| v.injected;
    let met: BTreeSet<_> = verdicts.iter().filter(hit).map(|v| key(&cases[usize::from(v.case)])).collect();
    println!(
        "{} cases, {failures} failures; {injected} met their fault; {} calls of {} processes, {} s",
        verdicts.len(),
        met.len(),
        met.iter().map(|(role, _)| role).collect::<BTreeSet<_>>().len(),
        begin.elapsed().as_secs(),
    );
    assert_eq!(failures, 0);
    // What is made seldom may not have been made; but hardly anything is.
    assert!(injected * 10 >= verdicts.len() * 9, "most faults were not met");
    Ok(())
}

fn key(fault: &Fault) -> (Role, String) {
    (fault.place.role, fault.place.call.to_string())
}

/// All cases in the order in which they are run; and how many of them are run in any case: one of each call of each process.
fn cases(counted: &Seen, wanted: &Wanted) -> (Vec<Fault>, usize) {
    let mut random = Random(wanted.seed);
    let mut all = Vec::new();
    let places =
        counted.counts.iter().filter(|(place, _)| place.phase != Phase::None && place.call.is_known());
    for (place, count) in places {
        for errno in place.call.errnos(place.role) {
            all.extend((1..=OCCURRENCES.min(*count)).map(|nth| Fault {
                place: *place,
                nth,
                times: 1,
                errno,
            }));
        }
    }
    if let Some(only) = &wanted.only {
        all.retain(|fault| fault.to_string().contains(only.as_str()));
    }
    for at in (1..all.len()).rev() {
        all.swap(at, random.below(at as u64 + 1) as usize);
    }
    let mut first = BTreeMap::new();
    for (at, fault) in all.iter().enumerate() {
        first.entry(key(fault)).or_insert(at);
    }
    let first: BTreeSet<usize> = first.into_values().collect();
    let (mut ordered, mut rest) = (Vec::new(), Vec::new());
    for (at, fault) in all.into_iter().enumerate() {
        if first.contains(&at) { ordered.push(fault) } else { rest.push(fault) }
    }
    let count = ordered.len();
    ordered.extend(rest);
    (ordered, count)
}

fn run(cases: &[Fault], first: usize, until: Option<Instant>, at_a_time: usize) -> Vec<Verdict> {
    let (queue, mut places) = pipe().unwrap();
    (0..cases.len() as u16).for_each(|at| places.write_all(&at.to_le_bytes()).unwrap());
    drop(places);
    let (mut verdicts, tell) = pipe().unwrap();
    let runners = (0..at_a_time).map(|_| {
        Kid::new(|| {
            // What the program under test leaves behind becomes ours: it cannot hide.
            nix::sys::prctl::set_child_subreaper(true).unwrap();
            run_from(&queue, &tell, cases, first, until);
            0
        })
    });
    let runners: Vec<Kid> = runners.collect();
    drop((tell, queue));
    let mut all = Vec::new();
    let mut word = [0; 8];
    while verdicts.read_exact(&mut word).is_ok() {
        let [a, b, injected, failed, ms @ ..] = word;
        all.push(Verdict {
            case: u16::from_le_bytes([a, b]),
            injected: injected != 0,
            failed: failed != 0,
            ms: u32::from_le_bytes(ms),
        });
    }
    drop(runners);
    all
}

fn run_from(
    mut queue: &PipeReader,
    mut verdicts: &PipeWriter,
    cases: &[Fault],
    first: usize,
    until: Option<Instant>,
) {
    let dir = Dir::new("errno");
    let mut place = [0; 2];
    while queue.read_exact(&mut place).is_ok() {
        let at = usize::from(u16::from_le_bytes(place));
        if at >= first && until.is_some_and(|until| Instant::now() > until) {
            return;
        }
        let fault = cases[at];
        let seen = trace::run(scenario::LIFE, Some(fault), &dir.0);
        let wrong = judge(Some(&fault), &seen);
        if !wrong.is_empty() || cases.len() == 1 {
            let lines: Vec<String> = seen.told.iter().map(|told| told.to_string()).collect();
            let text = format!(
                "WRONG {fault}\n  {}\n  told: {}\n  ends: {:?}\n{}",
                wrong.join("\n  "),
                lines.join(", "),
                seen.ends,
                seen.output
            );
            let _ = std::io::stdout().write_all(text.as_bytes()); // in one piece: another may print as well
        }
        let mut word =
            [place[0], place[1], u8::from(seen.injected > 0), u8::from(!wrong.is_empty()), 0, 0, 0, 0];
        word[4..].copy_from_slice(&(seen.took.as_millis() as u32).to_le_bytes());
        verdicts.write_all(&word).unwrap();
    }
}

/// A directory that goes with it.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new(name: &str) -> Dir {
        Dir(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", process::id())))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A number from the environment.
pub fn from_env(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}
