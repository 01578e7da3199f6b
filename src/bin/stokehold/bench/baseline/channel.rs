//! A crossbeam channel to a thread of this process and another one back: the hand-over that needs no process.

use crate::bench::blocks::Contender;
use crossbeam::channel::{Receiver, Sender, bounded};
use std::thread::JoinHandle;
use stokehold::{Error, Result};

/// Both channels, and the thread at the other end. It sleeps between blocks.
#[derive(Debug)]
pub struct Channel {
    to: Option<Sender<[u8; 64]>>,
    back: Receiver<[u8; 64]>,
    thread: Option<JoinHandle<()>>,
    bytes: [u8; 64],
}

impl Channel {
    /// Starts the thread: nothing may be forked from now on until this is dropped.
    pub fn new() -> Channel {
        let (to, from_here) = bounded::<[u8; 64]>(1);
        let (to_here, back) = bounded::<[u8; 64]>(1);
        let thread = std::thread::spawn(move || {
            for bytes in from_here {
                if to_here.send(bytes).is_err() {
                    break;
                }
            }
        });
        Channel { to: Some(to), back, thread: Some(thread), bytes: [7; 64] }
    }
}

impl Contender for Channel {
    fn name(&self) -> &'static str {
        "crossbeam channel"
    }

    fn trip(&mut self) -> Result<()> {
        let ended = || Error::os("channel", 0);
        self.to.as_ref().ok_or_else(ended)?.send(self.bytes).map_err(|_| ended())?;
        self.bytes = self.back.recv().map_err(|_| ended())?;
        Ok(())
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.to = None; // ends the thread
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
