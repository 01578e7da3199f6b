//! Arbitrary values and arbitrary bytes: what goes in comes out, and nothing panics.

use proptest::collection::vec;
use proptest::prelude::*;

use super::{bytes_of, golden, value_of};
use crate::error::AppError;
use crate::limits::MAX_FRAME_PAYLOAD;
use crate::wire::{
    Encode, Encoder, FrameDecoder, Kind, Manage, NoReferences, Outcome, Reference, RequestRef, Resolve,
    ResponseRef, Stash, Value, ValueRef, WireError, decode,
};

fn config() -> ProptestConfig {
    super::cases(if cfg!(miri) { 1 } else { 512 })
}

/// Strings of any characters. Not by a regular expression, which Miri takes minutes to read.
pub(super) fn text(most: usize) -> impl Strategy<Value = String> + Clone {
    vec(any::<char>(), 0..most + 1).prop_map(String::from_iter)
}

/// Any value whose dicts have no key twice and whose floats are numbers.
pub(super) fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>().prop_filter("equal to itself", |x| !x.is_nan()).prop_map(Value::Float),
        vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        text(20).prop_map(Value::Str),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::List),
            proptest::collection::btree_map(text(8), inner, 0..6)
                .prop_map(|pairs| Value::Dict(pairs.into_iter().rev().collect())),
        ]
    })
}

/// Bytes that look like TLV more often than noise does.
fn nearly_tlv() -> impl Strategy<Value = Vec<u8>> {
    let token = prop_oneof![
        6 => prop::sample::select(vec![0_u8, 1, 5, 6, 0x10, 0x11, 0x20, 0x21, 0x30, 0x31, 0xff]).prop_map(|tag| vec![tag]),
        4 => (0_u32..9).prop_map(|n| n.to_be_bytes().to_vec()),
        3 => prop::sample::select(vec!["app_path", "action", "args", "kwargs", "result", "error", "details"]).prop_map(
            |key| [&[0x11, 0, 0, 0, key.len() as u8], key.as_bytes()].concat()
        ),
        1 => vec(any::<u8>(), 0..10),
    ];
    vec(token, 0..40).prop_map(|tokens| tokens.concat())
}

struct Anything([u8; 64]);

impl Resolve for Anything {
    fn resolve(&self, r: Reference) -> Result<&[u8], WireError> {
        let bad = WireError::BadReference { region: r.region };
        let end = r.offset.checked_add(r.len).ok_or(bad)?;
        self.0
            .get(usize::try_from(r.offset).map_err(|_| bad)?..usize::try_from(end).map_err(|_| bad)?)
            .ok_or(bad)
    }
}

/// Looks at everything that can be looked at.
fn look(value: ValueRef<'_>) -> Result<(), WireError> {
    match value {
        ValueRef::List(list) => list.iter().try_for_each(|item| look(item?)),
        ValueRef::Dict(dict) => dict.iter().try_for_each(|pair| look(pair?.1)),
        _ => Ok(()),
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_value_comes_back(value in values()) {
        let bytes = bytes_of(&value).unwrap();
        let read = decode(&bytes, &NoReferences).unwrap();
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(&read.to_owned().unwrap(), &value);
        prop_assert_eq!(&value.clone(), &value);
        prop_assert_eq!(&bytes_of(&read).unwrap(), &bytes);
        prop_assert_eq!(format!("{read:?}"), format!("{value:?}"));
        prop_assert_eq!(look(read), Ok(()));
        let mut socket = Vec::new();
        value.encode(&mut Encoder::to_vec(&mut socket)).unwrap();
        prop_assert_eq!(socket, bytes);
    }

    #[test]
    fn no_prefix_of_a_value_is_a_value(value in values(), at in any::<prop::sample::Index>()) {
        let bytes = bytes_of(&value).unwrap();
        prop_assert!(value_of(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop_oneof![nearly_tlv(), vec(any::<u8>(), 0..200)]) {
        let refs = Anything([7; 64]);
        if let Ok(read) = decode(&bytes, &refs) {
            prop_assert_eq!(look(read), Ok(()));
            let owned = read.to_owned().unwrap();
            // Normal form: true is 01, references are inline, keys come once.
            let normal = bytes_of(&owned).unwrap();
            let again = value_of(&normal).unwrap();
            prop_assert_eq!(bytes_of(&again).unwrap(), normal);
        }
        let _ = RequestRef::decode(&bytes, &refs).map(|call| {
            look(ValueRef::List(call.args)).and_then(|()| look(ValueRef::Dict(call.kwargs))).unwrap();
        });
        for kind in [Kind::Response, Kind::Error, Kind::Chunk] {
            if let Ok(Outcome::Error(error)) = ResponseRef::decode(kind, &bytes, &refs) {
                let (_, relays) = (error.source(), error.relayed());
                prop_assert!(relays.len() <= AppError::MAX_RELAYS);
            }
        }
        let _ = (Stash::decode(&bytes, &refs), Manage::decode(&bytes, &refs));
        let mut frames = FrameDecoder::new(MAX_FRAME_PAYLOAD, true);
        frames.feed(&bytes);
        let _ = frames.next();
    }

    /// Bytes that change between validation and reading break a promise, but no reader.
    #[test]
    fn bytes_that_were_never_validated_do_not_panic_either(count in 0_u32..99, body in nearly_tlv()) {
        let refs = Anything([7; 64]);
        let list = crate::wire::view::ListRef::new(count, &body, &refs);
        let dict = crate::wire::view::DictRef::new(count, &body, &refs);
        for value in [ValueRef::List(list), ValueRef::Dict(dict)] {
            let _ = (look(value), value.to_owned(), bytes_of(&value), value == value, format!("{value:?}"));
        }
    }

    #[test]
    fn damaged_frames_never_panic(which in 0_usize..24, at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let (_, _, mut bytes) = golden::frames().swap_remove(which);
        let at = at.index(bytes.len());
        bytes[at] ^= with;
        let mut frames = FrameDecoder::new(MAX_FRAME_PAYLOAD, false);
        frames.feed(&bytes);
        if let Ok(Some(frame)) = frames.next() {
            let _ = RequestRef::decode(&frame.body, &NoReferences);
            if let Ok(Outcome::Error(error)) = ResponseRef::decode(frame.header.kind, &frame.body, &NoReferences) {
                let _ = (error.source(), error.relayed());
            }
            let _ = Stash::decode(&frame.body, &NoReferences);
        }
    }

    /// C15: the stream is the same however it is cut.
    #[test]
    fn cuts_make_no_difference(cuts in vec(1_usize..60, 1..40)) {
        let (bytes, mut pieces) = (golden::frames().into_iter().flat_map(|f| f.2).collect::<Vec<_>>(), 0);
        let mut frames = FrameDecoder::new(MAX_FRAME_PAYLOAD, false);
        let (mut rest, mut count) = (&bytes[..], 0);
        while !rest.is_empty() {
            let piece = &rest[..cuts[pieces % cuts.len()].min(rest.len())];
            pieces += 1;
            rest = &rest[frames.feed(piece)..];
            while frames.next().unwrap().is_some() {
                count += 1;
            }
        }
        prop_assert_eq!(count, golden::frames().len());
        prop_assert_eq!(frames.finish(), Ok(()));
    }
}
