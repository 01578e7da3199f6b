//! A body that does not fit beside its header, in a block of the lane's, until it is lent.

use super::connection::Shared;
use super::lane::{Held, Lane};
use super::lease::Sent;
use crate::error::{Error, Result};
use crate::shm::{Body, Placed};
use crate::wire::Encoder;

/// The block. The lane's again when this is dropped, also by a panic of what is encoded.
pub(super) struct Unlent<'l> {
    lane: &'l Lane,
    placed: Option<Placed>,
}

impl<'l> Unlent<'l> {
    /// Encodes a body of so many bytes, of which the leases are forgotten that were found when it was tried before.
    ///
    /// # Errors
    /// `BadRequest` if it is larger now; what the store says.
    pub(super) fn encode(
        shared: &Shared,
        lane: &'l Lane,
        needed: usize,
        sent: &mut Sent,
        encode: impl FnOnce(&mut Encoder<'_>) -> Result<()>,
    ) -> Result<(Unlent<'l>, Body)> {
        let placed = shared.allocate(lane, needed)?;
        let (region, offset) = (placed.id.index, placed.block.offset);
        let mut block = Unlent { lane, placed: Some(placed) };
        sent.clear();
        let mut e = Encoder::new(block.placed.as_mut().map_or(&mut [], Placed::bytes_mut));
        match encode(&mut e).map(|()| e.finish()) {
            Ok(Ok(len)) if len <= needed => Ok((block, Body::Block { region, offset, len })),
            _ => Err(Error::bad_request("a value changed while it was encoded")),
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.placed.as_ref().map_or(0, |placed| placed.block.len)
    }

    /// It is lent, and kept so.
    pub(super) fn lend(mut self, keep: impl FnOnce(Held)) {
        if let Some(placed) = self.placed.take() {
            keep(Held::Body(placed));
        }
    }
}

impl Drop for Unlent<'_> {
    fn drop(&mut self) {
        if let Some(placed) = self.placed.take() {
            self.lane.store.free(placed);
        }
    }
}
