//! Interleaving: contenders take turns in short blocks, so that whatever else the machine does meets all of them.

use super::stats::Series;
use stokehold::Result;
use stokehold::internals::sys::clock;

/// Something whose round trips are timed.
pub trait Contender {
    /// Its name in a report.
    fn name(&self) -> &'static str;

    /// Before a block: wake whoever is at the other end.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// One round trip.
    fn trip(&mut self) -> Result<()>;

    /// After a block: the other end is to rest, so that it takes no time from whose turn is next.
    fn end(&mut self) -> Result<()> {
        Ok(())
    }

    /// A block of trips, a nanosecond count for each. Here, so that the loop is compiled for each contender.
    fn block(&mut self, shape: Shape, samples: &mut Vec<u32>) -> Result<()> {
        self.begin()?;
        let start = clock::monotonic_ns();
        for _ in 0..shape.warm_up {
            self.trip()?;
            if clock::monotonic_ns() - start > shape.longest_ns {
                break;
            }
        }
        let start = clock::monotonic_ns();
        let mut last = start;
        for _ in 0..shape.trips {
            self.trip()?;
            let now = clock::monotonic_ns(); // one reading a trip, in every contender's
            samples.push(u32::try_from(now - last).unwrap_or(u32::MAX));
            last = now;
            if now - start > shape.longest_ns {
                break;
            }
        }
        self.end()
    }
}

/// What a block is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Trips before the first that is timed, at most.
    pub warm_up: usize,
    /// Trips that are timed, at most.
    pub trips: usize,
    /// No trip of either kind begins after this time.
    pub longest_ns: u64,
}

impl Shape {
    /// For round trips of microseconds.
    pub const SHORT: Shape = Shape { warm_up: 50, trips: 2_000, longest_ns: 100_000_000 };
    /// For round trips of up to tens of milliseconds.
    pub const LONG: Shape = Shape { warm_up: 20, trips: 500, longest_ns: 50_000_000 };
    /// For what can be done once: [`Contender::begin`] makes everything anew.
    pub const ONCE: Shape = Shape { warm_up: 0, trips: 1, longest_ns: 0 };
}

/// Lets the contenders take turns until `seconds` have passed and each had three at least. The order turns round
/// from one round to the next.
pub fn interleave(contenders: &mut [&mut dyn Contender], shape: Shape, seconds: f64) -> Result<Vec<Series>> {
    let mut series = vec![Series::default(); contenders.len()];
    let mut samples = Vec::with_capacity(shape.trips);
    let start = clock::monotonic_ns();
    let mut rounds = 0;
    while rounds < LEAST_ROUNDS || (clock::monotonic_ns() - start) as f64 / 1e9 < seconds {
        for turn in 0..contenders.len() {
            let index = (turn + rounds) % contenders.len();
            contenders[index].block(shape, &mut samples)?;
            series[index].add(&mut samples);
        }
        rounds += 1;
    }
    Ok(series)
}

const LEAST_ROUNDS: usize = 3;
