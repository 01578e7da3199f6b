//! What a stream costs besides its items: until the first is there, and until a cancel has arrived.

use super::expect;
use crate::bench::blocks::{Contender, Shape};
use crate::bench::rig::Rig;
use crate::demo::Demo;
use std::time::Duration;
use stokehold::internals::sys::clock;
use stokehold::{App, Result};

/// A call, for comparison.
pub struct Small<'r>(pub &'r Rig);

/// From the call until its first item is there.
pub struct FirstItem<'r>(pub &'r Rig);

/// From the cancel until the app, which sleeps, knows of it.
pub struct CancelTold<'r>(pub &'r Rig);

/// From the cancel until the worker has let go of the call.
pub struct CancelAcknowledged<'r>(pub &'r Rig);

impl Contender for Small<'_> {
    fn name(&self) -> &'static str {
        "a call"
    }

    fn begin(&mut self) -> Result<()> {
        self.0.wake()
    }

    fn end(&mut self) -> Result<()> {
        self.0.rest()
    }

    fn trip(&mut self) -> Result<()> {
        let sum: i64 = self.0.client.call(Demo::NAME, "add").args((2, 3)).execute()?.parse()?;
        expect(sum == 5)
    }
}

/// Something of which only a part is timed.
trait Timed {
    /// Does it, and says how many nanoseconds the part took.
    fn time(&mut self) -> Result<u64>;

    fn timed_block(&mut self, shape: Shape, samples: &mut Vec<u32>) -> Result<()> {
        let start = clock::monotonic_ns();
        for trip in 0..shape.warm_up + shape.trips {
            let took = self.time()?;
            if trip >= shape.warm_up {
                samples.push(u32::try_from(took).unwrap_or(u32::MAX));
                if clock::monotonic_ns() - start > shape.longest_ns {
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Timed for FirstItem<'_> {
    fn time(&mut self) -> Result<u64> {
        let start = clock::monotonic_ns();
        let mut stream = self.0.client.call(Demo::NAME, "count").args((1,)).stream()?;
        let first = stream.next().transpose()?;
        let took = clock::monotonic_ns() - start;
        expect(
            first.is_some_and(|item| item.parse::<i64>().is_ok_and(|n| n == 0)) && stream.next().is_none(),
        )?;
        Ok(took)
    }
}

impl Timed for CancelTold<'_> {
    fn time(&mut self) -> Result<u64> {
        let client = &self.0.client;
        let mut stream = client.call(Demo::NAME, "until_cancelled").stream()?;
        expect(stream.next().transpose()?.is_some())?;
        clock::sleep(ASLEEP);
        let start = clock::monotonic_ns();
        stream.cancel();
        let told: u64 = client.call(Demo::NAME, "told_ns").execute()?.parse()?;
        expect(told > start)?;
        Ok(told - start)
    }
}

impl Timed for CancelAcknowledged<'_> {
    fn time(&mut self) -> Result<u64> {
        let mut stream = self.0.client.call(Demo::NAME, "until_cancelled").stream()?;
        expect(stream.next().transpose()?.is_some())?;
        clock::sleep(ASLEEP);
        let canceller = stream.canceller();
        let start = clock::monotonic_ns();
        expect(canceller.cancel_and_wait(Duration::from_secs(10)))?;
        Ok(clock::monotonic_ns() - start)
    }
}

macro_rules! contenders {
    ($($of:ident $name:literal),*) => {$(
        impl Contender for $of<'_> {
            fn name(&self) -> &'static str {
                $name
            }

            fn trip(&mut self) -> Result<()> {
                self.time().map(drop)
            }

            fn block(&mut self, shape: Shape, samples: &mut Vec<u32>) -> Result<()> {
                self.0.wake()?;
                let timed = self.timed_block(shape, samples);
                self.0.rest().and(timed)
            }
        }
    )*};
}

contenders!(FirstItem "first item", CancelTold "cancel, told", CancelAcknowledged "cancel, acknowledged");

/// Until the app sleeps.
const ASLEEP: Duration = Duration::from_micros(200);
