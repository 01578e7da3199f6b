//! Rust types to values and back, and what is said when they do not fit.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;

use super::{bytes_of, golden::dict};
use crate::error::{Code, Error};
use crate::wire::{
    Decode, Encode, EncodeArgs, EncodeKwargs, Encoder, ListRef, NeedMore, NoReferences, RequestRef, Value,
    ValueRef, WireError, decode, request,
};

fn round<T: Encode + for<'a> Decode<'a> + PartialEq + Debug>(value: T) {
    let bytes = bytes_of(&value).unwrap();
    assert_eq!(T::decode(decode(&bytes, &NoReferences).unwrap()).unwrap(), value);
}

#[test]
fn what_goes_in_comes_out() {
    round(());
    round(true);
    round((i8::MIN, i16::MIN, i32::MIN, i64::MIN, isize::MIN));
    round((i8::MAX, u16::MAX, u32::MAX, i64::MAX as u64, i64::MAX as usize));
    round((1.5_f32, f64::MIN_POSITIVE, f64::INFINITY, -0.0));
    round((String::from("é"), vec![0_u8, 255], [1_u8, 2, 3]));
    round((Some(1_i32), None::<String>, Box::new(2_u16)));
    round((vec![1_u16, 2], vec![(1_u32, true)], [Some(1_i64), None]));
    round((1_i8, 2_i8, 3_i8, 4_i8, 5_i8, 6_i8, 7_i8, 8_i8));
    round((BTreeMap::from([("a".to_owned(), 1_i32)]), HashMap::from([("b".to_owned(), vec![2_i32])])));
    round(Value::from((1, "two", vec![3.0], None::<i32>, b"4")));
    assert_eq!(bytes_of(&Cow::Borrowed("a")), bytes_of("a"));
    assert_eq!(bytes_of(&vec![1_u8]), bytes_of(&Value::Bytes(vec![1])));
    assert_eq!(bytes_of(&vec![1_u16]), bytes_of(&Value::List(vec![1.into()])));
    assert_eq!(bytes_of(&(u64::MAX,)), Err(WireError::IntTooLarge));
}

#[test]
fn borrowed_types_point_into_the_bytes() {
    let bytes = bytes_of(&("text", b"bytes")).unwrap();
    let (text, blob) = <(&str, &[u8])>::decode(decode(&bytes, &NoReferences).unwrap()).unwrap();
    assert_eq!((text, blob), ("text", &b"bytes"[..]));
    assert!(bytes.as_ptr_range().contains(&text.as_ptr()));
    assert!(bytes.as_ptr_range().contains(&blob.as_ptr()));
}

#[test]
fn values_become_types_by_try_from_and_say_why_not() {
    fn refused<T: TryFrom<Value, Error = Error>>(value: impl Into<Value>) -> String {
        let value = value.into();
        let e = T::try_from(value).map(|_| ()).unwrap_err();
        assert_eq!(e.code(), Code::Value);
        e.to_string()
    }
    assert_eq!(refused::<i32>(4_294_967_296_i64), "expected an integer of 32 bits, found 4294967296");
    assert_eq!(refused::<u16>(-1), "expected an unsigned integer of 16 bits, found -1");
    assert_eq!(refused::<u64>("1"), "expected an unsigned integer, found a string");
    assert_eq!(refused::<i64>(1.0), "expected an integer, found a float");
    assert_eq!(refused::<bool>(1), "expected a bool, found an integer");
    assert_eq!(refused::<f64>(i64::MAX), "expected a float, found 9223372036854775807");
    assert_eq!(refused::<f32>(1e300), "expected a float of 32 bits, found 1e300");
    assert_eq!(refused::<String>(b"x"), "expected a string, found bytes");
    assert_eq!(refused::<Vec<u8>>("x"), "expected bytes, found a string");
    assert_eq!(refused::<[u8; 2]>(b"x"), "expected 2 bytes, found 1");
    assert_eq!(refused::<Vec<i32>>(dict([])), "expected a list, found a dict");
    assert_eq!(refused::<(i32, i32)>((1, 2, 3)), "expected a list of 2, found a list of 3");
    assert_eq!(refused::<[i32; 3]>((1, 2)), "expected a list of 3, found a list of 2");
    assert_eq!(refused::<()>(false), "expected None, found a bool");
    assert_eq!(refused::<Option<bool>>(3), "expected a bool, found an integer");

    let value = Value::from((1, 2.5, "s", vec![1_u8], (true, ()), [1, 2], None::<i32>));
    type All = (u32, f64, String, Vec<u8>, (bool, ()), Vec<i64>, Option<i8>);
    let all = All::try_from(value).unwrap();
    assert_eq!(all, (1, 2.5, "s".into(), vec![1], (true, ()), vec![1, 2], None));
    assert_eq!(f64::try_from(Value::Int(1 << 53)).unwrap(), 9_007_199_254_740_992.0);
}

