//! All items of a stream, for a caller that wants one result.

use super::Response;
use super::body::Body;
use super::hold::Kept;
use crate::error::{Bound, Error, Kind, Result};
use crate::limits::MAX_MESSAGE;
use crate::wire::{self, Draft, Encode, Encoder, ValueRef, WireError};

/// A copy of each item so far.
#[derive(Debug)]
pub(super) struct Gathered {
    list: Draft,
}

impl Gathered {
    pub fn new() -> Gathered {
        Gathered { list: Draft::list() }
    }

    /// One more.
    ///
    /// # Errors
    /// `Overloaded` if the list would be more than a message may be.
    pub fn put(&mut self, item: &Response) -> Result<()> {
        self.list.put(&item.value()?).map_err(too_much)
    }

    /// The list as a result that keeps this; behind the items what the app returned in the end, if it did.
    pub fn into_response(mut self, end: End) -> Result<Response> {
        if let End::Result(result) = &end
            && !matches!(result.value()?, ValueRef::None)
        {
            self.put(result)?;
        }
        self.list.end().map_err(too_much)?;
        let body = body(&self.list)?;
        Ok(match end {
            End::Nothing(kept) => Response::new(kept, body),
            End::Result(result) => result.with_body(body),
        })
    }
}

/// How a stream ended that was gathered.
#[allow(clippy::large_enum_variant)] // moved once
pub(super) enum End {
    /// With its last item.
    Nothing(Kept),
    /// With this.
    Result(Response),
}

/// The body of a result that nobody sent.
pub(super) fn body(value: &(impl Encode + ?Sized)) -> Result<Body> {
    let encode = |room: &mut [u8]| -> Result<std::result::Result<usize, usize>, WireError> {
        let mut e = Encoder::new(room);
        wire::response(value, &mut e)?;
        Ok(e.finish().map_err(|more| more.needed))
    };
    let needed = encode(&mut [])?.err().unwrap_or(0);
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(needed).map_err(|_| WireError::OutOfMemory)?;
    bytes.resize(needed, 0);
    match encode(&mut bytes)? {
        Ok(_) => Ok(Body::Owned(bytes)),
        Err(_) => Err(WireError::Unbalanced.into()),
    }
}

fn too_much(error: WireError) -> Error {
    if error == WireError::OutOfMemory {
        return error.into();
    }
    Error::new(Kind::Overloaded { bound: Bound::Bytes, limit: MAX_MESSAGE as u64 })
        .context("the items of the stream are too many, or too large, for one result")
}
