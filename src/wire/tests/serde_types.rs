//! A user's own types, through serde.

use std::collections::{BTreeMap, HashMap};

use ::serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq};
use proptest::prelude::*;

use super::{bytes_of, golden::dict, value_of};
use crate::error::{Code, Error};
use crate::wire::{Decode, NoReferences, Serde, Value, WireError, decode};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Unit,
    Newtype(i32),
    Tuple(u8, String),
    Struct { a: bool, b: Option<Box<Shape>> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapper(f32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct All {
    unit: (),
    none: Option<u8>,
    numbers: (i8, u8, i16, u16, i32, u32, i64, u64, i128, u128, f64),
    text: (char, String),
    bytes: Vec<u8>,
    shapes: Vec<Shape>,
    marker: Unit,
    wrapper: Wrapper,
    by_number: BTreeMap<u16, char>,
    by_shape: HashMap<String, Shape>,
}

fn all() -> All {
    All {
        unit: (),
        none: None,
        numbers: (-1, 255, -2, 3, -4, 5, i64::MIN, i64::MAX as u64, -6, 7, 0.5),
        text: ('é', "ß".into()),
        bytes: vec![1, 2],
        shapes: vec![
            Shape::Unit,
            Shape::Newtype(-1),
            Shape::Tuple(1, "x".into()),
            Shape::Struct { a: true, b: Some(Box::new(Shape::Struct { a: false, b: None })) },
        ],
        marker: Unit,
        wrapper: Wrapper(1.5),
        by_number: BTreeMap::from([(1, 'a'), (65535, 'b')]),
        by_shape: HashMap::from([("k".to_owned(), Shape::Unit)]),
    }
}

fn back<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Error> {
    Serde::<T>::decode(decode(bytes, &NoReferences).unwrap()).map(|Serde(value)| value)
}

#[test]
fn everything_that_serde_knows_comes_back() {
    let bytes = bytes_of(&Serde(all())).unwrap();
    assert_eq!(back::<All>(&bytes).unwrap(), all());
}

#[test]
fn the_form_is_what_a_python_programmer_expects() {
    let shapes = bytes_of(&Serde(&all().shapes[..3])).unwrap();
    let expected: Value =
        ("Unit", dict([("Newtype", (-1).into())]), dict([("Tuple", (1, "x").into())])).into();
    assert_eq!(value_of(&shapes), Ok(expected));
    #[derive(Serialize)]
    struct Point {
        x: i32,
        y: Option<i32>,
    }
    assert_eq!(
        value_of(&bytes_of(&Serde(Point { x: 1, y: None })).unwrap()),
        Ok(dict([("x", 1.into()), ("y", ().into())]))
    );
    assert_eq!(value_of(&bytes_of(&Serde(BTreeMap::from([(1, 2)]))).unwrap()), Ok(dict([("1", 2.into())])));
}

#[test]
fn text_and_bytes_are_borrowed() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        name: &'a str,
        blob: &'a [u8],
    }
    let bytes =
        bytes_of(&dict([("blob", b"b".into()), ("later", (1, (2,)).into()), ("name", "n".into())])).unwrap();
    let Serde(read) = Serde::<Borrowed<'_>>::decode(decode(&bytes, &NoReferences).unwrap()).unwrap();
    assert_eq!((read.name, read.blob), ("n", &b"b"[..]));
    assert!(bytes.as_ptr_range().contains(&read.name.as_ptr()));
    assert!(bytes.as_ptr_range().contains(&read.blob.as_ptr()));
    // Bytes are good for a Vec<u8> too, and an integer for a float.
    assert_eq!(back::<(Vec<u8>, f64)>(&bytes_of(&(b"ab", 1)).unwrap()).unwrap(), (vec![97, 98], 1.0));
}

