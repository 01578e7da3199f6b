//! The ring room under loom: every interleaving, within a bound of preemptions, of small systems made of the
//! room's own code. `ci/loom.sh` runs them, `ci/loom-sabotage.sh` shows that each can fail, and
//! `docs/protocol.md` says what they found. Built only under `--cfg loom`.
//!
//! One file a subject. A lost wake-up shows as loom's deadlock, a missing ordering as a race on a [`Block`] or a
//! value that should not be, a broken rule as a failed assertion.
//!
//! [`Block`]: models::harness::Block

#[cfg(loom)]
#[path = "loom"]
mod models {
    mod alarm;
    mod armed;
    mod bell;
    mod block;
    mod close;
    mod harness;
    mod lane;
    mod park;
    mod repair;
    mod stream;
    mod submit;
    mod word;
}

#[cfg(not(loom))]
#[test]
fn models_run_under_loom_only() {
    println!("SKIPPED loom models (not built with --cfg loom: run ci/loom.sh)");
}
