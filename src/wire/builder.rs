//! [`Builder`]: puts a [`Value`] together from events.

use super::event::Event;
use super::value::Value;
use super::{WireError, memory};
use crate::limits::MAX_ITEMS;

/// Collects events, in order, into one value. Keeps open containers on the heap.
#[derive(Default)]
pub(super) struct Builder {
    open: Vec<Partial>,
    done: Value,
}

enum Partial {
    List(Vec<Value>),
    Dict { pairs: Vec<(String, Value)>, key: String },
}

impl Builder {
    /// Takes the next event. Fails for want of memory only.
    pub(super) fn push(&mut self, event: Event<'_>) -> Result<(), WireError> {
        let value = match event {
            Event::None => Value::None,
            Event::Bool(b) => Value::Bool(b),
            Event::Int(n) => Value::Int(n),
            Event::Float(x) => Value::Float(x),
            Event::Bytes(b) => Value::Bytes(memory::copy(b)?),
            Event::Str(s) => Value::Str(memory::copy_str(s)?),
            Event::List(count) => {
                return memory::push(
                    &mut self.open,
                    Partial::List(memory::with_capacity(count.min(RESERVE))?),
                );
            }
            Event::Dict(pairs) => {
                let pairs = memory::with_capacity(pairs.min(RESERVE))?;
                return memory::push(&mut self.open, Partial::Dict { pairs, key: String::new() });
            }
            Event::Key(name) => {
                if let Some(Partial::Dict { key, .. }) = self.open.last_mut() {
                    *key = memory::copy_str(name)?;
                }
                return Ok(());
            }
            Event::End => match self.open.pop() {
                Some(Partial::List(items)) => Value::List(items),
                Some(Partial::Dict { pairs, .. }) => Value::Dict(pairs),
                None => return Ok(()),
            },
        };
        match self.open.last_mut() {
            Some(Partial::List(items)) => memory::push(items, value)?,
            Some(Partial::Dict { pairs, key }) => memory::push(pairs, (std::mem::take(key), value))?,
            None => self.done = value,
        }
        Ok(())
    }

    /// As [`push`](Builder::push), but dicts come out as Python makes them: a key that is written twice has
    /// one pair, in its first place, with its last value.
    pub(super) fn push_folding(&mut self, event: Event<'_>) -> Result<(), WireError> {
        if event == Event::End
            && let Some(Partial::Dict { pairs, .. }) = self.open.last_mut()
        {
            fold(pairs)?;
        }
        self.push(event)
    }

    /// The value.
    pub(super) fn finish(self) -> Value {
        self.done
    }
}

/// Folds duplicate keys. Sorts instead of hashing: no peer can choose a bad case.
fn fold(pairs: &mut Vec<(String, Value)>) -> Result<(), WireError> {
    let mut order: Vec<u32> = memory::with_capacity(pairs.len())?;
    order.extend(0..pairs.len() as u32); // at most MAX_ITEMS
    let key = |at: &u32| pairs[*at as usize].0.as_str();
    // In place; equal keys keep their order by their numbers.
    order.sort_unstable_by(|a, b| key(a).cmp(key(b)).then(a.cmp(b)));
    if order.windows(2).all(|two| key(&two[0]) != key(&two[1])) {
        return Ok(());
    }
    let mut dead = memory::with_capacity(pairs.len())?;
    dead.resize(pairs.len(), false);
    let mut moves = Vec::new();
    for run in order.chunk_by(|a, b| key(a) == key(b)) {
        if let [first, .., last] = run {
            memory::push(&mut moves, (*first as usize, *last as usize))?;
            run[1..].iter().for_each(|at| dead[*at as usize] = true);
        }
    }
    for (first, last) in moves {
        pairs[first].1 = std::mem::take(&mut pairs[last].1);
    }
    let mut at = 0;
    pairs.retain(|_| {
        at += 1;
        !dead[at - 1]
    });
    Ok(())
}

/// A container's count was checked by whoever makes the events, but it is still the peer's number: reserve
/// little, let the rest grow with what is really there.
const RESERVE: usize = 1024;

const _: () = assert!(MAX_ITEMS <= u32::MAX as usize);
