//! System calls as the sweep tells them apart, and the errors that are not tried, each with its reason.

use super::trace::Role;
use std::fmt;

/// A system call, and what it is asked to do where one number stands for many calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    pub number: i64,
    what: u64,
}

/// The errors that are tried.
pub const ERRNOS: [(i32, &str); 6] = [
    (libc::EINTR, "EINTR"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EMFILE, "EMFILE"),
    (libc::EIO, "EIO"),
    (libc::EPERM, "EPERM"),
];

/// Further ones that a call has of its own: too many descriptors on their way, a memory file system that is full.
pub const OWN: [(i64, i32, &str); 2] =
    [(libc::SYS_sendmsg, libc::ETOOMANYREFS, "ETOOMANYREFS"), (libc::SYS_fallocate, libc::ENOSPC, "ENOSPC")];

/// What an error number is called.
pub fn errno_name(errno: i32) -> &'static str {
    let own = OWN.iter().map(|(_, errno, name)| (*errno, *name));
    ERRNOS.into_iter().chain(own).find(|(number, _)| *number == errno).map_or("?", |(_, name)| name)
}

impl Call {
    /// From its number and its arguments.
    pub fn new(number: i64, args: [u64; 6]) -> Call {
        let what = match number {
            libc::SYS_futex => args[1] & 0x7f,
            libc::SYS_fcntl => args[1],
            libc::SYS_ioctl => args[1] & 0xffff_ffff,
            libc::SYS_prctl => args[0],
            libc::SYS_madvise => args[2],
            libc::SYS_mmap => args[3] & libc::MAP_ANONYMOUS as u64,
            libc::SYS_prlimit64 => u64::from(args[2] != 0),
            libc::SYS_setsockopt | libc::SYS_getsockopt => args[2],
            _ => 0,
        };
        Call { number, what }
    }

    fn name(&self) -> Option<&'static str> {
        NAMES.iter().find(|(number, _)| *number == self.number).map(|(_, name)| *name)
    }

    /// Whether it is in the table of names: what is not there was never thought about.
    pub fn is_known(&self) -> bool {
        self.name().is_some()
    }

    /// Why this error is not tried where such a process makes the call, if it is not.
    fn excuse(&self, role: Role, errno: i32) -> Option<&'static str> {
        let name = self.to_string();
        let excused = |e: &&Excuse| {
            e.calls.split(' ').any(|c| c == name)
                && !e.but.contains(&errno)
                && e.of.is_none_or(|only| only == role)
        };
        EXCUSES.iter().find(excused).map(|excuse| excuse.why)
    }

    /// The errors that are tried where such a process makes the call.
    pub fn errnos(&self, role: Role) -> impl Iterator<Item = i32> {
        let own = OWN.iter().filter(|(number, ..)| *number == self.number).map(|(_, errno, _)| *errno);
        let all = ERRNOS.iter().map(|(errno, _)| *errno).chain(own);
        all.filter(move |errno| self.excuse(role, *errno).is_none())
    }

    /// Whether what fails has happened nevertheless: such a call is made, and then said to have failed.
    pub fn happens(&self) -> bool {
        self.number == libc::SYS_close
            || self.number == libc::SYS_futex && self.what == libc::FUTEX_WAKE as u64
    }

    /// Whether it is an allocation of the C library's or of Rust's runtime, which may end a process that is not the host.
    pub fn allocates(&self) -> bool {
        self.number == libc::SYS_mmap && self.what != 0
            || self.number == libc::SYS_mprotect
            || self.number == libc::SYS_mremap
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(name) = self.name() else { return write!(f, "system call {}", self.number) };
        f.write_str(name)?;
        let what = match (self.number, self.what as i32) {
            (libc::SYS_futex, libc::FUTEX_WAKE) => "wake",
            (libc::SYS_futex, _) => "wait",
            (libc::SYS_fcntl, libc::F_DUPFD_CLOEXEC) => "dup",
            (libc::SYS_fcntl, libc::F_ADD_SEALS) => "seal",
            (libc::SYS_fcntl, libc::F_GET_SEALS) => "seals",
            (libc::SYS_fcntl, libc::F_GETFD) => "getfd",
            (libc::SYS_fcntl, libc::F_SETFD) => "setfd",
            (libc::SYS_fcntl, libc::F_GETFL) => "getfl",
            (libc::SYS_mmap, 0) => "file",
            (libc::SYS_mmap, _) => "memory",
            (libc::SYS_prlimit64, 0) => "get",
            (libc::SYS_prlimit64, _) => "set",
            (libc::SYS_ioctl | libc::SYS_prctl | libc::SYS_madvise, what) => return write!(f, "({what:#x})"),
            (libc::SYS_setsockopt | libc::SYS_getsockopt | libc::SYS_fcntl, what) => {
                return write!(f, "({what})");
            }
            _ => return Ok(()),
        };
        write!(f, "({what})")
    }
}

/// Errors that are not tried.
struct Excuse {
    calls: &'static str,
    /// Of such processes only.
    of: Option<Role>,
    /// These are.
    but: &'static [i32],
    why: &'static str,
}

