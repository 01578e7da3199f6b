//! A pool without a host: this process supervises it, under a path that others connect to.

use super::Builder;
use super::init::{known_apps, take_apps};
use crate::arbiter;
use crate::error::{Error, Kind, Result};
use crate::sys::{fd, process};
use std::path::Path;

impl Builder {
    /// Serves the pool under this path: **this process becomes its supervisor**, until SIGTERM or SIGINT tells it to
    /// close. What `stokehold serve` does, for a program with apps of its own. Clients join with
    /// [`Client::connect_path`](crate::Client::connect_path).
    ///
    /// [`init`](crate::init) comes first, as in every program. The process must have one thread, and keeps to one for
    /// ever. The path's directory must be this user's with rights 700; it is made if it is not there (its own is not).
    /// Beside the socket are `PATH.lock` and `PATH.pid`, which go with it in the end. A path that a living process serves
    /// is refused; what one that was killed left there is replaced.
    ///
    /// The first signal lets workers finish what they run, within [`stop_grace_ms`](Builder::stop_grace_ms); calls that
    /// wait end with `ShuttingDown`. The second kills what is left. SIGHUP is ignored, with a line in the log. Workers
    /// that cannot boot do not end it: the pool is degraded, and goes on trying.
    ///
    /// Returns when nothing is left of the pool. Standard input is `/dev/null` then, SIGTERM, SIGINT and SIGHUP are
    /// blocked, SIGPIPE and SIGXFSZ ignored, SIGCHLD is at its default: the program is expected to end. Files that are open
    /// already stay open in the workers.
    ///
    /// # Errors
    /// `Config` for settings that cannot be, a path that cannot be, or a directory that is not safe; `Start` when the
    /// path is served already; `Threads` when the process has several; `Os` where the system refuses.
    pub fn serve(self, path: impl AsRef<Path>) -> Result<()> {
        let settings = self.settings()?;
        self.check_apps()?;
        let found = process::task_count()?;
        if found > 1 {
            return Err(Error::new(Kind::Threads { found }));
        }
        fd::occupy_standard()?;
        let apps = take_apps();
        let outcome = arbiter::serve(settings, path.as_ref(), &apps);
        *known_apps() = Some(apps);
        outcome
    }
}
