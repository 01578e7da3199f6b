//! A Unix socketpair to a forked process: what is asked and how long it is, the bytes; the answer.

use crate::bench::baseline::Kid;
use crate::bench::blocks::Contender;
use crate::work::{Answer, FILL, Op, Trip, theirs};
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use stokehold::Result;
use stokehold::internals::sys::cpu;

/// The other end.
pub struct Server {
    stream: UnixStream,
    _kid: Kid,
}

impl Server {
    /// Forks it, onto this processor if one is given. This process must have one thread.
    pub fn new(processor: Option<usize>) -> Result<Server> {
        let (stream, there) = UnixStream::pair().map_err(theirs)?;
        let kid = Kid::fork(|| {
            if let Some(number) = processor {
                let _ = cpu::pin(&[number]);
            }
            let _ = serve(there);
        })?;
        Ok(Server { stream, _kid: kid })
    }

    pub fn contender(&self, trip: Trip) -> Socket<'_> {
        Socket { stream: &self.stream, trip, bytes: vec![FILL; trip.bytes] }
    }
}

/// The client's side.
pub struct Socket<'a> {
    stream: &'a UnixStream,
    trip: Trip,
    bytes: Vec<u8>,
}

impl Socket<'_> {
    fn exchange(&mut self) -> io::Result<Answer> {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&(self.trip.op as u64).to_ne_bytes());
        head[8..].copy_from_slice(&(self.bytes.len() as u64).to_ne_bytes());
        let sent = self.stream.write_vectored(&[IoSlice::new(&head), IoSlice::new(&self.bytes)])?;
        if sent < HEAD {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.stream.write_all(&self.bytes[sent - HEAD..])?;
        let mut answer = [0; 64];
        self.stream.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Contender for Socket<'_> {
    fn name(&self) -> &'static str {
        "unix socketpair"
    }

    fn trip(&mut self) -> Result<()> {
        if self.trip.write {
            self.bytes.fill(FILL);
        }
        let answer = self.exchange().map_err(theirs)?;
        self.trip.check(&answer)
    }
}

/// The server's life. It ends with its client, or is killed.
fn serve(mut stream: UnixStream) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let mut head = [0; HEAD];
        stream.read_exact(&mut head)?;
        let number = |at: usize| head[at..at + 8].try_into().map_or(0, u64::from_ne_bytes);
        bytes.resize(number(8) as usize, 0);
        stream.read_exact(&mut bytes)?;
        stream.write_all(&Op::of(number(0)).answer(&bytes))?;
    }
}

/// What is asked, and how many bytes follow.
const HEAD: usize = 16;
