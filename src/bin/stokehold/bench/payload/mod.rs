//! `bench payload`: bytes from 64 B to 64 MiB. Lent in place and untouched, they should cost what the small call costs;
//! read by the other side, what reading one's own memory costs. Beside that, what they cost the first time, and
//! what copying costs that is not lent.

mod calls;
mod cold;

use super::baseline::{Copying, Filling, FirstFilling, FirstReading, Reading};
use super::blocks::{Contender, Shape, interleave};
use super::options::Options;
use super::place::{Place, Placement};
use super::report::{Report, Row};
use super::rig::Rig;
use super::stats::Series;
use super::wanted::{Of, Wanted};
use crate::failure::Failure;
use calls::{Copied, Fill, Lent, Small, ThereAndBack, Touched, Untouched};
use cold::{FirstFill, FirstLease};
use stokehold::internals::sys::cpu;
use stokehold::{Client, Error, Mode, Result};

const SIZES: [usize; 6] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// From this size on there are rows for the first time that memory is used: a region of its own.
const COLD_FROM: usize = 64 << 10;
/// Below, what the reading costs is the smaller part of a call.
const READING_COUNTS_FROM: usize = 1 << 20;

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    let usual = if cpu::usable() > 1 { Placement::Two } else { Placement::One };
    let placement = options.placement.unwrap_or(usual);
    let wait = options.wait.unwrap_or(Mode::Adaptive);
    let Some(place) = Place::take(placement)? else {
        report.skipped(&format!("payload {}", placement.name()), "needs two processors");
        return Ok(());
    };
    // Workers are killed for what is measured in new ones.
    let rig =
        Rig::start_with(&place, wait, 1, |builder| builder.restart_limit(10_000, 1_000).backoff_ms(1, 1))?;
    let mut bench = Payload { options, report, wait, place: &place, rig: &rig, client: &rig.client };
    for bytes in SIZES {
        bench.arguments(bytes)?;
        bench.copied(bytes)?;
        bench.results(bytes)?;
        if bytes >= COLD_FROM {
            bench.cold(bytes)?;
        }
    }
    Ok(rig.stop()?)
}

struct Payload<'a> {
    options: &'a Options,
    report: &'a mut Report,
    wait: Mode,
    place: &'a Place,
    rig: &'a Rig,
    client: &'a Client,
}

