//! Processes: who one is, copying oneself, starting a program, and what one process may say to the others.
//!
//! What concerns one running process from outside is in [`pidfd`](super::pidfd).

mod crash;
mod identity;
mod pid;
mod spawn;

pub use crash::{exit_now, raise, segfault, stop_self};
pub use identity::{exe_identity, getrandom_u128, secure_exec};
pub use pid::Pid;
pub use spawn::{Child, spawn, spawn_self};

use super::{named, named_io};
use crate::error::{Error, Kind, Result};
use crate::sys::signal::Signal;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs;
use std::io::ErrorKind;

/// The status that a process exits with when it finds that its parent is gone already.
pub const ORPHANED: i32 = 75;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

/// On which side of a [`fork`] one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fork {
    /// In the copy.
    Child,
    /// In the original; the copy has this number.
    Parent(Pid),
}

/// How many tasks (threads) this process has. Reads `/proc/self/task`, see `proc(5)`.
pub fn task_count() -> Result<usize> {
    Ok(fs::read_dir("/proc/self/task").map_err(named_io("opendir"))?.count())
}

/// How a process that is on its way out will have ended, while its memory is still being torn down: from `/proc/PID/stat`.
/// `None` where that cannot be told. See `proc(5)`.
pub fn exit_hint(pid: Pid) -> Option<ExitStatus> {
    // To who may not trace it the status is shown as 0. That comes to an end with the memory: so this is asked first.
    if fs::read_link(format!("/proc/{pid}/exe"))
        .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    {
        return None;
    }
    let code = Stat::read(&format!("/proc/{pid}/stat"))?.code;
    match (code & 0x7f, code >> 8 & 0xff) {
        // Nobody ended it, or one of its threads did, with 0.
        (0, 0) => are_all_leaving(pid)?.then_some(ExitStatus::Exited(0)),
        (0, status) => Some(ExitStatus::Exited(status)),
        (signal, _) => Some(ExitStatus::Signaled(signal)),
    }
}

/// Whether all threads of a process are on their way out. A thread may leave alone.
fn are_all_leaving(pid: Pid) -> Option<bool> {
    for (at, task) in fs::read_dir(format!("/proc/{pid}/task")).ok()?.enumerate() {
        let name = task.ok()?.path();
        if at == MOST_TASKS {
            return None;
        }
        // One that is gone meanwhile has left.
        if Stat::read(&format!("{}/stat", name.display())).is_some_and(|stat| !stat.is_leaving()) {
            return Some(false);
        }
    }
    Some(true)
}

/// How many of them are looked at; the process decides how many it has.
const MOST_TASKS: usize = 1024;

/// Of a line of `/proc/PID/stat`, or of one of its threads.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    flags: u64,
    pending: u64,
    code: i32,
}

impl Stat {
    fn read(path: &str) -> Option<Stat> {
        Stat::parse(&String::from_utf8_lossy(&fs::read(path).ok()?))
    }

    fn parse(line: &str) -> Option<Stat> {
        // The name comes second, in brackets, and may have any characters.
        let (_, behind) = line.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Stat { flags: field(9)?, pending: field(31)?, code: field(52)?.try_into().ok()? })
    }

    /// It has begun to, or has a SIGKILL of its own: when one thread ends the process the kernel sends it to the others. A
    /// SIGKILL for the process would be in its status.
    fn is_leaving(&self) -> bool {
        self.flags & PF_EXITING != 0 || self.pending & 1 << (libc::SIGKILL - 1) != 0
    }
}

/// The flag of a thread that is on its way out, see `include/linux/sched.h`.
const PF_EXITING: u64 = 0x4;

/// Copies this process, which must have one task.
///
/// With more, another thread might hold a lock at that moment (of the allocator, say), which nobody in the copy
/// would ever release: that is refused as [`Kind::Threads`]. See `fork(2)`.
pub fn fork() -> Result<Fork> {
    let found = task_count()?;
    if found != 1 {
        return Err(Error::new(Kind::Threads { found }));
    }
    // SAFETY: the process has this one task, as just counted, and nobody but this task could start another: the
    // child is a full copy in which everything may be called that could be called before.
    match unsafe { unistd::fork() }.map_err(named("fork"))? {
        unistd::ForkResult::Child => Ok(Fork::Child),
        unistd::ForkResult::Parent { child } => {
            Pid::from_raw(child.as_raw()).map(Fork::Parent).ok_or_else(|| Error::os("fork", libc::EIO))
        }
    }
}

/// The number of this process. See `getpid(2)`.
pub fn pid() -> Pid {
    Pid::of(unistd::getpid())
}

/// The number of the calling thread. See `gettid(2)`.
pub fn thread_id() -> i32 {
    unistd::gettid().as_raw()
}

/// The number of the parent, `None` if it is not visible from here (another pid namespace). See `getppid(2)`.
pub fn parent_pid() -> Option<Pid> {
    Pid::from_raw(unistd::getppid().as_raw())
}

/// The effective user of this process. See `geteuid(2)`.
pub fn uid() -> u32 {
    unistd::geteuid().as_raw()
}

/// Makes this process the leader of a session and a group of its own, without a terminal. EPERM for one that
/// leads a group already. See `setsid(2)`.
pub fn new_session() -> Result<()> {
    unistd::setsid().map(drop).map_err(named("setsid"))
}

/// Makes `pid`, this process or a child that has not called `exec`, the leader of a group of its own. To be called
/// on both sides of a fork, so that neither has to wait for the other. See `setpgid(2)`.
pub fn new_group(pid: Pid) -> Result<()> {
    unistd::setpgid(pid.nix(), pid.nix()).map_err(named("setpgid"))
}

