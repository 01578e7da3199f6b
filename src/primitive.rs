//! The only place that names atomics: the machine's, or loom's under `--cfg loom`.
//!
//! Everything else in the crate imports them from here, so that the model checker sees every access of the
//! [`ring`](crate::ring) room (`ci/lint.sh` holds the rest of the crate to it).

#[cfg(not(loom))]
pub use core::hint::spin_loop;
#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(not(any(loom, stokehold_fuzzing)))]
pub use core::sync::atomic::{AtomicU32, AtomicU64};
#[cfg(all(stokehold_fuzzing, not(loom)))]
pub use observed::{AtomicU32, AtomicU64, at_load, loads};

#[cfg(loom)]
pub use loom::hint::spin_loop;
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
#[cfg(loom)]
pub use modelled::{AtomicU32, AtomicU64};

/// The machine's atomics with a hook in front of each load, for fuzz targets: what a peer changes between two looks at
/// its memory is decided by the input, to the load.
#[cfg(all(stokehold_fuzzing, not(loom)))]
mod observed {
    use core::sync::atomic::{self, Ordering};
    use std::cell::{Cell, RefCell};

    type Change = Box<dyn FnOnce()>;

    thread_local! {
        static LOADS: Cell<u64> = const { Cell::new(0) };
        /// At which of them, 0 for none.
        static AT: Cell<u64> = const { Cell::new(0) };
        static CHANGE: RefCell<Option<Change>> = const { RefCell::new(None) };
    }

    /// Before the `nth` load of this thread from now on, which counts from 1, `change` runs; it takes the place of one that did
    /// not run yet.
    pub fn at_load(nth: u64, change: impl FnOnce() + 'static) {
        // What is dropped of the one before may load, too.
        let before = CHANGE.replace(Some(Box::new(change)));
        drop(before);
        AT.set(LOADS.get() + nth);
    }

    /// How many loads this thread has made.
    pub fn loads() -> u64 {
        LOADS.get()
    }

    #[inline]
    fn count() {
        let now = LOADS.get() + 1;
        LOADS.set(now);
        if now == AT.get() {
            let change = CHANGE.take();
            change.into_iter().for_each(|change| change());
        }
    }

    macro_rules! atomic {
        ($name:ident, $of:ty, $($change:ident)*) => {
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub struct $name(atomic::$name);

            #[allow(missing_docs)]
            impl $name {
                pub const fn new(value: $of) -> $name {
                    $name(atomic::$name::new(value))
                }

                #[inline]
                pub fn load(&self, order: Ordering) -> $of {
                    count();
                    self.0.load(order)
                }

                #[inline]
                pub fn store(&self, value: $of, order: Ordering) {
                    self.0.store(value, order);
                }

                $(
                    #[inline]
                    pub fn $change(&self, value: $of, order: Ordering) -> $of {
                        count();
                        self.0.$change(value, order)
                    }
                )*

                #[inline]
                pub fn fetch_update(
                    &self,
                    set: Ordering,
                    fetch: Ordering,
                    with: impl FnMut($of) -> Option<$of>,
                ) -> Result<$of, $of> {
                    count();
                    self.0.fetch_update(set, fetch, with)
                }

                #[inline]
                pub fn compare_exchange(
                    &self,
                    current: $of,
                    new: $of,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$of, $of> {
                    count();
                    self.0.compare_exchange(current, new, success, failure)
                }

                #[inline]
                pub fn compare_exchange_weak(
                    &self,
                    current: $of,
                    new: $of,
                    success: Ordering,
                    failure: Ordering,
                ) -> Result<$of, $of> {
                    // Never by chance: an input means the same each time.
                    self.compare_exchange(current, new, success, failure)
                }

                pub fn as_ptr(&self) -> *mut $of {
                    self.0.as_ptr()
                }

                pub fn get_mut(&mut self) -> &mut $of {
                    self.0.get_mut()
                }
            }
        };
    }

    atomic!(AtomicU32, u32, swap fetch_add fetch_sub fetch_or fetch_and fetch_max);
    atomic!(AtomicU64, u64, swap fetch_add fetch_sub fetch_or fetch_and fetch_max);
}

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
