//! The program under test with everything that it starts, traced: every system call of some number, made by one of the
//! processes in one of the phases, is counted, and one of them is made to fail.
//!
//! `strace -e inject` does not do: it counts for each thread anew, so that each new worker would meet the fault again, and
//! it cannot tell the arbiter from what the arbiter forks. Here a filter of the kernel's (seccomp) stops whoever makes the
//! call in question and nobody else, so that a life of a pool takes hardly longer than without.

use super::calls::Call;
use super::marks::{self, Mark, Phase};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write, pipe};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fmt, fs, ptr};

/// Which of the pool's processes one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// With what it forks, up to the program that this becomes.
    Host,
    /// The host's program once more, until it has forked the arbiter.
    Starter,
    Arbiter,
    Worker,
    Other,
}

/// Where a system call belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub role: Role,
    pub phase: Phase,
    pub call: Call,
}

/// Which call fails, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    /// The first one is 1.
    pub nth: usize,
    /// And those that follow it, so many in all.
    pub times: usize,
    pub errno: i32,
}

/// What there was to be seen.
#[derive(Debug)]
pub struct Seen {
    pub host: Pid,
    /// How often each call was made, of those that were looked at.
    pub counts: BTreeMap<Place, usize>,
    pub injected: usize,
    /// What the program told, in its order.
    pub told: Vec<Told>,
    /// How processes ended that did not end well, or that were killed.
    pub ends: Vec<(Role, Pid, End)>,
    /// It did not come to its end in time; who was left, and what each was doing.
    pub hung: Option<String>,
    /// What it printed.
    pub output: String,
    pub took: Duration,
    /// Processor time of all its processes.
    pub cpu: Duration,
}

#[derive(Clone, Debug)]
pub struct Told {
    pub mark: Mark,
    pub a: u64,
    pub b: u64,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Exited(i32),
    Killed(Signal),
}

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the others may take once the host is gone.
const LEAVING: Duration = Duration::from_secs(15);

/// Runs the program, in this scenario, with this fault, or with none and every system call counted.
pub fn run(scenario: &str, fault: Option<Fault>, dir: &Path) -> Seen {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir_all(dir).unwrap();
    let (tell, mut told) = pipe().map(|(r, w)| (w, r)).unwrap();
    // SAFETY: this process has one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(tell);
            let _ = told.read(&mut [0]); // until it is traced
            let error = become_host(scenario, fault, dir);
            eprintln!("the program cannot be run: {error}");
            stokehold::internals::sys::process::exit_now(99)
        }
        ForkResult::Parent { child } => {
            drop(told);
            let options = Options::PTRACE_O_EXITKILL
                | Options::PTRACE_O_TRACEFORK
                | Options::PTRACE_O_TRACEVFORK
                | Options::PTRACE_O_TRACECLONE
                | Options::PTRACE_O_TRACEEXEC
                | Options::PTRACE_O_TRACESECCOMP
                | Options::PTRACE_O_TRACESYSGOOD;
            ptrace::seize(child, options).unwrap();
            (&tell).write_all(&[1]).unwrap();
            let mut tracer = Tracer::new(child, fault);
            tracer.follow();
            let mut seen = tracer.seen;
            seen.output = fs::read_to_string(dir.join("output")).unwrap_or_default();
            seen
        }
    }
}

fn become_host(scenario: &str, fault: Option<Fault>, dir: &Path) -> std::io::Error {
    let output = fs::File::create(dir.join("output")).unwrap();
    std::env::set_current_dir(dir).unwrap();
    if let Err(error) = filter(fault.map(|fault| fault.place.call.number)) {
        return error;
    }
    let mut command = Command::new("/proc/self/exe");
    command.env(super::scenario::ROLE, scenario).env("TMPDIR", dir).env("RUST_BACKTRACE", "0");
    command.stdout(output.try_clone().unwrap()).stderr(output).exec()
}

/// Has the kernel stop this process and all that come of it at this system call, or at all of them; and at marks.
fn filter(number: Option<i64>) -> std::io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let unless = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 1, k };
    let trace = statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRACE);
    let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)]; // seccomp_data.nr
    match number {
        None => program.push(trace),
        Some(number) => {
            program.push(unless(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, marks::FIRST as u32));
            program.push(trace);
            program.push(unless(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32));
            program.push(trace);
            program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
        }
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: numbers, and a program that outlives the call, which copies it.
    let answer = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            | libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, ptr::from_ref(&filter))
    };
    if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Why nobody can be traced here, if that is so: tries it, with a child that tells one mark.
