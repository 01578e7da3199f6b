//! Byte for byte what gunicorn writes, and in its words what it refuses.

use super::golden::{self, dict, hex};
use super::{bytes_of, value_of};
use crate::limits::{MAX_FRAME_PAYLOAD, MAX_ITEMS, MAX_MESSAGE, MAX_SOCKET_BYTES};
use crate::wire::{
    Encoder, ErrorRef, Frame, FrameDecoder, Header, Kind, Manage, ManageOp, NoReferences, Outcome,
    RequestRef, ResponseRef, Stash, StashOp, Value, ValueRef, WireError, decode,
};

#[test]
fn golden_values_both_ways() {
    for (value, bytes) in golden::values() {
        assert_eq!(bytes_of(&value), Ok(bytes.clone()), "{value:?}");
        assert_eq!(value_of(&bytes), Ok(value.clone()));
        let read = decode(&bytes, &NoReferences).unwrap();
        assert_eq!(read, value);
        assert_eq!(bytes_of(&read), Ok(bytes.clone()));
        let mut socket = Vec::new();
        let mut e = Encoder::to_vec(&mut socket);
        crate::wire::Encode::encode(&value, &mut e).unwrap();
        assert_eq!(e.finish(), Ok(bytes.len()));
        assert_eq!(socket, bytes);
    }
}

#[test]
fn golden_frames_as_we_write_them() {
    for (name, ours, theirs) in golden::frames() {
        assert_eq!(ours, theirs, "{name}");
        let header = Header::decode(&theirs).unwrap();
        assert_eq!(header.encode(), theirs[..16], "{name}");
        assert_eq!((header.id, header.len as usize), (golden::ID, theirs.len() - 16), "{name}");
    }
}

#[test]
fn golden_frames_as_we_read_them() {
    for (name, _, bytes) in golden::frames() {
        let Frame { header, body } = Frame::decode(&bytes).unwrap();
        let again = match header.kind {
            Kind::Request => {
                let call = RequestRef::decode(&body, &NoReferences).unwrap();
                assert_eq!((call.app, call.action), ("m:C", "f"));
                let (args, kwargs) = (call.args, call.kwargs);
                Header::frame(header.kind, header.id, |e| {
                    crate::wire::request(call.app, call.action, &args, &kwargs, e)
                })
            }
            Kind::Stash => {
                let stash = Stash::decode(&body, &NoReferences).unwrap();
                assert!(StashOp::from_code(stash.op).is_some());
                Header::frame(header.kind, header.id, |e| stash.encode(e))
            }
            Kind::Manage => {
                let manage = Manage::decode(&body, &NoReferences).unwrap();
                assert!(ManageOp::from_code(manage.op).is_some());
                Header::frame(header.kind, header.id, |e| manage.encode(e))
            }
            Kind::Status => Header::frame(header.kind, header.id, |_| Ok(())),
            _ => match ResponseRef::decode(header.kind, &body, &NoReferences).unwrap() {
                Outcome::Result(v) => Header::frame(header.kind, header.id, |e| crate::wire::response(&v, e)),
                Outcome::Chunk(v) => Header::frame(header.kind, header.id, |e| crate::wire::chunk(&v, e)),
                Outcome::Error(e) => {
                    let all = e.details.iter().map(|pair| pair.unwrap());
                    let more: Vec<_> = all
                        .filter(|(key, _)| !["app_path", "action", "traceback"].contains(key))
                        .map(|(key, value)| (key, value.to_owned().unwrap()))
                        .collect();
                    let ErrorRef { class, message, app, action, traceback, .. } = e;
                    let details = crate::wire::ErrorDetails { app, action, traceback, more: &more };
                    Header::frame(header.kind, header.id, |e| crate::wire::error(class, message, &details, e))
                }
                Outcome::End => Header::frame(header.kind, header.id, |_| Ok(())),
            },
        };
        assert_eq!(again, Ok(bytes), "{name}");
    }
}

