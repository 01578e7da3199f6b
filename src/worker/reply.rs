//! What an action answers with.

use super::Lease;
use super::deferred::Later;
use crate::limits::INLINE_LEN;
use crate::wire::{self, Encode, Encoder, WireError};
use std::cell::Cell;

/// One result, encoded already: small ones without an allocation, a [`Lease`] in place.
pub struct Reply(pub(super) Form);

/// Room for a small result. In a box, so that a reply is a few words to move.
pub(super) type Room = Box<[u8; INLINE_LEN]>;

pub(super) enum Form {
    Inline { len: usize, room: Room },
    Large(Vec<u8>),
    Lent(Lease),
    Later(Box<Later>),
    Invalid(WireError),
}

impl Reply {
    /// From anything that can be encoded. `Reply::from` and `.into()` do the same.
    ///
    /// A value that cannot be encoded (a string over its limit, say) becomes an error of the call.
    pub fn new(value: &(impl Encode + ?Sized)) -> Reply {
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let mut room = spare.unwrap_or_else(|| Box::new([0; INLINE_LEN]));
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
            Form::Invalid(error) => write!(f, "Reply({error})"),
        }
    }
}
