//! The non-blocking side of a connection: frames in, frames out, a bound on what waits.

use super::Message;
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::limits::{HEADER_LEN, MAX_CONTROL_PAYLOAD, MAX_FRAME_FDS, MAX_SAID};
use crate::sys::fd::Inheritable;
use crate::sys::{errno_of, socket};
use crate::wire::{
    self, Encode, Encoder, Frame, FrameDecoder, Header, NoReferences, Value, ValueRef, WireError,
};
use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// Bytes; there may be more.
    Some,
    /// Nothing for now.
    WouldBlock,
    /// The peer closed.
    End,
}

/// A framed socket. Blocks or not as the descriptor does, unless it is [`wary`](Stream::wary).
#[derive(Debug)]
pub struct Stream {
    fd: Inheritable,
    decoder: FrameDecoder,
    /// Received and not yet given to the decoder, from `taken` on.
    bytes: Vec<u8>,
    taken: usize,
    /// Whole, and there was no memory for the message in it.
    undecoded: Option<Frame>,
    fds: VecDeque<OwnedFd>,
    /// The descriptors of the next message that announces any were dropped by the kernel.
    fds_lost: bool,
    /// Descriptors with this number or a higher one are not accepted: see [`leaving`](Stream::leaving).
    below: RawFd,
    wary: bool,
    out: VecDeque<Outgoing>,
    out_bytes: usize,
    out_fds: usize,
}

#[derive(Debug)]
struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

/// Bytes that may wait to be sent to one peer before it counts as stuck.
const MAX_OUT: usize = 4 * MAX_CONTROL_PAYLOAD;
/// Descriptors that may wait to be sent to one peer. They are this process's meanwhile, which needs some for others.
const MAX_OUT_FDS: usize = 4 * MAX_FRAME_FDS;
/// Descriptors that may wait for their frame.
const MAX_FDS_WAITING: usize = 4 * MAX_FRAME_FDS;

impl Stream {
    /// Over a connected stream socket.
    pub fn new(fd: OwnedFd) -> Stream {
        Stream {
            fd: fd.into(),
            decoder: FrameDecoder::new(MAX_CONTROL_PAYLOAD, true),
            undecoded: None,
            bytes: Vec::new(),
            taken: 0,
            fds: VecDeque::new(),
            fds_lost: false,
            below: RawFd::MAX,
            wary: false,
            out: VecDeque::new(),
            out_bytes: 0,
            out_fds: 0,
        }
    }

    /// The same, but its peer may not fill this process: of what it sends, descriptors that got this number or a higher
    /// one here are dropped, as the kernel does when there are no more.
    #[must_use]
    pub fn leaving(mut self, below: RawFd) -> Stream {
        self.below = below;
        self
    }

    /// The same, for one who must not be held up, whatever its peer does: it does not wait, also where the peer shares the socket
    /// and has it wait; messages are no larger than what is worth saying here; and it takes no time to close.
    #[must_use]
    pub fn wary(mut self) -> Stream {
        socket::take_all_in_turn(self.fd.as_fd());
        self.decoder.extend(MAX_SAID);
        self.wary = true;
        self
    }

    /// The socket.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads once.
    ///
    /// # Errors
    /// `Frame` when too many descriptors came; `Os` when this process may open no more and it is not clear which
    /// message lacks its descriptors. The connection is of no more use then.
    pub fn read(&mut self) -> Result<Received> {
        let mut buffer = [0; 16 * 1024];
        let recv = if self.wary { socket::recv_now } else { socket::recv };
        let Some(received) = recv(self.fd.as_fd(), &mut buffer)? else {
            return Ok(Received::WouldBlock);
        };
        if received.truncated || received.fds.iter().any(|fd| fd.as_raw_fd() >= self.below) {
            // This process is at its limit. The bytes are whole: the message is told, and the connection lives on. One
            // call brings the descriptors of one message, so it is the next one that announces any.
            received.fds.into_iter().for_each(socket::close);
            if self.fds_lost || !self.fds.is_empty() {
                // A read may bring the end of one message and the beginning of the next: whose were they?
                return Err(
                    Error::os("recvmsg", libc::EMFILE).context("descriptors of several messages were lost")
                );
            }
            self.fds_lost = true;
        } else {
            self.fds.extend(received.fds);
        }
        if self.fds.len() > MAX_FDS_WAITING {
            self.fds.drain(..).for_each(socket::close);
            return Err(Error::new(ErrorKind::Frame("more descriptors came than messages announced".into())));
        }
        if received.bytes == 0 {
            return Ok(Received::End);
        }
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(&buffer[..received.bytes]);
        Ok(Received::Some)
    }

