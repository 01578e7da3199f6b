//! A crossbeam channel to a thread and another one back. The bytes are handed over, not copied; there is no process.

use crate::bench::blocks::Contender;
use crate::work::{Answer, FILL, Op, Trip, theirs};
use crossbeam::channel::{Receiver, Sender, bounded};
use std::thread::JoinHandle;
use stokehold::internals::sys::cpu;
use stokehold::{Error, Result};

/// The thread and the channels. Nothing may be forked while it is there.
pub struct Thread {
    trip: Trip,
    to: Option<Sender<(Op, Vec<u8>)>>,
    back: Receiver<(Answer, Vec<u8>)>,
    thread: Option<JoinHandle<()>>,
    bytes: Vec<u8>,
}

impl Thread {
    /// Starts it, on this processor if one is given.
    pub fn new(trip: Trip, processor: Option<usize>) -> Thread {
        let (to, there) = bounded::<(Op, Vec<u8>)>(1);
        let (back_there, back) = bounded(1);
        let thread = std::thread::spawn(move || {
            if let Some(number) = processor {
                let _ = cpu::pin(&[number]);
            }
            for (op, bytes) in there {
                let answer = op.answer(&bytes);
                if back_there.send((answer, bytes)).is_err() {
                    break;
                }
            }
        });
        Thread { trip, to: Some(to), back, thread: Some(thread), bytes: vec![FILL; trip.bytes] }
    }
}

impl Contender for Thread {
    fn name(&self) -> &'static str {
        "crossbeam channel, a thread"
    }

    fn trip(&mut self) -> Result<()> {
        if self.trip.write {
            self.bytes.fill(FILL);
        }
        let to = self.to.as_ref().ok_or_else(|| Error::bad_request("the thread is gone"))?;
        to.send((self.trip.op, std::mem::take(&mut self.bytes))).map_err(theirs)?;
        let (answer, bytes) = self.back.recv().map_err(theirs)?;
        self.bytes = bytes;
        self.trip.check(&answer)
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.to = None; // ends it
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
