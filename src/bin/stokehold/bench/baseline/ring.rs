//! A bare ring: words in shared memory from one process to another, in order, through as much memory as a stream
//! has. One store an item and one for the position, no lease, no encoding, no end.
//!
//! ```text
//! words     the bell, on which both sides sleep
//! region    twice: tail | head | how many items | 4,096 words
//! ```
//!
//! Two ways to wait: as a stream does (the producer looks after each item whether somebody sleeps, and sleeps when the ring
//! is full; the consumer spins for a moment, then sleeps, and rings for a quarter of the ring and for the last), and
//! spinning, without looking.

use super::partner::{FIRST_SLOT, Partner, REQUEST, STOP, Way};
use crate::bench::blocks::Contender;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use stokehold::internals::shm::Region;
use stokehold::internals::sys::map::SharedWords;
use stokehold::internals::sys::{clock, futex};
use stokehold::{Error, Result};

/// One ring, and its consumer.
#[derive(Debug)]
pub struct BareRing {
    partner: Partner,
    way: Way,
}

/// Two rings: what goes into one comes back through the other.
#[derive(Debug)]
pub struct BareRings<'p> {
    partner: &'p Partner,
    way: Way,
    there: End<'p>,
    back: End<'p>,
}

/// One side's end of one ring.
#[derive(Clone, Copy, Debug)]
struct End<'a> {
    bell: &'a AtomicU32,
    tail: &'a AtomicU64,
    head: &'a AtomicU64,
    items: &'a AtomicU64,
    data: &'a [AtomicU64],
    sleeps: bool,
    /// The next item.
    next: u64,
    /// How far the other side has come, as far as was seen.
    seen: u64,
}

impl BareRing {
    /// Waiting as a stream waits.
    pub fn new(partner: &Partner) -> BareRing {
        BareRing { partner: partner.clone(), way: Way::Ring }
    }

    /// Both sides spin.
    pub fn spun(partner: &Partner) -> BareRing {
        BareRing { partner: partner.clone(), way: Way::SpunRing }
    }

    /// Takes so many items, checks that they are in order, and says how many that were a second.
    pub fn block(&mut self, items: u64) -> Result<f64> {
        let mut end = End::of(&self.partner.words, &self.partner.region, self.way, 0);
        end.clear();
        end.items.store(items, Ordering::Relaxed);
        let start = clock::monotonic_ns();
        self.partner.open(self.way);
        let mut wrong = 0;
        for n in 0..items {
            wrong += u64::from(end.take() != n);
        }
        let took = clock::monotonic_ns() - start;
        self.partner.close();
        expect(wrong == 0)?;
        Ok(items as f64 * 1e9 / took.max(1) as f64)
    }
}

impl<'p> BareRings<'p> {
    /// Waiting as a stream waits.
    pub fn new(partner: &'p Partner) -> BareRings<'p> {
        BareRings::of(partner, Way::Rings)
    }

    /// Both sides spin.
    pub fn spun(partner: &'p Partner) -> BareRings<'p> {
        BareRings::of(partner, Way::SpunRings)
    }

    fn of(partner: &'p Partner, way: Way) -> BareRings<'p> {
        let end = |ring| End::of(&partner.words, &partner.region, way, ring);
        BareRings { partner, way, there: end(0), back: end(1) }
    }
}

impl Contender for BareRings<'_> {
    fn name(&self) -> &'static str {
        if self.way == Way::Rings { "two bare rings" } else { "two bare rings, both spin" }
    }

    fn begin(&mut self) -> Result<()> {
        self.there.clear();
        self.back.clear();
        self.partner.open(self.way);
        Ok(())
    }

    fn trip(&mut self) -> Result<()> {
        let n = self.there.next;
        self.there.put(n);
        expect(self.back.take() == n)
    }

    fn end(&mut self) -> Result<()> {
        self.there.put(LAST);
        self.partner.close();
        Ok(())
    }
}

fn expect(right: bool) -> Result<()> {
    if right { Ok(()) } else { Err(Error::bad_request("a bare ring has brought something else")) }
}

/// The other side: sends numbers, or what it gets.
pub(super) fn serve(words: &SharedWords, region: &Region, way: Way) {
    let mut first = End::of(words, region, way, 0);
    match way {
        Way::Ring | Way::SpunRing => {
            for n in 0..first.items.load(Ordering::Relaxed) {
                first.put(n);
            }
        }
        _ => {
            let mut second = End::of(words, region, way, 1);
            loop {
                match first.take() {
                    LAST => break,
                    n => second.put(n),
                }
            }
        }
    }
    // The block is over when the other side says so.
    while words.u32(REQUEST).load(Ordering::Acquire) != STOP {
        futex::wait(words.u32(REQUEST), 0, None);
    }
}

impl<'a> End<'a> {
    fn of(words: &'a SharedWords, region: &'a Region, way: Way, ring: usize) -> End<'a> {
        let start = START + ring * LEN;
        let word = |line: usize| &region.array::<AtomicU64>(start + LINE * line, 1)[0];
        End {
            bell: words.u32(FIRST_SLOT),
            tail: word(0),
            head: word(1),
            items: word(2),
            data: region.array(start + LINE * 3, WORDS),
            sleeps: matches!(way, Way::Ring | Way::Rings),
            next: 0,
            seen: 0,
        }
    }

