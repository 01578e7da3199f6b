//! The `stokehold` program: measures what a call costs on this machine, and says what the machine lacks.

mod bench;
mod demo;
mod doctor;
mod failure;
mod help;

use demo::Demo;
use failure::Failure;
use help::say;
use lexopt::prelude::*;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all: in the re-executed copy this becomes the arbiter and does not return.
    let registered = stokehold::init(|apps| {
        env_logger::init();
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
            "help" => {
                let topic = parser.next()?.map(word).transpose()?;
                help::about(topic.as_deref()).map(say).ok_or_else(|| {
                    Failure::usage(format!(
                        "no help about {:?}; there is bench and doctor",
                        topic.unwrap_or_default()
                    ))
                })
            }
            other => Err(Failure::usage(format!("no command {other:?}; there is bench, doctor and help"))),
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
