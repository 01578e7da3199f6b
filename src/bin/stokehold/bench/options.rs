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
    Death,
}

/// Everything that was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    pub bench: Bench,
    pub json: bool,
    pub full: bool,
    /// How long one row may take.
    pub seconds: f64,
    pub only: Option<String>,
    pub wait: Option<Mode>,
    pub placement: Option<Placement>,
}

/// A command line is for measuring, or asks for help.
pub enum Parsed {
    Help,
    Options(Options),
}

impl Options {
    pub fn parse(mut parser: lexopt::Parser) -> Result<Parsed, Failure> {
        let mut bench = None;
        let (mut json, mut full, mut seconds) = (false, false, 2.0);
        let (mut only, mut wait, mut placement) = (None, None, None);
        while let Some(arg) = parser.next()? {
            match arg {
                Short('h') | Long("help") => return Ok(Parsed::Help),
                Long("json") => json = true,
                Long("full") => full = true,
                Long("seconds") => seconds = parser.value()?.parse()?,
                Long("only") => only = Some(parser.value()?.string()?.to_lowercase()),
                Long("wait") => wait = Some(parse_wait(&parser.value()?.string()?)?),
                Long("placement") => placement = Some(parse_placement(&parser.value()?.string()?)?),
                Value(name) if bench.is_none() => bench = Some(parse_bench(&name.string()?)?),
                other => return Err(other.unexpected().into()),
            }
        }
        let Some(bench) = bench else {
            return Err(Failure::usage("bench what? There is call, payload, throughput and death"));
        };
        if !(0.01..=3600.0).contains(&seconds) {
            return Err(Failure::usage(format!("--seconds is from 0.01 to 3600, not {seconds}")));
        }
        Ok(Parsed::Options(Options { bench, json, full, seconds, only, wait, placement }))
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

fn parse_bench(name: &str) -> Result<Bench, Failure> {
    Ok(match name {
        "call" => Bench::Call,
        "payload" => Bench::Payload,
        "throughput" => Bench::Throughput,
        "death" => Bench::Death,
        other => {
            return Err(Failure::usage(format!(
                "no benchmark {other:?}; there is call, payload, throughput and death"
            )));
        }
    })
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
