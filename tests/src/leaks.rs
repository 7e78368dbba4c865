//! What the host has of mounts, interfaces, control groups, rules and processes, so that a test can compare before and after.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Everything that bears the mark of one engine.
///
/// `mark` is its instance's id, `run` its run directory.
pub fn traces(mark: &str, run: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let run = run.display().to_string();
    for line in read("/proc/self/mountinfo").lines() {
        if line.contains(&run) || line.contains(mark) {
            found.insert(format!("mount: {line}"));
        }
    }
    for name in names("/sys/class/net") {
        if name.contains(mark) {
            found.insert(format!("interface: {name}"));
        }
    }
    for hierarchy in names("/sys/fs/cgroup") {
        let group = format!("/sys/fs/cgroup/{hierarchy}/corten-{mark}");
        if Path::new(&group).exists() {
            found.insert(format!("control group: {group}"));
        }
    }
    if let Ok(tables) = Command::new("nft").args(["list", "tables"]).output() {
        for line in String::from_utf8_lossy(&tables.stdout).lines().filter(|line| line.contains(mark)) {
            found.insert(format!("rules: {line}"));
        }
    }
    for pid in names("/proc").iter().filter(|name| name.bytes().all(|b| b.is_ascii_digit())) {
        let command = read(&format!("/proc/{pid}/cmdline")).replace('\0', " ");
        if command.contains(&run) {
            found.insert(format!("process: {pid} {command}"));
        }
    }
    found
}

fn read(path: &str) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn names(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
