//! The death mark: a word of shared memory in which the kernel itself notes that a thread is gone.
//!
//! The kernel sets the mark before it tears the dead process's memory down, so watchers know within a fraction of
//! a millisecond, where a pidfd or the end of a socket take as long as freeing the memory does. It is news about
//! one *thread*; and it is news only: the pidfd remains the proof that nothing of the process runs any more.
//!
//! ```text
//! private memory of the thread              memory it shares
//! ┌ head ──────────────┐   ┌ node ─┐        ┌ DeathMark ──────────────────────┐
//! │ list ──────────────┼──►│ next ─┼─► head │ word: tid | WAITERS             │
//! │ futex_offset       │   └───────┘        │    → at death WAITERS | DIED    │
//! └────────────────────┘       └── + futex_offset ──► word                    │
//! ```
//!
//! This is the robust futex list of `get_robust_list(2)`, with a list of one. Its links stay in private memory, so
//! that readers learn no addresses and nobody but the thread can mislead the walk; only the word is shared.
//! FUTEX_WAITERS is set from the start, so the kernel also wakes one of those who sleep on the word, although
//! they could not set that bit in a read-only mapping.

use super::last;
use super::map::Mapping;
use crate::error::{Error, Result};
use crate::primitive::{AtomicU32, AtomicUsize, Ordering};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Set by the kernel: the thread whose number was here has exited.
pub const OWNER_DIED: u32 = 0x4000_0000;
/// Somebody may sleep on the word: the kernel wakes one of them when the owner dies.
pub const WAITERS: u32 = 0x8000_0000;
/// The bits of the word that hold the number of the owning thread.
pub const TID_MASK: u32 = 0x3fff_ffff;

/// A cache line of shared memory that outlives its thread and tells of its end. All zeroes: nobody's.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct DeathMark {
    word: AtomicU32,
    _pad: [u32; 15],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<DeathMark>() == 64 && align_of::<DeathMark>() == 64);

impl DeathMark {
    /// Whether its thread has exited.
    pub fn is_dead(&self) -> bool {
        is_dead(&self.word)
    }

    /// Whether a thread has armed it and lives.
    pub fn is_armed(&self) -> bool {
        let word = self.word.load(Ordering::Acquire); // SYNC POINT: death mark
        word & TID_MASK != 0 && word & OWNER_DIED == 0
    }

    /// The word, for [`futex::wait`](super::futex::wait): sleep while it is what was last loaded.
    pub fn word(&self) -> &AtomicU32 {
        &self.word
    }
}

/// Whether the kernel has marked this word of a [`DeathMark`].
pub fn is_dead(word: &AtomicU32) -> bool {
    word.load(Ordering::Acquire) & OWNER_DIED != 0 // SYNC POINT: death mark
}

/// Makes the kernel mark `mark` when the calling thread exits, its process is killed, or it calls `exec`.
///
/// A thread has one mark: a second call replaces the first, which then stays as it is. It also replaces the list
/// that glibc registered for the thread, so robust *mutexes* (`PTHREAD_MUTEX_ROBUST`) that this thread holds when
/// it dies are no longer passed on. A forked child has no mark until it arms one.
///
/// See `set_robust_list(2)`. A few dozen bytes of private memory are never freed: the kernel reads them last.
///
/// # Safety
/// `mark` must be valid for reads and writes for as long as the calling thread lives, and be written by nobody
/// else.
pub unsafe fn arm(mark: NonNull<DeathMark>) -> Result<()> {
    // SAFETY: `mark` is valid, by the contract of this function.
    let word = unsafe { &mark.as_ref().word };
    let list = Box::leak(Box::new(List {
        head: Head { next: ptr::null_mut(), futex_offset: 0, pending: ptr::null_mut() },
        node: Node { next: ptr::null_mut() },
    }));
    let head = &raw mut list.head;
    KEPT.store(head.addr(), Ordering::Relaxed);
    let node = &raw mut list.node;
    list.head.next = node;
    list.head.futex_offset = ptr::from_ref(word).addr().wrapping_sub(node.addr()) as libc::c_long;
    list.node.next = head.cast();
    word.store(nix::unistd::gettid().as_raw() as u32 | WAITERS, Ordering::Release); // SYNC POINT: death mark
    // SAFETY: `head` and `node` were leaked above and stay valid and unchanged for ever; `word` is valid for the
    // life of the thread, by the contract of this function.
    let answer = unsafe { libc::syscall(libc::SYS_set_robust_list, head, size_of::<Head>()) };
    if answer == 0 {
        return Ok(());
    }
    let error = last("set_robust_list");
    word.store(0, Ordering::Release);
    Err(error)
}

