//! An item to the app and back, through a context that stays open for a block.

use super::expect;
use crate::bench::blocks::Contender;
use crate::bench::rig::Rig;
use crate::demo::Demo;
use stokehold::{App, Context, Error, Result};

/// Numbers, sent back by the app as they came.
pub struct RoundTrip<'r> {
    rig: &'r Rig,
    context: Option<Context>,
    next: i64,
}

impl<'r> RoundTrip<'r> {
    pub fn new(rig: &'r Rig) -> RoundTrip<'r> {
        RoundTrip { rig, context: None, next: 0 }
    }

    fn context(&mut self) -> Result<&mut Context> {
        self.context.as_mut().ok_or_else(|| Error::bad_request("no context is open"))
    }
}

impl Contender for RoundTrip<'_> {
    fn name(&self) -> &'static str {
        "a context's round trip"
    }

    fn begin(&mut self) -> Result<()> {
        self.rig.wake()?;
        self.next = 0;
        self.context = Some(self.rig.client.call(Demo::NAME, "echo_context").context()?);
        Ok(())
    }

    fn trip(&mut self) -> Result<()> {
        let next = self.next;
        self.next += 1;
        let context = self.context()?;
        context.send(next)?;
        let item = context.next().transpose()?;
        expect(item.is_some_and(|item| item.parse::<i64>().is_ok_and(|back| back == next)))
    }

    fn end(&mut self) -> Result<()> {
        let sent = self.next;
        let context = self.context.take().ok_or_else(|| Error::bad_request("no context is open"))?;
        let echoed: i64 = context.wait()?.parse()?;
        expect(echoed == sent)?;
        self.rig.rest()
    }
}
