//! One thread of another process, moved from edge to edge.
//!
//! What a process does concerns nobody else until it makes a system call or stores to memory that it shares: only these, the
//! *edges* of its way, change anything that outlives it. Between two edges every place to die at is like any other, so a
//! path of hundreds of thousands of instructions (the birth of a process, a fork, a region more) has a few hundred places
//! that differ: before its first edge, and right behind each. (What the kernel does for the dead, the robust list of a thread,
//! is read from private memory; but the list is complete before the system call that hands it over, and never changed after.)
//! That claim is not taken on trust: [`Walker::wander`] goes on from an edge by single instructions, to a place that a seed
//! chose, and what holds behind the edge must hold there.
//!
//! System calls are seen by `PTRACE_SYSCALL`. To see the stores, every mapping of ours that the process may write is made
//! read-only, by a system call that it is made to make: who stores gets SIGSEGV, which the tracer takes away; the mapping is
//! made writable for that one instruction. No decoder could be as exact, and single steps over all else would take a
//! hundred times as long. An atomic exchange faults whether it succeeds or not, so some edges change nothing. The kernel's own
//! stores would fail: it makes none to our regions, but the mark of a dead thread, before which [`Walker::release`] undoes
//! all this. Another thread of the process would die of its store: it is stopped, or the walk ends before it stores.
//!
//! x86-64 only: under exclusive loads and stores a single step between the two never succeeds.

use crate::trace::{Asleep, Step, Tracee};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::fs;
use std::ops::Range;

/// Whether this can be done here.
pub const SUPPORTED: bool = cfg!(target_arch = "x86_64");

/// What others may notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// A system call of this number, which has been carried out.
    Call(i64),
    /// A store to shared memory, or an atomic exchange.
    Store,
}

/// How far it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Behind the next edge.
    Edge(Edge),
    /// It has a child, which is stopped and traced as well, before its first instruction. Only with [`Walker::births`].
    Born(u32),
    /// At a marker.
    Marker,
    /// In a sleep that was said to be the end.
    Asleep,
    /// It is no more.
    Gone,
}

/// A thread under way.
#[derive(Debug)]
pub struct Walker {
    pub tracee: Tracee,
    options: Options,
    guards: bool,
    /// The mappings that are read-only for now.
    shared: Vec<Range<u64>>,
    /// Where in the process a system call instruction is.
    call_at: Option<u64>,
    /// The system call that it is in.
    inside: Option<i64>,
    /// Signals that came at a bad time.
    held_back: Vec<Signal>,
    /// The tracer knows of nothing that would stop it.
    runs: bool,
}

/// Rounds of one string instruction that are waited for at once.
const ROUNDS: usize = 8192;

impl Walker {
    /// Of a thread that is stopped, outside of any system call or asleep in one.
    pub fn new(tracee: Tracee) -> Result<Walker, Errno> {
        Walker::with(tracee, true)
    }

    /// One whose stores are no edges. It can be let go anywhere.
    pub fn bare(tracee: Tracee) -> Result<Walker, Errno> {
        Walker::with(tracee, false)
    }

    fn with(tracee: Tracee, guards: bool) -> Result<Walker, Errno> {
        let options = Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESYSGOOD;
        let mut walker = Walker {
            tracee,
            options,
            guards,
            shared: Vec::new(),
            call_at: None,
            inside: None,
            held_back: Vec::new(),
            runs: false,
        };
        ptrace::setoptions(walker.tid(), options)?;
        let pc = machine::pc(&walker.regs()?);
        if walker.is_call(pc.wrapping_sub(machine::CALL_LEN)) {
            walker.call_at = Some(pc - machine::CALL_LEN);
        }
        walker.guard_mappings()?;
        Ok(walker)
    }

    /// Its children are traced from their first instruction on. They are born with what they inherit of these options.
    pub fn births(&mut self) -> Result<(), Errno> {
        self.options |=
            Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEVFORK | Options::PTRACE_O_TRACECLONE;
        ptrace::setoptions(self.tid(), self.options)
    }

    /// Goes behind the next edge.
    pub fn next(&mut self, asleep: Asleep<'_>) -> Next {
        loop {
            let signal = self.held_back.pop();
            if ptrace::syscall(self.tid(), signal).is_err() {
                return self.gone();
            }
            self.runs = true;
            let status = loop {
                match self.tracee.stopped() {
                    Ok(status) => break status,
                    Err(Step::Asleep) if asleep() => return Next::Asleep,
                    Err(Step::Asleep) => {}
                    Err(_) => return Next::Gone,
                }
            };
            self.runs = false;
            match self.stopped(status) {
                Ok(Some(next)) => return next,
                Ok(None) => {}
                Err(_) => return self.gone(),
            }
        }
    }

