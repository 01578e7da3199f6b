//! One thread of another process, moved forward one instruction at a time and killed with its process.

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::Pid;
use std::fs;

/// A thread that is stopped and traced by this process.
#[derive(Debug)]
pub struct Tracee {
    pid: Pid,
    tid: Pid,
    /// To be delivered when it goes on.
    signal: Option<Signal>,
    /// Instructions so far.
    pub steps: u64,
    /// Where it was before each of them, if that is wanted.
    pub trail: Option<Vec<u64>>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One instruction, or one system call, further.
    Done,
    /// It raised SIGSTOP, which is how our processes say where they are. The signal is swallowed.
    Marker,
    /// Not yet: it has been inside one instruction for a while, asleep in the kernel. [`Tracee::wait`] goes on.
    Asleep,
    /// It is no more.
    Gone,
}

impl Tracee {
    /// Stops a running thread and traces it; it dies if this process does.
    pub fn seize(pid: u32, tid: u32) -> Result<Tracee, Errno> {
        let (pid, tid) = (Pid::from_raw(pid as i32), Pid::from_raw(tid as i32));
        ptrace::seize(tid, Options::PTRACE_O_EXITKILL)?;
        ptrace::interrupt(tid)?;
        let mut tracee = Tracee { pid, tid, signal: None, steps: 0, trail: trail() };
        loop {
            match tracee.wait() {
                Step::Asleep => {}
                Step::Gone => return Err(Errno::ESRCH),
                Step::Done | Step::Marker => return Ok(tracee),
            }
        }
    }

    /// A child that asked to be traced, up to its first marker.
    pub fn child(pid: u32) -> Tracee {
        let pid = Pid::from_raw(pid as i32);
        Tracee { pid, tid: pid, signal: None, steps: 0, trail: trail() }
    }

    /// The child dies if this process does. Only while it is stopped.
    pub fn bind(&self) -> Result<(), Errno> {
        ptrace::setoptions(self.tid, Options::PTRACE_O_EXITKILL)
    }

    /// Executes one instruction.
    pub fn step(&mut self) -> Step {
        let signal = self.signal.take();
        self.steps += 1;
        if let Some(trail) = &mut self.trail {
            trail.extend(ptrace::getregs(self.tid).ok().map(pc));
        }
        match ptrace::step(self.tid, signal) {
            Ok(()) => self.wait(),
            Err(_) => Step::Gone,
        }
    }

    /// Lets it run to its next marker or its end.
    pub fn run(&mut self) -> Step {
        loop {
            if ptrace::cont(self.tid, self.signal.take()).is_err() {
                return Step::Gone;
            }
            loop {
                match self.wait() {
                    Step::Asleep => {}
                    Step::Done => break, // another signal: passed on
                    end => return end,
                }
            }
        }
    }

    /// Waits until it stops; comes back with [`Step::Asleep`] now and then while [`Alarm`] is set.
    pub fn wait(&mut self) -> Step {
        let mut status = 0;
        // SAFETY: `status` is a place for one number.
        let waited = unsafe { libc::waitpid(self.tid.as_raw(), &mut status, libc::__WALL) };
        if waited == -1 {
            return if Errno::last() == Errno::EINTR { Step::Asleep } else { Step::Gone };
        }
        if !libc::WIFSTOPPED(status) {
            return Step::Gone;
        }
        match Signal::try_from(libc::WSTOPSIG(status)) {
            Ok(Signal::SIGSTOP) if status >> 16 == 0 => Step::Marker,
            Ok(Signal::SIGTRAP) => Step::Done,
            Ok(signal) if status >> 16 == 0 => {
                self.signal = Some(signal);
                Step::Done
            }
            _ => Step::Done,
        }
    }

    /// Waits until it stops, however long that takes.
    pub fn wait_long(&mut self) -> Step {
        loop {
            match self.wait() {
                Step::Asleep => {}
                end => return end,
            }
        }
    }

    /// SIGKILL for the whole process, wherever the thread is; waits until the thread is gone.
    pub fn kill(mut self) {
        for pc in self.trail.take().into_iter().flatten() {
            println!("{}", quick(self.pid, pc));
        }
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        while self.wait() != Step::Gone {}
    }

    /// The address of its next instruction; `None` unless it is stopped.
    pub fn pc(&self) -> Option<u64> {
        ptrace::getregs(self.tid).ok().map(pc)
    }
}

fn pc(regs: libc::user_regs_struct) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return regs.rip;
    #[cfg(target_arch = "aarch64")]
    return regs.pc;
}

/// `STEP_KILL_TRAIL=1` with `--at` a large number prints every address: what a path consists of.
fn trail() -> Option<Vec<u64>> {
    std::env::var_os("STEP_KILL_TRAIL").map(|_| Vec::new())
}

/// An address of a process that was forked from `pid`, for people: its offset in its image, and the function if
/// `addr2line` is there.
pub fn place(pid: u32, pc: Option<u64>) -> String {
    let Some(pc) = pc else { return "asleep in the kernel".into() };
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    for line in maps.lines() {
        let mut fields = line.split_whitespace();
        let Some((from, to)) = fields.next().and_then(|range| range.split_once('-')) else { continue };
        let hex = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        if (hex(from)..hex(to)).contains(&pc) {
            let file = fields.nth(4).unwrap_or("?");
            let address = image_base(&maps, file).map_or(pc, |base| pc - base);
            return format!("pc {pc:#x}, {file}+{address:#x} {}", symbol(file, address).unwrap_or_default());
        }
    }
    format!("pc {pc:#x}")
}

fn quick(pid: Pid, pc: u64) -> String {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let exe = fs::read_link("/proc/self/exe").unwrap_or_default();
    let base = image_base(&maps, &exe.to_string_lossy()).unwrap_or(0);
    format!("trail {:#x}", pc.wrapping_sub(base))
}

fn image_base(maps: &str, file: &str) -> Option<u64> {
    let line = maps.lines().find(|line| line.ends_with(file))?;
    u64::from_str_radix(line.split_once('-')?.0, 16).ok()
}

fn symbol(file: &str, address: u64) -> Option<String> {
    let file = if file.starts_with('/') { file } else { return None };
    let address = format!("{address:#x}");
    let out = std::process::Command::new("addr2line").args(["-fCie", file, &address]).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let lines: Vec<&str> = text.lines().take(6).collect();
    Some(lines.join(" "))
}

/// While it exists, a signal ends each wait of this process every few milliseconds, so that a step which sleeps in
/// the kernel is noticed.
#[derive(Debug)]
pub struct Alarm;

impl Alarm {
    /// Sets it.
    pub fn set() -> Alarm {
        extern "C" fn nothing(_: i32) {}
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
        Alarm::every(3000);
        Alarm
    }

    fn every(us: i64) {
        let time = libc::timeval { tv_sec: 0, tv_usec: us };
        let timer = libc::itimerval { it_interval: time, it_value: time };
        // SAFETY: reads one timer and writes nothing.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, std::ptr::null_mut()) };
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        Alarm::every(0);
    }
}
