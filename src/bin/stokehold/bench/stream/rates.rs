//! Streams that are read as fast as they come.

use super::expect;
use crate::bench::report::Row;
use crate::bench::stats::median;
use crate::demo::{Demo, number_of, touch_lines};
use stokehold::internals::sys::clock;
use stokehold::{App, Client, Result};

/// Bytes of a large item.
pub const BLOCK_BYTES: usize = 64 << 10;
/// How many of them may be on their way by default: 8 MiB.
pub const WINDOW: usize = 128;

/// The rates of contenders that took turns: ours first.
pub struct Rates(Vec<Vec<f64>>);

/// Lets them take turns until the time is over, each three times at least.
pub fn alternate(contenders: &mut [&mut dyn FnMut() -> Result<f64>], seconds: f64) -> Result<Rates> {
    let mut rates = vec![Vec::new(); contenders.len()];
    let start = clock::monotonic_ns();
    let is_over = |rounds| rounds >= 3 && (clock::monotonic_ns() - start) as f64 / 1e9 >= seconds;
    let mut rounds = 0;
    while !is_over(rounds) {
        for turn in 0..contenders.len() {
            let index = (turn + rounds) % contenders.len();
            rates[index].push(contenders[index]()?);
        }
        rounds += 1;
    }
    Ok(Rates(rates))
}

impl Rates {
    /// Ours beside this contender's.
    pub fn row(&self, index: usize, name: &str, row: Row) -> Row {
        let (ours, theirs) = (&self.0[0], &self.0[index]);
        Row {
            per_s: median(ours.clone()),
            baseline: Some(name.into()),
            baseline_per_s: median(theirs.clone()),
            ratio: median(ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()),
            ..row
        }
    }
}

/// So many numbers, from the worker's iterator to ours; how many that were a second.
pub fn numbers(client: &Client, count: i64) -> Result<f64> {
    let start = clock::monotonic_ns();
    let mut next = 0;
    for item in client.call(Demo::NAME, "count").args((count,)).stream()? {
        expect(item?.parse::<i64>()? == next)?;
        next += 1;
    }
    let took = clock::monotonic_ns() - start;
    expect(next == count)?;
    Ok(count as f64 * 1e9 / took.max(1) as f64)
}

/// So many blocks, each copied into a lease there and read here line by line; how many that were a second.
pub fn blocks(client: &Client, count: u64) -> Result<f64> {
    let start = clock::monotonic_ns();
    let mut next = 0;
    for item in client.call(Demo::NAME, "blocks").args((count, BLOCK_BYTES)).stream()? {
        let item = item?;
        let block = item.as_bytes()?;
        // The first line begins with the number.
        let sum = 7 * (BLOCK_BYTES as i64 / 64 - 1) + (next & 0xff) as i64;
        expect(number_of(block) == Some(next) && touch_lines(block) == sum)?;
        next += 1;
    }
    let took = clock::monotonic_ns() - start;
    expect(next == count)?;
    Ok(count as f64 * 1e9 / took.max(1) as f64)
}
