//! [`Event`]: a value taken apart into a flat sequence, and the walkers that take it apart.
//!
//! Clone, compare, print, encode and own are each one loop over events, so none of them can run out of stack,
//! and an owned and a borrowed value are compared like two of a kind.

use std::slice;

use super::stack::Stack;
use super::tlv::{Cursor, Item};
use super::value::Value;
use super::view::ValueRef;
use super::{Resolve, WireError};

/// A step through a value. Containers are followed by their elements and then by [`End`](Event::End).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Event<'a> {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
    Str(&'a str),
    List(usize),
    Dict(usize),
    Key(&'a str),
    End,
}

/// Walks an owned value.
pub(super) struct Owned<'a> {
    next: Option<&'a Value>,
    open: Vec<Level<'a>>,
}

enum Level<'a> {
    List(slice::Iter<'a, Value>),
    Dict(slice::Iter<'a, (String, Value)>),
}

impl<'a> Owned<'a> {
    pub(super) fn new(value: &'a Value) -> Owned<'a> {
        Owned { next: Some(value), open: Vec::new() }
    }
}

impl<'a> Iterator for Owned<'a> {
    type Item = Event<'a>;

    fn next(&mut self) -> Option<Event<'a>> {
        let value = match self.next.take() {
            Some(value) => value,
            None => match self.open.last_mut()? {
                Level::List(items) => match items.next() {
                    Some(item) => item,
                    None => {
                        self.open.pop();
                        return Some(Event::End);
                    }
                },
                Level::Dict(pairs) => match pairs.next() {
                    Some((key, value)) => {
                        self.next = Some(value);
                        return Some(Event::Key(key));
                    }
                    None => {
                        self.open.pop();
                        return Some(Event::End);
                    }
                },
            },
        };
        Some(match value {
            Value::None => Event::None,
            Value::Bool(b) => Event::Bool(*b),
            Value::Int(n) => Event::Int(*n),
            Value::Float(x) => Event::Float(*x),
            Value::Bytes(b) => Event::Bytes(b),
            Value::Str(s) => Event::Str(s),
            Value::List(items) => {
                self.open.push(Level::List(items.iter()));
                Event::List(items.len())
            }
            Value::Dict(pairs) => {
                self.open.push(Level::Dict(pairs.iter()));
                Event::Dict(pairs.len())
            }
        })
    }
}

/// Walks bytes that were validated.
pub(super) struct Encoded<'a> {
    cursor: Cursor<'a>,
    refs: &'a dyn Resolve,
    open: Stack,
    state: State<'a>,
}

enum State<'a> {
    /// A scalar, or a container whose tag was read before: it comes first.
    Root(ValueRef<'a>),
    Inside,
    Done,
}

impl<'a> Encoded<'a> {
    pub(super) fn new(value: ValueRef<'a>) -> Encoded<'a> {
        let (bytes, refs) = match value {
            ValueRef::List(list) => (list.body(), list.refs()),
            ValueRef::Dict(dict) => (dict.body(), dict.refs()),
            _ => (&[][..], &super::NoReferences as &dyn Resolve),
        };
        Encoded { cursor: Cursor::new(bytes, refs), refs, open: Stack::default(), state: State::Root(value) }
    }

    /// The next event, `None` after the last.
    ///
    /// # Errors
    /// Only if the bytes are no longer what was validated, or a resolver changed its mind.
    pub(super) fn next(&mut self) -> Result<Option<Event<'a>>, WireError> {
        if let State::Root(root) = self.state {
            self.state = State::Inside;
            return Ok(Some(match root {
                ValueRef::None => self.scalar(Event::None),
                ValueRef::Bool(b) => self.scalar(Event::Bool(b)),
                ValueRef::Int(n) => self.scalar(Event::Int(n)),
                ValueRef::Float(x) => self.scalar(Event::Float(x)),
                ValueRef::Bytes(b) => self.scalar(Event::Bytes(b)),
                ValueRef::Str(s) => self.scalar(Event::Str(s)),
                ValueRef::List(list) => self.list(list.len() as u32)?,
                ValueRef::Dict(dict) => self.dict(dict.len() as u32)?,
            }));
        }
        if matches!(self.state, State::Done) {
            return Ok(None);
        }
        let Some(entry) = self.open.top() else {
            self.state = State::Done;
            return Ok(None);
        };
        let (slots, dict) = (*entry & SLOTS, *entry & DICT != 0);
        if slots == 0 {
            self.open.pop();
            return Ok(Some(Event::End));
        }
        *entry -= 1;
        if dict && slots.is_multiple_of(2) {
            return self.cursor.key().map(|key| Some(Event::Key(key)));
        }
        Ok(Some(match self.cursor.item()? {
            Item::None => Event::None,
            Item::Bool(b) => Event::Bool(b),
            Item::Int(n) => Event::Int(n),
            Item::Float(x) => Event::Float(x),
            Item::Bytes(b) => Event::Bytes(b),
            Item::Str(s) => Event::Str(s),
            Item::Ref(reference) => Event::Bytes(self.refs.resolve(reference)?),
            Item::List(count) => self.list(count)?,
            Item::Dict(count) => self.dict(count)?,
        }))
    }

    fn scalar(&mut self, event: Event<'a>) -> Event<'a> {
        self.state = State::Done;
        event
    }

    fn list(&mut self, count: u32) -> Result<Event<'a>, WireError> {
        self.open.push(count)?;
        Ok(Event::List(count as usize))
    }

    fn dict(&mut self, pairs: u32) -> Result<Event<'a>, WireError> {
        self.open.push(DICT | (2 * pairs))?;
        Ok(Event::Dict(pairs as usize))
    }
}

/// As in the encoder: how many keys and values are still to come, and whether keys are among them.
const SLOTS: u32 = DICT - 1;
const DICT: u32 = 1 << 31;
