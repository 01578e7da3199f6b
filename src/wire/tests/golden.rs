//! Frames and values exactly as gunicorn 27.0.1 writes them, and the same said in our types.

use crate::wire::{
    ErrorDetails, Header, Kind, Manage, ManageOp, Stash, StashOp, Value, WireError, chunk, error, request,
    response,
};

/// The request id of every frame here.
pub(crate) const ID: u64 = 0x0102_0304_0506_0708;

/// Each value with its bytes.
#[rustfmt::skip]
pub(crate) fn values() -> Vec<(Value, Vec<u8>)> {
    vec![
        (Value::None, hex("00")),
        (true.into(), hex("0101")),
        (false.into(), hex("0100")),
        (0.into(), hex("050000000000000000")),
        ((-1).into(), hex("05ffffffffffffffff")),
        (i64::MAX.into(), hex("057fffffffffffffff")),
        (i64::MIN.into(), hex("058000000000000000")),
        (1.5.into(), hex("063ff8000000000000")),
        (f64::INFINITY.into(), hex("067ff0000000000000")),
        (b"".into(), hex("1000000000")),
        (b"\x00\xff".into(), hex("100000000200ff")),
        ("".into(), hex("1100000000")),
        ("é".into(), hex("1100000002c3a9")),
        (Value::List(vec![]), hex("2000000000")),
        ((1, "a", ()).into(), hex("200000000305000000000000000111000000016100")),
        (Value::Dict(vec![]), hex("2100000000")),
        (dict([("a", 1.into()), ("b", (true,).into())]), hex("210000000211000000016105000000000000000111000000016220000000010101")),
        (dict([("1", 2.into())]), hex("2100000001110000000131050000000000000002")),
    ]
}

