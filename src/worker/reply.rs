//! What an action answers with.

use super::Lease;
use crate::limits::INLINE_LEN;
use crate::wire::{self, Encode, Encoder, WireError};

/// One result, encoded already: small ones without an allocation, a [`Lease`] in place.
pub struct Reply(pub(super) Form);

#[allow(clippy::large_enum_variant)] // the large one is the usual one, and a box would be an allocation a call
pub(super) enum Form {
    Inline { len: usize, bytes: [u8; INLINE_LEN] },
    Large(Vec<u8>),
    Lent(Lease),
    Invalid(WireError),
}

impl Reply {
    /// From anything that can be encoded. `Reply::from` and `.into()` do the same.
    ///
    /// A value that cannot be encoded (a string over its limit, say) becomes an error of the call.
    pub fn new(value: &(impl Encode + ?Sized)) -> Reply {
        let mut bytes = [0; INLINE_LEN];
        let mut e = Encoder::new(&mut bytes);
        if let Err(error) = wire::response(value, &mut e) {
            return Reply(Form::Invalid(error));
        }
        match e.finish() {
            Ok(len) => Reply(Form::Inline { len, bytes }),
            Err(more) => Reply(encode_large(value, more.needed)),
        }
    }
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
            Form::Invalid(error) => write!(f, "Reply({error})"),
        }
    }
}
