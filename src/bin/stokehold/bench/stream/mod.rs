//! `bench stream`: how many items a second, small ones beside a bare ring and large ones beside a memcpy; how long one takes
//! through a context and back; how soon the first one is there; what a cancel costs; and what a consumer that stops costs
//! another client.

mod beside;
mod once;
mod rates;
mod trip;

use super::baseline::{BareRing, BareRings, CopyingOn, Partner};
use super::blocks::{Contender, Shape, interleave};
use super::options::Options;
use super::place::{Place, Placement};
use super::report::{Report, Row, mode_name};
use super::rig::Rig;
use super::stats::Series;
use super::wanted::{Of, Wanted};
use crate::failure::Failure;
use beside::Adding;
use once::{CancelAcknowledged, CancelTold, FirstItem, Small};
use rates::{BLOCK_BYTES, WINDOW, alternate, blocks, numbers};
use stokehold::{Error, Mode, Result};
use trip::RoundTrip;

pub fn run(options: &Options, report: &mut Report) -> std::result::Result<(), Failure> {
    for placement in [Placement::Two, Placement::Free] {
        let wait = options.wait.unwrap_or(Mode::Adaptive);
        if !options.wants(wait, placement) {
            continue;
        }
        let Some(place) = Place::take(placement)? else {
            report
                .skipped(&format!("stream {} {}", mode_name(wait), placement.name()), "needs two processors");
            continue;
        };
        let partner = Partner::new(place.partner())?; // before there are threads
        let rig = Rig::start(&place, wait, 1)?;
        let mut bench = Stream { options, report, wait, placement };
        bench.numbers(&rig, &partner)?;
        bench.blocks(&rig)?;
        bench.trips(&rig, &partner)?;
        bench.once(&rig)?;
        rig.stop()?;
    }
    let (wait, placement) =
        (options.wait.unwrap_or(Mode::Adaptive), options.placement.unwrap_or(Placement::Free));
    if let Some(place) = Place::take(placement)? {
        Stream { options, report, wait, placement }.beside(&place)?;
    }
    Ok(())
}

struct Stream<'a> {
    options: &'a Options,
    report: &'a mut Report,
    wait: Mode,
    placement: Placement,
}

