//! What an error is in detail.

use super::AppError;
#[cfg(doc)]
use super::Code;
use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

/// Why a worker died.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Not known yet, or no longer remembered.
    Unknown,
    /// It ended by itself with this status.
    Exit(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel's out-of-memory killer.
    Oom,
    /// It did not respond and was killed.
    Hung,
    /// It was replaced on purpose.
    Recycled,
    /// It wrote what no correct worker writes.
    Corrupt,
    /// It never became ready.
    BootFailed,
    /// The arbiter killed it, because of this.
    KilledByUs(Kill),
}

/// Why the arbiter killed a worker.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kill {
    /// This call's deadline passed and the worker did not let go.
    Deadline,
    /// Another call's deadline, in the same worker.
    OthersDeadline,
    /// The pool was closed.
    Shutdown,
}

/// Why nobody will run a call.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Absence {
    /// Workers died too often in too short a time; the pool waits before it tries again.
    Degraded,
    /// The pool has no workers.
    NoWorkers,
}

/// Which bound was reached.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Calls in flight of one client.
    Calls,
    /// Bytes of payload.
    Bytes,
    /// Results of a worker: its 256 records, or bytes, for one client or for all.
    Results,
    /// Clients of a pool.
    Clients,
    /// Regions of a pool.
    Regions,
    /// Calls that a worker has deferred.
    Deferred,
}

/// Who cancelled a call.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelledBy {
    /// The holder of the call.
    Caller,
    /// Another thread, through a handle to the call.
    Handle,
    /// Nobody wants it any more: the client whose call it was left, or its process died. Apps are told so.
    Disconnected,
    /// The call in which an app made this one was cancelled, or has ended.
    Parent,
}

/// Which limit of a call's time passed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// That of the whole call, or the pool's.
    Call,
    /// That of the queue: until then some worker had to begin with it.
    Queue,
    /// That of one item: until then the next one of the stream had to come.
    Item,
}

