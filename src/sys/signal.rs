//! Signals: what a process had at its start and gives back to its children, and signals as readable events.
//!
//! The library installs no handler anywhere. The arbiter blocks what it wants to hear of and reads it from a
//! descriptor ([`Incoming`]); a child gets back the state that the host had ([`Saved`]) before it runs code of the
//! app's.

use super::process::Pid;
use super::{last, named};
use crate::error::{Error, Result};
use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::ptr;

pub use nix::sys::signal::Signal;

const LAST_SIGNAL: i32 = 64;

/// The signal mask of a thread and the ignored signals of its process: what survives an `exec`.
///
/// Bit n - 1 stands for signal n, as in `SigBlk` and `SigIgn` of `/proc/PID/status`. Signals 32 and 33 belong to
/// libc, which neither shows nor changes them: they stay as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Saved {
    blocked: u64,
    ignored: u64,
}

impl Saved {
    /// The state as it is now, of the calling thread. See `sigprocmask(2)` and `sigaction(2)`.
    ///
    /// In a Rust program SIGPIPE is ignored before `main` begins; see [`not_ignoring`](Saved::not_ignoring).
    pub fn now() -> Result<Saved> {
        let mut mask = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, None, Some(&mut mask)).map_err(named("pthread_sigmask"))?;
        let mut saved = Saved::default();
        for number in 1..=LAST_SIGNAL {
            // SAFETY: the set is a local, initialised one.
            if unsafe { libc::sigismember(mask.as_ref(), number) } == 1 {
                saved.blocked |= bit(number);
            }
            if disposition(number) == Some(libc::SIG_IGN) {
                saved.ignored |= bit(number);
            }
        }
        Ok(saved)
    }

    /// The same without this signal among the ignored ones.
    #[must_use]
    pub fn not_ignoring(self, signal: Signal) -> Saved {
        Saved { ignored: self.ignored & !bit(signal as i32), ..self }
    }

    /// The blocked and the ignored signals, to be sent elsewhere.
    pub fn to_bits(self) -> (u64, u64) {
        (self.blocked, self.ignored)
    }

    /// What [`to_bits`](Saved::to_bits) gave.
    pub fn from_bits(blocked: u64, ignored: u64) -> Saved {
        Saved { blocked, ignored }
    }

    /// Makes this the state of the process and of the calling thread: ignores what was ignored, sets everything
    /// else to its default, switches the alternate stack off, and sets the mask last, so that what was pending
    /// meets the restored dispositions.
    ///
    /// See `sigaction(2)`, `sigaltstack(2)` and `sigprocmask(2)`.
    pub fn restore(&self) -> Result<()> {
        for number in 1..=LAST_SIGNAL {
            let action = if self.ignored & bit(number) != 0 { libc::SIG_IGN } else { libc::SIG_DFL };
            // KILL and STOP never change, and libc keeps two of the real-time signals to itself.
            if disposition(number).is_some_and(|now| now != action) {
                set_disposition(number, action)?;
            }
        }
        disable_alternate_stack()?;
        let mut mask = SigSet::empty();
        for signal in Signal::iterator().filter(|&s| self.blocked & bit(s as i32) != 0) {
            mask.add(signal);
        }
        let mut raw = *mask.as_ref();
        for number in Signal::SIGSYS as i32 + 1..=LAST_SIGNAL {
            if self.blocked & bit(number) != 0 {
                // SAFETY: the set is a local, initialised one. EINVAL for libc's own signals is as it should be.
                unsafe { libc::sigaddset(&mut raw, number) };
            }
        }
        // SAFETY: the set is a local, initialised one; the old mask is not asked for.
        let errno = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw, ptr::null_mut()) };
        if errno == 0 { Ok(()) } else { Err(Error::os("pthread_sigmask", errno)) }
    }
}

/// Blocks every signal that can be blocked, in the calling thread. See `sigprocmask(2)`.
pub fn block_all() -> Result<()> {
    pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), None).map_err(named("pthread_sigmask"))
}

/// Every disposition to its default, nothing blocked, no alternate stack.
pub fn reset_to_default() -> Result<()> {
    Saved::default().restore()
}

/// Ignores `signal` from now on. See `sigaction(2)`.
pub fn ignore(signal: Signal) -> Result<()> {
    set_disposition(signal as i32, libc::SIG_IGN)
}

/// `signal` does what it does by default from now on, whatever was inherited, flags included. See `sigaction(2)`.
pub fn reset(signal: Signal) -> Result<()> {
    set_disposition(signal as i32, libc::SIG_DFL)
}

/// What a signal does in this process, to be put back.
#[derive(Clone, Copy)]
pub struct Disposition {
    number: i32,
    action: libc::sigaction,
}

impl Disposition {
    /// As it is now, flags and mask with it. See `sigaction(2)`.
    pub fn of(signal: Signal) -> Result<Disposition> {
        let number = signal as i32;
        let action = action_of(number).ok_or_else(|| last("sigaction"))?;
        Ok(Disposition { number, action })
    }

    /// Makes it so again.
    pub fn put_back(&self) -> Result<()> {
        // SAFETY: the kernel gave this action in `of`; whoever installed its handler vouches for that.
        unsafe { set_action(self.number, &self.action) }
    }
}

