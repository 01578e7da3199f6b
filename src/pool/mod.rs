//! The supervision policy of one pool: what to do about its workers, decided without doing any of it.
//!
//! [`Policy`] is a state machine. The arbiter tells it what happened ([`Event`]) and what time it is, and gets
//! back what to do ([`Action`]), in the order in which to do it. There is no clock, no system call, no thread and
//! no source of chance in here but a seed handed in, so a restart storm is a unit test and the simulation in
//! `tests/policy_sim.rs` lives through thousands of failures a second, the same ones again for the same seed.
//!
//! A *slot* is a place for one worker; an *incarnation* is one life of a worker in a slot. Two lives of one slot
//! overlap: the next one is started as soon as the old one is known to be on its way out, not when it is gone.
//!
//! ```text
//!   slot  ┌─────────┐ Spawn  ┌─────────┐ Ready  ┌───────┐ Cordon, Marked, Exited, boot timeout
//!     ┌──►│ vacant, ├───────►│ booting ├───────►│ ready ├───┐
//!     │   │ until   │        └────┬────┘        └───────┘   │
//!     │   └─────────┘             ▼                         ▼
//!     └────────────────────────── the slot is vacant again, the old life goes on alone:
//!
//!   life    cordoned or draining ──grace──► dying (SIGKILL sent) ──pidfd──► KillGroup, Repair, Reap, forgotten
//! ```
//!
//! Two things are kept apart. The death mark ([`Event::Marked`]) is a hint, early and sometimes wrong: it starts
//! the replacement and has SIGKILL sent to make it true. The pidfd ([`Event::Exited`]) is the truth: it alone
//! frees what the life held.
//!
//! A call that its caller gave up and that its worker keeps goes through stages of its own: the app is told by the word,
//! after a grace its thread gets a signal where the pool asks for one, after another its worker is cordoned.
//!
//! All times are monotonic nanoseconds as `u64`, from any origin.
#![forbid(unsafe_code)]

mod action;
mod bucket;
mod config;
mod event;
mod given_up;
mod incarnation;
mod life;
mod policy;
mod restart;
mod roster;
mod state;
#[cfg(test)]
mod tests;

pub use action::{Action, Refusal, Signal};
pub use config::Config;
pub use event::{Ended, Event, Stop, Why};
pub use given_up::CallId;
pub use incarnation::Incarnation;
pub use life::{Life, SlotIndex};
pub use policy::Policy;
pub use roster::Slot;
pub use state::{PoolState, SlotState};
