//! What one process does with private memory of its own: read a byte of every line, fill, copy. Nothing can hand
//! over bytes and have them read for less.

use crate::bench::blocks::Contender;
use crate::demo::touch_lines;
use std::hint::black_box;
use stokehold::Result;

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
