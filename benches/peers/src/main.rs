//! Stokehold and its peers, on the same work, in turns in one run. Each row is a peer; its baseline is stokehold, so a
//! ratio of 3 says that the peer takes three times as long.
//!
//!     cargo run --release --manifest-path benches/peers/Cargo.toml -- --help

mod bench;
mod channel;
mod iceoryx;
mod ipc;
mod ours;
mod socket;
mod work;

use bench::blocks::{Contender, Shape, interleave};
use bench::place::{Place, Placement};
use bench::report::{Report, Row};
use bench::wanted::{Of, Wanted};
use channel::Thread;
use iceoryx::Waiting;
use ipc::By;
use ours::{Rig, Work};
use std::process::ExitCode;
use stokehold::internals::sys::cpu;
use stokehold::{Mode, Result};
use work::{Op, Trip};

const SIZES: [usize; 6] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// Up to this size a trip is one of microseconds.
const SHORT_UP_TO: usize = 64 << 10;

/// What a client and a server do with the bytes.
const CASES: [(&str, Op, bool); 3] =
    [("untouched", Op::Len, false), ("read", Op::Read, false), ("written and read", Op::Read, true)];

const HELP: &str = "\
Usage: stokehold-peers [OPTIONS]

Stokehold, iceoryx2, ipc-channel, a Unix socketpair and a crossbeam channel, on the same work, in turns. The baseline is
stokehold: a ratio of 3 says that the peer takes three times as long.

Cases:
  echo               64 bytes there and back; on one processor, on two, and where the kernel puts the two sides
  untouched          bytes that the server is given and does not look at
  read               it reads every line of them
  written and read   the client wrote all of them before

Options:
  --json             one JSON object a line instead of a table
  --limits           only rows that have a limit to meet
  --seconds S        how long a row takes of which there are seven in turns, 2 by default
  --only TEXT        only cases that contain TEXT
  -h, --help         this text
";

struct Options {
    json: bool,
    limits: bool,
    seconds: f64,
    only: Option<String>,
}

fn main() -> ExitCode {
    // First of all: in the re-executed copy this becomes the arbiter and does not return.
    let registered = stokehold::init(|apps| apps.add::<Work>());
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("stokehold-peers: {error}");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("stokehold-peers: a debug build: these numbers say nothing");
    }
    let mut report = Report::new(options.json, options.limits);
    let done = registered.and_then(|()| run(&options, &mut report));
    report.finish();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stokehold-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> std::result::Result<Option<Options>, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options { json: false, limits: false, seconds: 2.0, only: None };
    let mut parser = lexopt::Parser::from_env();
    while let Some(arg) = parser.next()? {
        match arg {
            Short('h') | Long("help") => return Ok(None),
            Long("json") => options.json = true,
            Long("limits") => options.limits = true,
            Long("seconds") => options.seconds = parser.value()?.parse()?,
            Long("only") => options.only = Some(parser.value()?.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Some(options))
}

fn run(options: &Options, report: &mut Report) -> Result<()> {
    let wants = |case: &str| options.only.as_ref().is_none_or(|only| case.contains(only.as_str()));
    let usual = if cpu::usable() > 1 { Placement::Two } else { Placement::One };
    for placement in [Placement::One, Placement::Two, Placement::Free] {
        let mut cases = Vec::new();
        if wants(ECHO) {
            cases.push((ECHO, Trip { op: Op::Echo, bytes: 64, write: false }));
        }
        // With a limit to meet there is only the echo.
        if placement == usual && !options.limits {
            for (case, op, write) in CASES.into_iter().filter(|(case, _, _)| wants(case)) {
                cases.extend(SIZES.map(|bytes| (case, Trip { op, bytes, write })));
            }
        }
        if cases.is_empty() {
            continue;
        }
        match Place::take(placement)? {
            Some(place) => measure(options, report, &place, &cases)?,
            None => report.skipped(&format!("peers {}", placement.name()), "needs two processors"),
        }
    }
    Ok(())
}

/// Everybody in one placement.
fn measure(options: &Options, report: &mut Report, place: &Place, cases: &[(&str, Trip)]) -> Result<()> {
    // All that is forked, before anything starts a thread.
    let partner = place.partner();
    let events = iceoryx::Server::new(Waiting::ByEvents, partner, place.placement() as usize * 2)?;
    // Two that poll on one processor wait for each other for whole time slices.
    let polls = place.placement() != Placement::One;
    let polling = polls
        .then(|| iceoryx::Server::new(Waiting::ByPolling, partner, place.placement() as usize * 2 + 1))
        .transpose()?;
    if !polls {
        report.skipped("peers one, iceoryx2 by polling", "both sides would share a processor");
    }
    let bytes = ipc::Server::new(By::Bytes, partner)?;
    let memory = ipc::Server::new(By::Memory, partner)?;
    let socket = socket::Server::new(partner)?;
    let rig = Rig::start(place)?;
    if let Some(number) = place.host() {
        cpu::pin(&[number])?;
    }
    for &(case, trip) in cases {
        let mut ours = rig.contender(trip)?;
        let mut events = events.contender(trip)?;
        let mut polling = polling.as_ref().map(|polling| polling.contender(trip)).transpose()?;
        let mut bytes = bytes.bytes(trip);
        let mut memory = memory.memory(trip);
        let mut socket = socket.contender(trip);
        let mut thread = Thread::new(trip, partner);
        let mut contenders: Vec<&mut dyn Contender> = vec![&mut ours, &mut events];
        if let Some(polling) = &mut polling {
            contenders.push(polling);
        }
        contenders.extend([&mut bytes as &mut dyn Contender, &mut memory, &mut socket, &mut thread]);
        let shape = if trip.bytes <= SHORT_UP_TO { Shape::SHORT } else { Shape::LONG };
        let series = interleave(&mut contenders, shape, options.seconds)?;
        let names: Vec<_> = contenders.iter().map(|contender| contender.name()).collect();
        for (theirs, name) in series.iter().zip(names).skip(1) {
            let limit = case == ECHO && place.placement() == Placement::Two && name.ends_with("busy polling");
            report.add(Row {
                bench: "peers",
                case: format!("{case}: {name}"),
                wait: Some(Mode::Adaptive),
                placement: Some(place.placement()),
                bytes: Some(trip.bytes as u64),
                touch: trip.op == Op::Read,
                p50_us: theirs.p50_us(),
                p99_us: theirs.p99_us(),
                baseline: Some("stokehold".into()),
                baseline_p50_us: series[0].p50_us(),
                baseline_p99_us: series[0].p99_us(),
                ratio: theirs.ratio(&series[0]),
                wanted: limit.then_some(Wanted::AtLeast(Of::Ratio, 1.0)).into_iter().collect(),
                ..Row::default()
            });
        }
    }
    rig.stop()
}

const ECHO: &str = "echo";