const EXCUSES: &[Excuse] = &[
    Excuse {
        calls: "exit exit_group rt_sigreturn restart_syscall",
        of: None,
        but: &[],
        why: "does not return",
    },
    Excuse {
        calls: "getpid gettid getppid getuid geteuid getgid getegid sched_yield set_tid_address",
        of: None,
        but: &[],
        why: "cannot fail",
    },
    Excuse {
        calls: "close",
        of: None,
        but: &[libc::EINTR],
        why: "fails with this, and EIO where writes were delayed, as none of ours is; it closes the descriptor all the same",
    },
    Excuse {
        calls: "recvmsg",
        of: Some(Role::Arbiter),
        but: &[libc::EINTR, libc::ENOMEM, libc::EMFILE, libc::EIO, libc::EPERM],
        why: "says EAGAIN when there is nothing; its loop is told once of what there is (edge-triggered)",
    },
    Excuse {
        calls: "munmap",
        of: None,
        but: &[libc::ENOMEM],
        why: "fails with this only, where it would make two mappings of one",
    },
    Excuse {
        calls: "futex(wake)",
        of: None,
        but: &[libc::EIO],
        why: "fails for a bad address only; one that wakes and is said to have failed is tried",
    },
    Excuse {
        calls: "futex(wait)",
        of: None,
        but: &[libc::EINTR, libc::EAGAIN],
        why: "fails with these, when its time is up, and for a bad address; the C library aborts upon others",
    },
    Excuse {
        calls: "brk",
        of: None,
        but: &[],
        why: "answers the old end where it fails, and no error; mmap(memory) is tried",
    },
    Excuse {
        calls: "rseq set_robust_list arch_prctl",
        of: None,
        but: &[],
        why: "the C library's at the start of a thread, fails for bad arguments only; it aborts",
    },
    Excuse {
        calls: "clock_gettime",
        of: None,
        but: &[],
        why: "made where there is no vDSO, fails for bad arguments only; Rust's library panics",
    },
    Excuse {
        calls: "poll",
        of: Some(Role::Starter),
        but: &[libc::EINTR, libc::EAGAIN, libc::ENOMEM],
        why: "Rust's runtime before main, which knows these; it aborts upon others",
    },
    Excuse {
        calls: "rt_sigaction sigaltstack",
        of: Some(Role::Starter),
        but: &[],
        why: "Rust's runtime before main, fails for bad arguments only; it aborts",
    },
];

macro_rules! names {
    ($($name:ident $number:ident),* $(,)?) => { &[$((libc::$number, stringify!($name))),*] };
}

const NAMES: &[(i64, &str)] = names! {
    accept4 SYS_accept4, access SYS_access, arch_prctl SYS_arch_prctl, bind SYS_bind, brk SYS_brk, chdir SYS_chdir,
    clock_gettime SYS_clock_gettime, clock_nanosleep SYS_clock_nanosleep, clone SYS_clone, clone3 SYS_clone3, close SYS_close, close_range SYS_close_range,
    connect SYS_connect, dup SYS_dup, dup2 SYS_dup2, dup3 SYS_dup3, epoll_create1 SYS_epoll_create1, epoll_ctl SYS_epoll_ctl,
    epoll_wait SYS_epoll_wait, epoll_pwait SYS_epoll_pwait, eventfd2 SYS_eventfd2, execve SYS_execve, exit SYS_exit, exit_group SYS_exit_group,
    fallocate SYS_fallocate, fchmod SYS_fchmod, fcntl SYS_fcntl, flock SYS_flock, fork SYS_fork, fstat SYS_fstat,
    ftruncate SYS_ftruncate, futex SYS_futex, get_robust_list SYS_get_robust_list, getcwd SYS_getcwd, getdents64 SYS_getdents64,
    getegid SYS_getegid, geteuid SYS_geteuid, getgid SYS_getgid, getpid SYS_getpid, getppid SYS_getppid, getrandom SYS_getrandom,
    getrlimit SYS_getrlimit, getsockname SYS_getsockname, getsockopt SYS_getsockopt, gettid SYS_gettid, getuid SYS_getuid,
    ioctl SYS_ioctl, kill SYS_kill, listen SYS_listen, lseek SYS_lseek, madvise SYS_madvise, memfd_create SYS_memfd_create,
    mmap SYS_mmap, mprotect SYS_mprotect, mremap SYS_mremap, munmap SYS_munmap, nanosleep SYS_nanosleep, newfstatat SYS_newfstatat, open SYS_open,
    openat SYS_openat, pidfd_open SYS_pidfd_open, pidfd_send_signal SYS_pidfd_send_signal, pipe2 SYS_pipe2, poll SYS_poll,
    ppoll SYS_ppoll, prctl SYS_prctl, pread64 SYS_pread64, prlimit64 SYS_prlimit64, read SYS_read, readlink SYS_readlink,
    readlinkat SYS_readlinkat, recvfrom SYS_recvfrom, recvmsg SYS_recvmsg, restart_syscall SYS_restart_syscall, rseq SYS_rseq,
    rt_sigaction SYS_rt_sigaction, rt_sigprocmask SYS_rt_sigprocmask, rt_sigreturn SYS_rt_sigreturn,
    sched_getaffinity SYS_sched_getaffinity, sched_yield SYS_sched_yield, sendmsg SYS_sendmsg, sendto SYS_sendto,
    set_robust_list SYS_set_robust_list, set_tid_address SYS_set_tid_address, setpgid SYS_setpgid, setrlimit SYS_setrlimit,
    setsid SYS_setsid, setsockopt SYS_setsockopt, shutdown SYS_shutdown, sigaltstack SYS_sigaltstack, signalfd4 SYS_signalfd4, socket SYS_socket,
    socketpair SYS_socketpair, stat SYS_stat, statx SYS_statx, tgkill SYS_tgkill, timerfd_create SYS_timerfd_create,
    timerfd_settime SYS_timerfd_settime, uname SYS_uname, unlink SYS_unlink, vfork SYS_vfork, wait4 SYS_wait4, waitid SYS_waitid,
    write SYS_write, writev SYS_writev,
};
