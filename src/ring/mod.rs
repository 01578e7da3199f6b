//! The algorithms of the data plane over borrowed memory: the call word, the submit ring, the ring of a stream,
//! the hints of a board, and the ways of waiting.
//!
//! Nothing in here maps memory, makes a system call or knows what a process is. Each function is one step, or a
//! few, of one role (client, worker, arbiter); the order of the steps and the memory ordering of each is that of
//! the model-checked protocol, and `tests/loom.rs` checks them again over loom's atomics. What this room is *not*
//! responsible for: where the words lie (`shm`), who sleeps how (`sys::futex` behind [`Futex`]), what a call
//! means (`client`, `worker`, `arbiter`).
//!
//! Memory that a crashing process can write is suspect: every value read from shared words is checked where it
//! is read, and an illegal one is an answer ([`Illegal`]), never a panic, an endless loop or an out-of-range index.

mod adaptive;
mod alarm;
mod armed;
mod bell;
mod bits;
mod doorbell;
mod intake;
mod line;
mod queue;
pub(crate) mod sabotage;
mod stream;
#[cfg(all(test, not(loom)))]
mod stream_stress;
#[cfg(all(test, not(loom)))]
mod stress;
mod submit;
mod word;

pub use adaptive::{Adaptive, Budget, Mode, Waited};
pub use alarm::{Alarm, Clock};
pub use armed::Armed;
pub use bell::Bell;
pub use bits::Bits;
pub use doorbell::{Doorbell, Parker, wake_idle, wake_one};
pub use intake::Intake;
pub use line::{CallLine, Cancel, Completed, Repaired};
pub use queue::{Queue, SubmitError, Taken};
pub use stream::{Corrupt, Cursor, Popped, StreamConsumer, StreamProducer, StreamRing, Unsent};
pub use submit::{Entry, Peek, Producer, PushError, SubmitRing};
pub use word::{Generation, Illegal, Life, Reason, State, Word};

use crate::primitive::AtomicU32;
use std::time::Duration;

/// A sleep that compares under the kernel's lock: `sys::futex` outside of tests, a model of it under loom.
pub trait Futex {
    /// Sleeps while `word` is `expected`, at most `timeout`. May return early for any reason.
    fn wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>);
    /// Wakes everybody who sleeps on `word`.
    fn wake_all(&self, word: &AtomicU32);
}