    fn stopped(&mut self, status: i32) -> Result<Option<Next>, Errno> {
        match (libc::WSTOPSIG(status), status >> 16) {
            (signal, 0) if signal == libc::SIGTRAP | 0x80 => Ok(self.call()?.map(Next::Edge)),
            (libc::SIGSTOP, 0) => Ok(Some(Next::Marker)),
            (_, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE) => {
                Ok(Some(Next::Born(ptrace::getevent(self.tid())? as u32)))
            }
            (libc::SIGSEGV, 0) if self.stored()? => {
                self.step_over()?;
                Ok(Some(Next::Edge(Edge::Store)))
            }
            (libc::SIGTRAP, _) => Ok(None),
            (signal, 0) => {
                self.held_back.extend(Signal::try_from(signal));
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Goes on by single instructions, at most so many, and stops before the next edge. How many it went.
    pub fn wander(&mut self, steps: usize) -> Result<usize, Errno> {
        for step in 0..steps {
            if self.is_call(machine::pc(&self.regs()?)) {
                return Ok(step);
            }
            if self.single()? == Some(Signal::SIGSEGV) {
                return Ok(step);
            }
        }
        Ok(steps)
    }

    /// Takes back what was done to its mappings, wherever it is.
    pub fn release(&mut self) -> Result<(), Errno> {
        if self.shared.is_empty() {
            return Ok(());
        }
        if self.runs {
            ptrace::interrupt(self.tid())?;
            while self.tracee.stopped().map_or_else(|step| step == Step::Asleep, |_| false) {}
            self.runs = false;
        }
        for range in std::mem::take(&mut self.shared) {
            self.protect(&range, libc::PROT_READ | libc::PROT_WRITE)?;
        }
        Ok(())
    }

    /// SIGKILL, wherever it is.
    pub fn kill(mut self) {
        // One that is gone by itself has no mappings.
        let _ = self.release();
        self.tracee.kill();
    }

    /// The address of its next instruction.
    pub fn pc(&self) -> Option<u64> {
        self.tracee.pc()
    }

    fn tid(&self) -> Pid {
        self.tracee.tid()
    }

    fn regs(&self) -> Result<libc::user_regs_struct, Errno> {
        ptrace::getregs(self.tid())
    }

    fn gone(&mut self) -> Next {
        while let Ok(_) | Err(Step::Asleep) = self.tracee.stopped() {}
        Next::Gone
    }

    /// At one end of a system call: which, if that was its second.
    fn call(&mut self) -> Result<Option<Edge>, Errno> {
        let regs = self.regs()?;
        let Some(number) = self.inside.take() else {
            self.inside = Some(machine::number(&regs));
            self.call_at = Some(machine::pc(&regs) - machine::CALL_LEN);
            return Ok(None);
        };
        match number {
            libc::SYS_execve | libc::SYS_execveat => {
                self.shared.clear();
                self.call_at = None;
            }
            libc::SYS_mmap | libc::SYS_munmap | libc::SYS_mremap => self.guard_mappings()?,
            _ => {}
        }
        Ok(Some(Edge::Call(number)))
    }

    /// Makes what it has mapped since read-only, and forgets what it has not any more.
    fn guard_mappings(&mut self) -> Result<(), Errno> {
        if !self.guards {
            return Ok(());
        }
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.tid())).unwrap_or_default();
        let ours = maps.lines().filter(|line| line.contains("/memfd:stokehold-"));
        let ranges: Vec<(Range<u64>, bool)> = ours.filter_map(range).collect();
        self.shared.retain(|known| ranges.iter().any(|(range, _)| range == known));
        for (range, writable) in ranges {
            if writable {
                self.protect(&range, libc::PROT_READ)?;
                self.shared.push(range);
            }
        }
        Ok(())
    }

    /// Whether it was a store to one of our mappings that raised SIGSEGV just now.
    fn stored(&self) -> Result<bool, Errno> {
        let info = ptrace::getsiginfo(self.tid())?;
        // SAFETY: of SIGSEGV the kernel has told an address.
        let at = unsafe { info.si_addr() } as u64;
        Ok(self.shared.iter().any(|range| range.contains(&at)))
    }

    /// Has it carry out the store that it was stopped at.
    fn step_over(&mut self) -> Result<(), Errno> {
        let info = ptrace::getsiginfo(self.tid())?;
        // SAFETY: as above.
        let at = unsafe { info.si_addr() } as u64;
        let range = self.shared.iter().find(|range| range.contains(&at)).cloned().ok_or(Errno::EFAULT)?;
        let pc = machine::pc(&self.regs()?);
        self.protect(&range, libc::PROT_READ | libc::PROT_WRITE)?;
        for _ in 0..ROUNDS {
            if self.single()? == Some(Signal::SIGSEGV) {
                return Err(Errno::EFAULT);
            }
            if machine::pc(&self.regs()?) != pc {
                break;
            }
        }
        self.protect(&range, libc::PROT_READ)
    }

    fn protect(&mut self, range: &Range<u64>, rights: i32) -> Result<(), Errno> {
        let args = [range.start, range.end - range.start, rights as u64];
        match self.inject(libc::SYS_mprotect, args)? {
            0 => Ok(()),
            error => Err(Errno::from_raw(-(error as i64) as i32)),
        }
    }

    /// Has it make this system call, and be where it was.
    fn inject(&mut self, number: i64, args: [u64; 3]) -> Result<u64, Errno> {
        let before = self.regs()?;
        let mut regs = before;
        machine::set_call(&mut regs, self.call_at.ok_or(Errno::ENOEXEC)?, number, args);
        ptrace::setregs(self.tid(), regs)?;
        self.single()?;
        let answer = machine::answer(&self.regs()?);
        ptrace::setregs(self.tid(), before)?;
        Ok(answer)
    }

    /// One instruction; SIGSEGV if it raised that. Other signals are kept for later.
    fn single(&mut self) -> Result<Option<Signal>, Errno> {
        loop {
            ptrace::step(self.tid(), None)?;
            let status = loop {
                match self.tracee.stopped() {
                    Ok(status) => break status,
                    Err(Step::Asleep) => {}
                    Err(_) => return Err(Errno::ESRCH),
                }
            };
            match (Signal::try_from(libc::WSTOPSIG(status)), status >> 16) {
                (Ok(Signal::SIGTRAP), 0) => return Ok(None),
                (Ok(Signal::SIGSEGV), 0) => return Ok(Some(Signal::SIGSEGV)),
                (Ok(signal), 0) => self.held_back.push(signal),
                _ => {}
            }
        }
    }

    fn is_call(&self, at: u64) -> bool {
        ptrace::read(self.tid(), at as ptrace::AddressType).is_ok_and(machine::is_call)
    }
}

/// The addresses in a line of a process's map, and whether they may be written.
fn range(line: &str) -> Option<(Range<u64>, bool)> {
    let mut fields = line.split(' ');
    let (from, to) = fields.next()?.split_once('-')?;
    let writable = fields.next()?.starts_with("rw");
    Some((u64::from_str_radix(from, 16).ok()?..u64::from_str_radix(to, 16).ok()?, writable))
}

/// What differs from processor to processor.
#[cfg(target_arch = "x86_64")]
mod machine {
    use libc::user_regs_struct as Regs;

