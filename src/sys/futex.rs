//! Sleeping on a word of memory that processes share, and waking who sleeps there. See `futex(2)`.
//!
//! The calls are never the PRIVATE ones, which look a word up by its address within one process and so wake
//! nobody elsewhere. Both work on a word in a read-only mapping: a watcher may sleep on what it cannot write.
//!
//! A wake is a hint. Waits end for other reasons too, so callers check their own condition in a loop; and whoever
//! is woken may die before it acts, so nothing may depend on exactly one being woken.

use super::clock::timespec;
use crate::primitive::AtomicU32;
use nix::errno::Errno;
use std::ptr;
use std::time::Duration;

/// How a [`wait`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Somebody woke it; or, rarely, nobody did.
    Woken,
    /// The word was not what was expected, so there was no wait.
    Changed,
    /// The timeout passed.
    TimedOut,
    /// A signal handler ran (or the kernel answered something that it does not document): look again.
    Interrupted,
}

/// Sleeps while `word` is `expected`, until it is woken or `timeout` of the monotonic clock has passed.
///
/// The comparison and the falling asleep are one step towards [`wake`].
#[inline]
pub fn wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Wait {
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: `word` is borrowed for the length of the call and is only read; `timeout` is null or points to the
    // local above, which outlives the call.
    let answer =
        unsafe { libc::syscall(libc::SYS_futex, address(word), libc::FUTEX_WAIT, expected, timeout) };
    if answer == 0 {
        return Wait::Woken;
    }
    match Errno::last() {
        Errno::EAGAIN => Wait::Changed,
        Errno::ETIMEDOUT => Wait::TimedOut,
        _ => Wait::Interrupted,
    }
}

/// Wakes up to `n` of those who sleep on `word`, and says how many they were.
///
/// The word is not read: change it first.
#[inline]
pub fn wake(word: &AtomicU32, n: u32) -> usize {
    let n = n.min(i32::MAX as u32);
    // SAFETY: the kernel only looks up which page `word` lies in; it is borrowed for the length of the call.
    let answer = unsafe { libc::syscall(libc::SYS_futex, address(word), libc::FUTEX_WAKE, n) };
    usize::try_from(answer).unwrap_or(0)
}

/// The kernel's futex, for the algorithms that sleep on shared words.
#[derive(Clone, Copy, Debug)]
pub struct Kernel;

impl crate::ring::Futex for Kernel {
    #[inline]
    fn wait(&self, word: &AtomicU32, expected: u32, timeout: Option<Duration>) {
        wait(word, expected, timeout);
    }

    #[inline]
    fn wake_all(&self, word: &AtomicU32) {
        wake(word, u32::MAX);
    }
}

fn address(word: &AtomicU32) -> *const u32 {
    ptr::from_ref(word).cast()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::primitive::Ordering;
    use std::sync::Arc;
    use std::thread;

    #[test]
    fn a_word_that_changed_is_not_slept_on() {
        assert_eq!(wait(&AtomicU32::new(1), 0, None), Wait::Changed);
    }

    #[test]
    fn a_timeout_passes_and_not_too_early() {
        let before = crate::sys::clock::monotonic_ns();
        assert_eq!(wait(&AtomicU32::new(0), 0, Some(Duration::from_millis(2))), Wait::TimedOut);
        assert!(crate::sys::clock::monotonic_ns() - before >= 2_000_000);
        assert_eq!(wait(&AtomicU32::new(0), 0, Some(Duration::ZERO)), Wait::TimedOut);
    }

    #[test]
    fn a_huge_timeout_is_no_error() {
        let word = Arc::new(AtomicU32::new(0));
        let sleeper = thread::spawn({
            let word = word.clone();
            move || {
                while word.load(Ordering::Acquire) == 0 {
                    let end = wait(&word, 0, Some(Duration::MAX));
                    assert!(matches!(end, Wait::Woken | Wait::Changed), "{end:?}");
                }
            }
        });
        thread::sleep(Duration::from_millis(5));
        word.store(1, Ordering::Release);
        wake(&word, u32::MAX);
        sleeper.join().unwrap();
    }

    #[test]
    fn nobody_sleeps_so_nobody_is_woken() {
        assert_eq!(wake(&AtomicU32::new(0), u32::MAX), 0);
    }
}
