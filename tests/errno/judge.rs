//! What must hold after any one fault: everybody came to an end and nobody by a panic; each call has one outcome, which is
//! true; errors say what failed; nothing is left; and what comes after the fault works.

use super::marks::Mark;
use super::trace::{End, Fault, Role, Seen};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::time::Duration;

/// Processor time that no life of a pool comes near, unless something goes round and round.
const BUSY: Duration = Duration::from_secs(8);
/// What a process exits with whose own code panicked: Rust's, and that of arbiter and worker.
const PANICKED: i32 = 101;
const INTERNAL_ERROR: i32 = 70;
/// What a process exits with whose program cannot be run: before that, or in the loader.
const NOT_RUN: i32 = 127;

/// What became of one call.
#[derive(Debug, Default)]
struct Call {
    begun: usize,
    ok: usize,
    failed: Vec<(u64, String)>,
}

/// All that is not as it must be.
pub fn judge(fault: Option<&Fault>, seen: &Seen) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(left) = &seen.hung {
        wrong.push(format!("did not come to its end: {left}"));
    }
    if seen.cpu > BUSY {
        wrong.push(format!("took {:?} of processor time", seen.cpu));
    }
    ends(fault, seen, &mut wrong);
    // Of a thread without memory for its alternative stack the runtime makes a panic, and an abort of that.
    let by_runtime = seen.output.contains("alternative stack") && fault.is_some_and(may_abort);
    if seen.output.contains("panicked") && !by_runtime {
        wrong.push("something panicked".into());
    }
    calls(seen, &mut wrong);
    for told in &seen.told {
        match told.mark {
            // What could not be unmapped stays so.
            Mark::Complaint if told.text.starts_with("mappings") && fault.is_some_and(unmaps) => {}
            Mark::Complaint => wrong.push(told.text.clone()),
            Mark::Failed | Mark::Refused if !is_named(&told.text) => {
                wrong.push(format!("an error does not say which call failed: {}", told.text));
            }
            _ => {}
        }
    }
    if !seen.told.iter().any(|told| told.mark == Mark::Through) {
        wrong.push("the host did not come to its end".into());
    }
    wrong
}

fn ends(fault: Option<&Fault>, seen: &Seen, wrong: &mut Vec<String>) {
    let arbiter_failed = seen.ends.iter().any(|(role, ..)| *role == Role::Arbiter);
    // Or whose connection to it has ended, before the arbiter gets to killing it.
    let is_cut = fault.is_some_and(|fault| {
        let number = fault.place.call.number;
        fault.place.role == Role::Arbiter && [libc::SYS_recvmsg, libc::SYS_sendmsg].contains(&number)
    });
    for (role, pid, end) in &seen.ends {
        let bad = match (*role, *end) {
            // Its loader does not look at what it gets.
            (Role::Starter, End::Killed(Signal::SIGSEGV)) => !fault.is_some_and(may_abort),
            (_, End::Killed(Signal::SIGABRT)) => !fault.is_some_and(may_abort),
            (_, End::Killed(signal)) => !matches!(signal, Signal::SIGKILL | Signal::SIGTERM),
            // A fork of it, up to the program that this becomes.
            (Role::Host, End::Exited(status)) => status != NOT_RUN || *pid == seen.host,
            // Also how one ends whose arbiter is gone.
            (Role::Worker, End::Exited(INTERNAL_ERROR)) => !arbiter_failed && !is_cut,
            (_, End::Exited(status)) => [PANICKED, INTERNAL_ERROR].contains(&status),
        };
        if bad {
            wrong.push(format!("{role:?} {pid} ended: {end:?}"));
        }
    }
}

/// A process of Rust's whose allocation fails is aborted. That this is no part of a host's life is another test's business.
fn may_abort(fault: &Fault) -> bool {
    fault.place.call.allocates() && fault.place.role != Role::Host
}

fn unmaps(fault: &Fault) -> bool {
    fault.place.call.number == libc::SYS_munmap
}

fn calls(seen: &Seen, wrong: &mut Vec<String>) {
    let mut calls: BTreeMap<u64, Call> = BTreeMap::new();
    for told in seen.told.iter().filter(|told| told.a > 0) {
        let call = calls.entry(told.a).or_default();
        match told.mark {
            Mark::Begun => call.begun += 1,
            Mark::Ok => call.ok += 1,
            Mark::Failed => call.failed.push((told.b, told.text.clone())),
            _ => {}
        }
    }
    for (id, call) in &calls {
        let is_true = match (call.ok, call.failed.as_slice()) {
            (1, []) => call.begun == 1,
            (0, [(0, _)]) => call.begun == 0,
            // One that died may have taken it, and not come to its app.
            (0, [(1, why)]) => call.begun == 1 || call.begun == 0 && worker_died(why),
            (0, [_]) => call.begun <= 1,
            _ => false,
        };
        if !is_true {
            wrong.push(format!("call {id}: {call:?}"));
        }
    }
}

/// Whether this is the error of a call whose worker died, or died with its arbiter.
fn worker_died(error: &str) -> bool {
    error.starts_with("WorkerDied:") || error.starts_with("ArbiterDied:")
}

/// Not so a failing system call that the standard library made, and nobody gave a name to.
fn is_named(error: &str) -> bool {
    !error.contains("i/o: ") && !error.trim_end().ends_with(':')
}
