//! One life of a worker: how far it is on its way, and what was decided about its end.

use super::{Ended, Life, SlotIndex, SlotState};
use crate::error::Cause;

/// One life, from the order to start it until it is reaped.
#[derive(Clone, Debug)]
pub struct Incarnation {
    pub(super) life: Life,
    pub(super) slot: SlotIndex,
    pub(super) phase: Phase,
    /// Whether a process is known to exist. Until then there is nobody to signal.
    pub(super) born: bool,
    /// When it became ready, if it ever did.
    pub(super) ready_at: Option<u64>,
    /// The cause to report if it dies as it was told to. Recorded before the first signal goes out.
    pub(super) doom: Option<Cause>,
}

/// Where a life stands, with the time at which the next step is forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Must be ready by then.
    Booting { until: u64 },
    /// Takes calls.
    Ready,
    /// Takes nothing more, SIGKILL then.
    Cordoned { kill_at: u64 },
    /// Takes nothing more, SIGTERM then.
    Draining { term_at: u64 },
    /// SIGTERM was sent, SIGKILL then.
    Terminating { kill_at: u64 },
    /// SIGKILL was sent, or will be as soon as the process is known; given up then.
    Dying { lost_at: u64 },
    /// SIGKILL did not end it in a long time: it hangs in the kernel. Nothing waits for it any more.
    Lost,
}

impl Incarnation {
    /// Its number.
    pub fn life(&self) -> Life {
        self.life
    }

    /// The slot that it fills, or filled.
    pub fn slot(&self) -> SlotIndex {
        self.slot
    }

    /// What it is doing.
    pub fn state(&self) -> SlotState {
        match self.phase {
            Phase::Booting { .. } => SlotState::Booting,
            Phase::Ready => SlotState::Ready,
            Phase::Cordoned { .. } => SlotState::Cordoned,
            Phase::Draining { .. } | Phase::Terminating { .. } => SlotState::Draining,
            Phase::Dying { .. } | Phase::Lost => SlotState::Dying,
        }
    }

    /// Whether it fills its slot: it takes calls, or will. Any other life is on its way out.
    pub fn is_serving(&self) -> bool {
        matches!(self.phase, Phase::Booting { .. } | Phase::Ready)
    }

    /// What it died of, if it ended like this.
    ///
    /// What we had decided holds if it ended the way we made it end. A crash that came first is reported as what it
    /// is, and an end before it was ever ready is a failed boot, whatever its form.
    pub(super) fn cause(&self, status: Ended) -> Cause {
        let obeyed = match status {
            Ended::Exited(0) => true,
            Ended::Signaled(SIGKILL | SIGTERM) | Ended::OutOfMemory => self.is_signalled(),
            _ => false,
        };
        match (self.doom, status) {
            (Some(doom), _) if obeyed => doom,
            _ if self.ready_at.is_none() => Cause::BootFailed,
            (_, Ended::Exited(code)) => Cause::Exit(code),
            (_, Ended::Signaled(signal)) => Cause::Signal(signal),
            (_, Ended::OutOfMemory) => Cause::Oom,
        }
    }

    /// When the next step is forced.
    pub(super) fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Booting { until: at }
            | Phase::Cordoned { kill_at: at }
            | Phase::Draining { term_at: at }
            | Phase::Terminating { kill_at: at }
            | Phase::Dying { lost_at: at } => Some(at),
            Phase::Ready | Phase::Lost => None,
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.phase == Phase::Lost
    }

    fn is_signalled(&self) -> bool {
        matches!(self.phase, Phase::Terminating { .. } | Phase::Dying { .. } | Phase::Lost)
    }
}

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;
