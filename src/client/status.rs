//! Asking a served pool how it is. Needs no lane: it is answered when the pool has no room for a client, too.

use super::connection::{ANSWER_TIMEOUT, reach};
use crate::conn::{Link, Message};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::sys::fd;
use crate::wire::{Kind, Value};
use std::path::Path;

/// How the pool is that is served under this path, as a dict: what `stokehold status --json` prints.
///
/// `state` (`starting`, `running`, `degraded`, `shutting down`, `no workers`), `pid`, `up_ms`, `apps`, `workers_wanted` and
/// `workers_ready`; `workers`, each with `slot`, `life`, `pid`, `state`, `since_ms` and how many calls are `running`;
/// `calls` (`queued`, `running`, `ended` and not fetched); `clients_connected`, and up to 64 of them as `clients`; `clients_silent`, of which the asker is one; `lanes`;
/// `regions` (`count`, `bytes`); `boot_failure`, the last one; `deaths`, the last ten. Times are milliseconds. More may be
/// added.
///
/// Blocks for at most 40 seconds; usually the answer takes less than one millisecond.
///
/// # Errors
/// `Os` when nobody listens there; `Incompatible` when the pool is another user's.
pub fn status(path: impl AsRef<Path>) -> Result<Value> {
    fd::occupy_standard()?;
    let mut link = Link::new(reach(path.as_ref())?);
    let mut answer = link.ask(Message::new(Kind::Status), Kind::Response, Some(ANSWER_TIMEOUT))?;
    let no_result = || Error::new(ErrorKind::Frame("an answer to STATUS without a result".into()));
    answer.take_field("result").ok_or_else(no_result)
}
