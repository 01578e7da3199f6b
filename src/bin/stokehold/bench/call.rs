//! `bench call`: a 64-byte echo, beside the cheapest hand-overs in the same placement.

use super::baseline::{ByFutex, BySpin, ByYield, Channel, Partner, Socket};
use super::blocks::{Contender, Shape, interleave};
use super::options::Options;
use super::place::{Place, Placement};
use super::report::{Report, Row, mode_name};
use super::rig::Rig;
use super::stats::Series;
use super::wanted::{Of, Wanted};
use crate::demo::Demo;
use crate::failure::Failure;
use stokehold::{App, Error, Mode, Result};

/// The rows, in the order they are printed. `Same` is measured only when it is asked for.
const ROWS: [(Mode, Placement); 9] = [
    (Mode::Adaptive, Placement::One),
    (Mode::Adaptive, Placement::Two),
    (Mode::Adaptive, Placement::Free),
    (Mode::Adaptive, Placement::Hog1),
    (Mode::Adaptive, Placement::Hog2),
    (Mode::Park, Placement::One),
    (Mode::Park, Placement::Free),
    (Mode::Spin, Placement::Two),
    (Mode::Adaptive, Placement::Same),
];

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    for (wait, placement) in ROWS {
        let by_default = placement != Placement::Same || options.placement == Some(Placement::Same);
        if !by_default || !options.wants(wait, placement) {
            continue;
        }
        let Some(place) = Place::take(placement)? else {
            report.skipped(&format!("call {} {}", mode_name(wait), placement.name()), "needs two processors");
            continue;
        };
        measure(options, report, &place, wait)?;
    }
    Ok(())
}

/// One placement and way to wait, against everything that is comparable there.
fn measure(options: &Options, report: &mut Report, place: &Place, wait: Mode) -> Result<()> {
    let partner = Partner::new(place.partner())?;
    let mut futex = ByFutex::new(&partner);
    let mut giving = ByYield::new(&partner);
    let mut spin = BySpin::new(&partner);
    // Against what copies, and against a thread: once is enough.
    let extra = wait == Mode::Adaptive && place.placement() == Placement::Free;
    let mut socket = if extra { Some(Socket::new(place.partner())?) } else { None };
    let rig = Rig::start(place, wait, 1)?; // forks nothing here; after it, threads are allowed
    let mut channel = extra.then(Channel::new);
    let mut echo = Echo::new(&rig);

    let mut contenders: Vec<&mut dyn Contender> = vec![&mut echo];
    match (wait, place.placement()) {
        (Mode::Adaptive, Placement::One | Placement::Same) => {
            contenders.push(&mut futex);
            contenders.push(&mut giving);
        }
        (Mode::Adaptive | Mode::Spin, Placement::Two) => contenders.push(&mut spin),
        _ => contenders.push(&mut futex),
    }
    if let Some(socket) = &mut socket {
        contenders.push(socket);
    }
    if let Some(channel) = &mut channel {
        contenders.push(channel);
    }
    let series = interleave(&mut contenders, Shape::SHORT, options.seconds)?;
    let names: Vec<_> = contenders.iter().map(|contender| contender.name()).collect();
    let p50 = |series: &Series| series.p50_us().unwrap_or(f64::INFINITY);
    for (theirs, name) in series.iter().zip(&names).skip(1) {
        if options.wants_case(name) || options.wants_case("echo") {
            // Of two hand-overs on one processor the better one counts; both are shown.
            let best = series
                .iter()
                .zip(&names)
                .skip(1)
                .all(|(other, name)| !name.starts_with("raw") || p50(theirs) <= p50(other));
            let several = names.iter().filter(|name| name.starts_with("raw")).count() > 1;
            let mark = if several && best { " (best)" } else { "" };
            report.add(Row {
                bench: "call",
                case: "echo".into(),
                wait: Some(wait),
                placement: Some(place.placement()),
                bytes: Some(64),
                threads: Some(1),
                p50_us: series[0].p50_us(),
                p99_us: series[0].p99_us(),
                per_s: series[0].p50_us().map(|us| 1e6 / us),
                baseline: Some(format!("{name}{mark}")),
                baseline_p50_us: theirs.p50_us(),
                baseline_p99_us: theirs.p99_us(),
                baseline_per_s: theirs.p50_us().map(|us| 1e6 / us),
                ratio: series[0].ratio(theirs),
                wanted: wanted(wait, place.placement(), name, best),
                ..Row::default()
            });
        }
    }
    rig.stop()
}

/// What is to be reached against this baseline, which is or is not the better one of its kind.
fn wanted(wait: Mode, placement: Placement, baseline: &str, best: bool) -> Vec<Wanted> {
    let ratio = |limit| Wanted::AtMost(Of::Ratio, limit);
    match (wait, placement) {
        _ if !baseline.starts_with("raw") || !best => Vec::new(),
        (Mode::Park, _) => vec![ratio(1.3)],
        (_, Placement::One) => vec![ratio(1.3)],
        (_, Placement::Two) => vec![ratio(2.0), Wanted::AtMost(Of::P50Us, 1.0)],
        (_, Placement::Free | Placement::Hog1 | Placement::Hog2) => {
            vec![ratio(1.5), Wanted::AtMost(Of::RatioP99, 1.5)]
        }
        (_, Placement::Same) => Vec::new(),
    }
}

/// Ours: 64 bytes there and back, checked.
struct Echo<'r> {
    rig: &'r Rig,
    bytes: [u8; 64],
}

impl<'r> Echo<'r> {
    fn new(rig: &'r Rig) -> Echo<'r> {
        Echo { rig, bytes: std::array::from_fn(|i| i as u8) }
    }
}

impl Contender for Echo<'_> {
    fn name(&self) -> &'static str {
        "echo"
    }

    fn begin(&mut self) -> Result<()> {
        self.rig.wake()
    }

    fn end(&mut self) -> Result<()> {
        self.rig.rest()
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.rig.client.call(Demo::NAME, "echo").args((&self.bytes[..],)).execute()?;
        if response.as_bytes()? != self.bytes {
            return Err(Error::bad_request("an echo came back changed"));
        }
        Ok(())
    }
}
