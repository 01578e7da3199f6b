//! What the arbiter tells the policy.

use std::fmt;

use super::{CallId, Life};
use crate::error::{Cause, Kill};

/// Something that happened.
///
/// An event about a life that is unknown, long reaped or in a state where it means nothing is ignored: events of
/// different sources (socket, pidfd, shared memory) overtake each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// [`Action::Spawn`](super::Action::Spawn) was carried out: the process exists and its pidfd is watched.
    SpawnedOk {
        /// Which one.
        life: Life,
    },
    /// [`Action::Spawn`](super::Action::Spawn) failed, there is no process and will be none.
    SpawnFailed {
        /// Which one.
        life: Life,
        /// The error number of fork, clone or exec.
        errno: i32,
    },
    /// The worker said that it takes calls.
    Ready {
        /// Which one.
        life: Life,
    },
    /// The worker said that it cannot boot.
    BootError {
        /// Which one.
        life: Life,
        /// What it said. Logged escaped, and cut to 200 characters.
        text: String,
    },
    /// The kernel marked the worker's robust futex: it is probably dying. A hint.
    Marked {
        /// Which one.
        life: Life,
    },
    /// Its pidfd fired, and `waitid` with `WNOWAIT` said how it ended; it is a zombie still. The truth.
    Exited {
        /// Which one.
        life: Life,
        /// How.
        status: Ended,
    },
    /// This worker must go: a deadline tick, a check of what it wrote, or recycling wants it.
    Cordon {
        /// Which one.
        life: Life,
        /// What for.
        why: Why,
    },
    /// A worker has a call that was given up: cancelled, its deadline passed, or its client gone. Said at every look, until
    /// it is over.
    GivenUp {
        /// Which worker.
        life: Life,
        /// Which call.
        call: CallId,
    },
    /// It has let go of that call.
    LetGo {
        /// Which worker.
        life: Life,
        /// Which call.
        call: CallId,
    },
    /// The worker says that it has done what [`Action::Interrupt`](super::Action::Interrupt) asked for.
    Interrupted {
        /// Which worker.
        life: Life,
        /// Which call.
        call: CallId,
    },
    /// Close the pool. A second request, of whatever mode, means [`Stop::Now`].
    Shutdown {
        /// How.
        mode: Stop,
    },
    /// Something to be logged, which the policy decides about so that no peer can fill a log.
    Trouble {
        /// What.
        text: String,
    },
    /// Time passed: [`Policy::next_deadline`](super::Policy::next_deadline) is due. Early ones do no harm, and every other
    /// event does what a tick does, except that nothing is done about a call that was given up: those are looked at before a
    /// tick, and [`LetGo`](Event::LetGo) is said of each that is over.
    Tick,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// By the kernel's out-of-memory killer, as its counter says.
    OutOfMemory,
}

/// Why a worker must go. Decides how much time it gets, and what is reported as the cause of its death.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// A call was given up, its deadline having passed for instance, and the worker does not let go: `kill_grace_ns`.
    Deadline,
    /// The same, where the cause is to be read by the other calls of that worker.
    OthersDeadline,
    /// It does not respond at all: killed at once.
    Hung,
    /// It wrote what no correct worker writes: killed at once.
    Corrupt,
    /// Its age, calls or memory say so: `stop_grace_ns`, and no early death. Ignored unless the worker is ready and
    /// less than a quarter of the slots (at least one) is without a ready worker: ask again later.
    Recycled,
}

/// How to close a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Workers finish what they run, for `stop_grace_ns`; then SIGTERM, and SIGKILL after `kill_grace_ns`.
    Drain,
    /// SIGKILL.
    Now,
}

impl Why {
    /// The cause that is reported for a worker killed because of this.
    pub const fn cause(self) -> Cause {
        match self {
            Why::Deadline => Cause::KilledByUs(Kill::Deadline),
            Why::OthersDeadline => Cause::KilledByUs(Kill::OthersDeadline),
            Why::Hung => Cause::Hung,
            Why::Corrupt => Cause::Corrupt,
            Why::Recycled => Cause::Recycled,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Exited(status) => write!(f, "exit status {status}"),
            Ended::Signaled(signal) => write!(f, "signal {signal}"),
            Ended::OutOfMemory => f.write_str("out of memory"),
        }
    }
}
