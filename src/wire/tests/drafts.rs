//! Values that are put together piece by piece.

use std::sync::Arc;

use proptest::prelude::*;

use super::{bytes_of, hostile};
use crate::limits::{MAX_DEPTH, MAX_ITEMS, MAX_NODES};
use crate::wire::{Draft, Encode, Encoder, Reference, Value, WireError, request, response};

/// Puts in a value: lists and dicts piece by piece, unless `whole` says otherwise of the one that it is asked for.
fn put(draft: &mut Draft, value: &Value, whole: &mut impl FnMut() -> bool) {
    match value {
        Value::List(items) if !whole() => {
            draft.begin_list().unwrap();
            items.iter().for_each(|item| put(draft, item, whole));
            draft.end().unwrap();
        }
        Value::Dict(pairs) if !whole() => {
            draft.begin_dict().unwrap();
            for (key, value) in pairs {
                draft.key(key).unwrap();
                assert!(draft.awaits_value());
                put(draft, value, whole);
            }
            draft.end().unwrap();
        }
        Value::None => draft.none().unwrap(),
        Value::Bool(b) => draft.bool(*b).unwrap(),
        Value::Int(n) => draft.int(*n).unwrap(),
        Value::Float(x) => draft.float(*x).unwrap(),
        Value::Bytes(bytes) => draft.bytes(bytes).unwrap(),
        Value::Str(text) => draft.str(text).unwrap(),
        Value::List(_) | Value::Dict(_) => draft.put(value).unwrap(),
    }
}

/// Says of each list and dict in turn whether it is put in whole.
fn by_bits(mut bits: u64) -> impl FnMut() -> bool {
    move || {
        bits = bits.rotate_right(1);
        bits & 1 != 0
    }
}

/// What was refused has changed nothing, and is refused in the same words again.
fn refused(draft: &mut Draft, why: &str, put: impl Fn(&mut Draft) -> Result<(), WireError>) {
    for _ in 0..2 {
        let before = format!("{draft:?}");
        assert_eq!(put(draft).unwrap_err().to_string(), why);
        assert_eq!(format!("{draft:?}"), before);
    }
}

fn socket_bytes_of(value: &impl Encode) -> Result<Vec<u8>, WireError> {
    let mut out = vec![7];
    value.encode(&mut Encoder::to_vec(&mut out))?;
    Ok(out.split_off(1))
}

proptest! {
    #![proptest_config(super::cases(if cfg!(miri) { 1 } else { 512 }))]

    #[test]
    fn pieces_make_the_same_bytes_as_the_whole(value in hostile::values(), bits in any::<u64>()) {
        let mut draft = Draft::new();
        put(&mut draft, &value, &mut by_bits(bits));
        prop_assert_eq!(draft.depth(), 0);
        prop_assert_eq!(bytes_of(&draft), bytes_of(&value));
        prop_assert_eq!(socket_bytes_of(&draft), socket_bytes_of(&value));
        // Within a value, and a draft within a draft.
        prop_assert_eq!(bytes_of(&(1, &draft, "x")), bytes_of(&(1, &value, "x")));
        let mut outer = Draft::list();
        outer.put(&draft).unwrap();
        outer.int(1).unwrap();
        outer.end().unwrap();
        prop_assert_eq!(bytes_of(&outer), bytes_of(&(&value, 1)));
    }

    #[test]
    fn a_draft_in_a_message_is_the_message(
        values in prop::collection::vec(hostile::values(), 0..5),
        named in prop::collection::btree_map(hostile::text(8), hostile::values(), 0..4),
        bits in any::<u64>(),
    ) {
        let mut args = Draft::list();
        values.iter().for_each(|value| put(&mut args, value, &mut by_bits(bits)));
        args.end().unwrap();
        let mut kwargs = Draft::dict();
        for (key, value) in &named {
            kwargs.key(key).unwrap();
            put(&mut kwargs, value, &mut by_bits(!bits));
        }
        kwargs.end().unwrap();
        let (mut drafted, mut direct) = (Vec::new(), Vec::new());
        request("m:C", "f", &args, &Some(&kwargs), &mut Encoder::to_vec(&mut drafted)).unwrap();
        request("m:C", "f", &values, &named, &mut Encoder::to_vec(&mut direct)).unwrap();
        prop_assert_eq!(&drafted, &direct);
        drafted.clear();
        direct.clear();
        response(&args, &mut Encoder::to_vec(&mut drafted)).unwrap();
        response(&values, &mut Encoder::to_vec(&mut direct)).unwrap();
        prop_assert_eq!(drafted, direct);
    }
}

#[test]
fn bytes_move_away_when_they_do_not_fit_in_place() {
    let (step, most) = if cfg!(miri) { (13, 1000) } else { (1, 100_000) };
    for len in (0..150).step_by(step).chain([1000, most]) {
        let text = "x".repeat(len);
        let value = (1, &text[..], (text.as_bytes(), 2));
        let mut draft = Draft::list();
        draft.int(1).unwrap();
        draft.str(&text).unwrap();
        draft.begin_list().unwrap();
        draft.bytes(text.as_bytes()).unwrap();
        draft.put(&2).unwrap();
        draft.end().unwrap();
        draft.end().unwrap();
        assert_eq!(bytes_of(&draft), bytes_of(&value), "{len}");
        let mut draft = Draft::new();
        draft.put(&value).unwrap();
        assert_eq!(bytes_of(&draft), bytes_of(&value), "{len}");
    }
}