pub fn probe() -> Result<(), String> {
    let (tell, mut told) = pipe().map(|(r, w)| (w, r)).map_err(|e| e.to_string())?;
    // SAFETY: this process has one thread.
    match unsafe { fork() }.map_err(|e| e.to_string())? {
        ForkResult::Child => {
            drop(tell);
            let _ = told.read(&mut [0]); // until it is traced
            let filtered = filter(Some(marks::FIRST));
            if filtered.is_ok() {
                marks::tell(Mark::Works, 0, 0, "");
            }
            let errno = filtered.map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0);
            stokehold::internals::sys::process::exit_now(errno)
        }
        ForkResult::Parent { child } => {
            drop(told);
            let seized = ptrace::seize(child, Options::PTRACE_O_EXITKILL | Options::PTRACE_O_TRACESECCOMP);
            drop(tell);
            let mut stopped = false;
            loop {
                match waitpid(child, Some(WaitPidFlag::__WALL)) {
                    Ok(WaitStatus::PtraceEvent(_, _, libc::PTRACE_EVENT_SECCOMP)) => {
                        stopped = true;
                        let _ = ptrace::cont(child, None);
                    }
                    Ok(WaitStatus::Stopped(_, signal)) => drop(ptrace::cont(child, signal)),
                    Ok(WaitStatus::Exited(_, errno)) => {
                        seized.map_err(|error| format!("ptrace not permitted: {error}"))?;
                        return match (errno, stopped) {
                            (0, true) => Ok(()),
                            (0, false) => Err("no call is stopped by seccomp".into()),
                            _ => Err(format!("seccomp not permitted: {}", Errno::from_raw(errno))),
                        };
                    }
                    Ok(WaitStatus::Signaled(_, signal, _)) => {
                        return Err(format!("who is traced is killed: {signal}"));
                    }
                    Ok(_) => drop(ptrace::cont(child, None)),
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.to_string()),
                }
            }
        }
    }
}

struct Tracer {
    fault: Option<Fault>,
    host: Pid,
    tasks: BTreeMap<Pid, Role>,
    /// New ones that stopped before their parent said whose they are.
    early: BTreeSet<Pid>,
    /// Calls that are made, and then said to have failed: at their end.
    to_fail: BTreeMap<Pid, i32>,
    phase: Phase,
    /// Of the place in question.
    count: usize,
    seen: Seen,
}

impl Tracer {
    fn new(host: Pid, fault: Option<Fault>) -> Tracer {
        Tracer {
            fault,
            host,
            tasks: BTreeMap::from([(host, Role::Host)]),
            early: BTreeSet::new(),
            to_fail: BTreeMap::new(),
            phase: Phase::None,
            count: 0,
            seen: Seen {
                host,
                counts: BTreeMap::new(),
                injected: 0,
                told: Vec::new(),
                ends: Vec::new(),
                hung: None,
                output: String::new(),
                took: Duration::ZERO,
                cpu: Duration::ZERO,
            },
        }
    }

