//! What an action is called with.

use crate::error::Result;
use crate::wire::{Decode, DecodeArgs, DictRef, ListRef, ValueRef};

/// The arguments of one call. Bytes that were lent are read in the caller's memory; small ones from the worker's
/// private copy of the request.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a> {
    positional: ListRef<'a>,
    named: DictRef<'a>,
}

impl<'a> Args<'a> {
    pub(super) fn new(positional: ListRef<'a>, named: DictRef<'a>) -> Args<'a> {
        Args { positional, named }
    }

    /// All positional arguments as a tuple: `let (img, width): (&[u8], u32) = args.parse()?`.
    ///
    /// # Errors
    /// `Value` if there are more or fewer, or one has another type; the caller gets it as `BadRequest`.
    pub fn parse<T: DecodeArgs<'a>>(&self) -> Result<T> {
        self.positional.parse()
    }

    /// How many positional arguments there are.
    pub fn len(&self) -> usize {
        self.positional.len()
    }

    /// Whether there are no positional arguments.
    pub fn is_empty(&self) -> bool {
        self.positional.len() == 0
    }

    /// A named argument; `None` if it was not given.
    ///
    /// # Errors
    /// `Value` if it has another type.
    pub fn named<T: Decode<'a>>(&self, name: &str) -> Result<Option<T>> {
        match self.named.get(name)? {
            None => Ok(None),
            Some(value) => T::decode(value).map(Some).map_err(|e| e.context(format!("argument {name:?}"))),
        }
    }

    /// All positional arguments.
    pub fn values(&self) -> ListRef<'a> {
        self.positional
    }

    /// All named arguments.
    pub fn named_values(&self) -> DictRef<'a> {
        self.named
    }

    /// The one positional argument as a value.
    pub fn first(&self) -> Result<Option<ValueRef<'a>>> {
        Ok(self.positional.get(0)?)
    }
}