#[test]
fn what_stands_in_no_place_is_refused() {
    let mut draft = Draft::new();
    assert!(draft.is_empty() && draft.depth() == 0 && !draft.awaits_value());
    assert_eq!(bytes_of(&draft), bytes_of(&()), "nothing is None");
    refused(&mut draft, "an end without a list or a dict that is open", Draft::end);
    refused(&mut draft, "a key outside of a dict", |d| d.key("k"));
    draft.begin_dict().unwrap();
    refused(&mut draft, "a value without a key in a dict", Draft::none);
    refused(&mut draft, "a value without a key in a dict", |d| d.put(&(1, 2)));
    refused(&mut draft, "a value without a key in a dict", Draft::begin_list);
    refused(&mut draft, "a value without a key in a dict", |d| d.put_late(Arc::new(1)));
    draft.key("k").unwrap();
    refused(&mut draft, "a key that follows a key that has no value yet", |d| d.key("l"));
    refused(&mut draft, "a dict that ends with a key that has no value", Draft::end);
    draft.begin_list().unwrap();
    refused(&mut draft, "a key outside of a dict", |d| d.key("k"));
    assert_eq!(draft.depth(), 2);
    let begun = "a list or a dict that was begun and not ended";
    assert_eq!(bytes_of(&draft).unwrap_err().to_string(), begun);
    draft.end().unwrap();
    draft.end().unwrap();
    for second in [Draft::none, Draft::begin_list, |d: &mut Draft| d.put_late(Arc::new(1))] {
        refused(&mut draft, "a second value where one can stand", second);
    }
    refused(&mut draft, "an end without a list or a dict that is open", Draft::end);
    assert_eq!(bytes_of(&draft), bytes_of(&Value::Dict(vec![("k".into(), Value::List(vec![]))])));
}

#[test]
fn a_value_that_cannot_be_encoded_changes_nothing() {
    struct Says(usize);
    impl Encode for Says {
        fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
            e.list(2)?;
            (0..self.0).try_for_each(|_| e.int(5))
        }
    }
    struct Nothing;
    impl Encode for Nothing {
        fn encode(&self, _: &mut Encoder<'_>) -> Result<(), WireError> {
            Ok(())
        }
    }
    for padding in [0, 90, 200] {
        let mut draft = Draft::list();
        draft.bytes(&vec![0; padding]).unwrap();
        let unbalanced = "an encoder announced another number of values than it wrote";
        refused(&mut draft, unbalanced, |d| d.put(&Says(1)));
        refused(&mut draft, unbalanced, |d| d.put(&Says(3)));
        refused(&mut draft, unbalanced, |d| d.put(&Nothing));
        refused(&mut draft, "int too large to convert", |d| d.put(&("x".repeat(100), u64::MAX)));
        let reference = Reference { region: 1, offset: 2, len: 3 };
        refused(&mut draft, "Unsupported type for TLV encoding: reference", |d| d.put(&(1, reference)));
        draft.put(&Says(2)).unwrap();
        draft.end().unwrap();
        assert_eq!(bytes_of(&draft), bytes_of(&(vec![0_u8; padding], (5, 5))));
    }
}

#[test]
fn drafts_are_nested_up_to_the_limit() {
    let nested = |depth| {
        let mut draft = Draft::new();
        (0..depth).for_each(|_| draft.begin_list().unwrap());
        (0..depth).for_each(|_| draft.end().unwrap());
        draft
    };
    let deep = Err(WireError::TooDeep { max: MAX_DEPTH });
    assert!(bytes_of(&nested(MAX_DEPTH)).is_ok());
    assert!(bytes_of(&(nested(MAX_DEPTH - 1), 1)).is_ok());
    assert_eq!(bytes_of(&(nested(MAX_DEPTH), 1)).map(drop), deep);
    let mut draft = Draft::new();
    (0..MAX_DEPTH).for_each(|_| draft.begin_list().unwrap());
    assert_eq!(draft.begin_list(), deep);
    assert_eq!(draft.begin_dict(), deep);
    assert_eq!(draft.put(&nested(1)), deep);
    draft.put(&1).unwrap();
    // A value that is put in whole, with the levels around it.
    let mut draft = Draft::list();
    draft.put(&nested(MAX_DEPTH - 1)).unwrap();
    assert_eq!(draft.put(&nested(MAX_DEPTH)), deep);
    draft.end().unwrap();
    assert_eq!(bytes_of(&(draft, 1)).map(drop), deep);
    // And one that comes late.
    let mut draft = Draft::list();
    draft.put_late(Arc::new(nested(MAX_DEPTH - 1))).unwrap();
    draft.end().unwrap();
    assert!(bytes_of(&draft).is_ok());
    assert_eq!(bytes_of(&(draft, 1)).map(drop), deep);
}

