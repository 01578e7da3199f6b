//! Why a call is watched no longer.

use super::incoming::Trouble;
use crate::error::Error;
use crate::ring::{Life, Word};
use std::borrow::Cow;

/// A reason to end a call, or to look at its items.
#[derive(Debug)]
pub(super) enum Ended {
    /// Its word left QUEUED and RUNNING.
    Settled(Word),
    /// Its word is of another generation: a handle gave it up, or the lane is damaged.
    GivenUp,
    /// The lane is damaged.
    Damaged(Cow<'static, str>),
    /// Its deadline passed.
    Expired,
    /// No worker took it in time, and it was taken back.
    Withdrawn,
    /// No item came in time.
    Idle,
    /// There is, or may be, an item for its holder to take.
    News,
    /// An item cannot be read.
    Unreadable(Trouble),
    /// Its items are more than one result can be.
    Overfull(Error),
    /// The call that it is made in is over.
    Orphaned,
    /// The supervising process is gone.
    ArbiterDied,
    /// The worker that runs it is dying.
    WorkerDying(Life),
}
