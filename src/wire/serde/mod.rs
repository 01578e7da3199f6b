//! Feature `serde`: [`Serde`] sends and receives a user's own types.
//!
//! Structs and maps are dicts, sequences and tuples are lists, enums are externally tagged (`"Unit"`,
//! `{"Newtype": 1}`), `Option` is the value or none, `serde_bytes` is bytes. Values go straight into the
//! encoder and come straight out of the bytes: nothing in between, and `&str` and `&[u8]` fields borrow.
//!
//! serde recurses through the user's types, so nesting is limited more tightly here than elsewhere: to
//! [`DEPTH`] levels, options and newtypes counted too.

mod de;
mod ser;

use std::fmt;

use ::serde::{Deserialize, Serialize};

use super::{Decode, Encode, Encoder, ValueRef, WireError};
use crate::error::{Error, Kind as ErrorKind};

/// Sends any `Serialize` and receives any `Deserialize`.
///
/// ```
/// # use stokehold::internals::wire::{Decode, Encode, Encoder, NoReferences, Serde, decode};
/// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
/// struct Crop<'a> { name: &'a str, width: u32 }
///
/// let mut bytes = Vec::new();
/// Serde(Crop { name: "left", width: 128 }).encode(&mut Encoder::to_vec(&mut bytes))?;
/// let Serde(crop) = Serde::<Crop>::decode(decode(&bytes, &NoReferences)?)?;
/// assert_eq!(crop, Crop { name: "left", width: 128 });
/// # Ok::<(), stokehold::error::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serde<T>(pub T);

impl<T: Serialize> Encode for Serde<T> {
    /// # Errors
    /// Those of the encoder, map keys that are neither strings nor integers, and `Unsupported` where the
    /// type's own `Serialize` refuses (its words are lost).
    fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        ser::encode(&self.0, e).map_err(|fault| match fault {
            Fault::Wire(e) => e,
            Fault::Custom(_) => WireError::Unsupported("what its Serialize refuses"),
        })
    }
}

impl<'a, T: Deserialize<'a>> Decode<'a> for Serde<T> {
    /// # Errors
    /// Of [`Code::Value`](crate::error::Code::Value), in serde's words.
    fn decode(value: ValueRef<'a>) -> Result<Self, Error> {
        de::decode(value).map(Serde).map_err(|fault| match fault {
            Fault::Wire(e) => e.into(),
            Fault::Custom(why) => Error::new(ErrorKind::Value(why.into())),
        })
    }
}

/// Levels of nesting, as serde_json has them.
const DEPTH: usize = 128;

/// What can go wrong on the way through serde.
#[derive(Debug)]
enum Fault {
    Wire(WireError),
    Custom(String),
}

impl From<WireError> for Fault {
    fn from(e: WireError) -> Fault {
        Fault::Wire(e)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Wire(e) => e.fmt(f),
            Fault::Custom(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Fault {}

impl ::serde::ser::Error for Fault {
    fn custom<T: fmt::Display>(why: T) -> Fault {
        Fault::Custom(why.to_string())
    }
}

impl ::serde::de::Error for Fault {
    fn custom<T: fmt::Display>(why: T) -> Fault {
        Fault::Custom(why.to_string())
    }
}
