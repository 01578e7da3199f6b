//! Every limit at one less, itself and one more, and nesting far past any stack.

use super::{bytes_of, value_of};
use crate::limits::{MAX_DEPTH, MAX_ITEMS, MAX_NODES, MAX_SOCKET_BYTES};
use crate::wire::{Encode, Encoder, NoReferences, RequestRef, Resolve, Value, ValueRef, WireError, decode};

/// `depth` lists, each the only element of the one around it, as bytes.
fn nested_bytes(depth: usize) -> Vec<u8> {
    let mut bytes = [0x20, 0, 0, 0, 1].repeat(depth - 1);
    bytes.extend([0x20, 0, 0, 0, 0]);
    bytes
}

/// The same as a value: lists and dicts in turn.
fn nested(depth: usize) -> Value {
    let mut value = Value::List(vec![]);
    for level in 1..depth {
        value = match level % 2 {
            0 => Value::List(vec![value]),
            _ => Value::Dict(vec![("k".to_owned(), value)]),
        };
    }
    value
}

const FAR: usize = if cfg!(miri) { 600 } else { 1_000_000 };
const DEEP: Result<(), WireError> = Err(WireError::TooDeep { max: MAX_DEPTH });

/// C5: at 511, 512, 513 and a million levels.
#[test]
fn nesting_is_decoded_up_to_the_limit() {
    let depth = |n| value_of(&nested_bytes(n)).map(drop);
    assert_eq!(depth(MAX_DEPTH - 1), Ok(()));
    assert_eq!(depth(MAX_DEPTH), Ok(()));
    assert_eq!(depth(MAX_DEPTH + 1), DEEP);
    assert_eq!(depth(FAR), DEEP);
    // A scalar at the bottom is not a level.
    let mut bytes = nested_bytes(MAX_DEPTH);
    bytes[5 * MAX_DEPTH - 1] = 1;
    bytes.push(0);
    assert_eq!(value_of(&bytes).map(drop), Ok(()));
}

/// C5.
#[test]
fn nesting_within_a_call_counts_from_the_payload() {
    // payload, args, then what is left
    let call = |n: usize| {
        let mut body = vec![0x21, 0, 0, 0, 1, 0x11, 0, 0, 0, 4];
        body.extend(b"args");
        body.extend(nested_bytes(n));
        RequestRef::decode(&body, &NoReferences).map(drop)
    };
    assert_eq!(call(MAX_DEPTH - 1), Ok(()));
    assert_eq!(call(MAX_DEPTH), DEEP);
}

/// C5.
#[test]
fn nesting_is_encoded_up_to_the_limit() {
    let depth = |n| bytes_of(&nested(n)).map(drop);
    assert_eq!(depth(MAX_DEPTH - 1), Ok(()));
    assert_eq!(depth(MAX_DEPTH), Ok(()));
    assert_eq!(depth(MAX_DEPTH + 1), DEEP);
    assert_eq!(depth(FAR), DEEP);
}

/// C5.
#[test]
fn nesting_past_any_stack_is_cloned_compared_printed_and_dropped() {
    let value = nested(FAR);
    let twin = value.clone();
    assert!(value == twin);
    let deeper = Value::List(vec![nested(FAR)]);
    assert!(value != deeper);
    assert_eq!(format!("{twin:?}").matches("\"k\": ").count(), FAR / 2);
    drop((value, twin, deeper));
    // Wide as well as deep: a list of pairs of lists.
    let mut value = Value::None;
    for _ in 0..FAR {
        value = Value::List(vec![Value::List(vec![Value::Int(1)]), value, "s".into()]);
    }
    drop(value);
}

#[test]
fn deep_values_are_compared_and_copied_in_place() {
    for depth in [MAX_DEPTH - 1, MAX_DEPTH] {
        let value = nested(depth);
        let bytes = bytes_of(&value).unwrap();
        let read = decode(&bytes, &NoReferences).unwrap();
        assert_eq!(read, value);
        assert_eq!(read, read);
        assert_ne!(read, nested(depth - 1));
        assert_eq!(bytes_of(&read), Ok(bytes.clone()));
        assert_eq!(format!("{read:?}"), format!("{value:?}"));
    }
}

