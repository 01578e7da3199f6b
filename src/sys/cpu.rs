//! Processors: which ones may be used, and how much of them.

use super::named;
use crate::error::{Error, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// How many processors the calling thread may run on, at least 1. See `sched_getaffinity(2)`.
pub fn usable() -> usize {
    match current_set() {
        Ok(set) if !set.is_empty() => set.len(),
        // More processors than the set has bits for; std counts those, too.
        _ => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
    }
}

/// The numbers of the processors that the calling thread may run on. See `sched_getaffinity(2)`.
pub fn current_set() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).map_err(named("sched_getaffinity"))?;
    Ok((0..CpuSet::count()).filter(|&cpu| set.is_set(cpu).unwrap_or(false)).collect())
}

/// Binds the calling thread to these processors. See `sched_setaffinity(2)`.
pub fn pin(cpus: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    for &cpu in cpus {
        set.set(cpu).map_err(|_| {
            Error::os("sched_setaffinity", libc::EINVAL)
                .context(format!("processor {cpu} of {}", CpuSet::count()))
        })?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(named("sched_setaffinity"))
}

/// Lets another thread run on this processor, if one is ready to. See `sched_yield(2)`.
///
/// Beside processor hogs this gives a whole time slice away: no way to wait for anything.
pub fn yield_now() {
    std::thread::yield_now();
}

/// How many processors' worth of time the control group of this process and those above it get, `None` without such a limit.
///
/// Reads `cpu.max` (version 2) or `cpu.cfs_quota_us` (version 1), see `cgroups(7)`. A host that can use four
/// processors and has a quota of 1.5 stands still for most of each period when it spins on four.
pub fn cgroup_quota() -> Option<f64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let smallest = |quotas: Vec<f64>| quotas.into_iter().min_by(f64::total_cmp);
    let v2 = unified_group(&groups).map(|group| {
        let levels = levels(&mounts, "cgroup2", None, group);
        levels.iter().filter_map(|dir| parse_max(&read(dir, "cpu.max")?)).collect()
    });
    let v1 = cpu_group(&groups).map(|group| {
        let levels = levels(&mounts, "cgroup", Some("cpu"), group);
        levels
            .iter()
            .filter_map(|dir| ratio(&read(dir, "cpu.cfs_quota_us")?, &read(dir, "cpu.cfs_period_us")?))
            .collect()
    });
    smallest(v2.into_iter().chain(v1).filter_map(smallest).collect())
}

fn read(dir: &Path, file: &str) -> Option<String> {
    fs::read_to_string(dir.join(file)).ok()
}

/// The path of `0::/path` in `/proc/self/cgroup`.
fn unified_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// The path of the line whose list of controllers has `cpu`.
fn cpu_group(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        fields.next()?.split(',').any(|controller| controller == "cpu").then_some(())?;
        fields.next()
    })
}

/// The directories of `group` and of all groups above it, in the mount of this file system (with this option).
fn levels(mounts: &str, kind: &str, option: Option<&str>, group: &str) -> Vec<PathBuf> {
    let Some((root, point)) = mounts.lines().find_map(|line| {
        // 36 35 98:0 /root /point rw,noatime shared:1 - type source superblock,options
        let (before, after) = line.split_once(" - ")?;
        let mut after = after.split(' ');
        if after.next()? != kind {
            return None;
        }
        let options = after.nth(1)?;
        if option.is_some_and(|wanted| !options.split(',').any(|o| o == wanted)) {
            return None;
        }
        let mut before = before.split(' ').skip(3);
        Some((before.next()?, Path::new(before.next()?)))
    }) else {
        return Vec::new();
    };
    // In a container the mount may show only a part of the tree: then the path is relative to that part.
    let inside = Path::new(group).strip_prefix(root).unwrap_or(Path::new(""));
    let deepest = point.join(inside);
    deepest.ancestors().take_while(|dir| dir.starts_with(point)).map(Path::to_path_buf).collect()
}

/// `max 100000` or `150000 100000`.
fn parse_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    ratio(quota, period)
}

fn ratio(quota: &str, period: &str) -> Option<f64> {
    let (quota, period): (f64, f64) = (quota.trim().parse().ok()?, period.trim().parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

/// How long this process may spin and yield before it sleeps.
///
/// Nothing under a processor quota, where waiting burns what work needs. With one usable processor spinning cannot
/// help, but yielding hands over to the peer.
pub fn wait_budget() -> crate::ring::Budget {
    let quota = cgroup_quota().is_some();
    let several = usable() > 1;
    crate::ring::Budget {
        spin_ns: if several && !quota { 50_000 } else { 0 },
        yield_ns: if quota { 0 } else { 50_000 },
        park_ns: 50_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_in_both_notations() {
        assert_eq!(parse_max("150000 100000\n"), Some(1.5));
        assert_eq!(parse_max("max 100000\n"), None);
        assert_eq!(ratio("-1\n", "100000\n"), None);
        assert_eq!(ratio("50000\n", "100000\n"), Some(0.5));
        assert_eq!(ratio("50000", "0"), None);
        assert_eq!(parse_max(""), None);
    }

    #[test]
    fn groups_are_found_in_both_versions() {
        let groups = "5:memory:/m\n4:cpu,cpuacct:/a/b\n3:cpuset:/c\n0::/user.slice\n";
        assert_eq!(cpu_group(groups), Some("/a/b"));
        assert_eq!(unified_group(groups), Some("/user.slice"));
        assert_eq!(cpu_group("0::/\n"), None);
    }

    #[test]
    fn all_levels_up_to_the_mount_point_count() {
        let mounts = "25 20 0:22 / /sys rw - sysfs sysfs rw\n\
                      30 25 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                      31 25 0:27 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let v1 = levels(mounts, "cgroup", Some("cpu"), "/a/b");
        assert_eq!(v1, ["a/b", "a", ""].map(|d| Path::new("/sys/fs/cgroup/cpu").join(d)));
        let v2 = levels(mounts, "cgroup2", None, "/box/c");
        assert_eq!(v2, ["c", ""].map(|d| Path::new("/sys/fs/cgroup").join(d)));
        assert_eq!(levels(mounts, "cgroup2", None, "/elsewhere"), [Path::new("/sys/fs/cgroup/")]);
        assert!(levels(mounts, "cgroup", Some("memory"), "/").is_empty());
    }

    #[test]
    fn a_thread_is_pinned_where_it_may_be() {
        std::thread::spawn(|| {
            let all = current_set().unwrap();
            assert_eq!(all.len(), usable());
            pin(&all[..1]).unwrap();
            assert_eq!(current_set().unwrap(), all[..1]);
            assert!(pin(&[usize::MAX]).is_err());
        })
        .join()
        .unwrap();
        assert!(cgroup_quota().is_none_or(|quota| quota > 0.0));
    }
}
