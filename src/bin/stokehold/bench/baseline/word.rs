//! A word in shared memory, handed to another process and back: by futex, by giving the processor away, by
//! spinning. The least that any call between two processes can cost.

use super::partner::{Partner, REQUEST, RESPONSE, STOP, Way};
use crate::bench::blocks::Contender;
use std::sync::atomic::{AtomicU32, Ordering};
use stokehold::Result;
use stokehold::internals::sys::map::SharedWords;
use stokehold::internals::sys::{cpu, futex};

/// Wake the other, sleep until woken: four system calls a round trip.
#[derive(Debug)]
pub struct ByFutex(Hand);

/// Give the processor away until the answer is there.
#[derive(Debug)]
pub struct ByYield(Hand);

/// Look until the answer is there.
#[derive(Debug)]
pub struct BySpin(Hand);

#[derive(Debug)]
struct Hand {
    partner: Partner,
    count: u32,
}

impl Hand {
    fn new(partner: &Partner) -> Hand {
        Hand { partner: partner.clone(), count: 0 }
    }

    fn begin(&mut self, way: Way) -> Result<()> {
        self.count = 0;
        self.partner.open(way);
        Ok(())
    }

    #[inline]
    fn trip<H: HandOver>(&mut self) -> Result<()> {
        self.count += 1;
        let words = &*self.partner.words;
        H::send(words.u32(REQUEST), self.count);
        H::until(words.u32(RESPONSE), |answer| answer == self.count);
        Ok(())
    }
}

macro_rules! contender {
    ($type:ident, $name:literal, $way:expr, $hand_over:ty) => {
        impl $type {
            pub fn new(partner: &Partner) -> $type {
                $type(Hand::new(partner))
            }
        }

        impl Contender for $type {
            fn name(&self) -> &'static str {
                $name
            }
            fn begin(&mut self) -> Result<()> {
                self.0.begin($way)
            }
            fn trip(&mut self) -> Result<()> {
                self.0.trip::<$hand_over>()
            }
            fn end(&mut self) -> Result<()> {
                self.0.partner.close();
                Ok(())
            }
        }
    };
}

contender!(ByFutex, "raw futex", Way::Futex, Sleeping);
contender!(ByYield, "raw yield", Way::Yield, Yielding);
contender!(BySpin, "raw spin", Way::Spin, Spinning);

/// The partner's side.
pub(super) fn serve(words: &SharedWords, way: u32) {
    if way == Way::Futex as u32 {
        answer::<Sleeping>(words);
    } else if way == Way::Yield as u32 {
        answer::<Yielding>(words);
    } else {
        answer::<Spinning>(words);
    }
}

fn answer<H: HandOver>(words: &SharedWords) {
    let mut last = 0;
    loop {
        last = H::until(words.u32(REQUEST), |request| request != last);
        if last == STOP {
            return;
        }
        H::send(words.u32(RESPONSE), last);
    }
}

trait HandOver {
    fn send(word: &AtomicU32, value: u32);
    fn until(word: &AtomicU32, there: impl Fn(u32) -> bool) -> u32;
}

struct Sleeping;
struct Yielding;
struct Spinning;

impl HandOver for Sleeping {
    #[inline]
    fn send(word: &AtomicU32, value: u32) {
        word.store(value, Ordering::Release);
        futex::wake(word, 1);
    }

    #[inline]
    fn until(word: &AtomicU32, there: impl Fn(u32) -> bool) -> u32 {
        loop {
            let value = word.load(Ordering::Acquire);
            if there(value) {
                return value;
            }
            futex::wait(word, value, None);
        }
    }
}

impl HandOver for Yielding {
    #[inline]
    fn send(word: &AtomicU32, value: u32) {
        word.store(value, Ordering::Release);
    }

    #[inline]
    fn until(word: &AtomicU32, there: impl Fn(u32) -> bool) -> u32 {
        loop {
            let value = word.load(Ordering::Acquire);
            if there(value) {
                return value;
            }
            cpu::yield_now();
        }
    }
}

impl HandOver for Spinning {
    #[inline]
    fn send(word: &AtomicU32, value: u32) {
        word.store(value, Ordering::Release);
    }

    #[inline]
    fn until(word: &AtomicU32, there: impl Fn(u32) -> bool) -> u32 {
        loop {
            let value = word.load(Ordering::Acquire);
            if there(value) {
                return value;
            }
            std::hint::spin_loop();
        }
    }
}
