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
    /// What ended it, if a signal did.
    ended_by: Option<Signal>,
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

/// How a way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Where it should.
    There,
    /// At a marker.
    Marker,
    /// In a sleep that was said to be the end.
    Asleep,
    /// It is no more.
    Gone,
}

/// Is asked now and then while the tracee sleeps in the kernel: whether that is the end of the way.
pub type Asleep<'a> = &'a dyn Fn() -> bool;

/// Every address of one walk, in order. All victims of a pool are copies of one process: theirs are the same.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    pcs: Vec<u64>,
}

impl Trail {
    /// Instructions of the walk.
    pub fn len(&self) -> usize {
        self.pcs.len()
    }

    /// How far one can go: not at all, after each instruction, to the end. The rounds of one string instruction
    /// are one instruction.
    pub fn positions(&self) -> Vec<usize> {
        let starts = |at: &usize| *at == 0 || self.pcs.get(*at) != self.pcs.get(at - 1);
        (0..=self.len()).filter(starts).collect()
    }

    /// An earlier position from which `at` is reached by the fewest single steps, and how often its address comes
    /// up to there, not counting the very start.
    fn anchor(&self, at: usize) -> (usize, usize) {
        let mut best = (0, 0);
        let mut cost = at;
        for from in (at.saturating_sub(cost)..=at).rev() {
            let to_go = at - from;
            if from == 0 || from >= self.pcs.len() || to_go >= cost {
                if to_go >= cost {
                    break;
                }
                continue;
            }
            let pc = self.pcs[from];
            let mut hits = 0;
            for other in &self.pcs[1..=from] {
                hits += usize::from(*other == pc);
            }
            if to_go + 2 * hits < cost {
                (best, cost) = ((from, hits), to_go + 2 * hits);
            }
        }
        best
    }
}

impl Tracee {
    /// Stops a running thread and traces it; it dies if this process does.
    pub fn seize(pid: u32, tid: u32) -> Result<Tracee, Errno> {
        let (pid, tid) = (Pid::from_raw(pid as i32), Pid::from_raw(tid as i32));
        ptrace::seize(tid, Options::PTRACE_O_EXITKILL)?;
        ptrace::interrupt(tid)?;
        let mut tracee = Tracee { pid, tid, signal: None, ended_by: None };
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
        Tracee { pid, tid: pid, signal: None, ended_by: None }
    }

    /// The thread's number.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// The child dies if this process does. Only while it is stopped.
    pub fn bind(&self) -> Result<(), Errno> {
        ptrace::setoptions(self.tid, Options::PTRACE_O_EXITKILL)
    }

    /// Executes one instruction.
    pub fn step(&mut self) -> Step {
        let signal = self.signal.take();
        match ptrace::step(self.tid, signal) {
            Ok(()) => self.wait(),
            Err(_) => self.dying(),
        }
    }

    /// Walks a path to its end by single steps and notes the way. `before` is asked before each; it ends the walk.
    pub fn walk(
        &mut self,
        trail: &mut Trail,
        asleep: Asleep<'_>,
        before: &mut dyn FnMut() -> bool,
    ) -> Arrival {
        trail.pcs.clear();
        while !before() {
            let Some(pc) = self.pc() else { return self.gone() };
            trail.pcs.push(pc);
            match self.settle(Tracee::step, asleep) {
                Arrival::There => {}
                end => return end,
            }
        }
        Arrival::There
    }

    /// Goes to the position after `at` instructions of a path that was walked before.
    ///
    /// A single step may cost thirty times what a breakpoint does (each is an exit of a virtual machine), and a path
    /// would need half the square of its length of them. So all but the last few instructions are run, up to a
    /// breakpoint at a place that comes seldom. `plain` is without that.
    pub fn go(&mut self, trail: &Trail, at: usize, plain: bool, asleep: Asleep<'_>) -> Arrival {
        let (anchor, hits) = if plain { (0, 0) } else { trail.anchor(at) };
        for _ in 0..hits {
            // Off the place where it stands, which may be the place itself.
            match self.settle(Tracee::step, asleep) {
                Arrival::There if self.pc() == Some(trail.pcs[anchor]) => continue,
                Arrival::There => {}
                end => return end,
            }
            match self.run_to(trail.pcs[anchor], asleep) {
                Arrival::There => {}
                end => return end,
            }
        }
        for _ in anchor..at {
            match self.settle(Tracee::step, asleep) {
                Arrival::There => {}
                end => return end,
            }
        }
        Arrival::There
    }

