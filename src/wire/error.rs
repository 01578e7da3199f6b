//! [`WireError`]: what can be wrong with bytes, in gunicorn's words.
//!
//! Where gunicorn has a text for the fault, [`Display`](fmt::Display) is that text to the byte, Python's own
//! messages included: a log line or an error frame reads the same whichever side wrote it. No text quotes
//! payload beyond the two magic bytes, the offending byte of a string, and lengths.

use std::fmt;

use crate::error::{Error, Kind as ErrorKind};
use crate::limits;

/// Why bytes are not a frame or a value, or why a value cannot become bytes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WireError {
    /// Fewer than 16 bytes where a header should be.
    HeaderTooShort {
        /// How many there are.
        len: usize,
    },
    /// The frame does not begin with `GD`.
    InvalidMagic([u8; 2]),
    /// The version byte is not 1.
    UnsupportedVersion(u8),
    /// The kind byte is none that this peer may send.
    UnknownMessageType(u8),
    /// A frame's payload is over the limit.
    MessageTooLarge {
        /// Its length.
        len: u64,
        /// The limit, inclusive.
        max: u64,
    },
    /// The stream ended where a frame's payload should begin.
    ConnectionClosed,
    /// The stream ended within a header or a payload.
    ConnectionClosedAfter {
        /// Bytes of that header or payload which came.
        got: usize,
        /// Bytes that it has.
        expected: usize,
    },
    /// A buffer that should hold a whole frame holds less.
    IncompleteMessage {
        /// Length of header and payload.
        expected: usize,
        /// Length of the buffer.
        got: usize,
    },
    /// No byte is left where a value should begin.
    NoType,
    /// A BOOL without its byte.
    MissingBool,
    /// The fixed part of a value is cut short; says which.
    Incomplete(&'static str),
    /// A string, bytes value, list or dict is over its limit.
    TooLarge {
        /// `Bytes`, `String`, `List` or `Dict`.
        what: &'static str,
        /// Its length or count.
        len: u64,
        /// `bytes` or `items`.
        unit: &'static str,
        /// The limit, inclusive.
        max: u64,
    },
    /// The body of a bytes value is cut short.
    ShortBytes {
        /// Its length.
        expected: u64,
        /// Bytes that remain.
        got: usize,
    },
    /// The body of a string is cut short.
    ShortString {
        /// Its length.
        expected: u64,
        /// Bytes that remain.
        got: usize,
    },
    /// A string is not UTF-8. Printed in Python's words.
    InvalidUtf8 {
        /// The first offending byte.
        byte: u8,
        /// Where it is in the string.
        start: u32,
        /// Past the last offending byte.
        end: u32,
        /// Whether the string ends within a character.
        cut: bool,
    },
    /// A dict key is not a string; Python's name of what it is.
    KeyNotString(&'static str),
    /// A type code that has no meaning here.
    UnknownType(u8),
    /// Bytes follow the one value.
    Trailing {
        /// How many.
        len: usize,
    },
    /// Lists and dicts are nested too deep.
    TooDeep {
        /// The limit, inclusive: [`limits::MAX_DEPTH`], or less where a recursion cannot be avoided.
        max: usize,
    },
    /// More values than [`limits::MAX_NODES`].
    TooManyValues,
    /// A reference points outside of any region that this process knows.
    BadReference {
        /// The region it names.
        region: u16,
    },
    /// A field of a message has the wrong type.
    Field {
        /// Which field; `payload` for the message as a whole.
        name: &'static str,
        /// What it must be.
        expected: &'static str,
        /// Python's name of what it is.
        found: &'static str,
    },
    /// An integer that does not fit 64 signed bits.
    IntTooLarge,
    /// A frame of this kind is not a reply.
    NotAReply(u8),
    /// An `Encode` implementation wrote more or fewer values than it had announced, or a key out of place.
    Unbalanced,
    /// Something was put into a [`Draft`](super::Draft) where it cannot stand; says what.
    Misplaced(&'static str),
    /// A value that TLV has no form for; says which.
    Unsupported(&'static str),
    /// There is no memory for a copy of this size.
    OutOfMemory,
}

impl std::error::Error for WireError {}

impl From<WireError> for Error {
    fn from(e: WireError) -> Error {
        match e {
            WireError::OutOfMemory => Error::out_of_memory(),
            e => Error::new(ErrorKind::Frame(e.to_string().into())),
        }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use WireError::*;
        match *self {
            HeaderTooShort { len } => {
                write!(f, "Header too short: {len} bytes, expected {}", limits::HEADER_LEN)
            }
            InvalidMagic(magic) => write!(f, "Invalid magic: {}, expected b'GD'", PyBytes(&magic)),
            UnsupportedVersion(n) => write!(f, "Unsupported protocol version: {n}, expected 1"),
            UnknownMessageType(code) => write!(f, "Unknown message type: 0x{code:02x}"),
            MessageTooLarge { len, max } => write!(f, "Message too large: {len} bytes (max: {max})"),
            ConnectionClosed => f.write_str("Connection closed"),
            ConnectionClosedAfter { got, expected } => {
                write!(f, "Connection closed after {got} bytes, expected {expected}")
            }
            IncompleteMessage { expected, got } => {
                write!(f, "Incomplete message: expected {expected} bytes, got {got}")
            }
            NoType => f.write_str("Truncated TLV data: no type byte"),
            MissingBool => f.write_str("Truncated TLV data: missing bool value"),
            Incomplete(what) => write!(f, "Truncated TLV data: incomplete {what}"),
            TooLarge { what, len, unit, max } => write!(f, "{what} too large: {len} {unit} (max: {max})"),
            ShortBytes { expected, got } => {
                write!(f, "Truncated TLV data: expected {expected} bytes, got {got}")
            }
            ShortString { expected, got } => {
                write!(f, "Truncated TLV data: expected {expected} bytes for string, got {got}")
            }
            InvalidUtf8 { byte, start, end, cut } => {
                f.write_str("Invalid UTF-8 in string: 'utf-8' codec can't decode ")?;
                if end - start == 1 {
                    write!(f, "byte 0x{byte:02x} in position {start}: ")?;
                } else {
                    write!(f, "bytes in position {start}-{}: ", end - 1)?;
                }
                f.write_str(if cut {
                    "unexpected end of data"
                } else if matches!(byte, 0xc2..=0xf4) {
                    "invalid continuation byte"
                } else {
                    "invalid start byte"
                })
            }
            KeyNotString(found) => write!(f, "Dict key must be string, got {found}"),
            UnknownType(code) => write!(f, "Unknown TLV type code: 0x{code:02x}"),
            Trailing { len } => write!(f, "Trailing data after TLV: {len} bytes"),
            TooDeep { max } => {
                write!(f, "Failed to decode TLV payload: nesting exceeds the limit of {max}")
            }
            TooManyValues => {
                write!(f, "Failed to decode TLV payload: more values than the limit of {}", limits::MAX_NODES)
            }
            BadReference { region } => {
                write!(f, "Failed to decode TLV payload: reference outside of region {region}")
            }
            Field { name, expected, found } => write!(f, "{name} must be {expected}, got {found}"),
            IntTooLarge => f.write_str("int too large to convert"),
            NotAReply(code) => write!(f, "message type 0x{code:02x} is not a reply"),
            Unbalanced => f.write_str("an encoder announced another number of values than it wrote"),
            Misplaced(what) => f.write_str(what),
            Unsupported(what) => write!(f, "Unsupported type for TLV encoding: {what}"),
            OutOfMemory => f.write_str("out of memory"),
        }
    }
}

/// Bytes as Python's `repr` shows them.
struct PyBytes<'a>(&'a [u8]);

impl fmt::Display for PyBytes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains(&b'\'') && !self.0.contains(&b'"') { '"' } else { '\'' };
        write!(f, "b{quote}")?;
        for &byte in self.0 {
            match byte {
                b'\t' => f.write_str("\\t")?,
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b'\\' => f.write_str("\\\\")?,
                b'\'' if quote == '\'' => f.write_str("\\'")?,
                0x20..=0x7e => write!(f, "{}", byte as char)?,
                _ => write!(f, "\\x{byte:02x}")?,
            }
        }
        write!(f, "{quote}")
    }
}
