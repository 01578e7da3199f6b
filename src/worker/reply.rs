//! What an action answers with.

use super::deferred::Later;
use super::sink::{IntoItem, Sink};
use super::{Ctx, Flow, Lease};
use crate::error::{Error, Result};
use crate::limits::INLINE_LEN;
use crate::wire::{self, Encode, Encoder, WireError};
use std::cell::Cell;

/// One result, encoded already: small ones without an allocation, a [`Lease`] in place.
pub struct Reply(pub(super) Form);

/// Room for a small result. In a box, so that a reply is a few words to move.
pub(super) type Room = Box<[u8; INLINE_LEN]>;

pub(super) enum Form {
    Inline {
        len: usize,
        room: Room,
    },
    Large(Vec<u8>),
    Lent(Lease),
    Later(Box<Later>),
    /// The items that the app has not sent yet.
    Stream(Box<Items>),
    /// Nothing: the items were all.
    End,
    Invalid(WireError),
}

/// The items of a stream, and in which bounds they are sent.
pub(super) struct Items {
    flow: Flow,
    send: Box<Sending>,
}

type Sending = dyn FnOnce(&mut Sink<'_>) -> Result<()> + Send;

impl Reply {
    /// From anything that can be encoded. `Reply::from` and `.into()` do the same.
    ///
    /// A value that cannot be encoded (a string over its limit, say) becomes an error of the call.
    pub fn new(value: &(impl Encode + ?Sized)) -> Reply {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let mut room = spare.unwrap_or_else(|| Box::new([0; INLINE_LEN]));
        if let Some(len) = value.encoded().and_then(|encoded| wire::response_of(encoded, &mut room[..])) {
            return Reply(Form::Inline { len, room });
        }
        let mut e = Encoder::new(&mut room[..]);
        if let Err(error) = wire::response(value, &mut e) {
            return Reply(Form::Invalid(error));
        }
        match e.finish() {
            Ok(len) => Reply(Form::Inline { len, room }),
            Err(more) => Reply(encode_large(value, more.needed)),
        }
    }
}

impl Reply {
    /// A stream of these items, which are taken on this thread after the app has returned, each when there is room for it. A
    /// caller that leaves drops the iterator. A panic in it ends the stream with that error, after the items before it.
    pub fn stream<I>(items: I) -> Reply
    where
        I: IntoIterator<Item: IntoItem>,
        I::IntoIter: Send + 'static,
    {
        Reply::stream_with(Flow::default(), items)
    }

    /// The same with bounds of its own.
    pub fn stream_with<I>(flow: Flow, items: I) -> Reply
    where
        I: IntoIterator<Item: IntoItem>,
        I::IntoIter: Send + 'static,
    {
        let items = items.into_iter();
        Reply::sending(flow, move |sink| items.into_iter().try_for_each(|item| sink.send(item)))
    }

    /// A stream that may fail: the first error ends it, after the items before it.
    pub fn try_stream<I, T, E>(items: I) -> Reply
    where
        I: IntoIterator<Item = Result<T, E>>,
        I::IntoIter: Send + 'static,
        T: IntoItem,
        E: Into<Error>,
    {
        let items = items.into_iter();
        Reply::sending(Flow::default(), move |sink| {
            items.into_iter().try_for_each(|item| sink.send(item.map_err(Into::into)?))
        })
    }

    /// No result: what an app answers with that has sent its items itself ([`Ctx::sink`](super::Ctx::sink)). To who executed
    /// the call, the list of them.
    pub fn end() -> Reply {
        Reply(Form::End)
    }

    fn sending(flow: Flow, send: impl FnOnce(&mut Sink<'_>) -> Result<()> + Send + 'static) -> Reply {
        Reply(Form::Stream(Box::new(Items { flow, send: Box::new(send) })))
    }

    /// Sends the items that the app left to be sent.
    pub(super) fn drive(self, ctx: &Ctx) -> Result<Reply> {
        let Form::Stream(items) = self.0 else { return Ok(self) };
        let Items { flow, send } = *items;
        send(&mut ctx.sink_with(flow)?)?;
        Ok(Reply::end())
    }
}

thread_local! {
    /// The room of this thread's last reply: the next one costs no allocation.
    static SPARE: Cell<Option<Room>> = const { Cell::new(None) };
}

/// A reply was published: its room is free.
pub(super) fn give_back(room: Room) {
    let _ = SPARE.try_with(|spare| spare.set(Some(room)));
}

fn encode_large(value: &(impl Encode + ?Sized), needed: usize) -> Form {
    let mut large = vec![0; needed];
    let mut e = Encoder::new(&mut large);
    match wire::response(value, &mut e) {
        Ok(()) if e.finish().is_ok() => Form::Large(large),
        Ok(()) => Form::Invalid(WireError::Unbalanced),
        Err(error) => Form::Invalid(error),
    }
}

impl<T: Encode> From<T> for Reply {
    fn from(value: T) -> Reply {
        Reply::new(&value)
    }
}

impl From<Lease> for Reply {
    fn from(lease: Lease) -> Reply {
        Reply(Form::Lent(lease))
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Form::Inline { len, .. } => write!(f, "Reply({len} bytes)"),
            Form::Large(bytes) => write!(f, "Reply({} bytes)", bytes.len()),
            Form::Lent(lease) => write!(f, "Reply({lease:?})"),
            Form::Later(_) => f.write_str("Reply(deferred)"),
            Form::Stream(_) => f.write_str("Reply(stream)"),
            Form::End => f.write_str("Reply(end)"),
            Form::Invalid(error) => write!(f, "Reply({error})"),
        }
    }
}