#[test]
fn an_error_says_who_and_where() {
    let details = crate::wire::ErrorDetails {
        app: "m:C",
        action: "f",
        traceback: "line 1",
        more: &[("worker_id", 7.into())],
    };
    let frame =
        Header::frame(Kind::Error, 1, |e| crate::wire::error("ValueError", "no", &details, e)).unwrap();
    let Ok(Outcome::Error(e)) = ResponseRef::decode(Kind::Error, &frame[16..], &NoReferences) else {
        panic!("not an error");
    };
    assert_eq!(
        (e.class, e.message, e.app, e.action, e.traceback),
        ("ValueError", "no", "m:C", "f", "line 1")
    );
    assert_eq!(e.details.get("worker_id"), Ok(Some(ValueRef::Int(7))));
    let keys: Vec<_> = e.details.iter().map(|pair| pair.unwrap().0).collect();
    assert_eq!(keys, ["app_path", "action", "traceback", "worker_id"]);
}

/// C8; spec 1.3: each fault of a value, in gunicorn's words.
#[test]
fn faults_of_values_read_as_gunicorn_writes_them() {
    let cases: &[(&str, &str)] = &[
        ("", "Truncated TLV data: no type byte"),
        ("01", "Truncated TLV data: missing bool value"),
        ("0500000000000000", "Truncated TLV data: incomplete int64"),
        ("06", "Truncated TLV data: incomplete float64"),
        ("10000000", "Truncated TLV data: incomplete bytes length"),
        ("11", "Truncated TLV data: incomplete string length"),
        ("20000000", "Truncated TLV data: incomplete list count"),
        ("21ff", "Truncated TLV data: incomplete dict count"),
        ("1004000001", "Bytes too large: 67108865 bytes (max: 67108864)"),
        ("1104000001", "String too large: 67108865 bytes (max: 67108864)"),
        ("2000100001", "List too large: 1048577 items (max: 1048576)"),
        ("2100100001", "Dict too large: 1048577 items (max: 1048576)"),
        ("20ffffffff000000", "List too large: 4294967295 items (max: 1048576)"),
        ("21ffffffff000000", "Dict too large: 4294967295 items (max: 1048576)"),
        ("2000100000000000", "Truncated TLV data: no type byte"),
        ("10000000050102", "Truncated TLV data: expected 5 bytes, got 2"),
        ("11000000056161", "Truncated TLV data: expected 5 bytes for string, got 2"),
        ("1004000000", "Truncated TLV data: expected 67108864 bytes, got 0"),
        (
            "110000000261ff",
            "Invalid UTF-8 in string: 'utf-8' codec can't decode byte 0xff in position 1: invalid start byte",
        ),
        (
            "1100000003e28261",
            "Invalid UTF-8 in string: 'utf-8' codec can't decode bytes in position 0-1: invalid continuation byte",
        ),
        (
            "1100000003eda080",
            "Invalid UTF-8 in string: 'utf-8' codec can't decode byte 0xed in position 0: invalid continuation byte",
        ),
        ("1100000003e282", "Truncated TLV data: expected 3 bytes for string, got 2"),
        (
            "110000000361e282",
            "Invalid UTF-8 in string: 'utf-8' codec can't decode bytes in position 1-2: unexpected end of data",
        ),
        (
            "1100000001c3",
            "Invalid UTF-8 in string: 'utf-8' codec can't decode byte 0xc3 in position 0: unexpected end of data",
        ),
        ("2100000001000000", "Dict key must be string, got NoneType"),
        ("21000000010101", "Dict key must be string, got bool"),
        ("2100000001050000000000000001", "Dict key must be string, got int"),
        ("2100000001060000000000000001", "Dict key must be string, got float"),
        ("21000000011000000000", "Dict key must be string, got bytes"),
        ("21000000012000000000", "Dict key must be string, got list"),
        ("21000000012100000000", "Dict key must be string, got dict"),
        ("2100000001200000000102", "Unknown TLV type code: 0x02"),
        ("2100000001210000000120000000010000", "Dict key must be string, got list"),
        ("02", "Unknown TLV type code: 0x02"),
        ("22", "Unknown TLV type code: 0x22"),
        ("30", "Unknown TLV type code: 0x30"),
        ("20000000023000", "Unknown TLV type code: 0x30"),
        ("0000", "Trailing data after TLV: 1 bytes"),
    ];
    for (bytes, text) in cases {
        let refused = value_of(&hex(bytes)).unwrap_err();
        assert_eq!(refused.to_string(), *text, "{bytes}");
    }
    assert_eq!(value_of(&hex("017f")), Ok(Value::Bool(true)));
}

