//! What one process does with memory of its own: read a byte of every line, fill, copy. Nothing can hand over bytes
//! and have them read for less. And the same with memory that it touches for the first time.

use crate::bench::blocks::Contender;
use crate::demo::touch_lines;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use stokehold::internals::shm::{Region, RegionKind};
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