    /// From the beginning, while the other side rests.
    fn clear(&mut self) {
        (self.next, self.seen) = (0, 0);
        self.tail.store(0, Ordering::Relaxed);
        self.head.store(0, Ordering::Relaxed);
    }

    /// Producer: one more item.
    #[inline]
    fn put(&mut self, item: u64) {
        while self.next - self.seen == WORDS as u64 {
            self.seen = self.head.load(Ordering::Acquire);
            if self.next - self.seen < WORDS as u64 {
                break;
            }
            match self.sleeps {
                true => self.park(|| self.head.load(Ordering::Acquire) == self.seen),
                false => std::hint::spin_loop(),
            }
        }
        self.data[self.next as usize % WORDS].store(item, Ordering::Relaxed);
        self.next += 1;
        self.tail.store(self.next, Ordering::Release);
        if self.sleeps {
            self.ring();
        }
    }

    /// Consumer: the next item, once it is there.
    #[inline]
    fn take(&mut self) -> u64 {
        if self.next == self.seen {
            self.seen = self.await_tail();
        }
        let item = self.data[self.next as usize % WORDS].load(Ordering::Relaxed);
        self.next += 1;
        self.head.store(self.next, Ordering::Release);
        if self.sleeps && (self.next == self.seen || self.next.is_multiple_of(WORDS as u64 / 4)) {
            self.ring();
        }
        item
    }

    fn await_tail(&self) -> u64 {
        for spins in 0_u64.. {
            let tail = self.tail.load(Ordering::Acquire);
            if tail != self.seen {
                return tail;
            }
            match self.sleeps && spins > SPINS {
                true => self.park(|| self.tail.load(Ordering::Acquire) == self.seen),
                false => std::hint::spin_loop(),
            }
        }
        self.seen
    }

    fn park(&self, waiting: impl Fn() -> bool) {
        let heard = self.bell.fetch_or(ASLEEP, Ordering::Acquire) | ASLEEP;
        fence(Ordering::SeqCst);
        if waiting() {
            futex::wait(self.bell, heard, None);
        }
    }

    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.bell.load(Ordering::Relaxed) & ASLEEP != 0 {
            self.bell.fetch_add(ASLEEP, Ordering::Release);
            futex::wake(self.bell, u32::MAX >> 1);
        }
    }
}

/// Behind the bytes of the call table.
const START: usize = 16 << 10;
const LINE: usize = 64;
/// As many as a stream has.
const WORDS: usize = 4096;
/// Bytes of a ring.
const LEN: usize = LINE * 3 + WORDS * 8;
/// No number comes so far.
const LAST: u64 = u64::MAX;
const ASLEEP: u32 = 1;
/// Some ten microseconds.
const SPINS: u64 = 1_000;
