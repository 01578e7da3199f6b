//! What `/proc` says about another process. See `proc(5)`. What is gone has nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Private memory that is resident, KiB.
pub fn rss_anon_kib(pid: u32) -> Option<u64> {
    status_number(pid, "RssAnon:")
}

/// How often the process's first thread went to sleep by itself: of a process with one thread, how often it woke.
pub fn sleeps(pid: u32) -> Option<u64> {
    status_number(pid, "voluntary_ctxt_switches:")
}

/// How many descriptors are open.
pub fn descriptors(pid: u32) -> Option<u64> {
    fs::read_dir(format!("/proc/{pid}/fd")).ok().map(|entries| entries.count() as u64)
}

/// Memory of the files without a name that it has open, KiB.
pub fn memfd_kib(pid: u32) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let files = entries.flatten().filter_map(|entry| {
        let name = fs::read_link(entry.path()).ok()?;
        let of_memory = name.to_str()?.starts_with("/memfd:");
        // Followed: the size of what is open there, not of the link.
        let meta = of_memory.then(|| fs::metadata(entry.path()).ok()).flatten()?;
        Some((meta.ino(), meta.blocks() / 2))
    });
    let each: BTreeMap<u64, u64> = files.collect();
    Some(each.into_values().sum())
}

/// How many mappings there are.
pub fn mappings(pid: u32) -> Option<u64> {
    fs::read_to_string(format!("/proc/{pid}/maps")).ok().map(|maps| maps.lines().count() as u64)
}

/// Memory that the machine could give away, KiB.
pub fn available_kib() -> Option<u64> {
    number_after(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
}

/// What all threads of a process together have used of the processors, nanoseconds. See `schedstat`.
pub fn processor_time_ns(pid: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let used = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    used.sum()
}

/// Whether a thread of this process may still execute an instruction of the program. One that is exiting is in the
/// kernel for good, from before its memory is freed.
pub fn runs(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().any(|task| {
        let Ok(stat) = fs::read_to_string(task.path().join("stat")) else { return false };
        !is_exiting(&stat)
    })
}

/// Of a line of `stat`: state, ppid, pgrp, session, tty, tpgid, flags come after the name in parentheses.
fn is_exiting(stat: &str) -> bool {
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let state = fields.next().unwrap_or_default();
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    matches!(state, "Z" | "X") || flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

fn status_number(pid: u32, name: &str) -> Option<u64> {
    number_after(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?, name)
}

fn number_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// See `include/linux/sched.h`: set first thing in `do_exit`.
const PF_EXITING: u64 = 0x4;
