//! A stream of frames in pieces. However it is cut, the same frames and the same error come out, no more memory is
//! held than was received, and what is written again is what was read.
//!
//! The first byte of the input says how many bytes follow it that cut (its low four bits) and whether the extensions are
//! allowed (its highest): each of those is the size of a piece, in turn. C1-C4, C14, C15.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stokehold::internals::limits::{HEADER_LEN, MAX_FRAME_PAYLOAD};
use stokehold::internals::wire::{Frame, FrameDecoder, Header, WireError};

fuzz_target!(|input: &[u8]| {
    let Some((&how, rest)) = input.split_first() else { return };
    let Some((cuts, stream)) = rest.split_at_checked(usize::from(how & 0xf)) else { return };
    let extended = how & 0x80 != 0;
    let pieces = run(stream, cuts, extended);
    let whole = run(stream, &[], extended);
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

fn run(mut stream: &[u8], cuts: &[u8], extended: bool) -> (Vec<Frame>, Result<(), WireError>) {
    let mut decoder = FrameDecoder::new(MAX_FRAME_PAYLOAD, extended);
    let (mut frames, mut fed) = (Vec::new(), 0);
    let mut sizes = cuts.iter().cycle().map(|size| usize::from(*size).max(1));
    while !stream.is_empty() {
        let piece = sizes.next().unwrap_or(stream.len()).min(stream.len());
        let taken = decoder.feed(&stream[..piece]);
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
