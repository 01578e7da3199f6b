//! The parts of a call, one by one, in one thread: for seeing which part became slower. What a whole call costs,
//! and next to what, is for `stokehold bench` to say.
//!
//! In shared memory each of these words is on its way between two processors; here all lines stay in one cache.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::AtomicU64;
use stokehold::internals::limits::{INLINE_LEN, LANE_CALLS, RING_ENTRIES};
use stokehold::internals::ring::{CallLine, Entry, Generation, Life, Peek, Producer, SubmitRing};
use stokehold::internals::shm::{Body, ResultKey, Results};
use stokehold::internals::wire::{
    Encoder, Header, Kind, NoReferences, Outcome, RequestRef, ResponseRef, ValueRef, request, response,
};

fn requests(c: &mut Criterion) {
    let payload = [7u8; 64];
    let encode = |place: &mut [u8]| {
        let mut e = Encoder::new(place);
        request("stokehold.demo:Demo", "echo", &(&payload[..],), &(), &mut e).expect("it can be encoded");
        e.finish().expect("it fits")
    };
    let mut place = [0; INLINE_LEN];
    c.bench_function("wire: encode a request of 64 B", |b| b.iter(|| encode(black_box(&mut place))));
    let len = encode(&mut place);
    c.bench_function("wire: decode a request of 64 B", |b| {
        b.iter(|| {
            let decoded = RequestRef::decode(black_box(&place[..len]), &NoReferences).expect("it is one");
            let (bytes,): (&[u8],) = decoded.args.parse().expect("one argument");
            black_box(bytes.len())
        });
    });
}

fn responses(c: &mut Criterion) {
    let payload = [7u8; 64];
    let encode = |place: &mut [u8]| {
        let mut e = Encoder::new(place);
        response(&payload[..], &mut e).expect("it can be encoded");
        e.finish().expect("it fits")
    };
    let mut place = [0; INLINE_LEN];
    c.bench_function("wire: encode a response of 64 B", |b| b.iter(|| encode(black_box(&mut place))));
    let len = encode(&mut place);
    c.bench_function("wire: decode a response of 64 B", |b| {
        b.iter(|| {
            let decoded = ResponseRef::decode(Kind::Response, black_box(&place[..len]), &NoReferences);
            let Ok(Outcome::Result(ValueRef::Bytes(bytes))) = decoded else { panic!("bytes") };
            black_box(bytes.len())
        });
    });
}

fn line(c: &mut Criterion) {
    let line = CallLine::new(Generation(1));
    let life = Life::new(1).expect("a life");
    let mut generation = Generation(1);
    c.bench_function("ring: publish, claim, complete, release", |b| {
        b.iter(|| {
            line.publish(generation).expect("idle");
            assert!(line.claim(generation, life));
            line.complete(generation, life, 64).expect("running");
            let word = line.look().expect("legal");
            generation = line.release(word).expect("done");
        });
    });
}

fn ring(c: &mut Criterion) {
    let (head, tail) = (AtomicU64::new(0), AtomicU64::new(0));
    let slots: Vec<_> = (0..RING_ENTRIES).map(|_| AtomicU64::new(0)).collect();
    let ring = SubmitRing { head: &head, tail: &tail, slots: &slots };
    let mut producer = Producer::default();
    let mut n = 0;
    c.bench_function("ring: push, peek, advance", |b| {
        b.iter(|| {
            let entry = Entry { call: n % LANE_CALLS, generation: Generation(n as u32) };
            n += 1;
            producer.push(ring, entry, |_| false).expect("room");
            let Peek::Entry(position, found) = ring.peek() else { panic!("an entry") };
            assert!(ring.advance(position));
            black_box(found)
        });
    });
}

fn results(c: &mut Criterion) {
    let results = Results::create().expect("memory");
    let body = [7u8; 80];
    let key = ResultKey { lane: 1, call: 3, generation: Generation(5) };
    c.bench_function("shm: write, name and copy a result of 64 B", |b| {
        b.iter(|| {
            let record = results.record(9);
            let header = Header { kind: Kind::Response, len: body.len() as u32, id: 1 };
            record.write(header.encode(), Body::Inline(body.len()), 0, black_box(&body));
            results.name(9, key);
            assert!(Results::answers(record, key));
            let mut copy = [0; INLINE_LEN];
            let Some(Body::Inline(len)) = record.body() else { panic!("inline") };
            black_box(record.copy_inline(len, &mut copy).len())
        });
    });
}

criterion_group!(parts, requests, responses, line, ring, results);
criterion_main!(parts);
