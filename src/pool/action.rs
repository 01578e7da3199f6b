//! What the policy wants done.

use super::{CallId, Life, PoolState, SlotIndex, SlotState};
use crate::error::Cause;

/// Something to do now. The actions of one event are done in their order, before the next event is handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker. Answered by exactly one of `SpawnedOk` and `SpawnFailed`, at once or later.
    Spawn {
        /// Where.
        slot: SlotIndex,
        /// As whom.
        life: Life,
    },
    /// Send a signal through the pidfd. That it fails because the process is gone is no error.
    Kill {
        /// To whom.
        life: Life,
        /// Which.
        signal: Signal,
    },
    /// Ask the worker to send the pool's signal to the thread that runs this call. Answered by `Interrupted`; if it is not,
    /// a `Kill` with that signal follows.
    Interrupt {
        /// Whom.
        life: Life,
        /// Which call.
        call: CallId,
    },
    /// SIGKILL the process group of this zombie, which still holds the number. Always before its `Reap`.
    KillGroup {
        /// Whose.
        life: Life,
    },
    /// Answer the calls of this dead life, repair it out of every word and free what it held. Once a life, between
    /// its `KillGroup` and its `Reap`.
    Repair {
        /// Who died.
        life: Life,
        /// Of what.
        cause: Cause,
    },
    /// Wait for the zombie and forget the life: its number may come round again.
    Reap {
        /// Which.
        life: Life,
    },
    /// It is not ready in the time that it may take, and will be killed.
    BootLate {
        /// Which.
        life: Life,
    },
    /// Tell the worker to take nothing more, to finish what it runs and to exit.
    Drain {
        /// Which.
        life: Life,
    },
    /// Publish the state of the pool.
    SetState {
        /// The new one.
        state: PoolState,
    },
    /// End every queued call. Follows the `SetState` that makes it so (state, full fence, sweep).
    RefuseQueued {
        /// With this.
        reason: Refusal,
    },
    /// Calls are taken again: ring the workers.
    ResumeQueue,
    /// Publish the state of a slot.
    Slot {
        /// Which.
        slot: SlotIndex,
        /// Its latest life; none if it is empty.
        life: Option<Life>,
        /// What that one is doing.
        state: SlotState,
    },
    /// The pool is closed, nothing more will be asked for. Comes once.
    Exit,
    /// Tell people. Comes in limited numbers: a burst of 16, then one a second; what was left out is counted.
    Log {
        /// How loud.
        level: log::Level,
        /// One line.
        text: String,
    },
}

/// A signal that the policy sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// SIGTERM.
    Term,
    /// The one that the pool sends for a call that was given up.
    Cancel,
    /// SIGKILL.
    Kill,
}

/// Why queued calls are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The pool is degraded.
    Degraded,
    /// The pool is closing.
    ShuttingDown,
}
