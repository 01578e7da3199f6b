//! `bench payload`: bytes that are lent in place, from 64 B to 64 MiB. Untouched, they should cost what the small
//! call costs; read by the worker, what reading one's own memory costs.

use super::baseline::{Copying, Filling, Reading};
use super::blocks::{Contender, Shape, interleave};
use super::options::Options;
use super::place::{Place, Placement};
use super::report::{Report, Row};
use super::rig::Rig;
use super::stats::Series;
use crate::demo::{Demo, touch_lines};
use crate::failure::Failure;
use stokehold::internals::sys::{clock, cpu};
use stokehold::{App, Client, Error, Lease, Mode, Result};

const SIZES: [usize; 6] = [64, 4 << 10, 64 << 10, 1 << 20, 16 << 20, 64 << 20];
/// From this size on there are rows for the first time that memory is used.
const COLD_FROM: usize = 1 << 20;

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    let usual = if cpu::usable() > 1 { Placement::Two } else { Placement::One };
    let placement = options.placement.unwrap_or(usual);
    let wait = options.wait.unwrap_or(Mode::Adaptive);
    let Some(place) = Place::take(placement)? else {
        report.skipped(&format!("payload {}", placement.name()), "needs two processors");
        return Ok(());
    };
    let rig = Rig::start(&place, wait, 1)?;
    let mut bench = Payload { options, report, wait, placement, client: &rig.client };
    for bytes in SIZES {
        if bench.wants("untouched") || bench.wants("touched") {
            bench.arguments(bytes)?;
        }
        if bench.wants("fill") {
            bench.results(bytes)?;
        }
    }
    Ok(rig.stop()?)
}

struct Payload<'a> {
    options: &'a Options,
    report: &'a mut Report,
    wait: Mode,
    placement: Placement,
    client: &'a Client,
}

impl Payload<'_> {
    /// Rows of one size of argument.
    fn arguments(&mut self, bytes: usize) -> Result<()> {
        let mut lease = self.client.lease(bytes)?;
        lease.fill(7);
        let mut touched = Touched { client: self.client, lease: &lease, expected: touch_lines(&lease) };
        if bytes >= COLD_FROM && self.wants("touched, cold") {
            // This size is the first in a region of its own: the worker has not seen a page of it.
            let start = clock::monotonic_ns();
            touched.trip()?;
            let took = (clock::monotonic_ns() - start) as f64 / 1e3;
            self.add(Row {
                case: "touched, cold".into(),
                touch: true,
                p50_us: Some(took),
                ..self.row(bytes)
            });
        }
        let mut untouched = Untouched { client: self.client, lease: &lease };
        let mut small = Small::new(self.client);
        if self.wants("untouched") {
            let mut copying = Copying::new(bytes);
            let series = self.interleave(&mut [&mut untouched, &mut small, &mut copying])?;
            self.against("untouched", false, bytes, &series[0], "64 B call", &series[1]);
            self.against("untouched", false, bytes, &series[0], "memcpy", &series[2]);
        }
        if self.wants("touched") {
            let mut reading = Reading::new(bytes);
            let series = self.interleave(&mut [&mut touched, &mut reading, &mut small])?;
            self.against("touched", true, bytes, &series[0], "private read", &series[1]);
            // Below a megabyte the reading is the smaller part.
            let both = series[1].p50_us().zip(series[2].p50_us()).map(|(read, call)| read + call);
            self.add(Row {
                case: "touched".into(),
                touch: true,
                p50_us: series[0].p50_us(),
                p99_us: series[0].p99_us(),
                baseline: Some("64 B call + private read".into()),
                baseline_p50_us: both,
                ratio: series[0].p50_us().zip(both).map(|(ours, theirs)| ours / theirs),
                ..self.row(bytes)
            });
        }
        Ok(())
    }

    /// Rows of one size of result.
    fn results(&mut self, bytes: usize) -> Result<()> {
        let mut fill = Fill { client: self.client, bytes };
        if bytes >= COLD_FROM && self.wants("fill, cold") {
            let start = clock::monotonic_ns();
            fill.trip()?;
            let took = (clock::monotonic_ns() - start) as f64 / 1e3;
            self.add(Row { case: "fill, cold".into(), touch: true, p50_us: Some(took), ..self.row(bytes) });
        }
        let mut filling = Filling::new(bytes);
        let series = self.interleave(&mut [&mut fill, &mut filling])?;
        self.against("fill", true, bytes, &series[0], "private fill", &series[1]);
        Ok(())
    }

    fn interleave(&self, contenders: &mut [&mut dyn Contender]) -> Result<Vec<Series>> {
        interleave(contenders, Shape::LONG, self.options.seconds / 2.0)
    }

    fn against(&mut self, case: &str, touch: bool, bytes: usize, ours: &Series, name: &str, theirs: &Series) {
        self.add(Row {
            case: case.into(),
            touch,
            p50_us: ours.p50_us(),
            p99_us: ours.p99_us(),
            baseline: Some(name.into()),
            baseline_p50_us: theirs.p50_us(),
            baseline_p99_us: theirs.p99_us(),
            ratio: ours.ratio(theirs),
            ..self.row(bytes)
        });
    }

    fn row(&self, bytes: usize) -> Row {
        Row {
            bench: "payload",
            wait: Some(self.wait),
            placement: Some(self.placement),
            bytes: Some(bytes as u64),
            threads: Some(1),
            ..Row::default()
        }
    }

    fn add(&mut self, row: Row) {
        self.report.add(row);
    }

    fn wants(&self, case: &str) -> bool {
        let text = self.options.only.as_deref();
        text.is_none_or(|text| case.contains(text) || text.contains(case)) // "touched" asks for "touched, cold", too
    }
}

/// A lease that the worker does not look into.
struct Untouched<'a> {
    client: &'a Client,
    lease: &'a Lease,
}

impl Contender for Untouched<'_> {
    fn name(&self) -> &'static str {
        "untouched"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "len").args((self.lease,)).execute()?;
        expect(response.parse::<usize>()? == self.lease.len())
    }
}

/// A lease of which the worker reads every line.
struct Touched<'a> {
    client: &'a Client,
    lease: &'a Lease,
    expected: i64,
}

impl Contender for Touched<'_> {
    fn name(&self) -> &'static str {
        "touched"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "touch").args((self.lease,)).execute()?;
        expect(response.parse::<i64>()? == self.expected)
    }
}

/// The same call as [`Untouched`] with 64 bytes that go in the record.
struct Small<'a> {
    client: &'a Client,
    bytes: [u8; 64],
}

impl<'a> Small<'a> {
    fn new(client: &'a Client) -> Small<'a> {
        Small { client, bytes: [7; 64] }
    }
}

impl Contender for Small<'_> {
    fn name(&self) -> &'static str {
        "64 B call"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "len").args((&self.bytes[..],)).execute()?;
        expect(response.parse::<usize>()? == self.bytes.len())
    }
}

/// A result that the worker fills in place, and of which we look at both ends.
struct Fill<'a> {
    client: &'a Client,
    bytes: usize,
}

impl Contender for Fill<'_> {
    fn name(&self) -> &'static str {
        "fill"
    }

    fn trip(&mut self) -> Result<()> {
        let response = self.client.call(Demo::NAME, "fill").args((self.bytes,)).execute()?;
        let bytes = response.as_bytes()?;
        expect(bytes.len() == self.bytes && bytes.first() == Some(&7) && bytes.last() == Some(&7))
    }
}

fn expect(right: bool) -> Result<()> {
    if right { Ok(()) } else { Err(Error::bad_request("a result is wrong")) }
}
