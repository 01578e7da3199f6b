//! What a worker must not do with the ring of its own stream, and does: it writes what no producer writes.

use crate::{app, proc};
use std::process;

/// All there is.
pub const WAYS: &[&str] =
    &["far", "back", "zero", "long", "short", "kind", "start", "body", "region", "offset"];

const START: u64 = 0_u64.wrapping_sub(10_000);
const WORDS: u64 = 4096;
const TAIL: usize = 64;
/// What the producer has taken of the other direction.
const TAKEN: usize = 128 + 8;
const DATA: usize = 192;
const IN_A_BLOCK: u64 = 1 << 63;
/// In the first word of a frame's header, and what only the first item of a context is.
const KIND: u64 = 0xff << 24;
const STARTED: u64 = 0x53 << 24;

/// Sends one more message of this kind through the ring of this worker's only stream, whose last one lay in a block.
pub fn forge(how: &str) {
    let block = Block(find().expect("a worker with a stream has its ring mapped"));
    let tail = block.read(TAIL);
    let last: Vec<u64> = (1..=4).rev().map(|back| block.read(place(tail.wrapping_sub(back)))).collect();
    assert!(last[0] & IN_A_BLOCK != 0, "not where it was looked for: {last:x?}");
    let message = match how {
        "far" => return block.write(TAIL, tail.wrapping_add(1 << 40)),
        "back" => return block.write(TAIL, tail.wrapping_sub(1)),
        "zero" => vec![0],
        "long" => vec![0xffff, 0, 0, 0],
        "short" => vec![1],
        "kind" => vec![8 << 32 | 4, u64::MAX, u64::MAX, 0],
        "start" => vec![last[0], last[1] & !KIND | STARTED, last[2], last[3]],
        "body" => vec![8 << 32 | 4, last[1], last[2], u64::MAX],
        "region" => vec![last[0] | 0xffff << 16, last[1], last[2], last[3]],
        "offset" => vec![last[0], last[1], last[2], u64::MAX - 63],
        other => panic!("no way to forge {other}"),
    };
    for (at, word) in message.iter().enumerate() {
        block.write(place(tail.wrapping_add(at as u64)), *word);
    }
    block.write(TAIL, tail.wrapping_add(message.len() as u64));
}

/// Says that more was taken of the other direction of this worker's only stream than can have been sent.
pub fn take_too_much() {
    let block = Block(find().expect("a worker with a stream has its ring mapped"));
    block.write(TAKEN, block.read(TAKEN).wrapping_add(1 << 40));
}

fn place(position: u64) -> usize {
    DATA + (position % WORDS) as usize * 8
}

/// Where a stream's block is in this process.
struct Block(usize);

impl Block {
    fn read(&self, offset: usize) -> u64 {
        // SAFETY: inside a mapping of this process, as `find` found it.
        unsafe { std::ptr::without_provenance::<u64>(self.0 + offset).read_volatile() }
    }

    fn write(&self, offset: usize, word: u64) {
        // SAFETY: none, as with `scribble`: nothing but the kernel stops a worker from writing there.
        unsafe { std::ptr::without_provenance_mut::<u64>(self.0 + offset).write_volatile(word) };
    }
}

/// A block says how many words its ring has, and has sent something.
fn find() -> Option<usize> {
    let maps = proc::mappings(process::id());
    let ours = maps.iter().filter(|line| line.contains(" rw-s ")).filter_map(|line| app::range(line));
    let len = DATA + WORDS as usize * 8;
    let mut places = ours.flat_map(|(from, to)| (from..to.saturating_sub(len)).step_by(64));
    places.find(|at| {
        let block = Block(*at);
        block.read(16) == WORDS && (4..WORDS).contains(&block.read(TAIL).wrapping_sub(START))
    })
}
