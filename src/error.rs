//! The one public [`Error`]: a word wide, with a pinned numeric [`Code`], the details of the outcome and a chain
//! of context.
//!
//! Layers below keep small enums of their own and are converted where the context is known. The outcomes of a
//! call are those of [`Code`]'s first group; each has its own number, and exactly one of them (or a reply) ends
//! each call.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::time::Duration;

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not happen.
///
/// One word wide. [`code`](Error::code) is stable and meant for programs, [`Display`](fmt::Display) is meant for
/// people and says what, which value and which limit.
pub struct Error(Box<Inner>);

struct Inner {
    kind: Kind,
    context: Vec<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    spent: Option<Spent>,
}

/// Where the time of a call went that did not end in time: see [`Error::spent`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spent {
    /// From sending it until a worker began with it, or until the end if none did.
    pub queued: Duration,
    /// From then until the end. `None` if no worker began with it.
    pub ran: Option<Duration>,
}

/// The numbers by which programs tell errors apart. They never change meaning.
///
/// 1–99: how a call ended. 100–199: starting and joining a pool. 200–299: values and frames. 300–: the system.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// The app returned an error or panicked; the worker lives on.
    App = 1,
    /// The worker that had the call died.
    WorkerDied = 2,
    /// The call's deadline passed.
    Deadline = 3,
    /// Somebody cancelled the call.
    Cancelled = 4,
    /// A bound was reached: calls in flight, bytes, records.
    Overloaded = 5,
    /// Nobody will come to run it: the pool is degraded or has no workers.
    NoWorkers = 6,
    /// The call could not be understood: unknown app or action, wrong arguments, too large.
    BadRequest = 7,
    /// Shared state was found damaged; the call may or may not have run.
    Protocol = 8,
    /// The supervising process died.
    ArbiterDied = 9,
    /// The pool is being closed.
    ShuttingDown = 10,
    /// A pool could not be started or a worker could not boot.
    Start = 100,
    /// A peer speaks another version, layout or build.
    Incompatible = 101,
    /// The handle was used in a forked copy of the process that made it.
    Forked = 102,
    /// The process has more than one thread where one is needed.
    Threads = 103,
    /// The configuration is wrong.
    Config = 104,
    /// A value has another type, or is out of range, for what was asked of it.
    Value = 200,
    /// A frame or its body is malformed.
    Frame = 201,
    /// A system call failed.
    Os = 300,
}

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
    /// The caller.
    Caller,
}

/// What the app said: as it travels, and as the caller gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppError {
    /// The class of the error: `Panic`, `Error`, or what the app chose.
    pub class: String,
    /// What happened, for people.
    pub message: String,
    /// Backtrace or context chain, empty if there is none.
    pub traceback: String,
}

/// The details of an error. [`Error::kind`] lends it.
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

impl Error {
    /// An error of this kind.
    pub fn new(kind: Kind) -> Error {
        Error(Box::new(Inner { kind, context: Vec::new(), source: None, spent: None }))
    }

    /// The app has no action of this name. For the last arm of [`App::call`](crate::App::call).
    pub fn no_action(action: &str) -> Error {
        Error::bad_request(format!("no action named {action:?}"))
    }

    /// An app's own error, with a class of its choice. The caller gets it as [`Code::App`].
    pub fn app(class: impl Into<String>, message: impl fmt::Display) -> Error {
        Error::new(Kind::App(AppError {
            class: class.into(),
            message: message.to_string(),
            traceback: String::new(),
        }))
    }

    /// The request cannot be understood; says why.
    pub fn bad_request(why: impl Into<Cow<'static, str>>) -> Error {
        Error::new(Kind::BadRequest(why.into()))
    }

    /// A system call failed.
    pub fn os(call: &'static str, errno: i32) -> Error {
        Error::new(Kind::Os { call, errno })
    }

    /// This error with one more line of context, the outermost first when printed.
    #[must_use]
    pub fn context(mut self, what: impl Into<Cow<'static, str>>) -> Error {
        self.0.context.push(what.into());
        self
    }

    /// The stable number of this error.
    pub fn code(&self) -> Code {
        match &self.0.kind {
            Kind::App(_) => Code::App,
            Kind::WorkerDied { .. } => Code::WorkerDied,
            Kind::Deadline { .. } => Code::Deadline,
            Kind::Cancelled { .. } => Code::Cancelled,
            Kind::Overloaded { .. } => Code::Overloaded,
            Kind::NoWorkers { .. } => Code::NoWorkers,
            Kind::BadRequest(_) => Code::BadRequest,
            Kind::Protocol(_) => Code::Protocol,
            Kind::ArbiterDied { .. } => Code::ArbiterDied,
            Kind::ShuttingDown => Code::ShuttingDown,
            Kind::Start(_) => Code::Start,
            Kind::Incompatible(_) => Code::Incompatible,
            Kind::Forked => Code::Forked,
            Kind::Threads { .. } => Code::Threads,
            Kind::Config(_) => Code::Config,
            Kind::Value(_) => Code::Value,
            Kind::Frame(_) => Code::Frame,
            Kind::Os { .. } => Code::Os,
        }
    }

