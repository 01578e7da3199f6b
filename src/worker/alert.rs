//! Waking clients that wait in an event loop of their own.

use super::lanes::Lane;
use super::runtime::{Fetcher, Worker};
use crate::conn::Message;
use crate::error::Result;
use crate::primitive::{AtomicUsize, Ordering};
use crate::sys::event::Event;
use crate::wire::Kind;
use std::sync::Arc;

/// How many event descriptors this worker keeps.
#[derive(Debug, Default)]
pub struct Events(Arc<AtomicUsize>);

/// One of them; counted until it is dropped.
#[derive(Debug)]
pub struct KeptEvent {
    event: Event,
    count: Arc<AtomicUsize>,
}

/// Descriptors are few: the clients that come later are woken through the arbiter, which has all of them.
const MOST_KEPT: usize = 64;

impl Events {
    fn keep(&self, event: Event) -> KeptEvent {
        self.0.fetch_add(1, Ordering::Relaxed);
        KeptEvent { event, count: self.0.clone() }
    }

    fn has_room(&self) -> bool {
        self.0.load(Ordering::Relaxed) < MOST_KEPT
    }
}

impl Drop for KeptEvent {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Worker {
    /// Writes to the descriptor at which the client of this lane waits.
    #[cold]
    pub(super) fn alert(&self, lane: &Lane) {
        crash_point!("armed.taken");
        if let Some(kept) = lane.event.get() {
            return kept.event.signal();
        }
        if self.events.has_room()
            && let Ok(event) = self.fetcher.event(lane)
        {
            event.signal();
            let _ = lane.event.set(self.events.keep(event)); // another thread may have been first
            return;
        }
        let notice =
            Message::new(Kind::Alert).with("lane", lane.index as i64).with("serial", lane.serial as i64);
        let sent = self.fetcher.lock().send(notice); // not locked while it is logged
        if let Err(error) = sent {
            log::debug!("a client is woken by the next tick only: {error}");
        }
    }
}

impl Fetcher {
    fn event(&self, lane: &Lane) -> Result<Event> {
        let question = Message::new(Kind::Fetch)
            .with("event", true)
            .with("lane", lane.index as i64)
            .with("serial", lane.serial as i64);
        let mut answer = self.ask(question, Kind::Fetched)?;
        let [fd] = answer.take_fds()?;
        Ok(Event::adopt(fd))
    }
}