    /// Until none of them is left.
    fn follow(&mut self) {
        let begin = Instant::now();
        let cpu = processor_time();
        let mut until = begin + PATIENCE;
        let alarm = Alarm::set();
        loop {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => {
                    if self.stopped(status) && !self.tasks.contains_key(&self.host) {
                        until = until.min(Instant::now() + LEAVING);
                    }
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
            if Instant::now() > until {
                if self.seen.hung.is_some() {
                    break; // not even killed
                }
                self.seen.hung = Some(self.tasks.iter().map(|(pid, role)| doing(*pid, *role)).collect());
                let processes: Vec<Pid> = self.tasks.keys().copied().collect();
                for pid in processes {
                    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
                }
                until = Instant::now() + LEAVING;
            }
        }
        drop(alarm);
        self.seen.took = begin.elapsed();
        self.seen.cpu = processor_time().saturating_sub(cpu);
    }

    /// Lets one go on that has stopped. Whether one has ended.
    fn stopped(&mut self, status: WaitStatus) -> bool {
        match status {
            WaitStatus::Exited(pid, code) => {
                self.ended(pid, End::Exited(code));
                return true;
            }
            WaitStatus::Signaled(pid, signal, _) => {
                self.ended(pid, End::Killed(signal));
                return true;
            }
            WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
            WaitStatus::PtraceSyscall(pid) => {
                if let Some(errno) = self.to_fail.remove(&pid)
                    && let Ok(mut regs) = ptrace::getregs(pid)
                {
                    regs.rax = -i64::from(errno) as u64;
                    let _ = ptrace::setregs(pid, regs);
                }
                let _ = ptrace::cont(pid, None);
            }
            WaitStatus::Stopped(pid, signal) => drop(ptrace::cont(pid, signal)),
            _ => {}
        }
        false
    }

    fn event(&mut self, pid: Pid, event: i32) {
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                if let Ok(new) = ptrace::getevent(pid) {
                    self.born(pid, Pid::from_raw(new as i32), event);
                }
            }
            libc::PTRACE_EVENT_EXEC => {
                let role = self.tasks.entry(pid).or_insert(Role::Other);
                *role = match (*role, pid == self.host) {
                    (role, true) => role,
                    (Role::Host, false) => Role::Starter,
                    _ => Role::Other,
                };
            }
            libc::PTRACE_EVENT_SECCOMP if self.called(pid) => {
                let _ = ptrace::syscall(pid, None);
                return;
            }
            // The first stop of a new one.
            libc::PTRACE_EVENT_STOP if !self.tasks.contains_key(&pid) => {
                self.early.insert(pid);
                return;
            }
            _ => {}
        }
        let _ = ptrace::cont(pid, None);
    }

    fn born(&mut self, parent: Pid, new: Pid, event: i32) {
        let parent = self.tasks.get(&parent).copied().unwrap_or(Role::Other);
        let role = match (parent, event == libc::PTRACE_EVENT_CLONE) {
            (role, true) => role, // a thread
            (Role::Host, _) => Role::Host,
            (Role::Starter, _) => Role::Arbiter,
            (Role::Arbiter, _) => Role::Worker,
            _ => Role::Other,
        };
        self.tasks.insert(new, role);
        if self.early.remove(&new) {
            let _ = ptrace::cont(new, None);
        }
    }

    fn ended(&mut self, pid: Pid, end: End) {
        let Some(role) = self.tasks.remove(&pid) else { return }; // a zombie that nobody reaped but we
        if end != End::Exited(0) {
            self.seen.ends.push((role, pid, end));
        }
    }

    /// One is about to make a call that was asked for. Whether its end is wanted, too.
    fn called(&mut self, pid: Pid) -> bool {
        let Ok(mut regs) = ptrace::getregs(pid) else { return false };
        let number = regs.orig_rax as i64;
        let args = [regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9];
        if let Some(mark) = Mark::of(number) {
            regs.orig_rax = u64::MAX;
            regs.rax = self.told(pid, mark, args);
            let _ = ptrace::setregs(pid, regs);
            return false;
        }
        let role = self.tasks.get(&pid).copied().unwrap_or(Role::Other);
        let place = Place { role, phase: self.phase, call: Call::new(number, args) };
        let Some(fault) = self.fault else {
            *self.seen.counts.entry(place).or_default() += 1;
            return false;
        };
        if place != fault.place {
            return false;
        }
        self.count += 1;
        if !(fault.nth..fault.nth + fault.times).contains(&self.count) {
            return false;
        }
        self.seen.injected += 1;
        if place.call.happens() {
            self.to_fail.insert(pid, fault.errno);
            return true;
        }
        regs.orig_rax = u64::MAX; // no call at all
        regs.rax = -i64::from(fault.errno) as u64;
        let _ = ptrace::setregs(pid, regs);
        false
    }

    fn told(&mut self, pid: Pid, mark: Mark, args: [u64; 6]) -> u64 {
        if mark == Mark::Phase {
            self.phase = Phase::ALL.get(args[0] as usize).copied().unwrap_or(Phase::None);
            return self.seen.injected as u64;
        }
        let text = read(pid, args[2], args[3] as usize);
        self.seen.told.push(Told { mark, a: args[0], b: args[1], text });
        0
    }
}

/// What a stopped process has in its memory.
fn read(pid: Pid, at: u64, len: usize) -> String {
    use std::os::unix::fs::FileExt;
    let mut bytes = vec![0; len.min(4096)];
    let memory = fs::File::open(format!("/proc/{pid}/mem"));
    let read = memory.and_then(|memory| memory.read_exact_at(&mut bytes, at));
    if read.is_err() && len > 0 {
        return "unreadable".into();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What one that does not end is doing, for people.
fn doing(pid: Pid, role: Role) -> String {
    let look = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (stat, call) = (look("stat"), look("syscall"));
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-');
    let call = call.split_whitespace().next().unwrap_or("?").to_owned();
    let number = call.parse().unwrap_or(-1);
    format!("{role:?} {pid} is {state} in {}; ", Call::new(number, [0; 6]))
}

/// Of all children that were reaped.
fn processor_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let us = |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    Duration::from_micros(us(usage.user_time()) + us(usage.system_time()))
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.mark)?;
        if self.a > 0 {
            write!(f, " {}", self.a)?;
        }
        if self.text.is_empty() { Ok(()) } else { write!(f, " ({})", self.text) }
    }
}

/// While it exists, a signal ends each wait of this process ten times a second.
struct Alarm;

impl Alarm {
    fn set() -> Alarm {
        extern "C" fn nothing(_: i32) {}
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        let _ = unsafe { sigaction(Signal::SIGALRM, &action) };
        Alarm::every(100_000);
        Alarm
    }

    fn every(us: i64) {
        let time = libc::timeval { tv_sec: 0, tv_usec: us };
        let timer = libc::itimerval { it_interval: time, it_value: time };
        // SAFETY: reads one timer and writes nothing.
        unsafe { libc::setitimer(libc::ITIMER_REAL, &timer, ptr::null_mut()) };
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        Alarm::every(0);
    }
}
