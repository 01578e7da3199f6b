//! [`Builder`]: puts a [`Value`] together from events.

use super::event::Event;
use super::value::Value;
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
    /// Takes the next event.
    pub(super) fn push(&mut self, event: Event<'_>) {
        let value = match event {
            Event::None => Value::None,
            Event::Bool(b) => Value::Bool(b),
            Event::Int(n) => Value::Int(n),
            Event::Float(x) => Value::Float(x),
            Event::Bytes(b) => Value::Bytes(b.to_vec()),
            Event::Str(s) => Value::Str(s.to_owned()),
            Event::List(count) => {
                self.open.push(Partial::List(Vec::with_capacity(count.min(RESERVE))));
                return;
            }
            Event::Dict(pairs) => {
                let pairs = Vec::with_capacity(pairs.min(RESERVE));
                self.open.push(Partial::Dict { pairs, key: String::new() });
                return;
            }
            Event::Key(name) => {
                if let Some(Partial::Dict { key, .. }) = self.open.last_mut() {
                    *key = name.to_owned();
                }
                return;
            }
            Event::End => match self.open.pop() {
                Some(Partial::List(items)) => Value::List(items),
                Some(Partial::Dict { pairs, .. }) => Value::Dict(pairs),
                None => return,
            },
        };
        match self.open.last_mut() {
            Some(Partial::List(items)) => items.push(value),
            Some(Partial::Dict { pairs, key }) => pairs.push((std::mem::take(key), value)),
            None => self.done = value,
        }
    }

    /// As [`push`](Builder::push), but dicts come out as Python makes them: a key that is written twice has
    /// one pair, in its first place, with its last value.
    pub(super) fn push_folding(&mut self, event: Event<'_>) {
        if event == Event::End
            && let Some(Partial::Dict { pairs, .. }) = self.open.last_mut()
        {
            fold(pairs);
        }
        self.push(event);
    }

    /// The value.
    pub(super) fn finish(self) -> Value {
        self.done
    }
}

/// Folds duplicate keys. Sorts instead of hashing: no peer can choose a bad case.
fn fold(pairs: &mut Vec<(String, Value)>) {
    let mut order: Vec<u32> = (0..pairs.len() as u32).collect(); // at most MAX_ITEMS
    let key = |at: &u32| pairs[*at as usize].0.as_str();
    order.sort_by(|a, b| key(a).cmp(key(b))); // stable: equal keys keep their order
    if order.windows(2).all(|two| key(&two[0]) != key(&two[1])) {
        return;
    }
    let mut dead = vec![false; pairs.len()];
    let mut moves = Vec::new();
    for run in order.chunk_by(|a, b| key(a) == key(b)) {
        if let [first, .., last] = run {
            moves.push((*first as usize, *last as usize));
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
}

/// A container's count was checked by whoever makes the events, but it is still the peer's number: reserve
/// little, let the rest grow with what is really there.
const RESERVE: usize = 1024;

const _: () = assert!(MAX_ITEMS <= u32::MAX as usize);