#[test]
fn values_read_in_place_say_the_same() {
    fn refused<T: for<'a> Decode<'a>>(value: impl Encode) -> String {
        let bytes = bytes_of(&value).unwrap();
        let e = T::decode(decode(&bytes, &NoReferences).unwrap()).map(|_| ()).unwrap_err();
        assert_eq!(e.code(), Code::Value);
        e.to_string()
    }
    assert_eq!(refused::<i32>(4_294_967_296_i64), "expected an integer of 32 bits, found 4294967296");
    assert_eq!(refused::<i8>(128_u32), "expected an integer of 8 bits, found 128");
    assert_eq!(refused::<f64>("1"), "expected a float, found a string");
    assert_eq!(refused::<(i32,)>((1, 2)), "expected a list of 1, found a list of 2");
    assert_eq!(refused::<[u8; 3]>([1_u8]), "expected 3 bytes, found 1");
    assert_eq!(refused::<[i32; 3]>([1_i32]), "expected a list of 3, found a list of 1");
    assert_eq!(refused::<BTreeMap<String, i32>>(0), "expected a dict, found an integer");
    assert_eq!(refused::<Vec<i32>>(()), "expected a list, found None");
}

#[test]
fn arguments_are_parsed_and_counted() {
    fn with<R>(args: &(impl EncodeArgs + ?Sized), look: impl FnOnce(ListRef<'_>) -> R) -> R {
        let mut body = Vec::new();
        request("a", "b", args, &(), &mut Encoder::to_vec(&mut body)).unwrap();
        look(RequestRef::decode(&body, &NoReferences).unwrap().args)
    }
    let (image, width) = with(&(b"png".as_slice(), 128_u32), |args| {
        let (image, width): (&[u8], u32) = args.parse().unwrap();
        (image.to_vec(), width)
    });
    assert_eq!((image.as_slice(), width), (&b"png"[..], 128));
    with(&(), |args| args.parse::<()>().unwrap());
    with(&[1, 2, 3].map(Value::from), |args| {
        assert_eq!(args.parse::<Vec<i32>>().unwrap(), [1, 2, 3]);
        assert_eq!(args.get(1), Ok(Some(ValueRef::Int(2))));
        assert_eq!(args.get(3), Ok(None));
    });
    let text = |e: Error| {
        assert_eq!(e.code(), Code::Value);
        e.to_string()
    };
    with(&(1, 2, 3), |args| {
        assert_eq!(text(args.parse::<(i32,)>().unwrap_err()), "expected 1 argument, 3 given");
        assert_eq!(text(args.parse::<()>().unwrap_err()), "expected 0 arguments, 3 given");
        assert_eq!(
            text(args.parse::<(i32, &str, i32)>().unwrap_err()),
            "argument 2: expected a string, found an integer"
        );
    });
}

#[test]
fn keyword_arguments_come_in_many_forms() {
    fn keys(kwargs: &(impl EncodeKwargs + ?Sized)) -> Vec<String> {
        let mut body = Vec::new();
        request("a", "b", &(), kwargs, &mut Encoder::to_vec(&mut body)).unwrap();
        let call = RequestRef::decode(&body, &NoReferences).unwrap();
        call.kwargs.iter().map(|pair| pair.unwrap().0.to_owned()).collect()
    }
    assert_eq!(keys(&()), [""; 0]);
    assert_eq!(keys(&[("k", 1)]), ["k"]);
    assert_eq!(keys(&vec![("k".to_owned(), Value::None)]), ["k"]);
    assert_eq!(keys(&BTreeMap::from([("a", 1), ("b", 2)])), ["a", "b"]);
    let mixed: [(&str, &dyn Encode); 2] = [("x", &1), ("y", &"z")];
    assert_eq!(keys(&mixed), ["x", "y"]);
}

#[test]
fn a_block_that_is_too_small_learns_the_size() {
    let value = Value::from((1, "two", b"three"));
    let bytes = bytes_of(&value).unwrap();
    for size in 0..bytes.len() {
        let mut block = vec![0xaa; size];
        let mut e = Encoder::new(&mut block);
        value.encode(&mut e).unwrap();
        assert_eq!(e.finish(), Err(NeedMore { needed: bytes.len() }));
    }
    let mut block = vec![0xaa; bytes.len() + 1];
    let mut e = Encoder::new(&mut block);
    value.encode(&mut e).unwrap();
    assert_eq!(e.finish(), Ok(bytes.len()));
    assert_eq!((&block[..bytes.len()], block[bytes.len()]), (&bytes[..], 0xaa));
}

#[test]
fn counts_can_be_filled_in_afterwards() {
    let write = |e: &mut Encoder<'_>| {
        let list = e.open_list()?;
        e.int(1)?;
        let dict = e.open_dict()?;
        e.key("k")?;
        e.list(1)?;
        e.none()?;
        e.end(dict)?;
        let empty = e.open_list()?;
        e.end(empty)?;
        e.list(0)?;
        e.dict(0)?;
        e.end(list)
    };
    let [empty, none] = [(); 2].map(|()| Vec::<Value>::new());
    let expected =
        bytes_of(&(1, BTreeMap::from([("k", vec![()])]), empty, none, BTreeMap::<&str, Value>::new()))
            .unwrap();
    let mut out = b"before".to_vec();
    write(&mut Encoder::to_vec(&mut out)).unwrap();
    assert_eq!(out, [b"before", &expected[..]].concat());
    for size in [0, 3, expected.len()] {
        let mut block = vec![0; size];
        let mut e = Encoder::new(&mut block);
        write(&mut e).unwrap();
        assert_eq!(e.finish().is_ok(), size == expected.len());
    }
}

