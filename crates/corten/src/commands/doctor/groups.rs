//! Control groups: which controllers are mounted (version 1) or handed down (version 2).

use std::path::Path;

use super::{Finding, Verdict};

const AREA: &str = "cgroups";

/// A controller in version 1 and in version 2, and what can't be limited without it.
const CONTROLLERS: [(&str, &str, &str); 6] = [
    ("memory", "memory", "memory"),
    ("cpu", "cpu", "CPU time"),
    ("cpuset", "cpuset", "which CPUs are used"),
    ("pids", "pids", "the number of processes"),
    ("blkio", "io", "disk traffic"),
    ("devices", "", "which devices are used"),
];

pub fn findings() -> Vec<Finding> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    look(&mounts, |path| std::fs::read_to_string(Path::new(path).join("cgroup.controllers")).ok())
}

fn look(mounts: &str, controllers: impl Fn(&str) -> Option<String>) -> Vec<Finding> {
    let all: Vec<Mount> = mounts.lines().filter_map(Mount::parse).collect();
    let first = all.iter().filter(|mount| mount.kind == "cgroup");
    let unified = all.iter().find(|mount| mount.kind == "cgroup2");
    let version_1: Vec<&str> = first.flat_map(|mount| mount.options.split(',')).collect();
    let version_2 = unified.and_then(|mount| controllers(mount.place)).unwrap_or_default();
    let only_unified = unified.is_some() && !all.iter().any(|mount| mount.kind == "cgroup");
    if all.is_empty() {
        let mend = "mount -t cgroup2 none /sys/fs/cgroup, or let systemd do it";
        return vec![Finding::bad(Verdict::Fatal, AREA, "hierarchy", "none is mounted", mend)];
    }
    let version = match (only_unified, unified.is_some()) {
        (true, _) => "version 2",
        (false, true) => "version 1, with an empty hierarchy of version 2 (hybrid)",
        (false, false) => "version 1",
    };
    let mut findings = vec![Finding::ok(AREA, "hierarchy", version)];
    for (old, new, what_for) in CONTROLLERS {
        let there = match only_unified {
            // Devices are controlled by BPF programs there.
            true => new.is_empty() || version_2.split_whitespace().any(|name| name == new),
            false => version_1.contains(&old),
        };
        let name = if only_unified && !new.is_empty() { new } else { old };
        findings.push(match there {
            true => Finding::ok(AREA, name, "there"),
            false => Finding::bad(
                Verdict::Warning,
                AREA,
                name,
                "not there",
                format!("without it {what_for} can't be limited; look for cgroup_disable= in /proc/cmdline"),
            ),
        });
    }
    findings
}

struct Mount<'a> {
    place: &'a str,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// A line of mountinfo, proc(5): what follows ` - ` is type, source and the file system's own options.
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, _, options) = (right.next()?, right.next()?, right.next()?);
        kind.starts_with("cgroup").then_some(())?;
        Some(Self { place: left.split(' ').nth(4)?, kind, options })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                          31 29 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                          32 29 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n";
    const UNIFIED: &str = "30 29 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    fn verdict(findings: &[Finding], what: &str) -> Verdict {
        findings.iter().find(|finding| finding.what == what).unwrap().verdict
    }

    #[test]
    fn controllers_of_both_versions() {
        let hybrid = look(HYBRID, |_| None);
        assert_eq!(verdict(&hybrid, "memory"), Verdict::Ok);
        assert_eq!(verdict(&hybrid, "pids"), Verdict::Warning);
        let unified = look(UNIFIED, |place| (place == "/sys/fs/cgroup").then(|| "cpu io memory".to_owned()));
        assert_eq!(verdict(&unified, "io"), Verdict::Ok);
        assert_eq!(verdict(&unified, "devices"), Verdict::Ok);
        assert_eq!(verdict(&unified, "pids"), Verdict::Warning);
        assert_eq!(verdict(&look("", |_| None), "hierarchy"), Verdict::Fatal);
    }
}
