//! One item of a stream as words of a message: a frame header, and a TLV body or where that is.
//!
//! ```text
//! 0      body: length 32 | region 16 | the ring's own 16; the uppermost bit: it is in a block
//! 1–2    frame header, 16 bytes, verbatim
//! 3…     the body, or the offset of its block
//! ```

use super::record::{Body, le};
use crate::limits::{HEADER_LEN, INLINE_LEN, MAX_MESSAGE, STREAM_WORDS};

const IN_A_BLOCK: u64 = 1 << 63;
const BODY: usize = 3;

const _: () = assert!(MAX_MESSAGE < 1 << 31 && BODY + INLINE_LEN / 8 == STREAM_WORDS);

/// Writes an item; `inline` is its body if that is inline, of at most [`INLINE_LEN`] bytes. Returns how many words it has.
#[inline]
pub fn pack(header: [u8; HEADER_LEN], body: Body, inline: &[u8], words: &mut [u64; STREAM_WORDS]) -> usize {
    words[1] = le(&header[..8]);
    words[2] = le(&header[8..]);
    match body {
        Body::Block { region, offset, len } => {
            words[0] = IN_A_BLOCK | (len as u64) << 32 | u64::from(region) << 16;
            words[BODY] = offset;
            BODY + 1
        }
        Body::Inline(len) => {
            words[0] = (len as u64) << 32;
            for (word, bytes) in words[BODY..].iter_mut().zip(inline.chunks(8)) {
                let mut whole = [0; 8];
                whole[..bytes.len()].copy_from_slice(bytes);
                *word = u64::from_le_bytes(whole);
            }
            BODY + len.div_ceil(8)
        }
    }
}

/// Reads an item: header and where its body is; an inline one is copied into `inline`. `None` for nonsense.
#[inline]
pub fn unpack(words: &[u64], inline: &mut [u8; INLINE_LEN]) -> Option<([u8; HEADER_LEN], Body)> {
    let (fixed, rest) = words.split_at_checked(BODY)?;
    let mut header = [0; HEADER_LEN];
    header[..8].copy_from_slice(&fixed[1].to_le_bytes());
    header[8..].copy_from_slice(&fixed[2].to_le_bytes());
    let len = (fixed[0] >> 32 & 0x7fff_ffff) as usize;
    let body = match (fixed[0] & IN_A_BLOCK != 0, rest) {
        (true, [offset]) if len <= MAX_MESSAGE => {
            Body::Block { region: (fixed[0] >> 16) as u16, offset: *offset, len }
        }
        (false, rest) if len <= INLINE_LEN && rest.len() == len.div_ceil(8) => {
            for (bytes, word) in inline.chunks_exact_mut(8).zip(rest) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            Body::Inline(len)
        }
        _ => return None,
    };
    Some((header, body))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn items_are_read_as_they_were_written() {
        let bytes: [u8; INLINE_LEN] = std::array::from_fn(|at| (at * 7 + 1) as u8);
        let (mut words, mut inline) = ([u64::MAX; STREAM_WORDS], [0; INLINE_LEN]);
        for len in 0..=INLINE_LEN {
            let count = pack([len as u8; HEADER_LEN], Body::Inline(len), &bytes[..len], &mut words);
            let read = unpack(&words[..count], &mut inline);
            assert_eq!(read, Some(([len as u8; HEADER_LEN], Body::Inline(len))));
            assert_eq!(&inline[..len], &bytes[..len]);
            assert_eq!(unpack(&words[..count - 1], &mut inline), None, "{len}, a word short");
            if count < STREAM_WORDS {
                assert_eq!(unpack(&words[..=count], &mut inline), None, "{len}, a word too many");
            }
        }
        let block = Body::Block { region: 2047, offset: 1 << 40, len: MAX_MESSAGE };
        let count = pack([5; HEADER_LEN], block, &[], &mut words);
        assert_eq!(unpack(&words[..count], &mut inline), Some(([5; HEADER_LEN], block)));
        words[0] |= 0x7fff_ffff << 32;
        assert_eq!(unpack(&words[..count], &mut inline), None, "longer than any message");
        words[0] = (INLINE_LEN as u64 + 1) << 32;
        assert_eq!(unpack(&words, &mut inline), None, "longer than there is room");
        assert_eq!(unpack(&[], &mut inline), None);
    }
}