/// C1, C14; spec 1.4: each fault of a header, in gunicorn's order and words.
#[test]
fn faults_of_headers_read_as_gunicorn_writes_them() {
    let cases: &[(&str, &str)] = &[
        ("", "Header too short: 0 bytes, expected 16"),
        ("000000000000000000000000000000", "Header too short: 15 bytes, expected 16"),
        ("00ff63ff ffffffff 0000000000000000", "Invalid magic: b'\\x00\\xff', expected b'GD'"),
        ("470963ff ffffffff 0000000000000000", "Invalid magic: b'G\\t', expected b'GD'"),
        ("275c63ff ffffffff 0000000000000000", "Invalid magic: b\"'\\\\\", expected b'GD'"),
        ("272263ff ffffffff 0000000000000000", "Invalid magic: b'\\'\"', expected b'GD'"),
        ("474400ff ffffffff 0000000000000000", "Unsupported protocol version: 0, expected 1"),
        ("474402ff ffffffff 0000000000000000", "Unsupported protocol version: 2, expected 1"),
        ("47440001 00000000 0000000000000000", "Unsupported protocol version: 0, expected 1"),
        ("47440201 00000000 0000000000000000", "Unsupported protocol version: 2, expected 1"),
        ("474401ff ffffffff 0000000000000000", "Unknown message type: 0xff"),
        ("47440106 ffffffff 0000000000000000", "Unknown message type: 0x06"),
        ("47440140 00000000 0000000000000000", "Unknown message type: 0x40"),
        ("47440101 04000001 0000000000000000", "Message too large: 67108865 bytes (max: 67108864)"),
    ];
    for (bytes, text) in cases {
        let bytes = hex(&bytes.replace(' ', ""));
        assert_eq!(Header::decode(&bytes).unwrap_err().to_string(), *text);
    }
    let largest = hex("47440101040000000000000000000001");
    assert_eq!(
        Header::decode(&largest),
        Ok(Header { kind: Kind::Request, len: MAX_FRAME_PAYLOAD as u32, id: 1 })
    );
    let hello = Header { kind: Kind::Hello, len: MAX_MESSAGE as u32, id: u64::MAX };
    assert_eq!(Header::decode_extended(&hello.encode()), Ok(hello));
    let more = Header { len: MAX_MESSAGE as u32 + 1, ..hello };
    assert_eq!(
        Header::decode_extended(&more.encode()).unwrap_err().to_string(),
        "Message too large: 1073741825 bytes (max: 1073741824)"
    );
}

#[test]
fn streams_that_end_early_read_as_gunicorn_writes_them() {
    let (_, _, frame) = golden::frames().swap_remove(1);
    let ends = |len: usize| {
        let mut frames = FrameDecoder::new(MAX_FRAME_PAYLOAD, false);
        frames.feed(&frame[..len]);
        frames.finish().map_err(|e| e.to_string())
    };
    let closed = |got, of| Err(format!("Connection closed after {got} bytes, expected {of}"));
    assert_eq!(ends(0), Ok(()));
    assert_eq!(ends(1), closed(1, 16));
    assert_eq!(ends(15), closed(15, 16));
    assert_eq!(ends(16), Err("Connection closed".to_owned()));
    assert_eq!(ends(17), closed(1, 94));
    assert_eq!(ends(frame.len() - 1), closed(93, 94));
    assert_eq!(ends(frame.len()), Ok(()));
    assert_eq!(
        Frame::decode(&frame[..20]).unwrap_err().to_string(),
        "Incomplete message: expected 110 bytes, got 20"
    );
}