impl Stream<'_> {
    /// Numbers, from an iterator to an iterator.
    fn numbers(&mut self, rig: &Rig, partner: &Partner) -> Result<()> {
        if !self.wants(NUMBERS) {
            return Ok(());
        }
        let (mut ring, mut spun) = (BareRing::new(partner), BareRing::spun(partner));
        let mut ours = || {
            rig.wake()?;
            let rate = numbers(&rig.client, NUMBERS_WARM).and_then(|_| numbers(&rig.client, NUMBERS_BLOCK));
            rig.rest().and(rate)
        };
        let mut theirs = || ring.block(RING_WARM).and_then(|_| ring.block(RING_BLOCK));
        let mut spinning = || spun.block(RING_WARM).and_then(|_| spun.block(RING_BLOCK));
        let rates = alternate(&mut [&mut ours, &mut theirs, &mut spinning], self.options.seconds)?;
        for (index, name) in [(1, "bare ring"), (2, "bare ring, both spin")] {
            self.report.add(Row {
                bytes: Some(size_of::<i64>() as u64),
                wanted: if index == 1 { vec![Wanted::AtLeast(Of::PerS, 5e6)] } else { Vec::new() },
                ..rates.row(index, name, self.row(NUMBERS))
            });
        }
        Ok(())
    }

    /// Blocks that the worker copies into leases, and of which we read every line in place.
    fn blocks(&mut self, rig: &Rig) -> Result<()> {
        if !self.wants(BLOCKS) {
            return Ok(());
        }
        let mut copying = CopyingOn::new(BLOCK_BYTES, WINDOW);
        let mut hot = CopyingOn::new(BLOCK_BYTES, 1);
        let mut ours = || {
            rig.wake()?;
            let rate = blocks(&rig.client, BLOCKS_WARM).and_then(|_| blocks(&rig.client, BLOCKS_BLOCK));
            rig.rest().and(rate)
        };
        let mut theirs = || {
            copying.block(BLOCKS_WARM);
            Ok(copying.block(BLOCKS_BLOCK))
        };
        let mut hottest = || {
            hot.block(BLOCKS_WARM);
            Ok(hot.block(BLOCKS_BLOCK))
        };
        let rates = alternate(&mut [&mut ours, &mut theirs, &mut hottest], self.options.seconds)?;
        for (index, name) in [(1, "memcpy into as many blocks"), (2, "memcpy into one block")] {
            let row = rates.row(index, name, self.row(BLOCKS));
            self.report.add(Row {
                bytes: Some(BLOCK_BYTES as u64),
                touch: true,
                value: row.per_s.map(|rate| rate * BLOCK_BYTES as f64 / 1e9),
                unit: "GB/s",
                wanted: if index == 1 { vec![Wanted::AtLeast(Of::Ratio, 0.8)] } else { Vec::new() },
                ..row
            });
        }
        Ok(())
    }

    /// An item through a context and back.
    fn trips(&mut self, rig: &Rig, partner: &Partner) -> Result<()> {
        if self.options.limits || !self.wants(TRIP) {
            return Ok(());
        }
        let (mut ours, mut small) = (RoundTrip::new(rig), Small(rig));
        let (mut rings, mut spun) = (BareRings::new(partner), BareRings::spun(partner));
        let names = [small.name(), rings.name(), spun.name()];
        let series = interleave(
            &mut [&mut ours, &mut small, &mut rings, &mut spun],
            Shape::SHORT,
            self.options.seconds,
        )?;
        for (theirs, name) in series[1..].iter().zip(names) {
            self.times(TRIP, &series[0], name, theirs, 1);
        }
        Ok(())
    }

    /// What happens once in a stream.
    fn once(&mut self, rig: &Rig) -> Result<()> {
        if self.options.limits || ![FIRST, TOLD, ACKNOWLEDGED].iter().any(|case| self.wants(case)) {
            return Ok(());
        }
        let (mut first, mut small) = (FirstItem(rig), Small(rig));
        let (mut told, mut acknowledged) = (CancelTold(rig), CancelAcknowledged(rig));
        let series = interleave(
            &mut [&mut small, &mut first, &mut told, &mut acknowledged],
            ONCE,
            self.options.seconds,
        )?;
        for (case, ours) in [FIRST, TOLD, ACKNOWLEDGED].into_iter().zip(&series[1..]) {
            self.times(case, ours, "a call", &series[0], 1);
        }
        Ok(())
    }

    /// A call of one client, while another's stream has stopped.
    fn beside(&mut self, place: &Place) -> Result<()> {
        if self.options.limits || !self.wants(BESIDE) {
            return Ok(());
        }
        let rig = Rig::start(place, self.wait, 2)?;
        let other = rig.pool.client()?;
        let series = {
            let (mut beside, mut alone) = (Adding::beside(&rig, &other), Adding::alone(&rig));
            interleave(&mut [&mut beside, &mut alone], Shape::SHORT, self.options.seconds)?
        };
        self.times(BESIDE, &series[0], "without it", &series[1], 2);
        drop(other);
        rig.stop()
    }

    fn times(&mut self, case: &str, ours: &Series, name: &str, theirs: &Series, clients: u64) {
        let row = Row { threads: Some(clients), ..self.row(case) };
        self.report.add(row.beside(ours, name, theirs));
    }

    fn row(&self, case: &str) -> Row {
        Row {
            bench: "stream",
            case: case.into(),
            wait: Some(self.wait),
            placement: Some(self.placement),
            threads: Some(1),
            ..Row::default()
        }
    }

    fn wants(&self, case: &str) -> bool {
        self.options.wants_case(case)
    }
}

fn expect(right: bool) -> Result<()> {
    if right { Ok(()) } else { Err(Error::bad_request("a stream has brought something else")) }
}

const NUMBERS: &str = "numbers";
const BLOCKS: &str = "blocks, read";
const TRIP: &str = "a context's round trip";
const FIRST: &str = "first item";
const TOLD: &str = "cancel, until the app knows";
const ACKNOWLEDGED: &str = "cancel, until acknowledged";
const BESIDE: &str = "a call beside a full stream";

/// A millisecond or two each, so that on a busy machine half of them at least run without being interrupted.
const NUMBERS_BLOCK: i64 = 10_000;
const NUMBERS_WARM: i64 = 1_000;
const RING_BLOCK: u64 = 50_000;
const RING_WARM: u64 = 5_000;
const BLOCKS_BLOCK: u64 = 300;
const BLOCKS_WARM: u64 = 150;
/// A cancel wakes somebody who sleeps.
const ONCE: Shape = Shape { warm_up: 5, trips: 200, longest_ns: 50_000_000 };
