//! Actions that answer with streams and open contexts, and what tells that their items are the right ones.

use crate::app::{Journal, answer};
use crate::victim::here;
use stokehold::internals::limits::INLINE_LEN;
use stokehold::{Args, CancelledBy, Ctx, Error, Flow, Kind, Reply, Result};

/// Bytes of an item in the ring.
pub const SMALL: usize = 24;
/// Of one that nearly fills a message: a few of them bring the next one to the end of the ring.
pub const FILLING: usize = 400;
/// Of one that does not fit into a message.
pub const LARGE: usize = 480;
/// Of one that is lent; where it is filled by single steps it is short.
pub const LENT: usize = 16 * 1024;
pub const SHORT: usize = 32;
/// Of every so many items the last one is lent, and the one before it is large.
pub const GROUP: i64 = 4;

const _: () = assert!(LARGE > INLINE_LEN);

/// How an item is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In the ring.
    Small,
    /// By copy into a block.
    Large,
    /// In a lease.
    Lent,
}

impl Form {
    /// Of the item of this number, not counting filling ones.
    pub fn of(at: i64) -> Form {
        match at % GROUP {
            3 => Form::Lent,
            2 => Form::Large,
            _ => Form::Small,
        }
    }
}

/// How far an app goes that is stepped, from where it says that it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stepped {
    /// Nobody steps it: it says nothing.
    No,
    /// To the call's end.
    All,
    /// One item, then it says that it is through.
    One,
}

/// What the journal says of a call, by numbers behind the call's own.
#[derive(Clone, Copy, Debug)]
pub enum Mark {
    /// The producer was about to send so many items.
    Sending = 1,
    /// It had sent so many.
    Sent,
    /// The app was told that nobody wants the call any more, as its client is gone.
    Told,
    /// The same, as its client has given it up.
    GivenUp,
    /// It got so many items in order, as they were sent.
    Got,
    /// It got others, or another error.
    Wrong,
    /// It saw the end of what is sent to it.
    Closed,
}

impl From<i64> for Stepped {
    fn from(number: i64) -> Stepped {
        match number {
            0 => Stepped::No,
            1 => Stepped::All,
            _ => Stepped::One,
        }
    }
}

/// Numbers of the journal that a call with items takes.
pub const MARKS: u64 = 8;

impl Journal {
    /// One more of these.
    pub fn mark(&self, id: u64, mark: Mark) {
        self.count(id + mark as u64);
    }

    /// How many there were.
    pub fn marks(&self, id: u64, mark: Mark) -> i64 {
        self.runs(id + mark as u64).into()
    }
}

/// A word of an item: the first is its number, the others can only be in this item of this call.
fn word(id: u64, at: i64, word: usize) -> u64 {
    if word == 0 {
        return at as u64;
    }
    let seed = (id << 32 ^ at as u64).wrapping_add((word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (seed ^ seed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// Fills an item.
pub fn fill(id: u64, at: i64, item: &mut [u8]) {
    for (number, place) in item.chunks_exact_mut(8).enumerate() {
        place.copy_from_slice(&word(id, at, number).to_le_bytes());
    }
}

/// Whether this is that item. Of a long one some words are looked at, spread evenly, and the last: whoever is stepped would
/// spend its time here.
pub fn is_item(id: u64, at: i64, item: &[u8]) -> bool {
    let words = item.len() / 8;
    let stride = if item.len() > LARGE { words / 16 } else { 1 };
    let is_right = |number: &usize| item[number * 8..][..8] == word(id, at, *number).to_le_bytes();
    words * 8 == item.len()
        && item.len() >= SMALL
        && (0..words).step_by(stride).chain([words - 1]).all(|number| is_right(&number))
}

/// An item in the ring.
pub fn small(id: u64, at: i64) -> [u8; SMALL] {
    let mut item = [0; SMALL];
    fill(id, at, &mut item);
    item
}

/// Sends a stream: filling items, and then small ones, large ones and lent ones. Before these it stays as long as it is held, or
/// says to who steps it that it is there.
pub fn stream(journal: &Journal, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    let (id, filling, items, window, stepped): (i64, i64, i64, u64, i64) = args.parse()?;
    let (id, stepped) = (id as u64, Stepped::from(stepped));
    journal.count(id);
    let mut sink = ctx.sink_with(Flow::new().items(window))?;
    for at in 0..filling + items {
        if at == filling {
            journal.stay(id);
            if stepped != Stepped::No && filling > 0 {
                here();
            }
        }
        journal.mark(id, Mark::Sending);
        let sent = if at < filling {
            let mut item = [0; FILLING];
            fill(id, at, &mut item);
            sink.send(item)
        } else {
            match Form::of(at - filling) {
                Form::Small => sink.send(small(id, at)),
                Form::Large => {
                    let mut item = [0; LARGE];
                    fill(id, at, &mut item);
                    sink.send(item)
                }
                Form::Lent => {
                    let mut lease = ctx.lease(if stepped == Stepped::No { LENT } else { SHORT })?;
                    fill(id, at, &mut lease);
                    sink.send(lease)
                }
            }
        };
        sent.map_err(|error| told(journal, id, error))?;
        journal.mark(id, Mark::Sent);
        if stepped == Stepped::One && at >= filling {
            here();
        }
    }
    Ok(Reply::from(answer(id)))
}

/// Takes what the opener sends, and sends as many items back.
pub fn dialog(journal: &Journal, args: Args<'_>, ctx: &Ctx) -> Result<Reply> {
    let (id, stepped): (i64, i64) = args.parse()?;
    let (id, stepped) = (id as u64, Stepped::from(stepped));
    journal.count(id);
    let (mut sink, inbox) = ctx.started(answer(id)).map_err(|error| told(journal, id, error))?.split();
    journal.stay(id);
    if stepped != Stepped::No {
        here();
    }
    let mut at = 0;
    while let Some(item) = inbox.recv().map_err(|error| told(journal, id, error))? {
        let is_right = item.as_bytes().is_ok_and(|item| is_item(id, at, item));
        journal.mark(id, if is_right { Mark::Got } else { Mark::Wrong });
        drop(item);
        if stepped == Stepped::One {
            here();
        }
        journal.mark(id, Mark::Sending);
        sink.send(small(id, at)).map_err(|error| told(journal, id, error))?;
        journal.mark(id, Mark::Sent);
        at += 1;
    }
    journal.mark(id, Mark::Closed);
    Ok(Reply::from(answer(id)))
}

/// Notes why nothing more can be sent or received.
fn told(journal: &Journal, id: u64, error: Error) -> Error {
    journal.mark(
        id,
        match error.kind() {
            Kind::Cancelled { by: CancelledBy::Disconnected, .. } => Mark::Told,
            Kind::Cancelled { by: CancelledBy::Caller, .. } => Mark::GivenUp,
            _ => Mark::Wrong,
        },
    );
    error
}