    /// Bytes of the instruction that makes a system call.
    pub const CALL_LEN: u64 = 2;

    pub fn is_call(word: libc::c_long) -> bool {
        word & 0xffff == 0x050f
    }

    pub fn pc(regs: &Regs) -> u64 {
        regs.rip
    }

    /// Of the system call that it is in.
    pub fn number(regs: &Regs) -> i64 {
        regs.orig_rax as i64
    }

    pub fn answer(regs: &Regs) -> u64 {
        regs.rax
    }

    pub fn set_call(regs: &mut Regs, at: u64, number: i64, args: [u64; 3]) {
        regs.rip = at;
        regs.rax = number as u64;
        regs.orig_rax = u64::MAX; // it is in no system call that would be begun again
        [regs.rdi, regs.rsi, regs.rdx] = args;
    }
}

/// Nothing of this is used there: see [`SUPPORTED`].
#[cfg(not(target_arch = "x86_64"))]
mod machine {
    use libc::user_regs_struct as Regs;

    pub const CALL_LEN: u64 = 4;

    pub fn is_call(_: libc::c_long) -> bool {
        false
    }

    pub fn pc(_: &Regs) -> u64 {
        0
    }

    pub fn number(_: &Regs) -> i64 {
        -1
    }

    pub fn answer(_: &Regs) -> u64 {
        u64::MAX
    }

    pub fn set_call(_: &mut Regs, _: u64, _: i64, _: [u64; 3]) {}
}