/// The signal of this number, if it has a name.
pub fn from_number(number: i32) -> Result<Signal> {
    Signal::try_from(number).map_err(named("signal"))
}

/// Sends a signal to a thread of this process. See `tgkill(2)`.
pub fn send_to_thread(thread: i32, signal: Signal) -> Result<()> {
    // SAFETY: takes numbers only; a thread of another process is not found.
    let answer = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal as libc::c_int) };
    if answer == 0 { Ok(()) } else { Err(last("tgkill")) }
}

/// Sends a signal to this process: to whichever of its threads the kernel likes. See `kill(2)`.
pub fn send_to_self(signal: Signal) -> Result<()> {
    nix::sys::signal::kill(nix::unistd::getpid(), signal).map_err(named("kill"))
}

/// Signals as something to read: blocked in the calling thread, and told by a descriptor that a loop can poll.
///
/// See `signalfd(2)`. Signals of one kind that come together are told once. Dropping it leaves them blocked.
#[derive(Debug)]
pub struct Incoming {
    fd: SignalFd,
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which.
    pub signal: Signal,
    /// Who sent it: a process, or the child that a SIGCHLD is about; `None` if the kernel did, or somebody who
    /// is not visible from here.
    pub sender: Option<Pid>,
}

impl Incoming {
    /// Blocks `signals` and begins to listen for them. With one thread in the process, blocking there is enough.
    pub fn new(signals: &[Signal]) -> Result<Incoming> {
        let mask: SigSet = signals.iter().copied().collect();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).map_err(named("pthread_sigmask"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        Ok(Incoming { fd: SignalFd::with_flags(&mask, flags).map_err(named("signalfd"))? })
    }

    /// The next signal that came, or `None` if there is no further one now.
    pub fn next(&self) -> Result<Option<Arrival>> {
        let Some(info) = self.fd.read_signal().map_err(named("read(signalfd)"))? else { return Ok(None) };
        let signal = Signal::try_from(info.ssi_signo as i32).map_err(named("read(signalfd)"))?;
        Ok(Some(Arrival { signal, sender: Pid::from_raw(info.ssi_pid as i32) }))
    }
}

impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Incoming {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

fn bit(number: i32) -> u64 {
    1 << (number - 1)
}

/// What is done with a signal, or `None` for the two that libc does not let anyone ask about.
fn disposition(number: i32) -> Option<libc::sighandler_t> {
    action_of(number).map(|action| action.sa_sigaction)
}

fn action_of(number: i32) -> Option<libc::sigaction> {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: no new action is given; `now` is valid for the write of one.
    let answer = unsafe { libc::sigaction(number, ptr::null(), now.as_mut_ptr()) };
    // SAFETY: the call succeeded, so it wrote the whole struct.
    (answer == 0).then(|| unsafe { now.assume_init() })
}

fn set_disposition(number: i32, action: libc::sighandler_t) -> Result<()> {
    // SAFETY: a sigaction of zeroes is a valid one: SIG_DFL, no flags, an empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    // SAFETY: by the callers in this file it is SIG_DFL or SIG_IGN: no code of ours will run.
    unsafe { set_action(number, &new) }
}

/// # Safety
/// A handler that it names may run at any time.
unsafe fn set_action(number: i32, new: &libc::sigaction) -> Result<()> {
    // SAFETY: `new` is initialised, and its handler is as the caller promises; the old one is not asked for.
    let answer = unsafe { libc::sigaction(number, new, ptr::null_mut()) };
    if answer == 0 { Ok(()) } else { Err(last("sigaction")) }
}

fn disable_alternate_stack() -> Result<()> {
    let none = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: `none` is initialised; the old stack is not freed here, whoever made it still owns it.
    let answer = unsafe { libc::sigaltstack(&none, ptr::null_mut()) };
    if answer == 0 { Ok(()) } else { Err(last("sigaltstack")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_survives_its_bits() {
        let saved = Saved::now().unwrap();
        let (blocked, ignored) = saved.to_bits();
        assert_eq!(Saved::from_bits(blocked, ignored), saved);
        assert_ne!(
            ignored & bit(libc::SIGPIPE),
            0,
            "the test harness ignores SIGPIPE, as every Rust program"
        );
        assert_eq!(saved.not_ignoring(Signal::SIGPIPE).to_bits().1 & bit(libc::SIGPIPE), 0);
    }

    #[test]
    fn a_snapshot_is_what_proc_shows() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim(), 16).unwrap()
        };
        let ours = !(bit(32) | bit(33)); // libc keeps these to itself, and lets nobody look
        let shown = (field("SigBlk:") & ours, field("SigIgn:") & ours);
        assert_eq!(Saved::now().unwrap().to_bits(), shown);
    }

    #[test]
    fn a_blocked_signal_is_read_with_its_sender() {
        std::thread::spawn(|| {
            let incoming = Incoming::new(&[Signal::SIGUSR1]).unwrap();
            assert_eq!(incoming.next().unwrap(), None);
            // SAFETY: sends a signal to this thread, which has it blocked.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
            let arrival = incoming.next().unwrap().unwrap();
            assert_eq!(arrival.signal, Signal::SIGUSR1);
            assert_eq!(arrival.sender, Some(crate::sys::process::pid()));
            assert_eq!(incoming.next().unwrap(), None);
        })
        .join()
        .unwrap();
    }
}
