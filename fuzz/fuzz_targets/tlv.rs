//! One body, read in every way that there is. What was read can be written, and reads the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stokehold::AppError;
use stokehold::internals::wire::{
    Encode, Encoder, Kind, Manage, NoReferences, Outcome, Reference, RequestRef, Resolve, ResponseRef, Stash,
    ValueRef, WireError, decode, request,
};

fuzz_target!(|body: &[u8]| {
    let region = Region([7; 256]);
    for refs in [&NoReferences as &dyn Resolve, &region] {
        if let Ok(value) = decode(body, refs) {
            look(value);
            let once = written(&value);
            assert!(refs.has_references() || once.len() == body.len(), "only the byte of a bool may differ");
            assert_eq!(written(&decode(&once, refs).expect("what we wrote")), once);
            let owned = value.to_owned().expect("validated");
            assert_eq!(owned.clone().describe(), value.describe());
            let folded = written(&owned);
            let again = decode(&folded, refs).expect("what we wrote");
            assert_eq!(written(&again.to_owned().expect("validated")), folded);
        }
        if let Ok(call) = RequestRef::decode(body, refs) {
            look(ValueRef::List(call.args));
            look(ValueRef::Dict(call.kwargs));
            let mut out = Vec::new();
            request(call.app, call.action, &call.args, &call.kwargs, &mut Encoder::to_vec(&mut out))
                .expect("it was a call");
            let again = RequestRef::decode(&out, &NoReferences).expect("what we wrote");
            assert_eq!((again.app, again.action, again.args.len()), (call.app, call.action, call.args.len()));
            let _ = call.args.parse::<(i64, &str)>();
            let _ = call.args.parse::<Vec<f64>>();
        }
        for kind in [Kind::Response, Kind::Error, Kind::Chunk, Kind::End] {
            if let Ok(Outcome::Error(error)) = ResponseRef::decode(kind, body, refs) {
                let (_, relays) = (error.source(), error.relayed());
                assert!(relays.len() <= AppError::MAX_RELAYS);
            }
        }
        let _ = Manage::decode(body, refs);
        if let Ok(stash) = Stash::decode(body, refs) {
            stash.encode(&mut Encoder::to_vec(&mut Vec::new())).expect("it was one");
        }
    }
});

struct Region([u8; 256]);

impl Resolve for Region {
    fn resolve(&self, r: Reference) -> Result<&[u8], WireError> {
        let range = r.offset.checked_add(r.len).map(|end| r.offset as usize..end as usize);
        range.and_then(|range| self.0.get(range)).ok_or(WireError::BadReference { region: r.region })
    }
}

fn look(value: ValueRef<'_>) {
    match value {
        ValueRef::List(list) => {
            assert_eq!(list.iter().map(|item| item.expect("validated")).count(), list.len())
        }
        ValueRef::Dict(dict) => {
            assert_eq!(dict.iter().map(|pair| pair.expect("validated")).count(), dict.len())
        }
        _ => {}
    }
}

fn written(value: &impl Encode) -> Vec<u8> {
    let mut e = Encoder::new(&mut []);
    value.encode(&mut e).expect("it was decoded");
    let needed = e.finish().expect_err("no value is empty").needed;
    let mut block = vec![0; needed];
    let mut e = Encoder::new(&mut block);
    value.encode(&mut e).expect("it was decoded");
    assert_eq!(e.finish(), Ok(needed));
    block
}