/// What an implementation of `Encode` can get wrong is an error here and not a broken message there.
#[test]
fn unbalanced_encoders_are_found() {
    type Write = fn(&mut Encoder<'_>) -> Result<(), WireError>;
    let wrong: &[Write] = &[
        |e| e.none().and_then(|()| e.none()),
        |e| e.key("k"),
        |e| e.list(1).and_then(|()| e.key("k")),
        |e| e.dict(1).and_then(|()| e.none()),
        |e| e.dict(1).and_then(|()| e.key("k")).and_then(|()| e.key("k")),
        |e| e.list(1).and_then(|()| e.none()).and_then(|()| e.none()),
        |e| {
            let outer = e.open_list()?;
            let inner = e.open_list()?;
            e.end(outer)?;
            e.end(inner)
        },
        |e| {
            let dict = e.open_dict()?;
            e.key("k")?;
            e.end(dict)
        },
        |e| e.open_list().and_then(|open| e.list(1).and_then(|()| e.end(open))),
    ];
    for write in wrong {
        assert_eq!(write(&mut Encoder::new(&mut [])), Err(WireError::Unbalanced));
    }

    struct Short;
    impl Encode for Short {
        fn encode(&self, e: &mut Encoder<'_>) -> Result<(), WireError> {
            e.list(2)?;
            e.none()
        }
    }
    let mut e = Encoder::new(&mut []);
    assert_eq!(request("a", "b", &(Short,), &(), &mut e), Err(WireError::Unbalanced));
    assert_eq!(crate::wire::response(&Short, &mut Encoder::new(&mut [])), Err(WireError::Unbalanced));
}

#[test]
#[should_panic = "within a value"]
fn an_encoder_is_not_finished_within_a_value() {
    let mut e = Encoder::new(&mut []);
    e.list(1).unwrap();
    let _ = e.finish();
}

#[test]
fn values_give_up_their_contents() {
    assert_eq!(Value::from("s").into_string(), Ok("s".to_owned()));
    assert_eq!(Value::from(b"s").into_bytes(), Ok(b"s".to_vec()));
    assert_eq!(Value::from((1,)).into_list(), Ok(vec![Value::Int(1)]));
    assert_eq!(dict([("k", 1.into())]).into_dict(), Ok(vec![("k".to_owned(), Value::Int(1))]));
    assert_eq!(Value::Int(1).into_dict(), Err(Value::Int(1)));
    assert_ne!(Value::Float(f64::NAN), Value::Float(f64::NAN));
    let shown = dict([("k", (1, ((), true), b"\0a", 1.5, "é\n").into()), ("e", dict([]))]);
    assert_eq!(format!("{shown:?}"), r#"{"k": [1, [None, true], b"\x00a", 1.5, "é\n"], "e": {}}"#);
}

#[test]
fn values_show_their_contents_to_who_asks_for_the_right_ones() {
    let all =
        [true.into(), 1.into(), 1.5.into(), b"s".into(), "s".into(), (1,).into(), dict([("k", 1.into())])];
    for (at, value) in all.iter().enumerate() {
        let value: &Value = value;
        let shown = [
            value.as_bool() == Some(true),
            value.as_int() == Some(1),
            value.as_float() == Some(1.5),
            value.as_bytes() == Some(b"s"),
            value.as_str() == Some("s"),
            value.as_list() == Some(&[Value::Int(1)]),
            value.as_dict() == Some(&[("k".to_owned(), Value::Int(1))]),
        ];
        assert!(
            shown.iter().enumerate().all(|(kind, is_shown)| *is_shown == (kind == at)),
            "{value:?}: {shown:?}"
        );
        for (other, bytes) in all.iter().map(|other| (other, bytes_of(other).unwrap())) {
            let read = decode(&bytes, &NoReferences).unwrap();
            assert_eq!(read == *value, other == value);
            assert_eq!(decode(&bytes_of(value).unwrap(), &NoReferences).unwrap() == read, other == value);
        }
    }
}

#[test]
fn a_float_that_would_become_infinite_does_not_fit() {
    let narrow = |x: f64| f32::decode(decode(&bytes_of(&x).unwrap(), &NoReferences).unwrap()).ok();
    assert_eq!((narrow(1e300), narrow(1.5)), (None, Some(1.5)));
    assert_eq!(narrow(f64::INFINITY), Some(f32::INFINITY));
}