    /// Runs up to the instruction at `pc`. The breakpoint is in this process' own copy of the page. Another thread of
    /// the process that comes by dies of it, and the process with it: see [`was_trapped`](Tracee::was_trapped).
    fn run_to(&mut self, pc: u64, asleep: Asleep<'_>) -> Arrival {
        let address = pc as ptrace::AddressType;
        let Ok(original) = ptrace::read(self.tid, address) else { return self.gone() };
        if ptrace::write(self.tid, address, with_breakpoint(original)).is_err() {
            return self.gone();
        }
        let arrival = self.settle(
            |tracee| match ptrace::cont(tracee.tid, tracee.signal.take()) {
                Ok(()) => tracee.wait(),
                Err(_) => tracee.dying(),
            },
            asleep,
        );
        if let Arrival::There | Arrival::Marker = arrival {
            let _ = ptrace::write(self.tid, address, original);
        }
        match arrival {
            Arrival::There => match self.back_to(pc) {
                Ok(()) => Arrival::There,
                Err(Errno::ESRCH) => self.gone(),
                Err(_) => Arrival::Gone,
            },
            end => end,
        }
    }

    fn settle(&mut self, go: impl FnOnce(&mut Tracee) -> Step, asleep: Asleep<'_>) -> Arrival {
        let mut step = go(self);
        loop {
            match step {
                Step::Done => return Arrival::There,
                Step::Marker => return Arrival::Marker,
                Step::Gone => return Arrival::Gone,
                Step::Asleep if asleep() => return Arrival::Asleep,
                Step::Asleep => step = self.wait(),
            }
        }
    }

    /// It is stopped no more, as its process dies: of what is known once it is gone.
    fn dying(&mut self) -> Step {
        while self.wait() == Step::Asleep {}
        Step::Gone
    }

    fn gone(&mut self) -> Arrival {
        self.dying();
        Arrival::Gone
    }

    /// A breakpoint was hit: the instruction under it is the next one.
    fn back_to(&self, pc: u64) -> Result<(), Errno> {
        let mut regs = ptrace::getregs(self.tid)?;
        #[cfg(target_arch = "x86_64")]
        {
            if regs.rip != pc + 1 {
                return Err(Errno::EINVAL);
            }
            regs.rip = pc;
        }
        #[cfg(target_arch = "aarch64")]
        {
            regs.pc = pc;
        }
        ptrace::setregs(self.tid, regs)
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
        let status = match self.stopped() {
            Ok(status) => status,
            Err(step) => return step,
        };
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

    /// As [`wait`](Tracee::wait), for who wants to know all that the kernel says of a stop.
    pub fn stopped(&mut self) -> Result<i32, Step> {
        let mut status = 0;
        // SAFETY: `status` is a place for one number.
        let waited = unsafe { libc::waitpid(self.tid.as_raw(), &mut status, libc::__WALL) };
        if waited == -1 {
            return Err(if Errno::last() == Errno::EINTR { Step::Asleep } else { Step::Gone });
        }
        if !libc::WIFSTOPPED(status) {
            let signalled = libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status));
            self.ended_by = signalled.and_then(|signal| Signal::try_from(signal).ok());
            return Err(Step::Gone);
        }
        Ok(status)
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
        let _ = nix::sys::signal::kill(self.pid, Signal::SIGKILL);
        while self.wait() != Step::Gone {}
    }

    /// Lets it go its way, untraced. Only while it is stopped.
    pub fn let_go(self) {
        let _ = ptrace::detach(self.tid, self.signal);
    }

    /// Whether it is gone because a thread that is not traced ran into a breakpoint.
    pub fn was_trapped(&self) -> bool {
        self.ended_by == Some(Signal::SIGTRAP)
    }

    /// What ended it, if a signal did.
    pub fn ended_by(&self) -> Option<Signal> {
        self.ended_by
    }

    /// The address of its next instruction; `None` unless it is stopped.
    pub fn pc(&self) -> Option<u64> {
        ptrace::getregs(self.tid).ok().map(pc)
    }
}

fn with_breakpoint(word: libc::c_long) -> libc::c_long {
    #[cfg(target_arch = "x86_64")]
    return word & !0xff | 0xcc;
    // BRK #0; an address that is no multiple of 8 is read and written unaligned.
    #[cfg(target_arch = "aarch64")]
    return word & !0xffff_ffff | 0xd420_0000;
}

fn pc(regs: libc::user_regs_struct) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return regs.rip;
    #[cfg(target_arch = "aarch64")]
    return regs.pc;
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
