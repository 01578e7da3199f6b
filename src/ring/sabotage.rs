//! Switches that break one check or one ordering each, so that the models, and the storm, can show that they would notice.
//!
//! A check that stays green proves little until it was red once. `ci/loom-sabotage.sh` builds the models with
//! `--cfg sabotage`, chooses one switch a run with `STOKEHOLD_SABOTAGE`, and demands that the named test fails; those of this
//! room are for it. What takes processes and memory of different owners, in the rooms below, `ci/sabotage.sh` tries on the
//! storm. Without that cfg every function here is constant and nothing of a switch is compiled.

use crate::primitive::{Ordering, fence};

/// Whether this switch is chosen.
#[cfg(not(sabotage))]
#[inline(always)]
pub(crate) const fn on(_switch: &str) -> bool {
    false
}

/// Whether this switch is chosen.
#[cfg(sabotage)]
pub(crate) fn on(switch: &str) -> bool {
    static CHOSEN: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("STOKEHOLD_SABOTAGE").unwrap_or_default()) == switch
}

/// The ordering, or `Relaxed` with the switch.
#[inline(always)]
pub(super) fn order(switch: &str, ordering: Ordering) -> Ordering {
    if on(switch) { Ordering::Relaxed } else { ordering }
}

/// A full fence, or none with the switch.
#[inline(always)]
pub(super) fn full_fence(switch: &str) {
    if !on(switch) {
        fence(Ordering::SeqCst);
    }
}
