//! The supervising process: one thread for ever, a mio loop, and the effects that the policy of [`pool`](crate::pool)
//! decides on.
//!
//! It runs no app code, decodes no payload and is on the path of no call. What it does: fork workers, watch their
//! pidfds, repair the words that name a dead one, hand out descriptors, keep the registry, and on a slow tick derive
//! every hint again that a crash may have lost.

mod clients;
mod core;
mod counters;
mod door;
mod endpoint;
mod library;
mod regions;
mod repair;
#[cfg(stokehold_fuzzing)]
pub mod rig;
mod settings;
mod start;
mod status;
mod tick;
mod tidy;
mod token;
mod totals;
mod workers;

pub use counters::Counters;
pub use settings::Settings;
pub use start::{run, serve};