/// Spec 1.5: defaults, unknown keys, any order, and keys that must not override the header.
#[test]
fn calls_are_read_with_defaults_and_without_traps() {
    let read = |value: &Value| {
        let body = bytes_of(value).unwrap();
        RequestRef::decode(&body, &NoReferences).map(|call| {
            let kwargs = call.kwargs.iter().map(|pair| pair.unwrap().0.to_owned()).collect::<Vec<_>>();
            (call.app.to_owned(), call.action.to_owned(), call.args.len(), kwargs)
        })
    };
    let nothing = Ok((String::new(), String::new(), 0, vec![]));
    assert_eq!(read(&dict([])), nothing);
    assert_eq!(read(&dict([("args", ().into()), ("kwargs", ().into()), ("app_path", ().into())])), nothing);
    assert!(RequestRef::decode(&[], &NoReferences).unwrap().args.is_empty());
    let odd = dict([
        ("kwargs", dict([("b", 1.into()), ("a", 2.into())])),
        ("type", "status".into()),
        ("id", 5.into()),
        ("later", (1, (2, 3)).into()),
        ("args", (1, 2, 3).into()),
        ("action", "first".into()),
        ("app_path", 4.into()),
        ("action", "f".into()),
        ("app_path", "m:C".into()),
    ]);
    assert_eq!(read(&odd), Ok(("m:C".into(), "f".into(), 3, vec!["b".into(), "a".into()])));

    let refused = |value: Value| read(&value).unwrap_err().to_string();
    assert_eq!(refused(5.into()), "payload must be a dict, got int");
    assert_eq!(refused((1, 2).into()), "payload must be a dict, got list");
    assert_eq!(refused(dict([("args", "abc".into())])), "args must be a list, got str");
    assert_eq!(refused(dict([("kwargs", (1,).into())])), "kwargs must be a dict, got list");
    assert_eq!(refused(dict([("action", 1.5.into())])), "action must be a string, got float");
    assert_eq!(
        RequestRef::decode(&hex("21000000012000000000"), &NoReferences).unwrap_err(),
        WireError::KeyNotString("list")
    );
    assert_eq!(
        RequestRef::decode(&hex("2100000001210000000120"), &NoReferences).unwrap_err(),
        WireError::Incomplete("list count")
    );
    assert_eq!(
        RequestRef::decode(&hex("210000000000"), &NoReferences).unwrap_err(),
        WireError::Trailing { len: 1 }
    );
}

#[test]
fn replies_are_read_with_defaults() {
    let read = |kind, value: &Value| {
        let body = bytes_of(value).unwrap();
        match ResponseRef::decode(kind, &body, &NoReferences) {
            Ok(Outcome::Result(v)) => format!("result {v:?}"),
            Ok(Outcome::Chunk(v)) => format!("chunk {v:?}"),
            Ok(Outcome::Error(e)) => format!("error {} {:?} {}", e.class, e.message, e.details.len()),
            Ok(Outcome::End) => "end".to_owned(),
            Err(e) => e.to_string(),
        }
    };
    assert_eq!(read(Kind::Response, &dict([])), "result None");
    assert_eq!(read(Kind::Response, &dict([("result", 1.into()), ("result", 2.into())])), "result 2");
    assert_eq!(read(Kind::Chunk, &dict([("other", 1.into())])), "chunk None");
    assert_eq!(read(Kind::End, &dict([])), "end");
    assert_eq!(read(Kind::Error, &dict([])), "error DirtyError \"Unknown error\" 0");
    assert_eq!(read(Kind::Error, &dict([("error", "no".into())])), "error must be a dict, got str");
    assert_eq!(read(Kind::Status, &dict([])), "message type 0x11 is not a reply");
    assert!(matches!(
        ResponseRef::decode(Kind::Response, &[], &NoReferences),
        Ok(Outcome::Result(ValueRef::None))
    ));
}

