//! [`Stack`]: what is known of the containers that are open, all that a loop needs instead of recursion.

use super::{WireError, memory};
use crate::limits::MAX_DEPTH;

/// One entry for each open container, a count at the least, and at most [`MAX_DEPTH`] of them. The first `NEAR` live
/// inline, so that ordinary messages allocate nothing.
#[derive(Debug)]
pub(super) struct Stack<T = u32, const NEAR: usize = 16> {
    len: usize,
    near: [T; NEAR],
    far: Vec<T>,
}

impl<T: Copy + Default, const NEAR: usize> Default for Stack<T, NEAR> {
    #[inline]
    fn default() -> Self {
        Stack { len: 0, near: [T::default(); NEAR], far: Vec::new() }
    }
}

/// One container is open.
impl<T: Copy + Default, const NEAR: usize> From<T> for Stack<T, NEAR> {
    #[inline]
    fn from(entry: T) -> Self {
        let mut near = [T::default(); NEAR];
        near[0] = entry;
        Stack { len: 1, near, far: Vec::new() }
    }
}

impl<T, const NEAR: usize> Stack<T, NEAR> {
    /// How many are open with one more.
    ///
    /// # Errors
    /// [`WireError::TooDeep`] when it would be the 513th.
    #[inline]
    pub(super) fn deeper(&self) -> Result<usize, WireError> {
        if self.len < MAX_DEPTH { Ok(self.len + 1) } else { Err(WireError::TooDeep { max: MAX_DEPTH }) }
    }

    /// Opens a container.
    ///
    /// # Errors
    /// As [`deeper`](Stack::deeper).
    #[inline]
    pub(super) fn push(&mut self, entry: T) -> Result<(), WireError> {
        let len = self.deeper()?;
        match self.near.get_mut(self.len) {
            Some(slot) => *slot = entry,
            None => memory::push(&mut self.far, entry)?,
        }
        self.len = len;
        Ok(())
    }

    /// Closes the innermost container.
    #[inline]
    pub(super) fn pop(&mut self) {
        if self.len > NEAR {
            self.far.pop();
        }
        self.len = self.len.saturating_sub(1);
    }

    /// The entry of the innermost container.
    #[inline]
    pub(super) fn top(&mut self) -> Option<&mut T> {
        match self.len {
            0 => None,
            len if len <= NEAR => self.near.get_mut(len - 1),
            _ => self.far.last_mut(),
        }
    }

    /// The same, to look at.
    #[inline]
    pub(super) fn last(&self) -> Option<&T> {
        match self.len {
            0 => None,
            len if len <= NEAR => self.near.get(len - 1),
            _ => self.far.last(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_in_first_out_across_the_inline_part() {
        let mut stack: Stack = Stack::default();
        for n in 0..MAX_DEPTH as u32 {
            assert_eq!(stack.push(n), Ok(()));
        }
        assert_eq!(stack.push(0), Err(WireError::TooDeep { max: MAX_DEPTH }));
        for n in (0..MAX_DEPTH as u32).rev() {
            assert_eq!(stack.last(), Some(&n));
            assert_eq!(stack.top().copied(), Some(n));
            stack.pop();
        }
        assert!(stack.is_empty() && stack.top().is_none());
    }
}
