//! Which apps a shared object has: asked in a process that is forked for that, since nothing is loaded here.

use super::settings::Settings;
use crate::conn::{Link, Message};
use crate::error::{Error, Kind as ErrorKind, Result};
use crate::shm::layout_hash;
use crate::sys::process::{self, Fork, Pid};
use crate::sys::signal::Signal;
use crate::sys::{pidfd, socket};
use crate::wire::Kind;
use crate::worker::{self, Surroundings};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// The names of the settings' apps, which must all be there; all that there are where none is named.
///
/// # Errors
/// `Start` for an object that cannot be loaded or does not answer, `Incompatible` for one of another version.
pub fn resolve(settings: &Settings, path: &str, surroundings: &Surroundings) -> Result<Vec<String>> {
    let timeout = Duration::from_nanos(settings.policy.boot_timeout_ns);
    let known = ask(Path::new(path), surroundings, timeout).map_err(|e| e.context("the library of apps"))?;
    if known.is_empty() {
        return Err(Error::new(ErrorKind::Start(format!("{path} has no apps").into())));
    }
    if let Some(unknown) = settings.apps.iter().find(|name| !known.contains(name)) {
        let why = format!("{path} has no app named {unknown:?}; it has: {}", known.join(", "));
        return Err(Error::new(ErrorKind::Config(why.into())));
    }
    Ok(if settings.apps.is_empty() { known } else { settings.apps.clone() })
}

fn ask(path: &Path, surroundings: &Surroundings, timeout: Duration) -> Result<Vec<String>> {
    let (ours, theirs) = socket::pair()?;
    let pid = match process::fork()? {
        Fork::Child => worker::list_library(path, surroundings, theirs),
        Fork::Parent(pid) => pid,
    };
    drop(theirs);
    let shown = path.display();
    let answer = match Link::new(ours).receive(Some(timeout)) {
        Ok(Some(message)) => message.expect(Kind::Ready).and_then(|ready| read(path, &ready)),
        Ok(None) => {
            let why =
                format!("{shown}: the process that looked into it ended without an answer{}", end_of(pid));
            Err(Error::new(ErrorKind::Start(why.into())))
        }
        Err(error) => Err(error.context(format!("{shown}: the process that looked into it"))),
    };
    let _ = process::kill_group(pid, Signal::SIGKILL);
    process::kill_and_reap(pid);
    answer
}

/// How it ended, where that is soon known.
fn end_of(pid: Pid) -> String {
    let status = pidfd::open(pid).and_then(|handle| {
        pidfd::wait_exited(handle.as_fd(), Some(Duration::from_secs(1)))?;
        pidfd::status(handle.as_fd())
    });
    status.ok().flatten().map(|status| format!(": {status}")).unwrap_or_default()
}

fn read(path: &Path, ready: &Message) -> Result<Vec<String>> {
    let layout = ready.bits("layout")?;
    if layout != layout_hash() {
        let why = format!(
            "{} was made with another version of stokehold: layout {layout:#x} where this program has {:#x}",
            path.display(),
            layout_hash()
        );
        return Err(Error::new(ErrorKind::Incompatible(why.into())));
    }
    ready.strings("apps")
}
