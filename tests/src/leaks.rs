//! What the host has of an engine: mounts, interfaces, control groups, rules, processes. To look for at its end, and to remove when it
//! can't do that itself any more.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// An engine's marks on the host.
pub struct Marks {
    /// Eight hexadecimal digits in the names of its kernel objects; empty when it never came up.
    pub instance: String,
    /// Its run directory and its data root.
    pub roots: [PathBuf; 2],
}

impl Marks {
    /// Everything that bears them.
    pub fn traces(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        found.extend(self.mounts().into_iter().map(|path| format!("mount: {path}")));
        found.extend(self.links().into_iter().map(|name| format!("interface: {name}")));
        found.extend(self.groups().into_iter().map(|path| format!("control group: {}", path.display())));
        found.extend(self.tables().into_iter().map(|table| format!("rules: {table}")));
        let of = |pid: &i32| format!("process: {pid} {}", command_line(*pid));
        found.extend(self.processes().iter().map(of));
        found
    }

    /// [`Marks::traces`], once nothing is left or `patience` is over: monitors end on their own a moment after their containers.
    pub fn traces_after(&self, patience: Duration) -> BTreeSet<String> {
        let deadline = Instant::now() + patience;
        loop {
            let left = self.traces();
            if left.is_empty() || Instant::now() > deadline {
                return left;
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Ends and removes all of it, as far as it goes: for after a failure, when no engine can be asked to.
    pub fn remove(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let groups = self.groups();
            // A frozen process does not die.
            for group in tree(&groups) {
                let _ = fs::write(group.join("freezer.state"), "THAWED");
                let _ = fs::write(group.join("cgroup.freeze"), "0");
            }
            let members = tree(&groups).into_iter().flat_map(|group| members(&group));
            let pids: BTreeSet<i32> = members.chain(self.processes()).collect();
            for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
                let _ = kill_process(pid, Signal::KILL);
            }
            if pids.is_empty() || Instant::now() > deadline {
                break;
            }
            sleep(Duration::from_millis(20));
        }
        for group in tree(&self.groups()).into_iter().rev() {
            let _ = fs::remove_dir(group);
        }
        for link in self.links() {
            let _ = Command::new("ip").args(["link", "delete", &link]).output();
        }
        for table in self.tables() {
            let _ = Command::new("nft").arg("delete").args(table.split(' ')).output();
        }
        for mount in self.mounts() {
            let _ = rustix::mount::unmount(mount, rustix::mount::UnmountFlags::DETACH);
        }
    }

    fn is_named(&self, name: &str) -> bool {
        !self.instance.is_empty() && name.contains(&self.instance)
    }

    fn is_below(&self, text: &str) -> bool {
        self.roots.iter().any(|root| text.contains(root.to_str().expect("UTF-8")))
    }

    /// The points of mounts in this process's namespace.
    fn mounts(&self) -> Vec<String> {
        let table = read("/proc/self/mountinfo");
        let marked = table.lines().filter(|line| self.is_below(line) || self.is_named(line));
        marked.filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect()
    }

    fn links(&self) -> Vec<String> {
        names("/sys/class/net").into_iter().filter(|name| self.is_named(name)).collect()
    }

    /// Its group in each hierarchy of version 1, or in the one of version 2.
    fn groups(&self) -> Vec<PathBuf> {
        if self.instance.is_empty() {
            return Vec::new();
        }
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = names("/sys/fs/cgroup").into_iter().map(|name| root.join(name));
        let groups = hierarchies.chain([root.to_owned()]);
        groups.map(|parent| parent.join(format!("corten-{}", self.instance))).filter(|g| g.exists()).collect()
    }

    fn tables(&self) -> Vec<String> {
        let Ok(output) = Command::new("nft").args(["list", "tables"]).output() else { return Vec::new() };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| self.is_named(line)).map(|line| line.trim().to_owned()).collect()
    }

    /// Engines and clients by what they were called with; zygotes and monitors, which bear other titles, by their mounts, and by the
    /// files and sockets that they hold.
    fn processes(&self) -> Vec<i32> {
        let sockets: BTreeSet<String> = read("/proc/net/unix")
            .lines()
            .filter(|line| self.is_below(line))
            .filter_map(|line| line.split_whitespace().nth(6).map(|inode| format!("socket:[{inode}]")))
            .collect();
        let holds = |pid: i32| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
            let mut targets = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
            targets.any(|target| {
                let target = target.to_string_lossy();
                sockets.contains(&*target) || self.is_below(&target)
            })
        };
        let is_ours = |pid: i32| {
            let words = command_line(pid);
            let is_monitor = words.starts_with("corten-shim ");
            self.is_below(&words)
                || is_monitor && (self.is_below(&read(&format!("/proc/{pid}/mountinfo"))) || holds(pid))
        };
        let own = std::process::id() as i32;
        let pids = names("/proc").into_iter().filter_map(|name| name.parse::<i32>().ok());
        pids.filter(|pid| *pid != own && is_ours(*pid)).collect()
    }
}

/// The groups and those below, each after its parent.
fn tree(groups: &[PathBuf]) -> Vec<PathBuf> {
    let mut all = groups.to_vec();
    let mut next = 0;
    while let Some(group) = all.get(next) {
        let entries = fs::read_dir(group).into_iter().flatten().flatten();
        let below: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        all.extend(below);
        next += 1;
    }
    all
}

fn members(group: &Path) -> Vec<i32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn command_line(pid: i32) -> String {
    read(&format!("/proc/{pid}/cmdline")).replace('\0', " ")
}

fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