    /// The next whole message among what was read.
    #[allow(clippy::should_implement_trait)] // fallible, and `None` is not an end
    pub fn next(&mut self) -> Result<Option<Message>> {
        let frame = match self.undecoded.take() {
            Some(frame) => frame,
            None => loop {
                if let Some(frame) = self.decoder.next()? {
                    break frame;
                }
                match self.decoder.feed(&self.bytes[self.taken..]) {
                    0 => match self.decoder.next()? {
                        Some(frame) => break frame,
                        None => return Ok(None),
                    },
                    n => self.taken += n,
                }
            },
        };
        let value = match frame.body.as_slice() {
            [] => Ok(Value::Dict(Vec::new())),
            body => wire::decode(body, &NoReferences).and_then(ValueRef::to_owned),
        };
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                if error == WireError::OutOfMemory {
                    // Its descriptors are here: another message would take them for its own.
                    self.undecoded = Some(frame);
                }
                return Err(error.into());
            }
        };
        let no_dict = |_| Error::new(ErrorKind::Frame("a message body is not a dict".into()));
        let fields = value.into_dict().map_err(no_dict)?;
        let mut message = Message::from_parts(frame.header.kind, frame.header.id, fields);
        let announced = message.fds_announced()?;
        if announced > 0 && std::mem::take(&mut self.fds_lost) {
            message.fds_lost = true;
            return Ok(Some(message));
        }
        if announced > MAX_FRAME_FDS || announced > self.fds.len() {
            return Err(Error::new(ErrorKind::Frame(
                format!("a message announces {announced} descriptors and {} came", self.fds.len()).into(),
            )));
        }
        message.fds = self.fds.drain(..announced).collect();
        message.wary = self.wary;
        Ok(Some(message))
    }

    /// Puts a message into the queue; [`flush`](Stream::flush) sends it.
    ///
    /// # Errors
    /// `Frame` when the peer does not read: its queue is full, of bytes or of descriptors.
    pub fn queue(&mut self, message: Message) -> Result<()> {
        let (kind, id, fields, fds) = message.into_parts();
        let mut body = Vec::new();
        let mut e = Encoder::to_vec(&mut body);
        fields.encode(&mut e)?;
        drop(e);
        let header = Header { kind, len: body.len() as u32, id };
        let mut bytes = Vec::with_capacity(HEADER_LEN + body.len());
        bytes.extend_from_slice(&header.encode());
        bytes.extend_from_slice(&body);
        if body.len() > MAX_CONTROL_PAYLOAD || self.out_bytes + bytes.len() > MAX_OUT {
            return Err(Error::new(ErrorKind::Frame(
                format!("a peer does not read: {} bytes wait for it", self.out_bytes).into(),
            )));
        }
        if self.out_fds + fds.len() > MAX_OUT_FDS {
            return Err(Error::new(ErrorKind::Frame(
                format!("a peer does not read: {} descriptors wait for it", self.out_fds).into(),
            )));
        }
        self.out_bytes += bytes.len();
        self.out_fds += fds.len();
        self.out.push_back(Outgoing { bytes, sent: 0, fds });
        Ok(())
    }

    /// Whether anything waits to be sent.
    pub fn is_waiting(&self) -> bool {
        !self.out.is_empty()
    }

    /// Drops what waits, as if it had not been queued; but not the rest of a message of which a part was sent.
    pub fn drop_waiting(&mut self) {
        self.out.truncate(self.out.front().is_some_and(|front| front.sent > 0).into());
        let waiting = || self.out.iter();
        self.out_bytes = waiting().map(|left| left.bytes.len()).sum();
        self.out_fds = waiting().map(|left| left.fds.len()).sum();
    }

    /// Sends what can be sent; `true` when nothing waits. Also `false` when this user has too many descriptors on their
    /// way (ETOOMANYREFS): others have to receive theirs first, and nothing tells when they did.
    pub fn flush(&mut self) -> Result<bool> {
        while let Some(front) = self.out.front_mut() {
            // Descriptors go with the first byte of their frame, and with no other's: one frame a call.
            let fds: Vec<BorrowedFd<'_>> = front.fds.iter().map(|fd| fd.as_fd()).collect();
            let send = if self.wary { socket::send_now } else { socket::send };
            let n = match send(self.fd.as_fd(), &[IoSlice::new(&front.bytes[front.sent..])], &fds) {
                Ok(Some(n)) => n,
                Ok(None) => return Ok(false),
                Err(error) if errno_of(&error) == Some(libc::ETOOMANYREFS) => return Ok(false),
                Err(error) => return Err(error),
            };
            drop(fds);
            self.out_fds -= front.fds.len();
            front.fds.clear();
            front.sent += n;
            self.out_bytes -= n;
            if front.sent == front.bytes.len() {
                self.out.pop_front();
            }
        }
        Ok(true)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.wary && self.fd.is_ours() {
            socket::empty(self.fd.as_fd());
            self.fds.drain(..).for_each(socket::close);
        }
    }
}