#[test]
fn stash_and_manage_are_read_with_defaults() {
    let body = bytes_of(&dict([])).unwrap();
    assert_eq!(Stash::decode(&body, &NoReferences), Ok(Stash::default()));
    assert_eq!(Manage::decode(&body, &NoReferences), Ok(Manage { op: 0, count: 1 }));
    let many = bytes_of(&dict([("op", 1.into()), ("count", (-3).into())])).unwrap();
    assert_eq!(Manage::decode(&many, &NoReferences), Ok(Manage::new(ManageOp::Add, 1)));
    let bad = bytes_of(&dict([("count", "3".into())])).unwrap();
    assert_eq!(
        Manage::decode(&bad, &NoReferences).unwrap_err().to_string(),
        "count must be an integer, got str"
    );
    // Keys of any kind, and a value that is None is the same as none.
    let put = Stash { key: Some((1, 2).into()), value: Some(Value::None), ..Stash::new(StashOp::Put, "t") };
    let frame = Header::frame(Kind::Stash, 0, |e| put.encode(e)).unwrap();
    let read = Stash::decode(&frame[16..], &NoReferences).unwrap();
    assert_eq!(read, Stash { value: None, ..put });
    assert_eq!(StashOp::from_code(0), None);
    assert_eq!(StashOp::from_code(11), None);
    assert_eq!(ManageOp::from_code(3), None);
}

/// As Python reads them: the last value, in the first place.
#[test]
fn keys_that_come_twice_are_folded() {
    let twice = dict([
        ("a", 1.into()),
        ("b", dict([("x", 1.into()), ("x", 2.into())])),
        ("a", 3.into()),
        ("c", 4.into()),
        ("a", 5.into()),
    ]);
    assert_eq!(twice.get("a"), Some(&Value::Int(5)));
    let bytes = bytes_of(&twice).unwrap();
    let read = decode(&bytes, &NoReferences).unwrap();
    let ValueRef::Dict(pairs) = read else { panic!("not a dict") };
    assert_eq!(pairs.len(), 5);
    assert_eq!(pairs.get("a"), Ok(Some(ValueRef::Int(5))));
    assert_eq!(pairs.get("z"), Ok(None));
    let folded = dict([("a", 5.into()), ("b", dict([("x", 2.into())])), ("c", 4.into())]);
    assert_eq!(read.to_owned(), Ok(folded));
}

#[test]
fn a_frame_over_the_limit_is_refused_before_it_is_sent() {
    if cfg!(miri) {
        return;
    }
    let most = vec![0_u8; MAX_SOCKET_BYTES];
    let text = |r: Result<Vec<u8>, WireError>| r.map(|frame| frame.len()).map_err(|e| e.to_string());
    // A dict with the key "result", and the bytes' own head, are 21 bytes.
    let frame = |n: usize| text(Header::frame(Kind::Response, 1, |e| crate::wire::response(&most[..n], e)));
    assert_eq!(frame(MAX_FRAME_PAYLOAD - 21), Ok(MAX_FRAME_PAYLOAD + 16));
    assert_eq!(
        frame(MAX_FRAME_PAYLOAD - 20),
        Err("Message too large: 67108865 bytes (max: 67108864)".into())
    );
    let mut out = Vec::new();
    let more = vec![0_u8; MAX_SOCKET_BYTES + 1];
    let refused = Encoder::to_vec(&mut out).bytes(&more).unwrap_err();
    assert_eq!(refused.to_string(), "Bytes too large: 67108865 bytes (max: 67108864)");
    let refused = Encoder::to_vec(&mut out).list(MAX_ITEMS + 1).unwrap_err();
    assert_eq!(refused.to_string(), "List too large: 1048577 items (max: 1048576)");
    assert_eq!(Encoder::to_vec(&mut out).list(MAX_ITEMS), Ok(()));
    let refused = Encoder::new(&mut []).dict(MAX_ITEMS + 1).unwrap_err();
    assert_eq!(refused.to_string(), "Dict too large: 1048577 items (max: 1048576)");
    // Inline values may be larger in shared memory.
    let mut e = Encoder::new(&mut []);
    assert_eq!(e.bytes(&more), Ok(()));
    assert!(e.finish().is_err());
}
