//! ipc-channel: its channel of bytes, which copies them through a socket, and its shared memory, of which a descriptor
//! goes along with each message.

use crate::bench::baseline::Kid;
use crate::bench::blocks::Contender;
use crate::work::{Answer, FILL, Op, Trip, theirs};
use ipc_channel::ipc::{self, IpcBytesReceiver, IpcBytesSender, IpcReceiver, IpcSender, IpcSharedMemory};
use stokehold::internals::sys::cpu;
use stokehold::{Error, Result};

/// What of it carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Bytes,
    Memory,
}

/// The other end: a forked process, and the channels to it.
pub struct Server {
    bytes: IpcBytesSender,
    memory: IpcSender<(u64, IpcSharedMemory)>,
    answers: IpcBytesReceiver,
    _kid: Kid,
}

impl Server {
    /// Forks it, onto this processor if one is given. This process must have one thread.
    pub fn new(by: By, processor: Option<usize>) -> Result<Server> {
        let (bytes, bytes_there) = ipc::bytes_channel().map_err(theirs)?;
        let (memory, memory_there) = ipc::channel().map_err(theirs)?;
        let (answers_there, answers) = ipc::bytes_channel().map_err(theirs)?;
        let kid = Kid::fork(|| {
            if let Some(number) = processor {
                let _ = cpu::pin(&[number]);
            }
            let _ = match by {
                By::Bytes => serve_bytes(&bytes_there, &answers_there),
                By::Memory => serve_memory(&memory_there, &answers_there),
            };
        })?;
        Ok(Server { bytes, memory, answers, _kid: kid })
    }

    /// A client that sends bytes.
    pub fn bytes(&self, trip: Trip) -> Bytes<'_> {
        let mut message = vec![FILL; HEAD + trip.bytes];
        message[..HEAD].copy_from_slice(&(trip.op as u64).to_ne_bytes());
        Bytes { server: self, trip, message }
    }

    /// A client that sends memory.
    pub fn memory(&self, trip: Trip) -> Memory<'_> {
        Memory { server: self, trip, memory: IpcSharedMemory::from_byte(FILL, trip.bytes) }
    }

    fn answer(&self, trip: Trip) -> Result<()> {
        let answer = self.answers.recv().map_err(theirs)?;
        let answer: &Answer =
            answer[..].try_into().map_err(|_| Error::bad_request("an answer of another length"))?;
        trip.check(answer)
    }
}

/// The client's side, by bytes.
pub struct Bytes<'a> {
    server: &'a Server,
    trip: Trip,
    message: Vec<u8>,
}

impl Contender for Bytes<'_> {
    fn name(&self) -> &'static str {
        "ipc-channel, bytes"
    }

    fn trip(&mut self) -> Result<()> {
        if self.trip.write {
            self.message[HEAD..].fill(FILL);
        }
        self.server.bytes.send(&self.message).map_err(theirs)?;
        self.server.answer(self.trip)
    }
}

/// The client's side, by memory.
pub struct Memory<'a> {
    server: &'a Server,
    trip: Trip,
    memory: IpcSharedMemory,
}

impl Contender for Memory<'_> {
    fn name(&self) -> &'static str {
        "ipc-channel, memory"
    }

    fn trip(&mut self) -> Result<()> {
        if self.trip.write {
            // SAFETY: the server reads it only between a message and its answer, and every answer was waited for.
            unsafe { self.memory.deref_mut() }.fill(FILL);
        }
        let message = (self.trip.op as u64, self.memory.clone());
        self.server.memory.send(message).map_err(theirs)?;
        self.server.answer(self.trip)
    }
}

/// The server's life. It ends with its client, or is killed.
fn serve_bytes(asked: &IpcBytesReceiver, answers: &IpcBytesSender) -> Result<()> {
    loop {
        let message = asked.recv().map_err(theirs)?;
        let Some((op, bytes)) = message.split_first_chunk::<HEAD>() else { continue };
        let answer = Op::of(u64::from_ne_bytes(*op)).answer(bytes);
        answers.send(&answer).map_err(theirs)?;
    }
}

fn serve_memory(asked: &IpcReceiver<(u64, IpcSharedMemory)>, answers: &IpcBytesSender) -> Result<()> {
    loop {
        let (op, memory) = asked.recv().map_err(theirs)?;
        answers.send(&Op::of(op).answer(&memory)).map_err(theirs)?;
    }
}

/// What is asked, before the bytes.
const HEAD: usize = 8;