/// Where the last list lies: the kernel's pointer to it is none that a leak checker sees.
static KEPT: AtomicUsize = AtomicUsize::new(0);

/// As [`arm`], for a mark at `offset` of a mapping that this function keeps for ever.
///
/// EINVAL if it does not lie within the mapping, or is not aligned to 64 bytes. A read-only mapping is a SIGSEGV.
pub fn arm_in(mapping: Arc<Mapping>, offset: usize) -> Result<()> {
    let end = offset.checked_add(size_of::<DeathMark>());
    if !offset.is_multiple_of(align_of::<DeathMark>()) || end.is_none_or(|end| end > mapping.len()) {
        return Err(Error::os("set_robust_list", libc::EINVAL));
    }
    let start = NonNull::new(mapping.as_ptr()).ok_or_else(|| Error::os("set_robust_list", libc::EFAULT))?;
    std::mem::forget(mapping);
    // SAFETY: the mapping is never unmapped, as its count was just leaked; the mark lies within it and is aligned,
    // as checked above and since mappings begin at pages.
    unsafe { arm(start.add(offset).cast()) }
}

/// `struct robust_list` of `<linux/futex.h>`.
#[repr(C)]
struct Node {
    next: *mut Node,
}

/// `struct robust_list_head` of `<linux/futex.h>`.
#[repr(C)]
struct Head {
    next: *mut Node,
    futex_offset: libc::c_long,
    pending: *mut Node,
}

#[repr(C)]
struct List {
    head: Head,
    node: Node,
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::sys::{futex, memfd};
    use std::os::fd::AsFd;
    use std::thread;

    #[test]
    fn a_thread_that_ends_leaves_its_mark() {
        let fd = memfd::create("robust-test", 4096).unwrap();
        let own = Arc::new(Mapping::shared_rw(fd.as_fd(), 4096).unwrap());
        let reader = Mapping::shared_ro(fd.as_fd(), 4096).unwrap();
        // SAFETY: offset 64 of a mapped, page-aligned, zeroed file that outlives the reference.
        let mark = unsafe { &*reader.as_ptr().add(64).cast::<DeathMark>() };
        assert!(!mark.is_armed() && !mark.is_dead());
        let (ready, armed) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            arm_in(own, 64).unwrap();
            ready.send(()).unwrap();
            let _ = ended.recv();
        });
        armed.recv().unwrap();
        assert!(mark.is_armed() && !mark.is_dead());
        drop(end);
        thread.join().unwrap();
        while !mark.is_dead() {
            futex::wait(mark.word(), mark.word().load(Ordering::Relaxed) & !OWNER_DIED, None);
        }
        assert!(!mark.is_armed());
    }

    #[test]
    fn a_mark_must_lie_in_its_mapping() {
        let fd = memfd::create("robust-test", 4096).unwrap();
        let own = Arc::new(Mapping::shared_rw(fd.as_fd(), 4096).unwrap());
        for wrong in [1, 32, 4096, 4096 - 32, usize::MAX, usize::MAX - 63] {
            assert!(arm_in(own.clone(), wrong).is_err());
        }
    }
}
