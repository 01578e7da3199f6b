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
pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub use modelled::{AtomicU32, AtomicU64};

/// Loom's atomics with a remedy for a blind spot of loom 0.7.
///
/// Loom remembers one last access of each atomic to find out which steps are worth exchanging. After a load of
/// one thread, the usual "load, then compare and swap" of another hides the race between that load and that
/// swap behind its own load, and the execution in which the swap comes first may never be tried. So every load
/// here first stores to a second atomic that nobody reads: all loads of a word then count as conflicting. A
/// relaxed store that is never read orders nothing, so it adds executions and takes none away.
#[cfg(loom)]
mod modelled {
    use loom::sync::atomic::{self, Ordering};

    macro_rules! atomic {
        ($name:ident, $of:ty) => {
            #[derive(Debug)]
            pub struct $name {
                value: atomic::$name,
                touched: atomic::AtomicU32,
            }

            #[allow(missing_docs)]
            impl $name {
                pub fn new(value: $of) -> $name {
                    $name { value: atomic::$name::new(value), touched: atomic::AtomicU32::new(0) }
                }

                pub fn load(&self, order: Ordering) -> $of {
                    self.touched.store(0, Ordering::Relaxed);
                    self.value.load(order)
                }

                pub fn store(&self, value: $of, order: Ordering) {
                    self.value.store(value, order);
                }

                pub fn fetch_add(&self, value: $of, order: Ordering) -> $of {
                    self.value.fetch_add(value, order)
                }

                pub fn fetch_or(&self, value: $of, order: Ordering) -> $of {
                    self.value.fetch_or(value, order)
                }

                pub fn fetch_and(&self, value: $of, order: Ordering) -> $of {
                    self.value.fetch_and(value, order)
                }

                pub fn compare_exchange(
                    &self,
                    current: $of,
                    new: $of,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$of, $of> {
                    self.value.compare_exchange(current, new, success, failure)
                }
            }
        };
    }

    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);
}