/// The details of an error. [`Error::kind`](super::Error::kind) lends it.
#[non_exhaustive]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// See [`Code::App`].
    App(AppError),
    /// See [`Code::WorkerDied`].
    WorkerDied {
        /// Its process, if that is known.
        pid: Option<u32>,
        /// Why it died.
        cause: Cause,
        /// Whether the app had begun with this call. `false` is certain: the app never saw it.
        started: bool,
    },
    /// See [`Code::Deadline`].
    Deadline {
        /// Whether a worker had taken the call. `false` is certain: the app never saw it.
        started: bool,
        /// Which limit it was.
        limit: Limit,
    },
    /// See [`Code::Cancelled`].
    Cancelled {
        /// Who did it.
        by: CancelledBy,
        /// Whether a worker had taken the call.
        started: bool,
    },
    /// See [`Code::Overloaded`].
    Overloaded {
        /// What ran out.
        bound: Bound,
        /// How much of it there is.
        limit: u64,
    },
    /// See [`Code::NoWorkers`].
    NoWorkers {
        /// Why nobody will come.
        reason: Absence,
    },
    /// See [`Code::BadRequest`].
    BadRequest(Cow<'static, str>),
    /// See [`Code::Protocol`].
    Protocol(Cow<'static, str>),
    /// See [`Code::ArbiterDied`].
    ArbiterDied {
        /// Whether a worker had taken the call.
        started: bool,
    },
    /// See [`Code::ShuttingDown`].
    ShuttingDown,
    /// See [`Code::Stalled`].
    Stalled {
        /// How long the stream's producer had waited for room.
        after: Duration,
    },
    /// See [`Code::Overrun`].
    Overrun {
        /// How many items may be on their way; it may be fewer, of large ones.
        limit: u64,
    },
    /// See [`Code::Closed`].
    Closed,
    /// See [`Code::Start`].
    Start(Cow<'static, str>),
    /// See [`Code::Incompatible`].
    Incompatible(Cow<'static, str>),
    /// See [`Code::Forked`].
    Forked,
    /// See [`Code::Threads`].
    Threads {
        /// How many threads there are.
        found: usize,
    },
    /// See [`Code::Config`].
    Config(Cow<'static, str>),
    /// See [`Code::Value`].
    Value(Cow<'static, str>),
    /// See [`Code::Frame`].
    Frame(Cow<'static, str>),
    /// See [`Code::Os`].
    Os {
        /// The call that failed, as its man page is named.
        call: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun =
            |started: &bool| if *started { "after the call had started" } else { "before the call started" };
        match self {
            Kind::App(said) => said.fmt(f),
            Kind::WorkerDied { pid: Some(pid), cause, started } => {
                write!(f, "worker {pid} died ({cause}) {}", begun(started))
            }
            Kind::WorkerDied { pid: None, cause, started } => {
                write!(f, "a worker died ({cause}) {}", begun(started))
            }
            Kind::Deadline { started, limit: Limit::Call } => write!(f, "deadline passed {}", begun(started)),
            Kind::Deadline { limit: Limit::Queue, .. } => {
                f.write_str("queue deadline passed: no worker began with the call in time")
            }
            Kind::Deadline { started, limit: Limit::Item } => {
                write!(f, "item deadline passed {}: no item came in time", begun(started))
            }
            Kind::Cancelled { by, started } => write!(f, "cancelled {by} {}", begun(started)),
            Kind::Overloaded { bound, limit } => match bound {
                Bound::Calls => write!(
                    f,
                    "overloaded: all {limit} calls of this client are in flight, or their results are held"
                ),
                Bound::Bytes => {
                    write!(f, "overloaded: the request does not fit into the {limit} bytes allowed")
                }
                Bound::Results => {
                    write!(f, "overloaded: the worker's results exceed the {limit} that it may hold")
                }
                Bound::Clients => {
                    write!(f, "overloaded: all {limit} clients that a pool may have are connected")
                }
                Bound::Deferred => {
                    write!(f, "overloaded: the worker has deferred all {limit} calls that it may")
                }
                Bound::Regions => {
                    write!(f, "overloaded: all {limit} regions that a pool may have are in use")
                }
            },
            Kind::NoWorkers { reason: Absence::Degraded } => {
                f.write_str("no workers: the pool is degraded, its workers died too often")
            }
            Kind::NoWorkers { reason: Absence::NoWorkers } => f.write_str("no workers: the pool has none"),
            Kind::BadRequest(why) => write!(f, "bad request: {why}"),
            Kind::Protocol(why) => write!(f, "shared state was damaged: {why}"),
            Kind::ArbiterDied { started } => write!(f, "the arbiter died {}", begun(started)),
            Kind::ShuttingDown => f.write_str("the pool is shutting down"),
            Kind::Stalled { after } => {
                write!(f, "stalled: nobody took anything from the stream for {} ms", after.as_millis())
            }
            Kind::Overrun { limit } => {
                write!(f, "overrun: the stream was full, with at most {limit} items that nobody had taken")
            }
            Kind::Closed => f.write_str("closed: nobody takes what is sent any more"),
            Kind::Start(why) => write!(f, "cannot start: {why}"),
            Kind::Incompatible(why) => write!(f, "incompatible peer: {why}"),
            Kind::Forked => f.write_str("this handle belongs to the process that this one was forked from"),
            Kind::Threads { found } => {
                write!(f, "the process has {found} threads where a fork needs it to have one")
            }
            Kind::Config(why) => write!(f, "wrong configuration: {why}"),
            Kind::Value(why) | Kind::Frame(why) => f.write_str(why),
            Kind::Os { call, errno } => write!(f, "{call}: {}", io::Error::from_raw_os_error(*errno)),
        }
    }
}

impl fmt::Display for CancelledBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CancelledBy::Caller => "by the caller",
            CancelledBy::Handle => "through a handle",
            CancelledBy::Disconnected => "as its client is gone",
            CancelledBy::Parent => "as the call that made it has ended",
        })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Unknown => f.write_str("cause not known"),
            Cause::Exit(n) => write!(f, "exit status {n}"),
            Cause::Signal(n) => write!(f, "signal {n}"),
            Cause::Oom => f.write_str("out of memory"),
            Cause::Hung => f.write_str("hung"),
            Cause::Recycled => f.write_str("recycled"),
            Cause::Corrupt => f.write_str("wrote corrupt data"),
            Cause::BootFailed => f.write_str("failed to boot"),
            Cause::KilledByUs(Kill::Deadline) => f.write_str("killed: deadline"),
            Cause::KilledByUs(Kill::OthersDeadline) => f.write_str("killed: deadline of another call"),
            Cause::KilledByUs(Kill::Shutdown) => f.write_str("killed: shutdown"),
        }
    }
}
