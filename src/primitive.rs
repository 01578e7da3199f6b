//! The only place that names atomics: the machine's, or loom's under `--cfg loom`.
//!
//! Everything else in the crate imports them from here, so that the model checker sees every access of the
//! [`ring`](crate::ring) room (`ci/lint.sh` holds the rest of the crate to it).

#[cfg(not(loom))]
pub use core::hint::spin_loop;
#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};

#[cfg(loom)]
pub use loom::hint::spin_loop;
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
