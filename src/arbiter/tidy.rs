//! Memory that nobody uses comes back: regions that their writers retire, and who is told to let go of them.
//!
//! Pages of a region are free when the last process has unmapped it. Who has it mapped does not notice by himself that it
//! is gone, and a writer at rest does not notice that one of his own is idle. So the arbiter, which ticks anyway, says
//! so: to clients by a count in the registry, which they look at on each entry; to a worker by a message to its control
//! thread, since its app threads may be in a call for hours.

use super::core::Arbiter;
use crate::conn::{Message, Stream};
use crate::error::Result;
use crate::pool::Life;
use crate::shm::{Owner, RegionId};
use crate::wire::Kind;

impl Arbiter<'_> {
    /// The writer of a region takes it back. No answer: a region that is gone already is no surprise.
    pub(super) fn retire_region(
        &mut self,
        message: &Message,
        is_owner: impl FnOnce(&Self, Owner) -> bool,
    ) -> Result<Option<Message>> {
        let id = RegionId { index: message.int("index")?, serial: message.int("region_serial")? };
        match self.regions.growth_of(id) {
            Some(owner) if is_owner(self, owner) => self.regions.retire(&self.registry, id),
            _ => {
                log::debug!("region {} (registration {}) is not its sender's to retire", id.index, id.serial)
            }
        }
        Ok(None)
    }

    /// On a tick: asks everybody who may have something to let go of.
    pub(super) fn tidy(&mut self, now: u64) {
        let gone = self.regions.take_gone();
        let mut grown = Vec::new();
        if self.tidies.is_due(now, u64::from(self.settings.warm_ms) * 1_000_000 / LOOKS) {
            grown = self.regions.grown();
        }
        if !gone && grown.is_empty() {
            return;
        }
        self.registry.bump_tidy();
        // One that did not say HELLO yet has nothing mapped, and waits for the answer to that.
        let welcomed = self.workers.iter_mut().filter(|(_, worker)| worker.results.is_some());
        for (life, worker) in welcomed {
            if let Some(stream) = &mut worker.control
                && (gone || grown.contains(&Owner::Life(life.get())))
            {
                ask(*life, stream);
            }
        }
    }

    /// On a tick: sends what waits for another reason than a peer that does not read.
    pub(super) fn flush_waiting(&mut self) {
        let workers = self.workers.values_mut().flat_map(|worker| [&mut worker.control, &mut worker.fetch]);
        let clients = self.clients.values_mut().map(|client| &mut client.stream);
        for stream in
            workers.chain(clients).chain([&mut self.host]).flatten().filter(|stream| stream.is_waiting())
        {
            // What is wrong with a connection is found when it is read.
            let _ = stream.flush();
        }
    }
}

/// How often an idle region is looked at before it is retired.
const LOOKS: u64 = 8;

fn ask(life: Life, stream: &mut Stream) {
    // One that does not read has been asked.
    if stream.is_waiting() {
        return;
    }
    if let Err(error) = stream.queue(Message::new(Kind::Tidy)).and_then(|()| stream.flush()) {
        log::debug!("the worker of life {life} was not asked to tidy: {error}");
    }
}