    /// The details.
    pub fn kind(&self) -> &Kind {
        &self.0.kind
    }

    /// Whether the app is known never to have seen the call (`Some(false)`), to have begun with it
    /// (`Some(true)`), or whether that is not a question for this error or cannot be known (`None`).
    pub fn started(&self) -> Option<bool> {
        match self.0.kind {
            Kind::App(_) => Some(true),
            Kind::WorkerDied { started, .. }
            | Kind::Deadline { started }
            | Kind::Cancelled { started, .. }
            | Kind::ArbiterDied { started } => Some(started),
            Kind::Overloaded {
                bound: Bound::Calls | Bound::Bytes | Bound::Clients | Bound::Regions, ..
            }
            | Kind::NoWorkers { .. }
            | Kind::ShuttingDown => Some(false),
            _ => None,
        }
    }

    /// For a deadline that passed: how long the call waited for a worker, and how long it ran. A deadline that passes in the
    /// queue wants more workers or fewer calls, one that passes in a worker a faster app or a longer deadline. `None` for
    /// other errors, and where it is not known.
    pub fn spent(&self) -> Option<Spent> {
        self.0.spent
    }

    /// The same error, with that.
    pub(crate) fn with_spent(mut self, spent: Spent) -> Error {
        self.0.spent = Some(spent);
        self
    }

    /// Whether this is a deadline that passed.
    pub fn is_deadline(&self) -> bool {
        self.code() == Code::Deadline
    }

    /// Whether the same call may be sent again without any risk that it runs twice.
    pub fn is_retryable(&self) -> bool {
        self.started() == Some(false)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begun =
            |started: &bool| if *started { "after the call had started" } else { "before the call started" };
        match self {
            Kind::App(e) => write!(f, "app error {}: {}", e.class, e.message),
            Kind::WorkerDied { pid: Some(pid), cause, started } => {
                write!(f, "worker {pid} died ({cause}) {}", begun(started))
            }
            Kind::WorkerDied { pid: None, cause, started } => {
                write!(f, "a worker died ({cause}) {}", begun(started))
            }
            Kind::Deadline { started } => write!(f, "deadline passed {}", begun(started)),
            Kind::Cancelled { by: CancelledBy::Caller, started } => {
                write!(f, "cancelled by the caller {}", begun(started))
            }
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.context.iter().rev() {
            write!(f, "{line}: ")?;
        }
        fmt::Display::fmt(&self.0.kind, f)?;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        match self.0.spent {
            None => Ok(()),
            Some(Spent { queued, ran: None }) => write!(f, ": {:.1} ms in the queue", ms(queued)),
            Some(Spent { queued, ran: Some(ran) }) => {
                write!(f, ": {:.1} ms in the queue, {:.1} ms in a worker", ms(queued), ms(ran))
            }
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({} {:?}: {self})", self.code() as u32, self.code())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|e| e as _)
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Error {
        Error::new(kind)
    }
}

impl From<io::Error> for Error {
    fn from(e: io::Error) -> Error {
        match e.raw_os_error() {
            Some(errno) => Error::os("i/o", errno),
            None => {
                let message = e.to_string();
                let mut error = Error::app("Io", message);
                error.0.source = Some(Box::new(e));
                error
            }
        }
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(e: Box<dyn std::error::Error + Send + Sync>) -> Error {
        let mut error = Error::app("Error", &e);
        error.0.source = Some(e);
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_word() {
        assert_eq!(size_of::<Error>(), size_of::<usize>());
    }

    #[test]
    fn context_reads_from_outside_in() {
        let e = Error::os("open", 2).context("reading the model").context("starting worker 3");
        assert!(e.to_string().starts_with("starting worker 3: reading the model: open: No such file"));
    }

    #[test]
    fn only_what_certainly_never_ran_is_retryable() {
        assert!(Error::new(Kind::ShuttingDown).is_retryable());
        assert!(!Error::new(Kind::Protocol("x".into())).is_retryable());
        assert!(
            !Error::new(Kind::WorkerDied { pid: None, cause: Cause::Signal(9), started: true })
                .is_retryable()
        );
        assert!(
            Error::new(Kind::WorkerDied { pid: None, cause: Cause::Signal(9), started: false })
                .is_retryable()
        );
    }
}