/// Sends `signal` to every process of a group. ESRCH when none is left.
///
/// The number is the group's while its leader is not reaped, and afterwards while a member lives; so the time to
/// do this is between the leader's death and its reap. See `killpg(3)`.
pub fn kill_group(group: Pid, signal: Signal) -> Result<()> {
    nix::sys::signal::killpg(group.nix(), signal).map_err(named("killpg"))
}

/// Kills a child of this process and waits until it is gone.
pub fn kill_and_reap(child: Pid) {
    let _ = nix::sys::signal::kill(child.nix(), Signal::SIGKILL);
    while let Err(nix::errno::Errno::EINTR) = nix::sys::wait::waitpid(child.nix(), None) {}
}

/// Asks the kernel for `signal` when the parent dies, and exits with [`ORPHANED`] if it has died already.
///
/// What counts as the parent is the *thread* that forked. A change of credentials takes the wish back: call this
/// after the last one. See `PR_SET_PDEATHSIG` in `prctl(2)`.
pub fn die_with_parent(signal: Signal, expected: Pid) -> Result<()> {
    prctl::set_pdeathsig(signal).map_err(named("prctl(PR_SET_PDEATHSIG)"))?;
    if parent_pid() != Some(expected) {
        exit_now(ORPHANED);
    }
    Ok(())
}

/// Names the calling thread, as seen in `/proc/PID/comm`; the kernel keeps 15 bytes. See `PR_SET_NAME` in `prctl(2)`.
pub fn set_name(name: &str) -> Result<()> {
    let name = CString::new(name).map_err(|_| Error::os("prctl(PR_SET_NAME)", libc::EINVAL))?;
    prctl::set_name(&name).map_err(named("prctl(PR_SET_NAME)"))
}

/// Tells the out-of-memory killer how much this process is preferred, from -1000 (never) to 1000. Best effort: says
/// whether it took, since lowering it needs a privilege. See `proc(5)`.
pub fn oom_score_adj(adjustment: i32) -> bool {
    fs::write("/proc/self/oom_score_adj", adjustment.to_string()).is_ok()
}

/// Bounds the size of core files, at most to the hard limit. 1 rather than 0 also stops those that are piped to a
/// program. See `getrlimit(2)` and `core(5)`.
pub fn set_core_limit(bytes: u64) -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).map_err(named("getrlimit"))?;
    setrlimit(Resource::RLIMIT_CORE, bytes.min(hard), hard).map_err(named("setrlimit"))
}

/// How large the stack of this process's first thread may become, bytes. See `getrlimit(2)`.
pub fn stack_limit() -> Result<u64> {
    getrlimit(Resource::RLIMIT_STACK).map(|(soft, _)| soft).map_err(named("getrlimit"))
}

/// Removes a variable from the environment. Refused as [`Kind::Threads`] when there is more than one task, as one
/// of the others might be reading it, through C. See `unsetenv(3)`.
pub fn unset_env(name: impl AsRef<OsStr>) -> Result<()> {
    let found = task_count()?;
    if found != 1 {
        return Err(Error::new(Kind::Threads { found }));
    }
    // SAFETY: there is no other thread that could read or write the environment, as just counted.
    unsafe { std::env::remove_var(name) };
    Ok(())
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited(status) => write!(f, "exit status {status}"),
            ExitStatus::Signaled(signal) => write!(f, "signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_is_not_forked() {
        std::thread::spawn(|| {
            let refused = fork().unwrap_err();
            assert!(matches!(refused.kind(), Kind::Threads { found: 2.. }), "{refused}");
            let refused = unset_env("STOKEHOLD_NO_SUCH_VARIABLE").unwrap_err();
            assert!(matches!(refused.kind(), Kind::Threads { found: 2.. }), "{refused}");
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_line_of_proc_is_read_whatever_the_name_is() {
        let stat = |flags: u64, pending: u64, status: i32| {
            let mut fields = ["0"; 52].map(str::to_owned);
            fields[0] = "4711".into();
            fields[1] = "(a) R (b c)".into();
            fields[2] = "S".into();
            fields[8] = flags.to_string();
            fields[30] = pending.to_string();
            fields[51] = status.to_string();
            fields.join(" ") + "\n"
        };
        let is_leaving = |line: &str| Stat::parse(line).unwrap().is_leaving();
        assert_eq!(Stat::parse(&stat(1, 2, 3)), Some(Stat { flags: 1, pending: 2, code: 3 }));
        assert!(!is_leaving(&stat(0x40_0000, 1, 0)));
        assert!(is_leaving(&stat(0x40_0004, 0, 0)));
        assert!(is_leaving(&stat(0x40_0000, 1 << (libc::SIGKILL - 1), 0)));
        for broken in ["", ")", "4711 (a) S 1 2", &stat(0, 0, 0)[..20]] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
        let own = Pid::from_raw(std::process::id() as i32).unwrap();
        assert_eq!((exit_hint(own), are_all_leaving(own)), (None, Some(false)));
    }

    #[test]
    fn a_name_is_seen_in_proc() {
        std::thread::spawn(|| {
            set_name("stk-a-very-long-name").unwrap();
            assert_eq!(fs::read_to_string("/proc/thread-self/comm").unwrap(), "stk-a-very-long\n");
            assert!(set_name("a\0b").is_err());
        })
        .join()
        .unwrap();
    }
}
