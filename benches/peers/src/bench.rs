//! The parts of `stokehold bench` that measure and report: the same blocks, the same rows.
#![allow(dead_code)] // the program has further uses for them

#[path = "../../../src/bin/stokehold/bench/blocks.rs"]
pub mod blocks;
#[path = "../../../src/bin/stokehold/bench/place.rs"]
pub mod place;
#[path = "../../../src/bin/stokehold/bench/report.rs"]
pub mod report;
#[path = "../../../src/bin/stokehold/bench/stats.rs"]
pub mod stats;
#[path = "../../../src/bin/stokehold/bench/wanted.rs"]
pub mod wanted;

#[path = "../../../src/bin/stokehold/bench/baseline/kid.rs"]
mod kid;

pub mod baseline {
    pub use super::kid::Kid;
}
