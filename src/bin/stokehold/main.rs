//! The `stokehold` program: serves a pool, measures what a call costs on this machine, and says what the machine lacks.

mod bench;
mod call;
mod demo;
mod doctor;
mod failure;
mod help;
mod json;
mod serve;
mod socket;
mod status;

use demo::Demo;
use failure::Failure;
use help::say;
use lexopt::prelude::*;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: in the re-executed copy this becomes the arbiter and does not return.
    let registered = stokehold::init(|apps| {
        // A daemon tells what it does without being asked.
        let daemon = std::env::args_os().nth(1).is_some_and(|command| command == "serve");
        let level = if daemon { "info" } else { "error" };
        env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
        apps.add::<Demo>()
    });
    match registered.map_err(Failure::from).and_then(|()| run()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("stokehold: {failure}");
            ExitCode::from(failure.status())
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let mut parser = lexopt::Parser::from_env();
    match parser.next()? {
        None => {
            eprint!("{}", help::GENERAL);
            Ok(ExitCode::from(failure::USAGE))
        }
        Some(Short('h') | Long("help")) => Ok(say(help::GENERAL)),
        Some(Short('V') | Long("version")) => Ok(say(concat!("stokehold ", env!("CARGO_PKG_VERSION"), "\n"))),
        Some(Value(command)) => match command.string()?.as_str() {
            "bench" => bench::run(parser),
            "doctor" => doctor::run(parser),
            "serve" => serve::run(parser),
            "call" => call::run(parser),
            "status" => status::run(parser),
            "help" => {
                let topic = parser.next()?.map(word).transpose()?;
                help::about(topic.as_deref())
                    .map(say)
                    .ok_or_else(|| Failure::usage(format!("no help about {:?}", topic.unwrap_or_default())))
            }
            other => Err(Failure::usage(format!("no command {other:?}"))),
        },
        Some(other) => Err(other.unexpected().into()),
    }
}

/// An argument that is no option.
fn word(arg: lexopt::Arg<'_>) -> Result<String, Failure> {
    match arg {
        Value(value) => Ok(value.string()?),
        other => Err(other.unexpected().into()),
    }
}
