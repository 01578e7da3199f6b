//! Starting a program, from any thread: between the copy and the `exec` nothing of this process runs.

use super::{ExitStatus, Pid};
use crate::error::{Error, Result};
use crate::sys::{errno_of, named_io};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// A program that was started. Dropping it neither kills nor reaps it.
#[derive(Debug)]
pub struct Child {
    inner: std::process::Child,
}

impl Child {
    /// Its number, which stays its own until somebody reaps it.
    pub fn pid(&self) -> Pid {
        Pid::of(nix::unistd::Pid::from_raw(self.inner.id() as i32))
    }

    /// Waits for its end and reaps it. `None` if somebody else did: a host may wait for any child, or ignore
    /// SIGCHLD. See `waitpid(2)`.
    pub fn wait(&mut self) -> Result<Option<ExitStatus>> {
        match self.inner.wait().map_err(named_io("waitpid")) {
            Ok(status) => {
                Ok(status.code().map(ExitStatus::Exited).or(status.signal().map(ExitStatus::Signaled)))
            }
            Err(e) if errno_of(&e) == Some(libc::ECHILD) => Ok(None),
            Err(e) => Err(e),
        }
    }
}

/// Starts the program at `path` with `stdin` as its standard input and `env` added to the environment. Standard
/// output and error are inherited.
///
/// The child begins with an empty signal mask and SIGPIPE at its default. An error says what `exec` said, such as
/// ENOENT. See `posix_spawn(3)`.
pub fn spawn(path: &Path, args: &[impl AsRef<OsStr>], stdin: OwnedFd, env: &[(&str, &str)]) -> Result<Child> {
    let mut command = Command::new(path);
    command.args(args);
    start(command, stdin, env)
}

/// Starts the program that this process runs once more, without arguments: see [`spawn`].
///
/// It is the same file even if its name was removed or given to another since. See `/proc/PID/exe` in `proc(5)`.
pub fn spawn_self(stdin: OwnedFd, env: (&str, &str)) -> Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = std::env::args_os().next() {
        command.arg0(name);
    }
    start(command, stdin, &[env])
}

fn start(mut command: Command, stdin: OwnedFd, env: &[(&str, &str)]) -> Result<Child> {
    command.stdin(Stdio::from(stdin)).envs(env.iter().copied());
    let inner = command.spawn().map_err(|e| {
        let path = Path::new(command.get_program()).display().to_string();
        Error::os("posix_spawn", e.raw_os_error().unwrap_or(libc::EINVAL)).context(path)
    })?;
    Ok(Child { inner })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{fd, pidfd, socket};
    use std::io::IoSlice;
    use std::os::fd::AsFd;

    #[test]
    fn a_program_reads_our_socket_and_our_variable() {
        let (ours, theirs) = socket::pair().unwrap();
        let script = ["-c", "read line; exit $((line + STK_TEST))"];
        let mut child = spawn(Path::new("/bin/sh"), &script, theirs, &[("STK_TEST", "40")]).unwrap();
        socket::send(ours.as_fd(), &[IoSlice::new(b"2\n")], &[]).unwrap();
        assert_eq!(child.wait().unwrap(), Some(ExitStatus::Exited(42)));
    }

    #[test]
    fn a_child_that_somebody_else_reaped_is_no_surprise() {
        let script = ["-c", "kill -9 $$"];
        let mut child = spawn(Path::new("/bin/sh"), &script, fd::dev_null().unwrap(), &[]).unwrap();
        let handle = pidfd::open(child.pid()).unwrap();
        assert!(pidfd::wait_exited(handle.as_fd(), None).unwrap());
        assert_eq!(pidfd::reap(handle.as_fd()).unwrap(), Some(ExitStatus::Signaled(9)));
        assert_eq!(child.wait().unwrap(), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let nowhere = Path::new("/nonexistent/program");
        let e = spawn(nowhere, &[] as &[&str], fd::dev_null().unwrap(), &[]).unwrap_err();
        assert_eq!(errno_of(&e), Some(libc::ENOENT));
        assert!(e.to_string().contains("/nonexistent/program"), "{e}");
    }
}
