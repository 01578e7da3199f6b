//! [`Bytes`]: bytes that grow at their end. The first few lie in place, so that few of them cost no allocation.

use super::{WireError, memory};
use crate::limits::MAX_MESSAGE;

/// As many as fit are `near`; when there are more, all are `far`.
pub(super) struct Bytes {
    near: [u8; NEAR],
    near_len: usize,
    /// Empty while they are near.
    far: Vec<u8>,
}

/// What most arguments fit into. It is cleared when a draft is begun.
const NEAR: usize = 128;

impl Default for Bytes {
    #[inline]
    fn default() -> Bytes {
        Bytes { near: [0; NEAR], near_len: 0, far: Vec::new() }
    }
}

impl From<[u8; 5]> for Bytes {
    #[inline]
    fn from(head: [u8; 5]) -> Bytes {
        let mut near = [0; NEAR];
        near[..5].copy_from_slice(&head);
        Bytes { near, near_len: 5, far: Vec::new() }
    }
}

impl Bytes {
    /// Both behind what is there.
    #[inline]
    pub(super) fn append<const N: usize>(&mut self, head: &[u8; N], body: &[u8]) -> Result<(), WireError> {
        let head_end = self.near_len + N;
        let end = head_end + body.len(); // no slice is so long that this overflows
        if end > NEAR || self.is_far() {
            return self.append_far(head, body);
        }
        self.near[self.near_len..head_end].copy_from_slice(head);
        self.near[head_end..end].copy_from_slice(body);
        self.near_len = end;
        Ok(())
    }

    #[inline(never)]
    fn append_far(&mut self, head: &[u8], body: &[u8]) -> Result<(), WireError> {
        let end = self.len() + head.len() + body.len();
        if end > MAX_MESSAGE {
            return Err(WireError::MessageTooLarge { len: end as u64, max: MAX_MESSAGE as u64 });
        }
        let far = self.make_far(end)?;
        memory::reserve(far, head.len() + body.len())?;
        far.extend_from_slice(head);
        far.extend_from_slice(body);
        Ok(())
    }

    /// For whoever writes behind what is there, and has room for `len` bytes in all without growing.
    pub(super) fn make_far(&mut self, len: usize) -> Result<&mut Vec<u8>, WireError> {
        if !self.is_far() {
            memory::reserve(&mut self.far, len)?;
            self.far.extend_from_slice(&self.near[..self.near_len]);
        }
        Ok(&mut self.far)
    }

    /// The same in place, while that has room: all of it, and how much is taken.
    pub(super) fn near_mut(&mut self) -> Option<(&mut [u8], &mut usize)> {
        if self.is_far() { None } else { Some((&mut self.near, &mut self.near_len)) }
    }

    pub(super) fn truncate(&mut self, len: usize) {
        self.near_len = self.near_len.min(len);
        self.far.truncate(len);
    }

    /// Writes over what is there.
    #[inline]
    pub(super) fn write_at(&mut self, at: usize, bytes: &[u8]) {
        let all = if self.is_far() { &mut self.far[..] } else { &mut self.near[..] };
        all[at..at + bytes.len()].copy_from_slice(bytes);
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[u8] {
        if self.is_far() { &self.far } else { &self.near[..self.near_len] }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        if self.is_far() { self.far.len() } else { self.near_len }
    }

    #[inline]
    fn is_far(&self) -> bool {
        !self.far.is_empty()
    }
}
