//! Limits of the host: descriptors, processes, inotify, disk, clock.

use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::{Finding, Verdict, number};
use crate::format::size;

const AREA: &str = "limits";

/// What a hundred containers take, by and large.
const MINIMA: [(&str, &str, u64); 7] = [
    ("fs.file-max", "open files of the host", 65_536),
    ("kernel.pid_max", "process ids", 16_384),
    ("kernel.threads-max", "threads", 8_192),
    ("fs.inotify.max_user_instances", "inotify instances per user", 128),
    ("fs.inotify.max_user_watches", "inotify watches per user", 8_192),
    ("vm.max_map_count", "memory maps of a process", 65_530),
    ("kernel.keys.maxkeys", "keys per user", 200),
];

pub fn findings(data_root: &Path) -> Vec<Finding> {
    let mut findings = vec![descriptors()];
    for (name, what, least) in MINIMA {
        let Some(count) = number(&format!("/proc/sys/{}", name.replace('.', "/"))) else { continue };
        findings.push(match count >= least {
            true => Finding::ok(AREA, what, count.to_string()),
            false => Finding::bad(
                Verdict::Warning,
                AREA,
                what,
                format!("only {count}"),
                format!("sysctl -w {name}={}", least.saturating_mul(4)),
            ),
        });
    }
    findings.extend(disk(data_root));
    findings.push(clock(data_root));
    findings
}

fn descriptors() -> Finding {
    let hard = getrlimit(Resource::Nofile).maximum;
    match hard {
        Some(hard) if hard < 65_536 => Finding::bad(
            Verdict::Warning,
            AREA,
            "open files of a process",
            format!("only {hard}"),
            "LimitNOFILE=1048576 in the engine's unit, or ulimit -Hn 1048576 before it starts",
        ),
        hard => Finding::ok(
            AREA,
            "open files of a process",
            hard.map_or_else(|| "unlimited".to_owned(), |hard| hard.to_string()),
        ),
    }
}

/// Of the file system that holds the data root, or will.
fn disk(data_root: &Path) -> Vec<Finding> {
    let Some(place) = data_root.ancestors().find(|path| path.exists()) else { return Vec::new() };
    let Ok(stat) = rustix::fs::statvfs(place) else { return Vec::new() };
    let (free, total) = (stat.f_bavail * stat.f_frsize, stat.f_blocks * stat.f_frsize);
    let seen = format!(
        "{} of {} free in {}",
        size::decimal_fine(free as f64),
        size::decimal_fine(total as f64),
        place.display()
    );
    let full = "corten system df -v tells what takes it, corten system prune gives some back";
    let space = match free {
        free if free < 100 << 20 => Finding::bad(Verdict::Fatal, AREA, "disk space", seen, full),
        free if free < 2 << 30 => Finding::bad(Verdict::Warning, AREA, "disk space", seen, full),
        _ => Finding::ok(AREA, "disk space", seen),
    };
    // Some file systems have no fixed number of them, and say 0.
    let inodes = match (stat.f_files, stat.f_favail) {
        (0, _) => Finding::ok(AREA, "inodes", "as many as there is space for"),
        (_, left) if left < 50_000 => {
            Finding::bad(Verdict::Warning, AREA, "inodes", format!("only {left} free"), full)
        }
        (_, left) => Finding::ok(AREA, "inodes", format!("{left} free")),
    };
    vec![space, inodes]
}

/// Certificates and `--since` need the time: a clock that is behind what was written to the disk is wrong.
fn clock(data_root: &Path) -> Finding {
    let now = SystemTime::now();
    let newest = [data_root.join("engine.db"), data_root.join("engine.db-wal"), "/etc".into(), "/run".into()]
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok()?.modified().ok())
        .max();
    let behind = newest.and_then(|newest| newest.duration_since(now).ok()).unwrap_or_default();
    if behind > Duration::from_secs(60) {
        return Finding::bad(
            Verdict::Warning,
            AREA,
            "clock",
            format!("{} s behind the newest file", behind.as_secs()),
            "timedatectl set-ntp true, or set the time with date -s",
        );
    }
    Finding::ok(AREA, "clock", "not behind the files")
}
