//! A stream of frames in pieces. However it is cut, the same frames and the same error come out, no more memory is
//! held than was received, and what is written again is what was read.
//!
//! The first byte of the input cuts: its low seven bits are the size of a piece, its high bit allows the extensions.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stokehold::internals::limits::{HEADER_LEN, MAX_FRAME_PAYLOAD};
use stokehold::internals::wire::{Frame, FrameDecoder, Header, WireError};

fuzz_target!(|input: &[u8]| {
    let Some((&cut, stream)) = input.split_first() else { return };
    let extended = cut & 0x80 != 0;
    let pieces = run(stream, usize::from(cut & 0x7f).max(1), extended);
    let whole = run(stream, usize::MAX, extended);
    assert_eq!(pieces, whole);

    let (frames, end) = whole;
    let mut at = 0;
    for frame in &frames {
        let len = HEADER_LEN + frame.body.len();
        assert_eq!(stream[at..at + len], [&frame.header.encode()[..], &frame.body].concat());
        assert!(extended || Frame::decode(&stream[at..]).as_ref() == Ok(frame));
        at += len;
    }
    if end.is_ok() {
        assert_eq!(at, stream.len());
    } else if !extended && stream[at..].len() < HEADER_LEN {
        assert!(Header::decode(&stream[at..]).is_err());
    }
});

fn run(mut stream: &[u8], piece: usize, extended: bool) -> (Vec<Frame>, Result<(), WireError>) {
    let mut decoder = FrameDecoder::new(MAX_FRAME_PAYLOAD, extended);
    let (mut frames, mut fed) = (Vec::new(), 0);
    while !stream.is_empty() {
        let taken = decoder.feed(&stream[..piece.min(stream.len())]);
        stream = &stream[taken..];
        fed += taken;
        assert!(decoder.buffered() <= 2 * fed);
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(e) => return (frames, Err(e)),
            }
        }
    }
    let end = decoder.finish();
    (frames, end)
}
