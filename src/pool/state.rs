//! The states that others can see: of a pool, and of one of its slots.
//!
//! Both go into the registry as `u32`, so their numbers are stable, and none is zero: fresh memory is no state.

use crate::error::Absence;

/// What a pool is doing, as everyone reads it in the registry.
///
/// ```text
///   Starting ──► Running ◄──► Degraded       each of these ──► ShuttingDown ──► Closed
///       └──────────────────────►┘            NoWorkers ──────────►┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum PoolState {
    /// No worker was ready yet. Calls wait.
    Starting = 1,
    /// A worker is ready, or the last one was and its successor is on its way. Calls are run, or wait.
    Running = 2,
    /// Nobody is ready, and those that were tried lately died or could not start. Calls fail at once; the pool
    /// goes on trying, and the first worker that becomes ready ends this.
    Degraded = 3,
    /// It was told to close. Nothing new is taken, nothing is started.
    ShuttingDown = 4,
    /// Nothing is left.
    Closed = 5,
    /// It was configured to have no workers: nobody will ever come.
    NoWorkers = 6,
}

/// What the latest life of a slot is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum SlotState {
    /// Nobody: its last life is gone and the next has not been started.
    Empty = 1,
    /// Being started, or started and not ready.
    Booting = 2,
    /// Takes calls.
    Ready = 3,
    /// Takes nothing more, its successor is being started; killed when its grace is over.
    Cordoned = 4,
    /// Takes nothing more and finishes what it runs, since the pool is being closed.
    Draining = 5,
    /// Told to die, not gone yet.
    Dying = 6,
}

impl PoolState {
    /// The state of this number, as read from shared memory.
    pub const fn from_raw(raw: u32) -> Option<PoolState> {
        Some(match raw {
            1 => PoolState::Starting,
            2 => PoolState::Running,
            3 => PoolState::Degraded,
            4 => PoolState::ShuttingDown,
            5 => PoolState::Closed,
            6 => PoolState::NoWorkers,
            _ => return None,
        })
    }

    /// Its number.
    pub const fn as_raw(self) -> u32 {
        self as u32
    }

    /// Whether a call may be queued.
    pub const fn accepts_calls(self) -> bool {
        matches!(self, PoolState::Starting | PoolState::Running)
    }

    /// Why nobody will run a call, where that is so. A closing pool is none of these: see
    /// [`Refusal`](super::Refusal).
    pub const fn absence(self) -> Option<Absence> {
        match self {
            PoolState::Degraded => Some(Absence::Degraded),
            PoolState::NoWorkers => Some(Absence::NoWorkers),
            _ => None,
        }
    }

    /// Whether a pool may go from here to `next` in one step.
    pub const fn may_become(self, next: PoolState) -> bool {
        use PoolState::*;
        matches!(
            (self, next),
            (Starting, Running | Degraded | ShuttingDown)
                | (Running, Degraded | ShuttingDown)
                | (Degraded, Running | ShuttingDown)
                | (NoWorkers, ShuttingDown)
                | (ShuttingDown, Closed)
        )
    }
}

impl SlotState {
    /// The state of this number, as read from shared memory.
    pub const fn from_raw(raw: u32) -> Option<SlotState> {
        Some(match raw {
            1 => SlotState::Empty,
            2 => SlotState::Booting,
            3 => SlotState::Ready,
            4 => SlotState::Cordoned,
            5 => SlotState::Draining,
            6 => SlotState::Dying,
            _ => return None,
        })
    }

    /// Its number.
    pub const fn as_raw(self) -> u32 {
        self as u32
    }
}