#[test]
fn drafts_have_at_most_so_many_values() {
    if cfg!(miri) {
        return;
    }
    let mut list = Draft::list();
    (0..MAX_ITEMS).for_each(|_| list.none().unwrap());
    refused(&mut list, "List too large: 1048577 items (max: 1048576)", Draft::none);
    refused(&mut list, "List too large: 1048577 items (max: 1048576)", |d| d.put_late(Arc::new(())));
    list.end().unwrap();
    assert_eq!(bytes_of(&list).unwrap().len(), 5 + MAX_ITEMS);
    let mut dict = Draft::dict();
    (0..MAX_ITEMS).for_each(|_| dict.key("").and_then(|()| dict.none()).unwrap());
    refused(&mut dict, "Dict too large: 1048577 items (max: 1048576)", |d| d.key(""));
    dict.end().unwrap();

    // One list of three full ones and what is left of the fourth.
    let mut all = Draft::list();
    (0..3).for_each(|_| all.put(&list).unwrap());
    all.begin_list().unwrap();
    (0..MAX_NODES - 3 * (MAX_ITEMS + 1) - 2).for_each(|_| all.none().unwrap());
    assert_eq!(all.none(), Err(WireError::TooManyValues));
    assert_eq!(all.put(&1), Err(WireError::TooManyValues));
    assert_eq!(all.begin_dict(), Err(WireError::TooManyValues));
    all.end().unwrap();
    all.end().unwrap();
    assert!(bytes_of(&all).is_ok());
    assert_eq!(bytes_of(&(all, ())).map(drop), Err(WireError::TooManyValues));
}

#[test]
fn what_comes_late_stands_where_it_was_put() {
    let at = |offset| Reference { region: 7, offset, len: 3 };
    let late = |offset| Arc::new(at(offset));
    let mut draft = Draft::list();
    draft.put_late(late(1)).unwrap();
    draft.int(5).unwrap();
    draft.begin_dict().unwrap();
    draft.key("k").unwrap();
    draft.begin_list().unwrap();
    draft.put_late(late(2)).unwrap();
    draft.put_late(late(3)).unwrap();
    draft.end().unwrap();
    draft.key("l").unwrap();
    draft.put_late(Arc::new((1, "a list"))).unwrap();
    draft.end().unwrap();
    draft.put_late(late(4)).unwrap();
    draft.end().unwrap();
    struct Dict(Reference, Reference);
    impl Encode for Dict {
        fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
            e.dict(2)?;
            e.key("k")?;
            (self.0, self.1).encode(e)?;
            e.key("l")?;
            (1, "a list").encode(e)
        }
    }
    let direct = (at(1), 5, Dict(at(2), at(3)), at(4));
    assert_eq!(bytes_of(&draft), bytes_of(&direct));
    assert_eq!(bytes_of(&(1, &draft, &draft)), bytes_of(&(1, &direct, &direct)));
    let (mut drafted, mut written) = ([0; 512], [0; 512]);
    request("m:C", "f", &draft, &(), &mut Encoder::new(&mut drafted)).unwrap();
    request("m:C", "f", &direct, &(), &mut Encoder::new(&mut written)).unwrap();
    assert_eq!(drafted, written);
    assert_eq!(socket_bytes_of(&draft).unwrap_err(), WireError::Unsupported("reference"));

    let mut alone = Draft::new();
    alone.put_late(late(9)).unwrap();
    assert!(!alone.is_empty());
    assert_eq!(bytes_of(&(1, &alone)), bytes_of(&(1, at(9))));
    assert_eq!(
        request("m:C", "f", &alone, &(), &mut Encoder::new(&mut [])).unwrap_err(),
        WireError::Misplaced("arguments by position that are not one list")
    );

    // More than one value, or none, is found when it is written.
    struct Wrong(usize);
    impl Encode for Wrong {
        fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
            (0..self.0).try_for_each(|n| e.int(n as i64))
        }
    }
    for (count, right) in [(0, false), (1, true), (2, false)] {
        let mut draft = Draft::list();
        draft.put_late(Arc::new(Wrong(count))).unwrap();
        draft.end().unwrap();
        assert_eq!(bytes_of(&draft).is_ok(), right, "{count}");
    }
}

#[test]
fn arguments_are_one_list_and_one_dict() {
    let written = |args: &Draft, kwargs: &Draft| {
        request("m:C", "f", args, kwargs, &mut Encoder::new(&mut [])).map_err(|e| e.to_string())
    };
    let ended = |mut draft: Draft| draft.end().map(|()| draft).unwrap();
    let (list, dict) = (ended(Draft::list()), ended(Draft::dict()));
    assert_eq!(written(&list, &dict), Ok(()));
    assert_eq!(written(&dict, &dict), Err("arguments by position that are not one list".into()));
    assert_eq!(written(&Draft::new(), &dict), Err("arguments by position that are not one list".into()));
    assert_eq!(written(&list, &list), Err("arguments by name that are not one dict".into()));
    assert_eq!(written(&Draft::list(), &dict), Err("a list or a dict that was begun and not ended".into()));
}
