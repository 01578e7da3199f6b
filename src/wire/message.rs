//! The bodies that clients send to the arbiter itself: [`Stash`] and [`Manage`]. (STATUS has none.)

use super::decoder::fields;
use super::request::{text, wrong};
use super::{Encode, Encoder, Resolve, Value, ValueRef, WireError};

/// An operation on shared state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stash {
    /// The operation's number, which may be one that nobody knows: [`StashOp::from_code`].
    pub op: i64,
    /// The table, empty where the operation has none.
    pub table: String,
    /// The key, if the operation has one. The wire cannot tell a key that is `None` from none.
    pub key: Option<Value>,
    /// The value, if the operation has one.
    pub value: Option<Value>,
    /// A shell pattern that keys must match.
    pub pattern: Option<String>,
}

/// The operations on shared state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum StashOp {
    /// Stores a value under a key; makes the table.
    Put = 1,
    /// The value of a key.
    Get = 2,
    /// Removes a key.
    Delete = 3,
    /// The keys, or those that match a pattern.
    Keys = 4,
    /// Removes all keys.
    Clear = 5,
    /// How many keys there are.
    Info = 6,
    /// Makes the table if it is not there.
    Ensure = 7,
    /// Removes the table.
    DeleteTable = 8,
    /// The names of the tables.
    Tables = 9,
    /// Whether a key, or without one the table, exists.
    Exists = 10,
}

impl StashOp {
    /// The operation of this number.
    pub fn from_code(code: i64) -> Option<StashOp> {
        use StashOp::*;
        [Put, Get, Delete, Keys, Clear, Info, Ensure, DeleteTable, Tables, Exists]
            .into_iter()
            .find(|op| op.code() == code)
    }

    /// The number on the wire.
    pub fn code(self) -> i64 {
        self as i64
    }
}

impl Stash {
    /// An operation on a table, without key, value and pattern.
    pub fn new(op: StashOp, table: impl Into<String>) -> Stash {
        Stash { op: op.code(), table: table.into(), ..Stash::default() }
    }

    /// Reads a STASH's body. Missing keys have gunicorn's defaults, unknown ones are ignored.
    ///
    /// # Errors
    /// As [`decode`](super::decode), and fields of a wrong type.
    pub fn decode(body: &[u8], refs: &dyn Resolve) -> Result<Stash, WireError> {
        let [mut op, mut table, mut key, mut value, mut pattern] = [ValueRef::None; 5];
        fields(body, refs, |name, field| match name {
            "op" => op = field,
            "table" => table = field,
            "key" => key = field,
            "value" => value = field,
            "pattern" => pattern = field,
            _ => {}
        })?;
        let some = |field| if matches!(field, ValueRef::None) { None } else { Some(field) };
        Ok(Stash {
            op: number("op", op, 0)?,
            table: text("table", table, "")?.to_owned(),
            key: some(key).map(ValueRef::to_owned).transpose()?,
            value: some(value).map(ValueRef::to_owned).transpose()?,
            pattern: some(pattern).map(|p| text("pattern", p, "").map(str::to_owned)).transpose()?,
        })
    }

    /// Writes the body, with the keys in gunicorn's order. What is absent or `None` is left out.
    ///
    /// # Errors
    /// Those of the [`Encoder`].
    pub fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        let key = self.key.as_ref().filter(|key| !key.is_none());
        let value = self.value.as_ref().filter(|value| !value.is_none());
        let optional = [key.is_some(), value.is_some(), self.pattern.is_some()];
        e.dict(2 + optional.into_iter().filter(|there| *there).count())?;
        e.key("op")?;
        e.int(self.op)?;
        e.key("table")?;
        e.str(&self.table)?;
        for (name, field) in [("key", key), ("value", value)] {
            if let Some(field) = field {
                e.key(name)?;
                field.encode(e)?;
            }
        }
        if let Some(pattern) = &self.pattern {
            e.key("pattern")?;
            e.str(pattern)?;
        }
        e.close()
    }
}

/// A wish for more or fewer workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manage {
    /// The operation's number, which may be one that nobody knows: [`ManageOp::from_code`].
    pub op: i64,
    /// How many workers. At least 1 once decoded; no maximum, so cap it.
    pub count: i64,
}

/// What to do with the number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ManageOp {
    /// More.
    Add = 1,
    /// Fewer.
    Remove = 2,
}

impl ManageOp {
    /// The operation of this number.
    pub fn from_code(code: i64) -> Option<ManageOp> {
        [ManageOp::Add, ManageOp::Remove].into_iter().find(|op| op.code() == code)
    }

    /// The number on the wire.
    pub fn code(self) -> i64 {
        self as i64
    }
}

impl Manage {
    /// A wish for `count` workers more or fewer.
    pub fn new(op: ManageOp, count: i64) -> Manage {
        Manage { op: op.code(), count }
    }

    /// Reads a MANAGE's body; without `count` it is 1, and what is less than 1 is 1.
    ///
    /// # Errors
    /// As [`decode`](super::decode), and fields of a wrong type.
    pub fn decode(body: &[u8], refs: &dyn Resolve) -> Result<Manage, WireError> {
        let [mut op, mut count] = [ValueRef::None; 2];
        fields(body, refs, |name, field| match name {
            "op" => op = field,
            "count" => count = field,
            _ => {}
        })?;
        Ok(Manage { op: number("op", op, 0)?, count: number("count", count, 1)?.max(1) })
    }

    /// Writes the body, with the keys in gunicorn's order.
    ///
    /// # Errors
    /// Those of the [`Encoder`].
    pub fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
        e.dict(2)?;
        e.key("op")?;
        e.int(self.op)?;
        e.key("count")?;
        e.int(self.count)?;
        e.close()
    }
}

/// A field that is an integer, or absent. A bool is one, as in Python.
fn number(name: &'static str, value: ValueRef<'_>, default: i64) -> Result<i64, WireError> {
    match value {
        ValueRef::None => Ok(default),
        ValueRef::Int(n) => Ok(n),
        ValueRef::Bool(b) => Ok(b.into()),
        other => Err(wrong(name, "an integer", other)),
    }
}
