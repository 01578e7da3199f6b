//! What one process does with memory of its own: read a byte of every line, fill, copy. Nothing can hand over bytes
//! and have them read for less. And the same with memory that it touches for the first time.

use crate::bench::blocks::Contender;
use crate::demo::touch_lines;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use stokehold::internals::shm::{Region, RegionKind};
use stokehold::internals::sys::clock;
use stokehold::{Error, Result};

/// Reads one byte of every line.
#[derive(Debug)]
pub struct Reading(Vec<u8>);

/// Fills.
#[derive(Debug)]
pub struct Filling(Vec<u8>);

/// Copies: what handing over would cost that does not lend.
#[derive(Debug)]
pub struct Copying {
    from: Vec<u8>,
    to: Vec<u8>,
}

/// Copies one block after the other, from one hot source into as many places as a stream has.
#[derive(Debug)]
pub struct CopyingOn {
    from: Vec<u8>,
    to: Vec<u8>,
    next: usize,
}

/// Maps memory that was written through another mapping, and reads one byte of every line.
#[derive(Debug)]
pub struct FirstReading {
    bytes: usize,
    region: Option<Region>,
    again: Option<Region>,
}

/// Makes memory that can be shared, and fills it.
#[derive(Debug)]
pub struct FirstFilling {
    bytes: usize,
    region: Option<Region>,
}

impl FirstReading {
    pub fn new(bytes: usize) -> FirstReading {
        FirstReading { bytes, region: None, again: None }
    }
}

impl FirstFilling {
    pub fn new(bytes: usize) -> FirstFilling {
        FirstFilling { bytes, region: None }
    }
}

impl Reading {
    pub fn new(bytes: usize) -> Reading {
        Reading(vec![7; bytes])
    }
}

impl Filling {
    pub fn new(bytes: usize) -> Filling {
        Filling(vec![7; bytes])
    }
}

impl Copying {
    pub fn new(bytes: usize) -> Copying {
        Copying { from: vec![7; bytes], to: vec![0; bytes] }
    }
}

impl CopyingOn {
    /// Blocks of so many bytes, in a ring of so many places.
    pub fn new(bytes: usize, places: usize) -> CopyingOn {
        CopyingOn { from: vec![7; bytes], to: vec![1; bytes * places], next: 0 }
    }

    /// Copies so many blocks; how many that were a second.
    pub fn block(&mut self, blocks: u64) -> f64 {
        let bytes = self.from.len();
        let start = clock::monotonic_ns();
        for _ in 0..blocks {
            let to = &mut self.to[self.next..self.next + bytes];
            black_box(to).copy_from_slice(black_box(&self.from));
            self.next = (self.next + bytes) % self.to.len();
        }
        blocks as f64 * 1e9 / (clock::monotonic_ns() - start).max(1) as f64
    }
}

impl Contender for Reading {
    fn name(&self) -> &'static str {
        "private read"
    }

    fn trip(&mut self) -> Result<()> {
        black_box(touch_lines(black_box(&self.0)));
        Ok(())
    }
}

impl Contender for FirstReading {
    fn name(&self) -> &'static str {
        "first read of a mapping"
    }

    fn begin(&mut self) -> Result<()> {
        self.region = Some(filled(self.bytes)?);
        Ok(())
    }

    fn trip(&mut self) -> Result<()> {
        let Some(region) = &self.region else { return Ok(()) };
        let fd = region
            .fd()
            .try_clone_to_owned()
            .map_err(|e| Error::os("dup", e.raw_os_error().unwrap_or_default()))?;
        let again = self.again.insert(Region::adopt(KIND, fd, region.len())?);
        let bytes = again.lend(OFFSET as u64, self.bytes as u64);
        let sum = touch_lines(bytes.ok_or_else(|| Error::bad_request("a region is too short"))?);
        if sum == 0 { Err(Error::bad_request("a mapping has other bytes")) } else { Ok(()) }
    }

    fn end(&mut self) -> Result<()> {
        (self.again, self.region) = (None, None);
        Ok(())
    }
}

impl Contender for FirstFilling {
    fn name(&self) -> &'static str {
        "first fill of a memory file"
    }

    fn trip(&mut self) -> Result<()> {
        self.region = Some(filled(self.bytes)?);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        self.region = None;
        Ok(())
    }
}

/// A region as this project makes them, of just this size, filled.
fn filled(bytes: usize) -> Result<Region> {
    let region = Region::create(KIND, OFFSET + bytes)?;
    for word in region.array::<AtomicU64>(OFFSET, bytes / size_of::<u64>()) {
        word.store(u64::from_ne_bytes([7; 8]), Ordering::Relaxed);
    }
    Ok(region)
}

impl Contender for Filling {
    fn name(&self) -> &'static str {
        "private fill"
    }

    fn trip(&mut self) -> Result<()> {
        black_box(&mut self.0[..]).fill(7);
        Ok(())
    }
}

impl Contender for Copying {
    fn name(&self) -> &'static str {
        "memcpy"
    }

    fn trip(&mut self) -> Result<()> {
        black_box(&mut self.to[..]).copy_from_slice(black_box(&self.from));
        Ok(())
    }
}

const KIND: RegionKind = RegionKind::Growth;
/// Beyond what such a region has at its beginning.
const OFFSET: usize = 64 << 10;
