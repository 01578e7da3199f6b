//! `stokehold bench`: each benchmark measures the library and a baseline in alternating blocks of one run, and
//! reports rows. What is measured is in the module of that name; what against in `baseline`; what is to be reached
//! stands beside each row.

mod arbiter;
mod baseline;
mod blocks;
mod call;
mod clients;
mod death;
mod options;
mod payload;
mod place;
mod procfs;
mod report;
mod rig;
mod stats;
mod stream;
mod tasks;
mod throughput;
mod wanted;

use crate::failure::Failure;
use crate::help;
use options::{Bench, Options, Parsed};
use report::Report;
use std::process::ExitCode;

/// Runs the benchmark that the rest of the command line names.
pub fn run(parser: lexopt::Parser) -> Result<ExitCode, Failure> {
    let options = match Options::parse(parser)? {
        Parsed::Help => {
            return Ok(help::say(help::BENCH));
        }
        Parsed::Options(options) => options,
    };
    if cfg!(debug_assertions) {
        eprintln!("stokehold: a debug build: these numbers say nothing");
    }
    let mut report = Report::new(options.json, options.limits);
    for bench in &options.benches {
        match bench {
            Bench::Call => call::run(&options, &mut report)?,
            Bench::Payload => payload::run(&options, &mut report)?,
            Bench::Throughput => throughput::run(&options, &mut report)?,
            Bench::Tasks => tasks::run(&options, &mut report)?,
            Bench::Clients => clients::run(&options, &mut report)?,
            Bench::Death => death::run(&options, &mut report)?,
            Bench::Arbiter => arbiter::run(&options, &mut report)?,
            Bench::Stream => stream::run(&options, &mut report)?,
        }
    }
    report.finish();
    Ok(ExitCode::SUCCESS)
}