/// Each frame: its name, ours, gunicorn's bytes.
#[rustfmt::skip]
pub(crate) fn frames() -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let put = Stash { key: Some("k".into()), value: Some(5.into()), ..Stash::new(StashOp::Put, "t") };
    let key = |op| Stash { key: Some("k".into()), ..Stash::new(op, "t") };
    let glob = Stash { pattern: Some("a*".into()), ..Stash::new(StashOp::Keys, "t") };
    let timeout = ErrorDetails { more: &[("timeout", 1.into())], ..ErrorDetails::default() };
    let app = ErrorDetails { app: "a:B", ..ErrorDetails::default() };
    let all = [
        ("REQUEST app_path='m:C' action='f' args=[] kwargs={}", Header::frame(Kind::Request, ID, |e| request("m:C", "f", &(), &(), e)),
         "47440101000000490102030405060708210000000411000000086170705f7061746811000000036d3a431100000006616374696f6e110000000166110000000461726773200000000011000000066b77617267732100000000"),
        ("REQUEST args=(1,) kwargs={'k':b'x'}", Header::frame(Kind::Request, ID, |e| request("m:C", "f", &(1,), &[("k", b"x")], e)),
         "474401010000005e0102030405060708210000000411000000086170705f7061746811000000036d3a431100000006616374696f6e110000000166110000000461726773200000000105000000000000000111000000066b7761726773210000000111000000016b100000000178"),
        ("RESPONSE result=None", Header::frame(Kind::Response, ID, |e| response(&(), e)),
         "4744010200000011010203040506070821000000011100000006726573756c7400"),
        ("RESPONSE result={'ok':True}", Header::frame(Kind::Response, ID, |e| response(&dict([("ok", true.into())]), e)),
         "474401020000001e010203040506070821000000011100000006726573756c74210000000111000000026f6b0101"),
        ("ERROR DirtyError('m')", Header::frame(Kind::Error, ID, |e| error("DirtyError", "m", &ErrorDetails::default(), e)),
         "47440103000000550102030405060708210000000111000000056572726f722100000003110000000a6572726f725f74797065110000000a44697274794572726f7211000000076d65737361676511000000016d110000000764657461696c732100000000"),
        ("ERROR DirtyTimeoutError('Worker timeout',1)", Header::frame(Kind::Error, ID, |e| error("DirtyTimeoutError", "Worker timeout", &timeout, e)),
         "474401030000007e0102030405060708210000000111000000056572726f722100000003110000000a6572726f725f747970651100000011446972747954696d656f75744572726f7211000000076d657373616765110000000e576f726b65722074696d656f7574110000000764657461696c732100000001110000000774696d656f7574050000000000000001"),
        ("ERROR DirtyNoWorkersAvailableError('a:B')", Header::frame(Kind::Error, ID, |e| error("DirtyNoWorkersAvailableError", "No workers available for app: a:B", &app, e)),
         "474401030000009c0102030405060708210000000111000000056572726f722100000003110000000a6572726f725f74797065110000001c44697274794e6f576f726b657273417661696c61626c654572726f7211000000076d65737361676511000000214e6f20776f726b65727320617661696c61626c6520666f72206170703a20613a42110000000764657461696c73210000000111000000086170705f706174681100000003613a42"),
        ("CHUNK data='t'", Header::frame(Kind::Chunk, ID, |e| chunk("t", e)),
         "474401040000001401020304050607082100000001110000000464617461110000000174"),
        ("END", Header::frame(Kind::End, ID, |_| Ok(())),
         "47440105000000000102030405060708"),
        ("STATUS", Header::frame(Kind::Status, ID, |_| Ok(())),
         "47440111000000000102030405060708"),
        ("MANAGE add 1", Header::frame(Kind::Manage, ID, |e| Manage::new(ManageOp::Add, 1).encode(e)),
         "47440112000000280102030405060708210000000211000000026f700500000000000000011100000005636f756e74050000000000000001"),
        ("MANAGE remove 2", Header::frame(Kind::Manage, ID, |e| Manage::new(ManageOp::Remove, 2).encode(e)),
         "47440112000000280102030405060708210000000211000000026f700500000000000000021100000005636f756e74050000000000000002"),
        ("STASH PUT t k 5", Header::frame(Kind::Stash, ID, |e| put.encode(e)),
         "47440110000000460102030405060708210000000411000000026f7005000000000000000111000000057461626c6511000000017411000000036b657911000000016b110000000576616c7565050000000000000005"),
        ("STASH GET t k", Header::frame(Kind::Stash, ID, |e| key(StashOp::Get).encode(e)),
         "47440110000000330102030405060708210000000311000000026f7005000000000000000211000000057461626c6511000000017411000000036b657911000000016b"),
        ("STASH DELETE t k", Header::frame(Kind::Stash, ID, |e| key(StashOp::Delete).encode(e)),
         "47440110000000330102030405060708210000000311000000026f7005000000000000000311000000057461626c6511000000017411000000036b657911000000016b"),
        ("STASH KEYS t", Header::frame(Kind::Stash, ID, |e| Stash::new(StashOp::Keys, "t").encode(e)),
         "47440110000000250102030405060708210000000211000000026f7005000000000000000411000000057461626c65110000000174"),
        ("STASH KEYS t pattern 'a*'", Header::frame(Kind::Stash, ID, |e| glob.encode(e)),
         "47440110000000380102030405060708210000000311000000026f7005000000000000000411000000057461626c6511000000017411000000077061747465726e1100000002612a"),
        ("STASH CLEAR t", Header::frame(Kind::Stash, ID, |e| Stash::new(StashOp::Clear, "t").encode(e)),
         "47440110000000250102030405060708210000000211000000026f7005000000000000000511000000057461626c65110000000174"),
        ("STASH INFO t", Header::frame(Kind::Stash, ID, |e| Stash::new(StashOp::Info, "t").encode(e)),
         "47440110000000250102030405060708210000000211000000026f7005000000000000000611000000057461626c65110000000174"),
        ("STASH ENSURE t", Header::frame(Kind::Stash, ID, |e| Stash::new(StashOp::Ensure, "t").encode(e)),
         "47440110000000250102030405060708210000000211000000026f7005000000000000000711000000057461626c65110000000174"),
        ("STASH DELETE_TABLE t", Header::frame(Kind::Stash, ID, |e| Stash::new(StashOp::DeleteTable, "t").encode(e)),
         "47440110000000250102030405060708210000000211000000026f7005000000000000000811000000057461626c65110000000174"),
        ("STASH TABLES (table='')", Header::frame(Kind::Stash, ID, |e| Stash::new(StashOp::Tables, "").encode(e)),
         "47440110000000240102030405060708210000000211000000026f7005000000000000000911000000057461626c651100000000"),
        ("STASH EXISTS t", Header::frame(Kind::Stash, ID, |e| Stash::new(StashOp::Exists, "t").encode(e)),
         "47440110000000250102030405060708210000000211000000026f7005000000000000000a11000000057461626c65110000000174"),
        ("STASH EXISTS t k", Header::frame(Kind::Stash, ID, |e| key(StashOp::Exists).encode(e)),
         "47440110000000330102030405060708210000000311000000026f7005000000000000000a11000000057461626c6511000000017411000000036b657911000000016b"),
    ];
    all.into_iter().map(|(name, ours, theirs): (_, Result<_, WireError>, _)| (name, ours.unwrap(), hex(theirs))).collect()
}

pub(crate) fn dict<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    Value::Dict(pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

pub(crate) fn hex(digits: &str) -> Vec<u8> {
    digits
        .as_bytes()
        .chunks(2)
        .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
        .collect()
}
