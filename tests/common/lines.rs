//! The words of this process's own lane, to be read and written behind the library's back.

use crate::proc;
use std::process;
use std::ptr::without_provenance_mut;
use stokehold::internals::ring::Word;

/// The place of a call's result in its line, as a number of words.
#[allow(dead_code)] // each of its users has its own needs
pub const RESULT: usize = 1;
/// When its app last said that it is at work.
#[allow(dead_code)]
pub const ALIVE: usize = 4;

/// The lines of this process's first lane, by call.
pub struct Lines(usize);

impl Lines {
    pub fn of_the_first_lane() -> Lines {
        let maps = proc::mappings(process::id());
        let first = maps.iter().rfind(|line| line.contains("control")).expect("a client maps its lane");
        Lines(usize::from_str_radix(first.split('-').next().unwrap(), 16).unwrap() + 4096)
    }

    /// The call's word is the first of its line.
    pub fn read(&self, call: usize, at: usize) -> u64 {
        // SAFETY: an aligned word of a mapping that this process has.
        unsafe { without_provenance_mut::<u64>(self.0 + call * 64 + at * 8).read_volatile() }
    }

    pub fn write(&self, call: usize, at: usize, word: u64) {
        // SAFETY: as above.
        unsafe { without_provenance_mut::<u64>(self.0 + call * 64 + at * 8).write_volatile(word) };
    }

    pub fn word(&self, call: usize) -> Word {
        Word::check(self.read(call, 0)).unwrap()
    }
}
