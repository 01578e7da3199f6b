//! The system's allocator, which refuses what it is told to refuse, in the thread that told it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI32, Ordering};

/// See the module.
pub struct Refusing;

/// What is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    Nothing,
    /// This one, once: the first is 1.
    Nth(u64),
    /// All that are at least so large.
    Large(usize),
}

thread_local! {
    static REFUSE: Cell<Refuse> = const { Cell::new(Refuse::Nothing) };
    static REFUSED: Cell<u64> = const { Cell::new(0) };
}

/// Where is told which calls led to what is refused, before it is.
static TELL: AtomicI32 = AtomicI32::new(-1);

/// As many addresses of callers are told.
pub const FRAMES: usize = 48;

/// Tells of each refusal there from now on: [`FRAMES`] addresses.
pub fn tell(fd: i32) {
    let mut frames = [std::ptr::null_mut(); FRAMES];
    // SAFETY: room for so many. The first time it loads a library, which it must not do in an allocation.
    unsafe { libc::backtrace(frames.as_mut_ptr(), FRAMES as i32) };
    TELL.store(fd, Ordering::Relaxed);
}

/// Runs `body` while this is refused to the thread. How often it was, too.
pub fn with<T>(refuse: Refuse, body: impl FnOnce() -> T) -> (T, u64) {
    REFUSED.set(0);
    REFUSE.set(refuse);
    let result = body();
    REFUSE.set(Refuse::Nothing);
    (result, REFUSED.get())
}

/// Whether this one is. Allocates nothing, and no thread-local value here has a destructor.
fn is_refused(size: usize) -> bool {
    let refused = match REFUSE.get() {
        Refuse::Nothing => return false,
        Refuse::Large(from) => size >= from,
        Refuse::Nth(n) => {
            REFUSE.set(if n == 1 { Refuse::Nothing } else { Refuse::Nth(n - 1) });
            n == 1
        }
    };
    if refused {
        REFUSED.set(REFUSED.get() + 1);
        let mut frames = [std::ptr::null_mut::<libc::c_void>(); FRAMES];
        // SAFETY: room for so many; and they are bytes.
        unsafe {
            libc::backtrace(frames.as_mut_ptr(), FRAMES as i32);
            libc::write(TELL.load(Ordering::Relaxed), frames.as_ptr().cast(), size_of_val(&frames));
        }
    }
    refused
}

// SAFETY: what is not refused is passed on to the system's allocator unchanged; null says that there is no memory.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_refused(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if is_refused(new_size) {
            return std::ptr::null_mut();
        }
        // SAFETY: as above; `ptr` came from `System`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}
