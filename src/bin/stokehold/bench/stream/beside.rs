//! A call of one client beside another client's stream that is full, because nobody takes its items.

use super::expect;
use crate::bench::blocks::Contender;
use crate::bench::rig::Rig;
use crate::demo::Demo;
use std::time::Duration;
use stokehold::internals::sys::clock;
use stokehold::{App, Client, Response, Result, Stream};

/// Calls, with a full stream beside them or without.
pub struct Adding<'r> {
    rig: &'r Rig,
    other: Option<&'r Client>,
    /// The stream, and the one item of it that was taken.
    full: Option<(Stream, Response)>,
}

impl<'r> Adding<'r> {
    /// Beside a stream of `other`.
    pub fn beside(rig: &'r Rig, other: &'r Client) -> Adding<'r> {
        Adding { rig, other: Some(other), full: None }
    }

    pub fn alone(rig: &'r Rig) -> Adding<'r> {
        Adding { rig, other: None, full: None }
    }
}

impl Contender for Adding<'_> {
    fn name(&self) -> &'static str {
        "add"
    }

    fn begin(&mut self) -> Result<()> {
        let Some(other) = self.other else { return Ok(()) };
        let mut stream = other.call(Demo::NAME, "count").args((i64::MAX,)).stream()?;
        let first = stream.next().transpose()?;
        expect(first.is_some())?;
        clock::sleep(FULL);
        self.full = first.map(|first| (stream, first));
        Ok(())
    }

    fn trip(&mut self) -> Result<()> {
        let sum: i64 = self.rig.client.call(Demo::NAME, "add").args((2, 3)).execute()?.parse()?;
        expect(sum == 5)
    }

    fn end(&mut self) -> Result<()> {
        let Some((mut stream, first)) = self.full.take() else { return Ok(()) };
        drop(first);
        // It was really full, and went on waiting.
        let items = stream.by_ref().take(LEAST_FULL).collect::<Result<Vec<_>>>()?;
        expect(items.len() == LEAST_FULL)
    }
}

/// It is full long before.
const FULL: Duration = Duration::from_millis(5);
/// Items that must be there.
const LEAST_FULL: usize = 500;
