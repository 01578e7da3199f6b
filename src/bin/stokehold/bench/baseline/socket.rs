//! 64 bytes to a forked process and back over a Unix socketpair: what a call costs that copies through the kernel.

use super::Kid;
use crate::bench::blocks::Contender;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use stokehold::internals::sys::{cpu, socket};
use stokehold::{Error, Result};

/// Our end, and the process at the other one. It sleeps in `read` between blocks.
#[derive(Debug)]
pub struct Socket {
    stream: UnixStream,
    bytes: [u8; 64],
    _kid: Kid,
}

impl Socket {
    /// Forks the other end, onto this processor if one is given. This process must have one thread.
    pub fn new(processor: Option<usize>) -> Result<Socket> {
        let (ours, theirs) = socket::pair()?;
        let kid = Kid::fork(|| {
            if let Some(number) = processor {
                let _ = cpu::pin(&[number]);
            }
            let mut stream = UnixStream::from(theirs);
            let mut bytes = [0; 64];
            while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
        })?;
        Ok(Socket { stream: UnixStream::from(ours), bytes: [7; 64], _kid: kid })
    }
}

impl Contender for Socket {
    fn name(&self) -> &'static str {
        "unix socketpair"
    }

    fn trip(&mut self) -> Result<()> {
        let exchanged =
            self.stream.write_all(&self.bytes).and_then(|()| self.stream.read_exact(&mut self.bytes));
        exchanged.map_err(|e| Error::os("socketpair", e.raw_os_error().unwrap_or_default()))
    }
}
