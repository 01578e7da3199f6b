//! `stokehold serve`: a pool as a daemon of its own, configured by options and by a file.

pub mod config;

use crate::demo::Demo;
use crate::failure::Failure;
use crate::{help, socket};
use config::{Config, Item};
use lexopt::prelude::*;
use std::process::ExitCode;
use stokehold::{App, Builder, Code, Pool};

/// Serves until it is told to end.
pub fn run(parser: lexopt::Parser) -> Result<ExitCode, Failure> {
    let Some(mut config) = wanted(parser)? else { return Ok(help::say(help::SERVE)) };
    let path = match config.socket.take() {
        Some(path) => path,
        None => socket::default_path()?,
    };
    match builder(config)?.serve(path) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // What is wrong with the configuration is not mended by trying again.
        Err(error) if error.code() == Code::Config => Err(Failure::Usage(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// What options and file say; `None` when help is wanted.
pub fn wanted(mut parser: lexopt::Parser) -> Result<Option<Config>, Failure> {
    let mut file = None;
    let mut flags: Vec<(String, String)> = Vec::new();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Short('c') | Long("config") => file = Some(parser.value()?),
            Short('s') => flags.push(("socket".into(), parser.value()?.string()?)),
            Short('w') => flags.push(("workers".into(), parser.value()?.string()?)),
            Long("demo") => flags.push(("demo".into(), "true".into())),
            Long(name) if config::is_option(name) => {
                let name = name.to_owned();
                flags.push((name, parser.value()?.string()?));
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if flags.iter().filter(|(name, _)| name == "app-library").count() > 1 {
        return Err(Failure::usage(
            "one --app-library: each brings a runtime of its own, and a worker has one; serve the other under another path",
        ));
    }
    let mut config = match file {
        Some(path) => Config::read(path.as_ref()).map_err(Failure::Usage)?,
        None => Config::default(),
    };
    // The file's apps, or the flags'.
    if flags.iter().any(|(name, _)| name == "app") {
        config.apps.clear();
    }
    for (name, value) in flags {
        let set = Item::of_flag(&name, value).and_then(|item| config.set(&name, item));
        set.map_err(|why| Failure::usage(format!("--{name}: {why}")))?;
    }
    Ok(Some(config))
}

/// The pool that is to be served.
pub fn builder(config: Config) -> Result<Builder, Failure> {
    let mut builder = config.builder;
    let mut apps = config.apps;
    builder = match (config.demo, config.library) {
        (true, Some(_)) => {
            return Err(Failure::usage(
                "--demo or --app-library, not both: a worker has the apps of one of them",
            ));
        }
        (false, None) => return Err(Failure::usage("no apps: say --app-library FILE, or --demo")),
        (false, Some(library)) => builder.app_library(library),
        (true, None) => {
            if apps.is_empty() {
                apps.push(Demo::NAME.to_owned());
            }
            builder
        }
    };
    for app in &apps {
        builder = builder.app_named(app);
    }
    Ok(builder)
}

/// A builder without apps.
fn empty() -> Builder {
    Pool::builder()
}
