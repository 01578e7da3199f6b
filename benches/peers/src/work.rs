//! The work that everybody does, with the same functions: bytes go to a server, 64 bytes come back.

use stokehold::{Error, Result};

/// What comes back.
pub type Answer = [u8; 64];

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Op {
    /// The first 64 of the bytes.
    Echo = 0,
    /// How many bytes there are; none is read.
    Len = 1,
    /// The sum of one byte of every line.
    Read = 2,
}

/// A trip as a client makes it.
#[derive(Clone, Copy, Debug)]
pub struct Trip {
    pub op: Op,
    pub bytes: usize,
    /// Whether the client writes all bytes before.
    pub write: bool,
}

impl Op {
    pub fn of(number: u64) -> Op {
        match number {
            1 => Op::Len,
            2 => Op::Read,
            _ => Op::Echo,
        }
    }

    /// The server's side.
    pub fn answer(self, bytes: &[u8]) -> Answer {
        let mut answer = [0; 64];
        match self {
            Op::Echo => answer.copy_from_slice(&bytes[..64]),
            Op::Len => answer[..8].copy_from_slice(&(bytes.len() as u64).to_ne_bytes()),
            Op::Read => answer[..8].copy_from_slice(&sum_of_lines(bytes).to_ne_bytes()),
        }
        answer
    }
}

impl Trip {
    /// What the client gets if all is well; its bytes are all [`FILL`].
    pub fn check(self, answer: &Answer) -> Result<()> {
        let number = |number: usize| {
            let mut right = [0; 64];
            right[..8].copy_from_slice(&(number as u64).to_ne_bytes());
            right
        };
        let right = match self.op {
            Op::Echo => [FILL; 64],
            Op::Len => number(self.bytes),
            Op::Read => number(self.bytes.div_ceil(LINE) * usize::from(FILL)),
        };
        if *answer == right { Ok(()) } else { Err(Error::bad_request("an answer is wrong")) }
    }
}

#[inline(never)]
fn sum_of_lines(bytes: &[u8]) -> u64 {
    bytes.iter().step_by(LINE).fold(0, |sum, &byte| sum + u64::from(byte))
}

/// An error of a peer's, as one that can be reported.
pub fn theirs(error: impl std::fmt::Debug) -> Error {
    Error::bad_request(format!("a peer: {error:?}"))
}

pub const FILL: u8 = 7;
const LINE: usize = 64;
