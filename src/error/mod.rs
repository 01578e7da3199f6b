//! The one public [`Error`]: a word wide, with a pinned numeric [`Code`], the details of the outcome and a chain
//! of context.
//!
//! Layers below keep small enums of their own and are converted where the context is known. The outcomes of a
//! call are those of [`Code`]'s first group; each has its own number, and exactly one of them (or a reply) ends
//! each call.

mod app;
mod kind;

pub use app::{AppError, Source};
pub use kind::{Absence, Bound, CancelledBy, Cause, Kill, Kind, Limit};

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
///
/// Where there is no memory for it, it is the one that says so: `Os` of `malloc`, `ENOMEM`.
pub struct Error(Option<Box<[Inner; 1]>>);

struct Inner {
    kind: Kind,
    context: Vec<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
    spent: Option<Spent>,
    /// It is how a call ended that this process made.
    is_outcome: bool,
}

/// What an error without memory is. There all the time, as it cannot be made when it is needed.
static OUT_OF_MEMORY: Inner = Inner {
    kind: Kind::Os { call: "malloc", errno: libc::ENOMEM },
    context: Vec::new(),
    source: None,
    spent: None,
    is_outcome: false,
};

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
    /// A limit of the call's time passed: which one, [`Limit`] says.
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
    /// The consumer of a stream took nothing for longer than the pool allows; the stream was ended for that.
    Stalled = 11,
    /// A stream that fails where others wait was full.
    Overrun = 12,
    /// Nobody takes what is sent any more: the call has ended, or the direction was finished. The call's outcome is another
    /// matter: it comes from where the call is waited for.
    Closed = 13,
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

impl Error {
    /// An error of this kind.
    pub fn new(kind: Kind) -> Error {
        // A box that may fail to be had: std has none that is stable.
        let mut place = Vec::new();
        if place.try_reserve_exact(1).is_err() {
            return Error::out_of_memory();
        }
        place.push(Inner { kind, context: Vec::new(), source: None, spent: None, is_outcome: false });
        Error(place.into_boxed_slice().try_into().ok())
    }

    /// There is no memory, for a payload or for an error. Takes none itself.
    pub(crate) fn out_of_memory() -> Error {
        Error(None)
    }

    fn inner(&self) -> &Inner {
        self.0.as_ref().map_or(&OUT_OF_MEMORY, |inner| &inner[0])
    }

    /// Nowhere to write where there was no memory.
    fn inner_mut(&mut self) -> Option<&mut Inner> {
        self.0.as_mut().map(|inner| &mut inner[0])
    }

    /// The app has no action of this name. For the last arm of [`App::call`](crate::App::call).
    pub fn no_action(action: &str) -> Error {
        Error::bad_request(format!("no action named {action:?}"))
    }

    /// An app's own error, with a class of its choice. The caller gets it as [`Code::App`].
    pub fn app(class: impl Into<String>, message: impl fmt::Display) -> Error {
        Error::new(Kind::App(AppError::new(class, message.to_string())))
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
        if let Some(inner) = self.inner_mut()
            && inner.context.try_reserve(1).is_ok()
        {
            inner.context.push(what.into());
        }
        self
    }

    /// The stable number of this error.
    pub fn code(&self) -> Code {
        match &self.inner().kind {
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
            Kind::Stalled { .. } => Code::Stalled,
            Kind::Overrun { .. } => Code::Overrun,
            Kind::Closed => Code::Closed,
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
        &self.inner().kind
    }

    /// The context around it, as it is printed before it.
    pub(crate) fn contexts(&self) -> String {
        self.inner().context.iter().rev().map(|line| format!("{line}: ")).collect()
    }

    /// Whether the app is known never to have seen the call (`Some(false)`), to have begun with it
    /// (`Some(true)`), or whether that is not a question for this error or cannot be known (`None`).
    pub fn started(&self) -> Option<bool> {
        match self.inner().kind {
            Kind::App(_) | Kind::Stalled { .. } | Kind::Overrun { .. } => Some(true),
            Kind::WorkerDied { started, .. }
            | Kind::Deadline { started, .. }
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
        self.inner().spent
    }

    /// The same error, with that.
    pub(crate) fn with_spent(mut self, spent: Spent) -> Error {
        if let Some(inner) = self.inner_mut() {
            inner.spent = Some(spent);
        }
        self
    }

    /// The same error, as that of a call that this process made. An app that passes it on says nothing by it about the call
    /// that it is in.
    pub(crate) fn of_call(mut self) -> Error {
        if let Some(inner) = self.inner_mut() {
            inner.is_outcome = true;
        }
        self
    }

    pub(crate) fn is_of_call(&self) -> bool {
        self.inner().is_outcome
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.contexts())?;
        fmt::Display::fmt(&self.inner().kind, f)?;
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        match self.inner().spent {
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
        self.inner().source.as_deref().map(|e| e as _)
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
                if let Some(inner) = error.inner_mut() {
                    inner.source = Some(Box::new(e));
                }
                error
            }
        }
    }
}

impl From<Box<dyn std::error::Error + Send + Sync>> for Error {
    fn from(e: Box<dyn std::error::Error + Send + Sync>) -> Error {
        let mut error = Error::app("Error", &e);
        if let Some(inner) = error.inner_mut() {
            inner.source = Some(e);
        }
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

    #[test]
    fn each_limit_and_each_canceller_has_its_own_text() {
        let text = |kind: Kind| Error::new(kind).to_string();
        let deadline = |limit| text(Kind::Deadline { started: true, limit });
        assert_eq!(deadline(Limit::Call), "deadline passed after the call had started");
        assert!(deadline(Limit::Queue).starts_with("queue deadline passed: no worker began"));
        assert!(deadline(Limit::Item).ends_with("no item came in time"));
        let by = |by| text(Kind::Cancelled { by, started: false });
        assert_eq!(by(CancelledBy::Caller), "cancelled by the caller before the call started");
        assert!(by(CancelledBy::Handle).contains("through a handle"));
        assert!(by(CancelledBy::Disconnected).contains("its client is gone"));
        assert!(by(CancelledBy::Parent).contains("the call that made it has ended"));
        assert!(text(Kind::Stalled { after: Duration::from_secs(2) }).contains("2000 ms"));
        assert!(text(Kind::Overrun { limit: 4096 }).contains("4096 items"));
    }
}
