//! Bytes that lie elsewhere.

use std::cell::Cell;

use super::bytes_of;
use crate::wire::{
    Encode, Encoder, NoReferences, Reference, RequestRef, Resolve, Value, ValueRef, WireError, decode,
    request,
};

/// One region, number 7, which counts how often it is asked.
struct Region {
    bytes: Vec<u8>,
    asked: Cell<usize>,
    gone: Cell<bool>,
}

impl Region {
    fn new() -> Region {
        Region { bytes: (0..100).collect(), asked: Cell::new(0), gone: Cell::new(false) }
    }
}

impl Resolve for Region {
    fn resolve(&self, r: Reference) -> Result<&[u8], WireError> {
        self.asked.set(self.asked.get() + 1);
        let end = r.offset.checked_add(r.len).filter(|_| r.region == 7 && !self.gone.get());
        let range = end.and_then(|end| Some(r.offset.try_into().ok()?..end.try_into().ok()?));
        range
            .and_then(|range: std::ops::Range<usize>| self.bytes.get(range))
            .ok_or(WireError::BadReference { region: r.region })
    }
}

const TEN: Reference = Reference { region: 7, offset: 10, len: 3 };

#[test]
fn a_reference_reads_as_bytes() {
    let region = Region::new();
    let body = bytes_of(&(1, TEN, (TEN, "x"))).unwrap();
    let read = decode(&body, &region).unwrap();
    assert_eq!(region.asked.get(), 2, "once for each");
    assert_eq!(read, Value::from((1, [10_u8, 11, 12], ([10_u8, 11, 12], "x"))));
    // Written on, to a socket for instance, it is inline.
    assert_eq!(bytes_of(&read), bytes_of(&(1, [10_u8, 11, 12], ([10_u8, 11, 12], "x"))));

    let mut body = vec![0; 200];
    let mut e = Encoder::new(&mut body);
    request("m:C", "f", &(TEN, 5), &[("k", TEN)], &mut e).unwrap();
    let len = e.finish().unwrap();
    let call = RequestRef::decode(&body[..len], &region).unwrap();
    let (image, n): (&[u8], u16) = call.args.parse().unwrap();
    assert_eq!((image, n), (&[10, 11, 12][..], 5));
    assert_eq!(call.kwargs.get("k"), Ok(Some(ValueRef::Bytes(&[10, 11, 12]))));
}

#[test]
fn a_reference_is_nineteen_bytes() {
    let bytes = bytes_of(&Reference { region: 0x0102, offset: 0x0304, len: 0x0506 }).unwrap();
    assert_eq!(bytes, super::golden::hex("30010200000000000003040000000000000506"));
    let region = Region::new();
    for len in 1..bytes.len() {
        let cut = decode(&bytes[..len], &region).unwrap_err();
        assert_eq!(cut.to_string(), "Truncated TLV data: incomplete reference");
    }
}

#[test]
fn a_reference_out_of_bounds_is_refused_wherever_it_stands() {
    let region = Region::new();
    let bad = [
        Reference { region: 8, ..TEN },
        Reference { offset: 98, ..TEN },
        Reference { offset: u64::MAX, ..TEN },
        Reference { len: u64::MAX, ..TEN },
    ];
    for r in bad {
        let refused = Err(WireError::BadReference { region: r.region });
        assert_eq!(decode(&bytes_of(&r).unwrap(), &region).map(|_| ()), refused);
        assert_eq!(decode(&bytes_of(&(1, (2, r))).unwrap(), &region).map(|_| ()), refused);
    }
    let end = Reference { offset: 100, len: 0, ..TEN };
    assert_eq!(decode(&bytes_of(&end).unwrap(), &region).unwrap(), ValueRef::Bytes(&[]));
}

#[test]
fn sockets_know_no_references() {
    let bytes = bytes_of(&TEN).unwrap();
    for len in 1..=bytes.len() {
        assert_eq!(decode(&bytes[..len], &NoReferences).unwrap_err(), WireError::UnknownType(0x30));
    }
    let mut out = Vec::new();
    let refused = TEN.encode(&mut Encoder::to_vec(&mut out)).unwrap_err();
    assert_eq!(refused.to_string(), "Unsupported type for TLV encoding: reference");
    let region = Region::new();
    let key = [&[0x21, 0, 0, 0, 1][..], &bytes].concat();
    assert_eq!(decode(&key, &region).unwrap_err().to_string(), "Dict key must be string, got bytes");
}

/// A resolver must not change its mind. If it does, readers get an error and an end, not other bytes.
#[test]
fn a_region_that_vanishes_is_an_error() {
    let region = Region::new();
    let body = bytes_of(&(TEN, 2)).unwrap();
    let read = decode(&body, &region).unwrap();
    let ValueRef::List(list) = read else { panic!("not a list") };
    region.gone.set(true);
    let gone = WireError::BadReference { region: 7 };
    assert_eq!(list.iter().collect::<Vec<_>>(), [Err(gone)]);
    assert_eq!(read.to_owned(), Err(gone));
    assert_ne!(read, read);
    assert_eq!(bytes_of(&read), Err(gone));
    assert_eq!(list.parse::<(&[u8], i32)>().unwrap_err().code(), crate::error::Code::Frame);
}
