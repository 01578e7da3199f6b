//! What `/proc` says about processes, descriptors and mappings.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: u32,
    pub name: String,
    pub state: char,
    pub parent: u32,
    pub group: u32,
    pub session: u32,
}

/// One process; `None` if there is none of this number.
pub fn process(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, rest) = stat.rsplit_once(") ")?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse().ok();
    Some(Process { pid, name, state, parent: number()?, group: number()?, session: number()? })
}

/// What each thread of a process is doing; none of a process that is not there.
pub fn thread_states(pid: u32) -> Vec<char> {
    let state = |thread: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/task/{thread}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    };
    numbers(&format!("/proc/{pid}/task")).into_iter().filter_map(state).collect()
}

/// Every process there is.
pub fn processes() -> Vec<Process> {
    numbers("/proc").into_iter().filter_map(process).collect()
}

/// The processes of a session, zombies among them. A pool is a session: its arbiter leads it.
pub fn session(leader: u32) -> Vec<Process> {
    processes().into_iter().filter(|p| p.session == leader).collect()
}

/// The other processes whose working directory this is.
pub fn working_in(dir: &Path) -> Vec<Process> {
    let here = |pid: u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == dir);
    processes().into_iter().filter(|p| p.pid != std::process::id() && here(p.pid)).collect()
}

/// A process's descriptors and what they lead to.
pub fn descriptors(pid: u32) -> BTreeMap<u32, String> {
    let dir = format!("/proc/{pid}/fd");
    let target = |n: &u32| fs::read_link(format!("{dir}/{n}")).map(|to| to.display().to_string());
    // The one that lists the directory is gone again.
    numbers(&dir).into_iter().filter_map(|n| Some((n, target(&n).ok()?))).collect()
}

/// The inode numbers of the memory files of ours that a process has open.
pub fn memory_files(pid: u32) -> BTreeSet<u64> {
    let ours = descriptors(pid).into_iter().filter(|(_, to)| to.starts_with("/memfd:stokehold"));
    ours.filter_map(|(n, _)| fs::metadata(format!("/proc/{pid}/fd/{n}")).ok()).map(|m| m.ino()).collect()
}

/// The lines of a process's map that are memory files of ours.
pub fn mappings(pid: u32) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    maps.lines().filter(|line| line.contains("memfd:stokehold")).map(str::to_owned).collect()
}

/// A line of `/proc/PID/status`, without its name.
pub fn status(pid: u32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim().to_owned()
}

fn numbers(dir: &str) -> Vec<u32> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}
