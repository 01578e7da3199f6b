//! [`FrameDecoder`]: frames out of a stream that arrives in arbitrary pieces.
//!
//! Holds at most one frame, and of that no more than was received: a peer that announces 64 MiB and sends one
//! byte costs one byte. Where the pieces are cut makes no difference to what comes out.

use super::{Header, WireError};
use crate::limits::HEADER_LEN;

/// A whole frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its header; `len` is the body's length.
    pub header: Header,
    /// Its body, not looked at.
    pub body: Vec<u8>,
}

impl Frame {
    /// Reads a frame from a buffer that holds all of it. What follows it in the buffer is not looked at.
    ///
    /// # Errors
    /// Those of [`Header::decode`], and [`WireError::IncompleteMessage`].
    pub fn decode(bytes: &[u8]) -> Result<Frame, WireError> {
        let header = Header::decode(bytes)?;
        let expected = HEADER_LEN + header.len as usize;
        let Some(body) = bytes.get(HEADER_LEN..expected) else {
            return Err(WireError::IncompleteMessage { expected, got: bytes.len() });
        };
        Ok(Frame { header, body: body.to_vec() })
    }
}

/// Cuts a stream of bytes into frames.
///
/// ```
/// # use stokehold::internals::wire::{FrameDecoder, Header, Kind, WireError};
/// let mut frames = FrameDecoder::new(1024, false);
/// let mut received: &[u8] = &Header { kind: Kind::Status, len: 0, id: 7 }.encode();
/// while !received.is_empty() {
///     let taken = frames.feed(received);
///     received = &received[taken..];
///     while let Some(frame) = frames.next()? {
///         assert_eq!(frame.header.id, 7);
///     }
/// }
/// # Ok::<(), WireError>(())
/// ```
#[derive(Debug)]
pub struct FrameDecoder {
    max_payload: usize,
    extended: bool,
    head: [u8; HEADER_LEN],
    head_len: usize,
    state: State,
    body: Vec<u8>,
    /// There was no memory for the body.
    starved: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Body(Header),
    Failed(WireError),
}

impl FrameDecoder {
    /// A decoder that refuses bodies over `max_payload`, and kinds of ours unless `extended`. Without
    /// `extended` the protocol's own limit of 64 MiB holds too.
    pub fn new(max_payload: usize, extended: bool) -> FrameDecoder {
        FrameDecoder {
            max_payload,
            extended,
            head: [0; HEADER_LEN],
            head_len: 0,
            state: State::Head,
            body: Vec::new(),
            starved: false,
        }
    }

    /// From now on accepts kinds of ours, because the peer said HELLO, and bodies up to `max_payload`. Call
    /// it between the HELLO and the next [`feed`](FrameDecoder::feed).
    pub fn extend(&mut self, max_payload: usize) {
        self.extended = true;
        self.max_payload = max_payload;
    }

    /// Takes bytes up to the end of the current frame and returns how many. It takes none while a whole frame
    /// or an error waits for [`next`](FrameDecoder::next).
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        if matches!(self.state, State::Head) {
            let n = bytes.len().min(HEADER_LEN - self.head_len);
            self.head[self.head_len..self.head_len + n].copy_from_slice(&bytes[..n]);
            self.head_len += n;
            taken = n;
            if self.head_len == HEADER_LEN {
                self.state = match self.check() {
                    Ok(header) => State::Body(header),
                    Err(e) => State::Failed(e),
                };
            }
        }
        if let State::Body(header) = self.state {
            let len = header.len as usize;
            let n = (bytes.len() - taken).min(len - self.body.len());
            let filled = self.body.len() + n;
            if filled > self.body.capacity() {
                // Doubles, as a Vec does, but never past the frame's end.
                let capacity = self.body.capacity().saturating_mul(2).max(filled).min(len);
                if self.body.try_reserve_exact(capacity - self.body.len()).is_err() {
                    self.starved = true;
                    return taken;
                }
            }
            self.body.extend_from_slice(&bytes[taken..taken + n]);
            taken += n;
        }
        taken
    }

    /// The frame that has arrived, if it has.
    ///
    /// # Errors
    /// A header that is refused. The stream cannot be read any further: every later call returns the same. Also
    /// [`WireError::OutOfMemory`], once: what was not taken may be fed again.
    #[allow(clippy::should_implement_trait)] // fallible, and not an end
    pub fn next(&mut self) -> Result<Option<Frame>, WireError> {
        if std::mem::take(&mut self.starved) {
            return Err(WireError::OutOfMemory);
        }
        match self.state {
            State::Failed(e) => Err(e),
            State::Body(header) if self.body.len() == header.len as usize => {
                self.state = State::Head;
                self.head_len = 0;
                Ok(Some(Frame { header, body: std::mem::take(&mut self.body) }))
            }
            _ => Ok(None),
        }
    }

    /// The header of a frame whose body has not arrived in full.
    pub fn pending(&self) -> Option<&Header> {
        if let State::Body(header) = &self.state { Some(header) } else { None }
    }

    /// Bytes of memory that the pending body holds.
    pub fn buffered(&self) -> usize {
        self.body.capacity()
    }

    /// Whether the stream may end here.
    ///
    /// # Errors
    /// The stream ended within a frame, or had failed before.
    pub fn finish(&self) -> Result<(), WireError> {
        match self.state {
            State::Failed(e) => Err(e),
            State::Head if self.head_len == 0 => Ok(()),
            State::Head => Err(WireError::ConnectionClosedAfter { got: self.head_len, expected: HEADER_LEN }),
            State::Body(header) => match self.body.len() {
                got if got == header.len as usize => Ok(()),
                0 => Err(WireError::ConnectionClosed),
                got => Err(WireError::ConnectionClosedAfter { got, expected: header.len as usize }),
            },
        }
    }

    fn check(&self) -> Result<Header, WireError> {
        let header =
            if self.extended { Header::decode_extended(&self.head) } else { Header::decode(&self.head) }?;
        if header.len as usize > self.max_payload {
            return Err(WireError::MessageTooLarge { len: header.len.into(), max: self.max_payload as u64 });
        }
        Ok(header)
    }
}
