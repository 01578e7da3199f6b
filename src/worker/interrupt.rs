//! The signal of a pool that asks for one: to the thread that runs a call which was given up, while it runs it.
//!
//! The control thread sends it, holding the gate and having seen there that the word is Abandoned. A thread that is through
//! with such a call, its word Acked or the call deferred, goes through the gate before it takes another: then either the
//! signal was not sent, or it is delivered before that. Calls that nobody gave up do not come here.

use super::runtime::Worker;
use crate::ring::{Generation, State};
use crate::shm::{BeginRecord, Begun};
use crate::sys::process;
use crate::sys::signal::{self, Signal};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The threads of a worker that run apps, and the gate.
#[derive(Debug, Default)]
pub(super) struct Interrupts {
    /// Kernel thread numbers, in the order of their begin records. Those of deferred calls come after.
    threads: OnceLock<Vec<i32>>,
    /// Whether a signal was ever sent.
    gate: Mutex<bool>,
}

impl Interrupts {
    pub fn know(&self, threads: Vec<i32>) {
        let _ = self.threads.set(threads); // once, at boot
    }

    /// On the thread that ran a call, once a call that was given up is not this thread's any more.
    #[cold]
    pub fn pass(&self) {
        if *self.lock() {
            // What is pending is delivered at the end of a system call, whichever it is.
            process::thread_id();
        }
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, place: usize, signal: Signal) {
        let thread = self.threads.get().and_then(|threads| threads.get(place));
        let sent = match thread {
            Some(thread) => signal::send_to_thread(*thread, signal),
            None => signal::send_to_self(signal),
        };
        if let Err(error) = sent {
            log::debug!("{signal} for a call that was given up: {error}");
        }
    }
}

impl Worker {
    /// A call was given up and is still run: signals its thread; the whole process if it is deferred, as nobody knows whose
    /// it is then. Nothing if it is over, or was never begun.
    pub(super) fn interrupt(&self, lane: u64, call: usize, generation: Generation, signal: Signal) {
        let Some(lane) = self.lanes.of(lane) else { return };
        let Some(line) = lane.control.lines().get(call) else { return };
        let is_its =
            |begun: Begun| (begun.lane, begun.call, begun.generation) == (lane.serial, call, generation);
        let mut sent = self.interrupts.lock();
        let is_kept = line.look().is_ok_and(|word| {
            word.state() == State::Abandoned
                && word.generation() == generation
                && word.life() == Some(self.life)
        });
        let mut records = self.results.begin_records().iter().map(BeginRecord::read);
        if is_kept && let Some(place) = records.position(|begun| begun.is_some_and(is_its)) {
            *sent = true;
            self.interrupts.send(place, signal);
        }
    }
}
