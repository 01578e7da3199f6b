//! How long functions wait.

use std::time::Duration;

/// For functions that wait: as long as it takes.
pub const STK_FOREVER: u64 = 0xffff_ffff_ffff_ffff;

/// As the crate takes it.
pub(crate) fn timeout_of(timeout_ms: u64) -> Duration {
    if timeout_ms == STK_FOREVER { Duration::MAX } else { Duration::from_millis(timeout_ms) }
}
