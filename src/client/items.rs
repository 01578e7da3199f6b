//! What a call's two sides send each other beside its arguments and its result.

use super::ended::Ended;
use super::gathered::Gathered;
use super::incoming::{Arrival, Incoming, Trouble};
use super::submission::Submission;
use crate::limits::STREAM_RING;
use crate::ring::{CallLine, Word};
use crate::shm::StreamBlock;
use std::sync::Arc;

/// The items of one call. Most calls have none, and pay one look at their line for that.
#[derive(Debug, Default)]
pub(super) struct Items {
    known: Option<Box<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// The holder takes items itself. Otherwise they are gathered.
    taken: bool,
    /// The stream that the worker answers with.
    incoming: Option<Arc<Incoming>>,
    /// What the line said of a stream, and it was none of this call.
    ignored: u64,
    gathered: Option<Gathered>,
    /// Where the holder sends to the app, if it has opened a context.
    outbox: Option<StreamBlock>,
}

impl Items {
    /// The holder takes them one by one.
    pub fn take_singly(&mut self) {
        self.known().taken = true;
    }

    /// The holder sends some, too.
    pub fn send_to(&mut self, outbox: StreamBlock) {
        self.known().outbox = Some(outbox);
    }

    /// Where to.
    pub fn outbox(&self) -> Option<&StreamBlock> {
        self.known.as_ref()?.outbox.as_ref()
    }

    /// Whether the holder takes them one by one.
    #[inline]
    pub fn are_taken(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.taken)
    }

    /// The stream that the worker answers with, as far as is known.
    #[inline]
    pub fn incoming(&self) -> Option<&Arc<Incoming>> {
        self.known.as_ref()?.incoming.as_ref()
    }

    /// Whether a stream is known, or may have been announced on the line: all that a plain call pays.
    #[inline]
    pub fn may_be(&self, line: &CallLine) -> bool {
        match &self.known {
            None => line.stream() != 0,
            Some(known) => known.incoming.is_some() || line.stream() != known.ignored,
        }
    }

    /// What tells whether there may be some that were not looked at: for who is about to wait.
    #[inline]
    pub fn news<'a>(&'a self, line: &'a CallLine) -> impl Fn() -> bool + use<'a> {
        let (ignored, stream) = match &self.known {
            None => (0, None),
            Some(known) => (known.ignored, known.incoming.as_ref().map(|incoming| incoming.news())),
        };
        move || match &stream {
            None => line.stream() != ignored,
            Some(news) => news(),
        }
    }

    /// Whether there are some that were not looked at.
    pub fn are_there(&self, line: &CallLine) -> bool {
        match self.incoming() {
            None => self.may_be(line),
            Some(incoming) => incoming.has_items(),
        }
    }

    /// Looks whether the worker answers with a stream.
    pub fn attach(&mut self, of: &Submission) -> Result<Option<&Arc<Incoming>>, Ended> {
        let line = of.line();
        let place = line.stream();
        if !self.may_be(line) {
            return Ok(None);
        }
        let known = self.known();
        if known.incoming.is_none() {
            // Who announces a stream has claimed the call before.
            let ours = line.look().ok().filter(|word| word.generation() == of.generation);
            let found = match ours.and_then(Word::life) {
                None => None,
                Some(life) => {
                    let is_context = known.outbox.is_some();
                    Incoming::attach(of, life, place, is_context)
                        .map_err(|error| Ended::Unreadable(Trouble::Here(error)))?
                }
            };
            match found {
                Some(incoming) => known.incoming = Some(Arc::new(incoming)),
                None => known.ignored = place,
            }
        }
        Ok(known.incoming.as_ref())
    }

    /// The next one.
    pub fn pop(&mut self, of: &Submission) -> Result<Option<Arrival>, Ended> {
        match self.attach(of)? {
            None => Ok(None),
            Some(incoming) => incoming.pop().map_err(Ended::Unreadable),
        }
    }

    /// The call has ended: what was sent by now is all that there is.
    pub fn finish(&mut self, of: &Submission) -> Result<(), Ended> {
        match self.attach(of)? {
            None => Ok(()),
            Some(incoming) => incoming.finish().map_err(Ended::Unreadable),
        }
    }

    /// Takes what is there of a stream whose items are to be one result.
    #[cold]
    pub fn gather(&mut self, of: &Submission) -> Result<(), Ended> {
        self.attach(of)?;
        let Some(Known { incoming: Some(incoming), gathered, .. }) = self.known.as_deref_mut() else {
            return Ok(());
        };
        let gathered = gathered.get_or_insert_with(Gathered::new);
        // All that is there, or was when this began: an app that always has one more must not keep us here.
        for _ in 0..STREAM_RING {
            let Some(arrival) = incoming.pop().map_err(Ended::Unreadable)? else { break };
            let (Arrival::Item(item) | Arrival::Started(item)) = arrival;
            gathered.put(&item).map_err(Ended::Overfull)?;
        }
        Ok(())
    }

    /// What was gathered.
    #[inline]
    pub fn gathered(&mut self) -> Option<Gathered> {
        self.known.as_mut()?.gathered.take()
    }

    fn known(&mut self) -> &mut Known {
        self.known.get_or_insert_default()
    }
}