#[test]
fn lists_and_dicts_have_at_most_so_many_items() {
    if cfg!(miri) {
        return;
    }
    let list = |n: usize| {
        let mut bytes = vec![0x20];
        bytes.extend((n as u32).to_be_bytes());
        bytes.resize(5 + n, 0);
        decode(&bytes, &NoReferences).map(|_| ()).map_err(|e| e.to_string())
    };
    assert_eq!(list(MAX_ITEMS - 1), Ok(()));
    assert_eq!(list(MAX_ITEMS), Ok(()));
    assert_eq!(list(MAX_ITEMS + 1), Err("List too large: 1048577 items (max: 1048576)".into()));
    let dict = |n: usize| {
        let mut bytes = vec![0x21];
        bytes.extend((n as u32).to_be_bytes());
        bytes.extend([0x11, 0, 0, 0, 0, 0].repeat(n));
        value_of(&bytes).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(dict(MAX_ITEMS - 1), Ok(()));
    assert_eq!(dict(MAX_ITEMS), Ok(()));
    assert_eq!(dict(MAX_ITEMS + 1), Err("Dict too large: 1048577 items (max: 1048576)".into()));
    // A list that learns its count as it is written has the same limit.
    let mut e = Encoder::new(&mut []);
    let open = e.open_list().unwrap();
    for _ in 0..MAX_ITEMS {
        e.none().unwrap();
    }
    assert_eq!(e.none().unwrap_err().to_string(), "List too large: 1048577 items (max: 1048576)");
    drop(open);
}

/// C6.
#[test]
fn a_message_has_at_most_so_many_values() {
    if cfg!(miri) {
        return;
    }
    // One list of four lists: 5 values and what is in them.
    let message = |inside: usize| {
        let mut bytes = vec![0x20, 0, 0, 0, 4];
        for at in 0..4 {
            let count = inside / 4 + usize::from(at < inside % 4);
            bytes.push(0x20);
            bytes.extend((count as u32).to_be_bytes());
            bytes.resize(bytes.len() + count, 0);
        }
        bytes
    };
    let read = |inside| decode(&message(inside), &NoReferences).map(|_| ());
    assert_eq!(read(MAX_NODES - 6), Ok(()));
    assert_eq!(read(MAX_NODES - 5), Ok(()));
    assert_eq!(read(MAX_NODES - 4), Err(WireError::TooManyValues));
    // The encoder keeps to what a decoder takes.
    let written = |inside: usize| {
        let bytes = message(inside);
        let mut e = Encoder::new(&mut []);
        for at in 0..5 {
            e.list(if at == 0 { 4 } else { inside / 4 + usize::from(at - 1 < inside % 4) })?;
            if at > 0 {
                for _ in 0..inside / 4 + usize::from(at - 1 < inside % 4) {
                    e.none()?;
                }
            }
        }
        assert_eq!(e.len(), bytes.len());
        Ok(())
    };
    assert_eq!(written(MAX_NODES - 5), Ok(()));
    assert_eq!(written(MAX_NODES - 4), Err(WireError::TooManyValues));
}

#[test]
fn strings_and_bytes_have_at_most_so_many_bytes() {
    if cfg!(miri) {
        return;
    }
    let body = vec![b'a'; MAX_SOCKET_BYTES + 1];
    for (tag, name) in [(0x10, "Bytes"), (0x11, "String")] {
        let value = |n: usize| {
            let mut bytes = vec![tag];
            bytes.extend((n as u32).to_be_bytes());
            bytes.extend(&body[..n]);
            decode(&bytes, &NoReferences).map(|_| ()).map_err(|e| e.to_string())
        };
        assert_eq!(value(MAX_SOCKET_BYTES - 1), Ok(()));
        assert_eq!(value(MAX_SOCKET_BYTES), Ok(()));
        let text = format!("{name} too large: 67108865 bytes (max: 67108864)");
        assert_eq!(value(MAX_SOCKET_BYTES + 1), Err(text));
    }
}

/// C7: not a count that a peer wrote, but what it sent, decides what is allocated and how long it takes.
#[test]
fn a_huge_count_with_few_bytes_costs_nothing() {
    for head in [[0x20, 0xff, 0xff, 0xff, 0xff], [0x21, 0xff, 0xff, 0xff, 0xff]] {
        let mut bytes = head.to_vec();
        bytes.extend([0, 0, 0]);
        assert!(matches!(value_of(&bytes), Err(WireError::TooLarge { len: 0xffff_ffff, .. })));
    }
    // Within the limit, nested: each level promises 2^20 elements and brings one.
    let bytes = [0x20, 0, 0x10, 0, 0].repeat(MAX_DEPTH);
    assert_eq!(value_of(&bytes), Err(WireError::NoType));
}

/// Shared memory allows larger inline values than a socket, and says so through its resolver.
#[test]
fn a_resolver_sets_the_limit_of_inline_values() {
    struct Small;
    impl Resolve for Small {
        fn resolve(&self, _: crate::wire::Reference) -> Result<&[u8], WireError> {
            Ok(&[])
        }
        fn max_inline(&self) -> usize {
            3
        }
    }
    let mut bytes = Vec::new();
    b"abc".encode(&mut Encoder::to_vec(&mut bytes)).unwrap();
    assert_eq!(decode(&bytes, &Small).unwrap(), ValueRef::Bytes(b"abc"));
    bytes.clear();
    "abcd".encode(&mut Encoder::to_vec(&mut bytes)).unwrap();
    assert_eq!(decode(&bytes, &Small).unwrap_err().to_string(), "String too large: 4 bytes (max: 3)");
}

/// Dicts in the place of keys, for ever.
#[test]
fn keys_that_are_dicts_are_nesting_too() {
    let keys = |n| value_of(&[0x21, 0, 0, 0, 1].repeat(n)).unwrap_err();
    assert_eq!(keys(MAX_DEPTH), WireError::NoType);
    assert_eq!(keys(MAX_DEPTH + 1), WireError::TooDeep { max: MAX_DEPTH });
    let body = [0x21, 0, 0, 0, 1].repeat(FAR);
    assert_eq!(RequestRef::decode(&body, &NoReferences).unwrap_err(), WireError::TooDeep { max: MAX_DEPTH });
}

/// Its place was taken, and nothing stands there.
#[test]
fn a_limit_that_an_app_passes_over_is_found_in_the_end() {
    if cfg!(miri) {
        return; // a gigabyte, though of nothing
    }
    let large = vec![0; crate::limits::MAX_MESSAGE + 1];
    let mut e = Encoder::new(&mut []);
    let list = e.open_list().unwrap();
    assert!(matches!(e.bytes(&large), Err(WireError::TooLarge { .. })));
    e.none().unwrap();
    e.end(list).unwrap();
    assert!(!e.is_balanced() && e.close().is_err());
}
