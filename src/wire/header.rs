//! [`Header`]: the sixteen bytes before each body.
//!
//! gunicorn's `struct` format `>2sBBIQ`. The checks come in gunicorn's order, so that a frame with several
//! faults is refused for the same one on either side.

use byteorder::{BigEndian, ByteOrder};

use super::{Encoder, Kind, WireError};
use crate::limits::{HEADER_LEN, MAX_FRAME_PAYLOAD, MAX_MESSAGE};

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the frame is.
    pub kind: Kind,
    /// Length of the body.
    pub len: u32,
    /// Names the call on its connection; echoed in each frame of the reply.
    pub id: u64,
}

impl Header {
    /// Reads the header that `bytes` begins with, as a peer of the plain protocol may send it: without the
    /// extensions and with at most [`MAX_FRAME_PAYLOAD`] bytes of body.
    ///
    /// # Errors
    /// The first that applies: too short, wrong magic, wrong version, unknown kind, body over the limit.
    pub fn decode(bytes: &[u8]) -> Result<Header, WireError> {
        Header::decode_checked(bytes, false, MAX_FRAME_PAYLOAD)
    }

    /// Reads the header that `bytes` begins with, as a peer that said HELLO may send it, or as it lies in
    /// shared memory: with the extensions and with at most [`MAX_MESSAGE`] bytes of body.
    ///
    /// # Errors
    /// As [`decode`](Header::decode).
    #[inline]
    pub fn decode_extended(bytes: &[u8]) -> Result<Header, WireError> {
        Header::decode_checked(bytes, true, MAX_MESSAGE)
    }

    /// The sixteen bytes.
    #[inline]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = VERSION;
        bytes[3] = self.kind.code();
        BigEndian::write_u32(&mut bytes[4..8], self.len);
        BigEndian::write_u64(&mut bytes[8..], self.id);
        bytes
    }

    /// A whole frame for a socket: header, and the body that `write` encodes.
    ///
    /// # Errors
    /// What `write` returns, or a body over [`MAX_FRAME_PAYLOAD`]. gunicorn checks that only when it reads;
    /// here it is refused before a byte is sent.
    pub fn frame(
        kind: Kind,
        id: u64,
        write: impl FnOnce(&mut Encoder<'_>) -> Result<(), WireError>,
    ) -> Result<Vec<u8>, WireError> {
        let mut frame = vec![0; HEADER_LEN];
        let mut encoder = Encoder::to_vec(&mut frame);
        write(&mut encoder)?;
        encoder.close()?;
        let len = (frame.len() - HEADER_LEN) as u32; // the encoder holds it to MAX_FRAME_PAYLOAD
        frame[..HEADER_LEN].copy_from_slice(&Header { kind, len, id }.encode());
        Ok(frame)
    }

    #[inline]
    fn decode_checked(bytes: &[u8], extended: bool, max: usize) -> Result<Header, WireError> {
        let Some(bytes) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(WireError::HeaderTooShort { len: bytes.len() });
        };
        if bytes[..2] != MAGIC {
            return Err(WireError::InvalidMagic([bytes[0], bytes[1]]));
        }
        if bytes[2] != VERSION {
            return Err(WireError::UnsupportedVersion(bytes[2]));
        }
        let kind = Kind::from_code(bytes[3])
            .filter(|kind| extended || !kind.is_extension())
            .ok_or(WireError::UnknownMessageType(bytes[3]))?;
        let len = BigEndian::read_u32(&bytes[4..8]);
        if len as usize > max {
            return Err(WireError::MessageTooLarge { len: len.into(), max: max as u64 });
        }
        Ok(Header { kind, len, id: BigEndian::read_u64(&bytes[8..]) })
    }
}

const MAGIC: [u8; 2] = *b"GD";
const VERSION: u8 = 1;