#[test]
fn sequences_of_unknown_length_need_no_buffer() {
    struct Unsized;
    impl Serialize for Unsized {
        fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
            let mut seq = s.serialize_seq(None)?;
            (0..3).try_for_each(|n| seq.serialize_element(&n))?;
            seq.end()
        }
    }
    #[derive(Serialize)]
    struct Flat {
        a: i32,
        #[serde(flatten)]
        more: BTreeMap<String, i32>,
    }
    let flat = Flat { a: 1, more: BTreeMap::from([("b".into(), 2)]) };
    let bytes = bytes_of(&(Serde(Unsized), Serde(flat))).unwrap();
    let expected = Value::from(([0, 1, 2], dict([("a", 1.into()), ("b", 2.into())])));
    assert_eq!(value_of(&bytes), Ok(expected));
}

#[test]
fn what_does_not_fit_is_said() {
    let text = |e: Error| {
        assert_eq!(e.code(), Code::Value);
        e.to_string()
    };
    let bytes = bytes_of(&(1, "x")).unwrap();
    assert!(text(back::<(i32, i32)>(&bytes).unwrap_err()).contains("invalid type: string"));
    assert!(text(back::<(bool, String)>(&bytes).unwrap_err()).contains("invalid type: integer `1`"));
    assert_eq!(text(back::<Shape>(&bytes).unwrap_err()), "expected an enum's variant, found list");
    assert!(text(back::<u8>(&bytes_of(&256_i32).unwrap()).unwrap_err()).contains("256"));
    assert_eq!(bytes_of(&Serde(u64::MAX)), Err(WireError::IntTooLarge));
    assert!(matches!(bytes_of(&Serde(BTreeMap::from([(vec![1], 1)]))), Err(WireError::Unsupported(_))));
}

/// serde recurses, so the limit is lower; options and newtypes, which cost no bytes, count.
#[test]
fn recursion_has_a_limit() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Tree(Vec<Tree>);
    #[derive(Debug, Deserialize)]
    struct Endless(#[allow(dead_code)] Option<Box<Endless>>);

    let list = |depth| (1..depth).fold(Value::List(vec![]), |inner, _| Value::List(vec![inner]));
    // Each level is a newtype and a list.
    assert!(back::<Tree>(&bytes_of(&list(64)).unwrap()).is_ok());
    let deep = back::<Tree>(&bytes_of(&list(65)).unwrap()).unwrap_err();
    assert!(deep.to_string().ends_with("nesting exceeds the limit of 128"));
    let endless = back::<Endless>(&bytes_of(&1).unwrap()).unwrap_err();
    assert!(endless.to_string().ends_with("nesting exceeds the limit of 128"));
    let tree = |depth| (1..depth).fold(Tree(vec![]), |inner, _| Tree(vec![inner]));
    assert!(bytes_of(&Serde(tree(64))).is_ok());
    assert_eq!(bytes_of(&Serde(tree(65))), Err(WireError::TooDeep { max: 128 }));
    // What nobody wants is passed over, however deep.
    #[derive(Deserialize)]
    struct Empty {}
    let ignored = bytes_of(&dict([("x", list(500))])).unwrap();
    assert!(back::<Empty>(&ignored).is_ok());
}

fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Unit),
        any::<i32>().prop_map(Shape::Newtype),
        (any::<u8>(), ".{0,9}").prop_map(|(n, s)| Shape::Tuple(n, s)),
    ];
    leaf.prop_recursive(8, 8, 1, |inner| {
        (any::<bool>(), proptest::option::of(inner))
            .prop_map(|(a, b)| Shape::Struct { a, b: b.map(Box::new) })
    })
}

proptest! {
    #![proptest_config(super::cases(if cfg!(miri) { 8 } else { 256 }))]

    #[test]
    fn any_struct_comes_back(
        shapes in proptest::collection::vec(shapes(), 0..5),
        bytes in proptest::collection::vec(any::<u8>(), 0..9),
        n in any::<i64>(),
    ) {
        let value = All { shapes, bytes, numbers: (0, 0, 0, 0, 0, 0, n, 0, 0, 0, n as f64), ..all() };
        let written = bytes_of(&Serde(&value)).unwrap();
        prop_assert_eq!(back::<All>(&written).unwrap(), value);
    }
}
