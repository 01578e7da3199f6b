//! [`Value`]: a value that owns what it holds.
//!
//! Values can be nested deeper than any stack allows, by a program's mistake if not by a peer (a decoder
//! stops at 512). So clone, compare, print and drop are loops here.

use std::fmt;

use super::builder::Builder;
use super::event::{self, Event};

/// What TLV can say.
///
/// `Value` implements `Drop`, so its contents cannot be moved out by a pattern;
/// [`into_list`](Value::into_list) and its siblings do that, and so does `TryFrom`.
#[derive(Default)]
pub enum Value {
    /// Nothing; Python's `None`.
    #[default]
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Text.
    Str(String),
    /// A list; Python's tuples come as lists too.
    List(Vec<Value>),
    /// Pairs in the order in which they were inserted. Nothing stops a program from inserting a key twice:
    /// then the last one counts, as it does for whoever decodes it.
    Dict(Vec<(String, Value)>),
}

impl Value {
    /// The value of a key: `None` if this is not a dict or has no such key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let pairs = self.as_dict()?;
        pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Whether this is `None`.
    pub fn is_none(&self) -> bool {
        matches!(self, Value::None)
    }

    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(b) = self { Some(*b) } else { None }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Value::Int(n) = self { Some(*n) } else { None }
    }

    /// The floating-point number, if it is one.
    pub fn as_float(&self) -> Option<f64> {
        if let Value::Float(x) = self { Some(*x) } else { None }
    }

    /// The bytes, if it is some.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        if let Value::Bytes(b) = self { Some(b) } else { None }
    }

    /// The text, if it is some.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::Str(s) = self { Some(s) } else { None }
    }

    /// The elements, if it is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        if let Value::List(items) = self { Some(items) } else { None }
    }

    /// The pairs, if it is a dict.
    pub fn as_dict(&self) -> Option<&[(String, Value)]> {
        if let Value::Dict(pairs) = self { Some(pairs) } else { None }
    }

    /// The bytes.
    ///
    /// # Errors
    /// Here and below: the value itself, if it is something else.
    pub fn into_bytes(mut self) -> Result<Vec<u8>, Value> {
        if let Value::Bytes(b) = &mut self { Ok(std::mem::take(b)) } else { Err(self) }
    }

    /// The text.
    pub fn into_string(mut self) -> Result<String, Value> {
        if let Value::Str(s) = &mut self { Ok(std::mem::take(s)) } else { Err(self) }
    }

    /// The elements.
    pub fn into_list(mut self) -> Result<Vec<Value>, Value> {
        if let Value::List(items) = &mut self { Ok(std::mem::take(items)) } else { Err(self) }
    }

    /// The pairs.
    pub fn into_dict(mut self) -> Result<Vec<(String, Value)>, Value> {
        if let Value::Dict(pairs) = &mut self { Ok(std::mem::take(pairs)) } else { Err(self) }
    }

    /// What this is, for people: `an integer`, `a list`.
    pub fn describe(&self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Bytes(_) => "bytes",
            Value::Str(_) => "a string",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
        }
    }

    /// Moves the containers among the children to `heap`. What is left drops without going deeper.
    fn unnest(&mut self, heap: &mut Vec<Value>) {
        let keep = |container| {
            if heap.try_reserve(1).is_ok() {
                heap.push(container);
            } else {
                std::mem::forget(container); // rather than the process
            }
        };
        match self {
            Value::List(items) => items.iter_mut().filter_map(Value::take_container).for_each(keep),
            Value::Dict(pairs) => {
                pairs.iter_mut().filter_map(|(_, value)| value.take_container()).for_each(keep);
            }
            _ => {}
        }
    }

    fn take_container(&mut self) -> Option<Value> {
        let full = match self {
            Value::List(items) => !items.is_empty(),
            Value::Dict(pairs) => !pairs.is_empty(),
            _ => false,
        };
        full.then(|| std::mem::take(self))
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        let mut heap = Vec::new();
        self.unnest(&mut heap);
        while let Some(mut value) = heap.pop() {
            value.unnest(&mut heap);
        }
    }
}

impl Clone for Value {
    fn clone(&self) -> Value {
        let mut builder = Builder::default();
        for event in event::Owned::new(self) {
            if builder.push(event).is_err() {
                // As every clone of std's.
                std::alloc::handle_alloc_error(std::alloc::Layout::new::<Value>());
            }
        }
        builder.finish()
    }
}

/// Equal if they hold the same values in the same order, dicts too. As in IEEE 754, NaN equals nothing.
impl PartialEq for Value {
    fn eq(&self, other: &Value) -> bool {
        event::Owned::new(self).eq(event::Owned::new(other))
    }
}

/// Compares without copying.
impl PartialEq<super::ValueRef<'_>> for Value {
    fn eq(&self, other: &super::ValueRef<'_>) -> bool {
        other == self
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut events = event::Owned::new(self);
        debug(f, || events.next())
    }
}

/// Prints a value as Rust and Python would both nearly write it: `{"k": [1, None, b"\x00"]}`. Long bytes are
/// cut.
pub(super) fn debug<'a>(
    f: &mut fmt::Formatter<'_>,
    mut next: impl FnMut() -> Option<Event<'a>>,
) -> fmt::Result {
    let mut closers: Vec<&str> = Vec::new();
    let mut separator = "";
    while let Some(event) = next() {
        if event != Event::End {
            f.write_str(separator)?;
        }
        separator = ", ";
        match event {
            Event::None => f.write_str("None")?,
            Event::Bool(b) => fmt::Debug::fmt(&b, f)?,
            Event::Int(n) => fmt::Debug::fmt(&n, f)?,
            Event::Float(x) => fmt::Debug::fmt(&x, f)?,
            Event::Bytes(b) if b.len() <= SHOWN => write!(f, "b\"{}\"", b.escape_ascii())?,
            Event::Bytes(b) => write!(f, "b\"{}\"… {} bytes", b[..SHOWN].escape_ascii(), b.len())?,
            Event::Str(s) => fmt::Debug::fmt(s, f)?,
            Event::Key(key) => {
                fmt::Debug::fmt(key, f)?;
                separator = ": ";
            }
            Event::List(_) | Event::Dict(_) => {
                let list = matches!(event, Event::List(_));
                f.write_str(if list { "[" } else { "{" })?;
                closers.push(if list { "]" } else { "}" });
                separator = "";
            }
            Event::End => f.write_str(closers.pop().unwrap_or_default())?,
        }
    }
    Ok(())
}

const SHOWN: usize = 64;

const _: () = assert!(size_of::<Value>() <= 32, "the budget of values bounds memory only if they are small");
