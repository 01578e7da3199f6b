//! The calls of one [`Completions`](super::Completions) that are in flight. They are looked at in turns, so that none that
//! always has something keeps another waiting.

use super::Response;
use super::ended::Ended;
use super::flight::Flight;
use super::stream;
use super::waiter::Roused;
use crate::sys::clock;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Flights {
    all: Vec<Listed>,
    /// Where the next look begins.
    next: usize,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Listed {
    pub token: u64,
    pub flight: Flight,
    /// Of a call whose items are taken one by one.
    patience: Option<Patience>,
}

/// How long the next item may take, and when that is over, in monotonic nanoseconds.
#[derive(Debug)]
struct Patience {
    item_ns: Option<u64>,
    due_ns: Option<u64>,
}

/// What a round found.
pub(super) enum Found {
    /// An item of the call with this token, which goes on.
    Item(u64, Response),
    /// A call that is taken out, and why.
    End(Listed, Ended),
}

/// What one look at one call saw.
enum Seen {
    Item(Response),
    End(Ended),
}

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What a worker changes.
    Near,
    /// Everything that may end a call.
    Around,
}

impl Flights {
    pub fn push(&mut self, listed: Listed) {
        self.all.push(listed);
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Listed> {
        self.all.iter()
    }

    /// All of them, which are its no more.
    pub fn take_all(&mut self) -> Vec<Listed> {
        std::mem::take(&mut self.all)
    }

    /// The next item, or the next call that has ended.
    pub fn find(&mut self, look: Look) -> Option<Found> {
        let count = self.all.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            let listed = &mut self.all[at];
            let found = match listed.look(look) {
                None => continue,
                Some(Seen::Item(item)) => Found::Item(listed.token, item),
                Some(Seen::End(ended)) => Found::End(self.all.swap_remove(at), ended),
            };
            self.next = at + 1; // what took this place, or comes next, is no older than the others
            return Some(found);
        }
        None
    }

    /// Takes out a call with this token.
    pub fn take(&mut self, token: u64) -> Option<Flight> {
        let at = self.all.iter().position(|listed| listed.token == token)?;
        Some(self.all.swap_remove(at).flight)
    }
}

impl Listed {
    /// A call with one outcome.
    pub fn call(token: u64, flight: Flight) -> Listed {
        Listed { token, flight, patience: None }
    }

    /// One whose items are taken one by one, each within this time.
    pub fn stream(token: u64, flight: Flight, item_ns: Option<u64>) -> Listed {
        let mut patience = Patience { item_ns, due_ns: None };
        patience.renew();
        Listed { token, flight: flight.taking_items(), patience: Some(patience) }
    }

    /// When it has to be looked at although nobody announced anything, monotonic nanoseconds.
    pub fn due_ns(&self) -> Option<u64> {
        let item = self.patience.as_ref().and_then(|patience| patience.due_ns);
        clock::earlier(self.flight.due_ns(), item)
    }

    /// Whether a look around will find something, which stays there.
    pub fn is_due(&mut self) -> bool {
        self.flight.has_news() || self.flight.look_around(Roused::Rung).is_some()
    }

    fn look(&mut self, look: Look) -> Option<Seen> {
        let flight = &mut self.flight;
        let look = |flight: &mut Flight| match look {
            Look::Near => flight.look(Roused::Rung),
            Look::Around => flight.gather().or_else(|| flight.look_around(Roused::Rung)),
        };
        let Some(patience) = &mut self.patience else { return look(flight).map(Seen::End) };
        // What is sent between the two looks at the items came before the end, if this is the end; if not, it is sent after
        // the fence of whoever is about to sleep, and so it is rung for.
        let seen = match stream::next_item(flight) {
            Ok(None) => match look(flight) {
                None => patience.is_over().then_some(Seen::End(Ended::Idle)),
                Some(ended) => {
                    Some(match stream::finish(flight, &ended).and_then(|()| stream::next_item(flight)) {
                        Ok(Some(item)) => Seen::Item(item),
                        Ok(None) => Seen::End(ended),
                        Err(trouble) => Seen::End(trouble),
                    })
                }
            },
            Ok(Some(item)) => Some(Seen::Item(item)),
            Err(ended) => Some(Seen::End(ended)),
        };
        if matches!(seen, Some(Seen::Item(_))) {
            patience.renew();
        }
        seen
    }
}

impl Patience {
    /// Counted from now.
    fn renew(&mut self) {
        self.due_ns = self.item_ns.map(|ns| clock::monotonic_ns().saturating_add(ns));
    }

    fn is_over(&self) -> bool {
        self.due_ns.is_some_and(|due| clock::monotonic_ns() >= due)
    }
}
