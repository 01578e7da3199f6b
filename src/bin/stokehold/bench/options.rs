//! What the command line of `stokehold bench` says.

use super::place::Placement;
use super::report::mode_name;
use crate::failure::Failure;
use lexopt::prelude::*;
use stokehold::Mode;

/// Which benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bench {
    Call,
    Payload,
    Throughput,
    Tasks,
    Clients,
    Death,
    Arbiter,
    Stream,
}

impl Bench {
    /// In the order in which `bench all` runs them.
    pub const ALL: [Bench; 8] = [
        Bench::Call,
        Bench::Payload,
        Bench::Throughput,
        Bench::Tasks,
        Bench::Clients,
        Bench::Death,
        Bench::Arbiter,
        Bench::Stream,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Bench::Call => "call",
            Bench::Payload => "payload",
            Bench::Throughput => "throughput",
            Bench::Tasks => "tasks",
            Bench::Clients => "clients",
            Bench::Death => "death",
            Bench::Arbiter => "arbiter",
            Bench::Stream => "stream",
        }
    }
}

/// Everything that was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub benches: Vec<Bench>,
    pub json: bool,
    pub full: bool,
    /// Only rows that have a limit to meet.
    pub limits: bool,
    /// How long one row may take.
    pub seconds: f64,
    pub only: Option<String>,
    pub wait: Option<Mode>,
    pub placement: Option<Placement>,
    /// How many clients and workers there are, where that matters.
    pub clients: Option<usize>,
    pub workers: Option<usize>,
}

/// A command line is for measuring, or asks for help.
pub enum Parsed {
    Help,
    Options(Options),
}

impl Options {
    pub fn parse(mut parser: lexopt::Parser) -> Result<Parsed, Failure> {
        let mut benches = None;
        let (mut json, mut full, mut limits, mut seconds) = (false, false, false, 2.0);
        let (mut only, mut wait, mut placement) = (None, None, None);
        let (mut clients, mut workers) = (None, None);
        while let Some(arg) = parser.next()? {
            match arg {
                Short('h') | Long("help") => return Ok(Parsed::Help),
                Long("json") => json = true,
                Long("full") => full = true,
                Long("limits") => limits = true,
                Long("seconds") => seconds = parser.value()?.parse()?,
                Long("only") => only = Some(parser.value()?.string()?.to_lowercase()),
                Long("wait") => wait = Some(parse_wait(&parser.value()?.string()?)?),
                Long("placement") => placement = Some(parse_placement(&parser.value()?.string()?)?),
                Long("clients") => clients = Some(count("--clients", parser.value()?.parse()?, 1000)?),
                Long("workers") => workers = Some(count("--workers", parser.value()?.parse()?, 64)?),
                Value(name) if benches.is_none() => benches = Some(parse_bench(&name.string()?)?),
                other => return Err(other.unexpected().into()),
            }
        }
        let Some(benches) = benches else {
            return Err(Failure::usage(format!("bench what? There is {THERE_IS}")));
        };
        if !(0.01..=3600.0).contains(&seconds) {
            return Err(Failure::usage(format!("--seconds is from 0.01 to 3600, not {seconds}")));
        }
        Ok(Parsed::Options(Options {
            benches,
            json,
            full,
            limits,
            seconds,
            only,
            wait,
            placement,
            clients,
            workers,
        }))
    }

    /// Whether a row of this kind is wanted.
    pub fn wants(&self, wait: Mode, placement: Placement) -> bool {
        self.wait.is_none_or(|wanted| wanted == wait)
            && self.placement.is_none_or(|wanted| wanted == placement)
    }

    /// Whether a row with this text is wanted.
    pub fn wants_case(&self, case: &str) -> bool {
        self.only.as_ref().is_none_or(|text| case.to_lowercase().contains(text))
    }
}

fn parse_bench(name: &str) -> Result<Vec<Bench>, Failure> {
    if name == "all" {
        return Ok(Bench::ALL.to_vec());
    }
    let found = Bench::ALL.into_iter().find(|bench| bench.name() == name);
    found
        .map(|bench| vec![bench])
        .ok_or_else(|| Failure::usage(format!("no benchmark {name:?}; there is {THERE_IS}")))
}

fn count(option: &str, number: usize, most: usize) -> Result<usize, Failure> {
    if (1..=most).contains(&number) {
        return Ok(number);
    }
    Err(Failure::usage(format!("{option} is from 1 to {most}, not {number}")))
}

fn parse_wait(name: &str) -> Result<Mode, Failure> {
    [Mode::Adaptive, Mode::Park, Mode::Spin]
        .into_iter()
        .find(|&mode| mode_name(mode) == name)
        .ok_or_else(|| Failure::usage(format!("--wait is adaptive, park or spin, not {name:?}")))
}

fn parse_placement(name: &str) -> Result<Placement, Failure> {
    Placement::ALL.into_iter().find(|placement| placement.name() == name).ok_or_else(|| {
        Failure::usage(format!("--placement is one, two, free, hog1, hog2 or same, not {name:?}"))
    })
}

const THERE_IS: &str = "call, payload, throughput, tasks, clients, death, arbiter, stream, and all of them";