impl Payload<'_> {
    /// Arguments that are lent.
    fn arguments(&mut self, bytes: usize) -> Result<()> {
        if !self.wants(UNTOUCHED) && !self.wants(TOUCHED) {
            return Ok(());
        }
        let mut lease = self.client.lease(bytes)?;
        lease.fill(7);
        let mut small = Small::new(self.client);
        if self.wants(UNTOUCHED) {
            let mut untouched = Untouched { client: self.client, lease: &lease };
            let mut copying = Copying::new(bytes);
            let series = self.interleave(&mut [&mut untouched, &mut small, &mut copying])?;
            self.against(UNTOUCHED, bytes, &series[0], "64 B call", &series[1], Some(1.2));
            self.against(UNTOUCHED, bytes, &series[0], "memcpy", &series[2], None);
        }
        if self.wants(TOUCHED) {
            let expected = 7 * bytes.div_ceil(64) as i64;
            let mut touched = Touched { client: self.client, lease: &lease, expected };
            let mut reading = Reading::new(bytes);
            let series = self.interleave(&mut [&mut touched, &mut reading, &mut small])?;
            self.reading(TOUCHED, bytes, &series);
        }
        Ok(())
    }

    /// Arguments that are copied, and arguments and results.
    fn copied(&mut self, bytes: usize) -> Result<()> {
        let private = || vec![7; bytes];
        for (case, touch) in [(COPIED, false), (COPIED_TOUCHED, true)] {
            if !self.wants(case) {
                continue;
            }
            let mut lease = self.client.lease(bytes)?;
            lease.fill(7);
            let mut copied = Copied { client: self.client, bytes: private(), touch };
            let expected = 7 * bytes.div_ceil(64) as i64;
            let mut untouched = Untouched { client: self.client, lease: &lease };
            let mut touched = Touched { client: self.client, lease: &lease, expected };
            let mut copying = Copying::new(bytes);
            let lent: &mut dyn Contender = if touch { &mut touched } else { &mut untouched };
            let series = self.interleave(&mut [&mut copied, lent, &mut copying])?;
            self.against(case, bytes, &series[0], "the same lent", &series[1], None);
            self.against(case, bytes, &series[0], "memcpy", &series[2], None);
        }
        if self.wants(THERE_AND_BACK) {
            let mut echo = ThereAndBack { client: self.client, bytes: private(), back: private() };
            let mut copying = Copying::new(bytes);
            let series = self.interleave(&mut [&mut echo, &mut copying])?;
            self.against(THERE_AND_BACK, bytes, &series[0], "memcpy", &series[1], None);
        }
        Ok(())
    }

    /// Results that are lent.
    fn results(&mut self, bytes: usize) -> Result<()> {
        let mut small = Small::new(self.client);
        if self.wants(FILL) {
            let mut fill = Fill { client: self.client, bytes };
            let mut filling = Filling::new(bytes);
            let series = self.interleave(&mut [&mut fill, &mut filling])?;
            self.against(FILL, bytes, &series[0], "private fill", &series[1], None);
        }
        if self.wants(RESULT_UNTOUCHED) {
            let mut lent = Lent { client: self.client, bytes, touch: false };
            let series = self.interleave(&mut [&mut lent, &mut small])?;
            self.against(RESULT_UNTOUCHED, bytes, &series[0], "64 B call", &series[1], Some(1.2));
        }
        if self.wants(RESULT_TOUCHED) {
            let mut lent = Lent { client: self.client, bytes, touch: true };
            let mut reading = Reading::new(bytes);
            let series = self.interleave(&mut [&mut lent, &mut reading, &mut small])?;
            self.reading(RESULT_TOUCHED, bytes, &series);
        }
        Ok(())
    }

    /// What is done once.
    fn cold(&mut self, bytes: usize) -> Result<()> {
        if self.wants(COLD_UNTOUCHED) {
            let mut first = FirstLease::new(self.rig, self.place, bytes, false);
            let mut small = Small::new(self.client);
            let series = self.once(&mut [&mut first, &mut small])?;
            self.against(COLD_UNTOUCHED, bytes, &series[0], "64 B call", &series[1], None);
        }
        if self.wants(COLD_TOUCHED) {
            let mut first = FirstLease::new(self.rig, self.place, bytes, true);
            let mut reading = FirstReading::new(bytes);
            let series = self.once(&mut [&mut first, &mut reading])?;
            self.against(COLD_TOUCHED, bytes, &series[0], reading.name(), &series[1], None);
        }
        if self.wants(COLD_FILL) {
            let mut first = FirstFill { rig: self.rig, place: self.place, bytes };
            let mut filling = FirstFilling::new(bytes);
            let series = self.once(&mut [&mut first, &mut filling])?;
            self.against(COLD_FILL, bytes, &series[0], filling.name(), &series[1], None);
        }
        Ok(())
    }

    fn interleave(&self, contenders: &mut [&mut dyn Contender]) -> Result<Vec<Series>> {
        interleave(contenders, Shape::LONG, self.options.seconds / 2.0)
    }

    fn once(&self, contenders: &mut [&mut dyn Contender]) -> Result<Vec<Series>> {
        interleave(contenders, Shape::ONCE, self.options.seconds / 2.0)
    }

    /// Ours, reading one's own memory, and the small call.
    fn reading(&mut self, case: &str, bytes: usize, series: &[Series]) {
        let counts = bytes >= READING_COUNTS_FROM;
        self.against(case, bytes, &series[0], "private read", &series[1], counts.then_some(1.1));
        let both = series[1].p50_us().zip(series[2].p50_us()).map(|(read, call)| read + call);
        let ratio = series[0].p50_us().zip(both).map(|(ours, theirs)| ours / theirs);
        self.report.add(Row {
            case: case.into(),
            p50_us: series[0].p50_us(),
            p99_us: series[0].p99_us(),
            baseline: Some("64 B call + private read".into()),
            baseline_p50_us: both,
            ratio,
            wanted: if counts { Vec::new() } else { vec![Wanted::AtMost(Of::Ratio, 1.1)] },
            ..self.row(case, bytes)
        });
    }

    fn against(
        &mut self,
        case: &str,
        bytes: usize,
        ours: &Series,
        name: &str,
        theirs: &Series,
        at_most: Option<f64>,
    ) {
        let wanted = at_most.map(|limit| Wanted::AtMost(Of::Ratio, limit)).into_iter().collect();
        self.report.add(Row { wanted, ..self.row(case, bytes).beside(ours, name, theirs) });
    }

    fn row(&self, case: &str, bytes: usize) -> Row {
        Row {
            bench: "payload",
            case: case.into(),
            wait: Some(self.wait),
            placement: Some(self.place.placement()),
            bytes: Some(bytes as u64),
            threads: Some(1),
            touch: ![UNTOUCHED, COPIED, RESULT_UNTOUCHED, COLD_UNTOUCHED].contains(&case),
            ..Row::default()
        }
    }

    fn wants(&self, case: &str) -> bool {
        let with_limit = [UNTOUCHED, TOUCHED, RESULT_UNTOUCHED, RESULT_TOUCHED].contains(&case);
        self.options.wants_case(case) && (with_limit || !self.options.limits)
    }
}

fn expect(right: bool) -> Result<()> {
    if right { Ok(()) } else { Err(Error::bad_request("a result is wrong")) }
}

const UNTOUCHED: &str = "untouched";
const TOUCHED: &str = "read";
const COPIED: &str = "copied, untouched";
const COPIED_TOUCHED: &str = "copied, read";
const THERE_AND_BACK: &str = "copied there and back";
const FILL: &str = "result filled";
const RESULT_UNTOUCHED: &str = "result untouched";
const RESULT_TOUCHED: &str = "result read";
const COLD_UNTOUCHED: &str = "cold, untouched";
const COLD_TOUCHED: &str = "cold, read";
const COLD_FILL: &str = "cold, result filled";
