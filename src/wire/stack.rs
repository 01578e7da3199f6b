//! [`Stack`]: the counts of the containers that are open, all that a loop needs instead of recursion.

use super::WireError;
use crate::limits::MAX_DEPTH;

/// One `u32` for each open container, at most [`MAX_DEPTH`] of them. The first few live inline, so that
/// ordinary messages allocate nothing.
#[derive(Debug, Default)]
pub(super) struct Stack {
    len: usize,
    near: [u32; INLINE],
    far: Vec<u32>,
}

impl Stack {
    /// Opens a container.
    ///
    /// # Errors
    /// [`WireError::TooDeep`] when it would be the 513th.
    #[inline]
    pub(super) fn push(&mut self, entry: u32) -> Result<(), WireError> {
        if self.len >= MAX_DEPTH {
            return Err(WireError::TooDeep { max: MAX_DEPTH });
        }
        match self.near.get_mut(self.len) {
            Some(slot) => *slot = entry,
            None => self.far.push(entry),
        }
        self.len += 1;
        Ok(())
    }

    /// Closes the innermost container.
    #[inline]
    pub(super) fn pop(&mut self) {
        if self.len > INLINE {
            self.far.pop();
        }
        self.len = self.len.saturating_sub(1);
    }

    /// The entry of the innermost container.
    #[inline]
    pub(super) fn top(&mut self) -> Option<&mut u32> {
        match self.len {
            0 => None,
            1..=INLINE => self.near.get_mut(self.len - 1),
            _ => self.far.last_mut(),
        }
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

const INLINE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_in_first_out_across_the_inline_part() {
        let mut stack = Stack::default();
        for n in 0..MAX_DEPTH as u32 {
            assert_eq!(stack.push(n), Ok(()));
        }
        assert_eq!(stack.push(0), Err(WireError::TooDeep { max: MAX_DEPTH }));
        for n in (0..MAX_DEPTH as u32).rev() {
            assert_eq!(stack.top().copied(), Some(n));
            stack.pop();
        }
        assert!(stack.is_empty() && stack.top().is_none());
    }
}
