//! Byte for byte what gunicorn writes, and in its words what it refuses.

use super::golden::{self, dict, hex};
use super::{bytes_of, value_of};
use crate::limits::{MAX_FRAME_PAYLOAD, MAX_ITEMS, MAX_MESSAGE, MAX_SOCKET_BYTES};
use crate::wire::{
    DecodeArgs, Encoder, ErrorRef, Frame, FrameDecoder, Header, Kind, Manage, ManageOp, NoReferences,
    Outcome, RequestRef, ResponseRef, Stash, StashOp, Value, ValueRef, WireError, decode,
};

#[test]
fn golden_values_both_ways() {
    for (value, bytes) in golden::values() {
        assert_eq!(bytes_of(&value), Ok(bytes.clone()), "{value:?}");
        assert_eq!(value_of(&bytes), Ok(value.clone()));
        let read = decode(&bytes, &NoReferences).unwrap();
        assert_eq!(read, value);
        assert_eq!(bytes_of(&read), Ok(bytes.clone()));
        let mut socket = Vec::new();
        let mut e = Encoder::to_vec(&mut socket);
        crate::wire::Encode::encode(&value, &mut e).unwrap();
        assert_eq!(e.finish(), Ok(bytes.len()));
        assert_eq!(socket, bytes);
    }
}

#[test]
fn golden_frames_as_we_write_them() {
    for (name, ours, theirs) in golden::frames() {
        assert_eq!(ours, theirs, "{name}");
        let header = Header::decode(&theirs).unwrap();
        assert_eq!(header.encode(), theirs[..16], "{name}");
        assert_eq!((header.id, header.len as usize), (golden::ID, theirs.len() - 16), "{name}");
    }
}
