//! Actions of a worker that changes what it lent, while others look at it.
//!
//! What is to be read is made of two letters, eight of one in a row: whoever turns one into the other changes nothing but
//! that, so that every moment's picture of it has its length and only these letters.

use crate::app::{Faults, Random, range};
use crate::hostile::{read, swap, write};
use crate::proc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{process, thread};
use stokehold::{App, Args, Ctx, Reply, Result};

/// What the letters are.
pub const LETTERS: [u8; 2] = *b"ab";

const A: u64 = u64::from_ne_bytes([LETTERS[0]; 8]);
const B: u64 = u64::from_ne_bytes([LETTERS[1]; 8]);

static FLIPS: AtomicBool = AtomicBool::new(false);

pub fn call(action: &str, args: Args<'_>, ctx: &Ctx) -> Option<Result<Reply>> {
    Some(match action {
        "flip" => args.parse().and_then(|(seed, ms, what, place)| flip(seed, ms, what, place)),
        // Letters inline or in a block, or lent, or as items, or as what went wrong.
        "letters" => args.parse().map(|(len,): (usize,)| Reply::from(&letters(len)[..])),
        "lent_letters" => args.parse().and_then(|(len,): (usize,)| Ok(ctx.lease_from(&letters(len))?.into())),
        "items_of_letters" => args.parse().map(|(n, len): (usize, usize)| {
            Reply::stream((0..n).map(move |at| letters(if at % 3 == 2 { 10 * len } else { len })))
        }),
        "no_letters" => args.parse().and_then(|(len,): (usize,)| {
            Err(ctx.error("Fire", std::str::from_utf8(&letters(len)).unwrap_or_default()))
        }),
        // Whether letters stay as they are while an app looks.
        "look_twice" => args.parse().map(|(bytes, others): (&[u8], &[u8])| {
            let first = (bytes.to_vec(), others.to_vec());
            thread::sleep(Duration::from_millis(1));
            let are_same = (bytes, others) == (&first.0[..], &first.1[..]);
            Reply::from((are_same, are_letters(bytes) && are_letters(others)))
        }),
        // Has another worker look at letters that change meanwhile, or lie otherwise than it was told. How often it answered,
        // and how often well.
        "have_looked" => args.parse().and_then(|(seed, what): (u64, &str)| {
            flip(seed, 1_000, what, "requests growth")?;
            let (mut sent, mut answered, mut well) = (0, 0, 0);
            while FLIPS.load(Ordering::Relaxed) {
                let (small, large) = (letters(160), letters(4096 + 8 * (sent as usize % 7)));
                let call = ctx.call(Faults::NAME, "look_twice").args((&small[..], &large[..]));
                sent += 1;
                let Ok(answer) = call.deadline_ms(2_000).execute() else { continue };
                answered += 1;
                well += i64::from(answer.parse::<(bool, bool)>().ok() == Some((true, true)));
            }
            Ok(Reply::from((sent, answered, well)))
        }),
        _ => return None,
    })
}

fn letters(len: usize) -> Vec<u8> {
    vec![LETTERS[0]; len]
}

/// Whether nothing but letters is there.
pub fn are_letters(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| LETTERS.contains(byte))
}

/// From now on, for so long: letters, or what says how things lie, change in this worker's own memory of this kind.
fn flip(seed: u64, ms: u64, what: &str, place: &str) -> Result<Reply> {
    let shape = what == "shape";
    let places: Vec<String> = place.split(' ').map(str::to_owned).collect();
    FLIPS.store(true, Ordering::Relaxed);
    thread::Builder::new().name("flips".into()).spawn(move || {
        let end = Instant::now() + Duration::from_millis(ms);
        let mut random = Random(seed);
        while Instant::now() < end {
            let maps = proc::mappings(process::id());
            let mine =
                maps.iter().filter(|l| l.contains(" rw-s ") && places.iter().any(|p| l.contains(&**p)));
            let ranges: Vec<_> = mine.filter_map(|line| range(line)).collect();
            for _ in 0..20 {
                for (from, to) in &ranges {
                    // Behind what the arbiter would take for this worker's death, and what others watch it by.
                    let words = (from + 512..*to).step_by(8).filter(|at| at - from < 1 << 20);
                    if shape { misshape(&mut random, words) } else { words.for_each(turn) }
                }
            }
        }
        FLIPS.store(false, Ordering::Relaxed);
    })?;
    Ok(Reply::from(()))
}

fn turn(at: usize) {
    // In one step: what is not a letter any more belongs to somebody else.
    if !swap(at, A, B) && read(at) == B {
        swap(at, B, A);
    }
}

/// Changes one of the words that are something for a moment.
fn misshape(random: &mut Random, words: impl Iterator<Item = usize>) {
    let used: Vec<usize> = words.filter(|at| !matches!(read(*at), 0 | A | B)).collect();
    for _ in 0..used.len().min(64) {
        let at = used[random.below(used.len() as u64) as usize];
        let was = read(at);
        write(
            at,
            match random.below(5) {
                0 => random.next(),
                1 => was ^ 1 << random.below(64),
                2 => was.wrapping_add(random.below(17)).wrapping_sub(8),
                3 => was.rotate_left(8 * random.below(8) as u32),
                _ => read(used[random.below(used.len() as u64) as usize]),
            },
        );
        for _ in 0..random.below(300) {
            std::hint::spin_loop();
        }
        write(at, was);
    }
}
