//! What C has a pointer to while something else owns it.

use std::ptr::NonNull;

/// An object that stays where it is, whatever becomes of its owner's other parts: C's pointer to it is good until this is
/// dropped. Of that the types of such objects tell C.
pub(crate) struct Lent<T>(NonNull<T>);

impl<T> Lent<T> {
    pub(crate) fn new(object: T) -> Lent<T> {
        Lent(NonNull::from(Box::leak(Box::new(object))))
    }

    pub(crate) fn pointer(&self) -> *mut T {
        self.0.as_ptr()
    }

    /// # Safety
    /// Nobody has it exclusively: no function that C calls on it runs.
    pub(crate) unsafe fn get(&self) -> &T {
        // SAFETY: `new` made it; the promise of this function's caller.
        unsafe { self.0.as_ref() }
    }

    /// # Safety
    /// Nobody else has it: no function that C calls on it runs.
    pub(crate) unsafe fn get_mut(&mut self) -> &mut T {
        // SAFETY: `new` made it; the promise of this function's caller.
        unsafe { self.0.as_mut() }
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        // SAFETY: from a box, in `new`; C does not use it any more, by the rule of its type.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
