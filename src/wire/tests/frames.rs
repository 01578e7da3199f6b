//! Streams of frames, cut anywhere.

use super::golden;
use crate::limits::MAX_FRAME_PAYLOAD;
use crate::wire::{Frame, FrameDecoder, Header, Kind, WireError};

/// Feeds pieces and collects frames up to the first error.
fn run<'a>(
    mut decoder: FrameDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Frame>, Result<(), WireError>) {
    let mut frames = Vec::new();
    for mut piece in pieces {
        loop {
            let taken = decoder.feed(piece);
            piece = &piece[taken..];
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(e) => return (frames, Err(e)),
                }
            }
            if piece.is_empty() {
                break;
            }
        }
    }
    (frames, decoder.finish())
}

fn plain() -> FrameDecoder {
    FrameDecoder::new(MAX_FRAME_PAYLOAD, false)
}

fn session() -> (Vec<u8>, Vec<Frame>) {
    let frames: Vec<_> = golden::frames().into_iter().map(|(_, _, bytes)| bytes).collect();
    let expected = frames.iter().map(|bytes| Frame::decode(bytes).unwrap()).collect();
    (frames.concat(), expected)
}

/// C15: split at every byte, and coalesced.
#[test]
fn every_cut_of_a_session_gives_the_same_frames() {
    let (bytes, expected) = session();
    let step = if cfg!(miri) { 97 } else { 1 };
    for cut in (0..=bytes.len()).step_by(step) {
        let (frames, end) = run(plain(), [&bytes[..cut], &bytes[cut..]]);
        assert_eq!(end, Ok(()));
        assert!(frames == expected, "cut at {cut}");
    }
    for size in if cfg!(miri) { 15..18 } else { 1..40 } {
        let (frames, end) = run(plain(), bytes.chunks(size));
        assert_eq!(end, Ok(()));
        assert!(frames == expected, "pieces of {size}");
    }
}

/// C4.
#[test]
fn every_prefix_of_every_frame_is_incomplete_and_nothing_else() {
    let step = if cfg!(miri) { 13 } else { 1 };
    for (name, _, bytes) in golden::frames() {
        for len in (0..bytes.len()).step_by(step) {
            let (frames, end) = run(plain(), [&bytes[..len]]);
            assert!(frames.is_empty(), "{name}");
            assert_eq!(end.is_ok(), len == 0, "{name} cut at {len}");
            assert!(Frame::decode(&bytes[..len]).is_err());
        }
        assert_eq!(run(plain(), [&bytes[..]]), (vec![Frame::decode(&bytes).unwrap()], Ok(())));
    }
}

/// C1.
#[test]
fn an_error_stays() {
    let mut decoder = plain();
    let (_, _, good) = golden::frames().swap_remove(0);
    let mut bytes = good.clone();
    bytes.extend(b"HTTP/1.1 400 Bad");
    bytes.extend(&good);
    let taken = decoder.feed(&bytes);
    assert_eq!(taken, good.len());
    assert_eq!(decoder.feed(&bytes[taken..]), 0, "a whole frame waits");
    assert!(decoder.next().unwrap().is_some());
    assert_eq!(decoder.feed(&bytes[taken..]), 16);
    for _ in 0..2 {
        assert_eq!(decoder.next(), Err(WireError::InvalidMagic(*b"HT")));
        assert_eq!(decoder.finish(), Err(WireError::InvalidMagic(*b"HT")));
        assert_eq!(decoder.feed(&good), 0);
    }
}

/// C2: before anything of the body is read or allocated.
#[test]
fn a_length_over_the_limit_is_refused_with_the_header() {
    let head = |len: usize| Header { kind: Kind::Chunk, len: len as u32, id: 0 }.encode();
    for (max, len, ok) in [
        (99, 98, true),
        (99, 99, true),
        (99, 100, false),
        (usize::MAX, MAX_FRAME_PAYLOAD, true),
        (usize::MAX, MAX_FRAME_PAYLOAD + 1, false),
    ] {
        let mut decoder = FrameDecoder::new(max, false);
        decoder.feed(&head(len));
        let max = max.min(MAX_FRAME_PAYLOAD) as u64;
        let expected = if ok { Ok(None) } else { Err(WireError::MessageTooLarge { len: len as u64, max }) };
        assert_eq!(decoder.next(), expected);
    }
}

/// C3.
#[test]
fn memory_grows_with_what_was_received() {
    let mut decoder = plain();
    decoder.feed(&Header { kind: Kind::Request, len: MAX_FRAME_PAYLOAD as u32, id: 0 }.encode());
    assert_eq!(decoder.pending().map(|header| header.len), Some(MAX_FRAME_PAYLOAD as u32));
    assert_eq!(decoder.buffered(), 0);
    decoder.feed(&[0]);
    assert!(decoder.buffered() < 64);
    decoder.feed(&[0; 5000]);
    assert!(decoder.buffered() < 2 * 5001);
}

#[test]
fn kinds_of_ours_need_a_hello() {
    let hello = Header { kind: Kind::Hello, len: 2, id: 1 };
    let bytes = [&hello.encode()[..], b"ab"].concat();
    let (frames, end) = run(plain(), [&bytes[..]]);
    assert_eq!((frames.len(), end), (0, Err(WireError::UnknownMessageType(0x40))));
    let (frames, end) = run(FrameDecoder::new(2, true), [&bytes[..]]);
    assert_eq!((frames, end), (vec![Frame { header: hello, body: b"ab".to_vec() }], Ok(())));
    let mut decoder = plain();
    decoder.extend(1);
    decoder.feed(&bytes);
    assert_eq!(decoder.next(), Err(WireError::MessageTooLarge { len: 2, max: 1 }));
}
