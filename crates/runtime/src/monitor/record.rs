//! What a monitor writes down: how the container ended (on disk), and where it is while it runs (on tmpfs).

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::protocol::{Exit, Timestamp};
use crate::log::format_rfc3339;
use crate::spec::Spec;

const EXIT: &str = "exit.json";
const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const TROUBLES: &str = "monitor.log";

/// A container lives for years, and each of its execs may be a little short of what was asked for.
const TROUBLES_BYTES_MAX: u64 = 256 * 1024;

/// `state.json` in the run directory.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct RunState {
    pub id: String,
    pub pid: i32,
    /// When the container's process began, in clock ticks since boot: together with `pid` it names one process for good.
    pub pid_start_ticks: u64,
    pub monitor_pid: i32,
    /// `None` while it is held.
    pub started: Option<Timestamp>,
}

/// Reads how a container ended, from its state directory or, where the disk was full, its run directory.
pub fn read_exit(directory: &Path) -> io::Result<Exit> {
    Ok(serde_json::from_slice(&std::fs::read(directory.join(EXIT))?)?)
}

/// Reads where a running container is.
pub fn read_state(run_dir: &Path) -> io::Result<RunState> {
    Ok(serde_json::from_slice(&std::fs::read(run_dir.join(STATE))?)?)
}

/// Makes the exit record visible at once; it is durable after [`Written::sync`].
pub(super) fn write_exit(state_dir: &Path, exit: &Exit) -> io::Result<Written> {
    let file = replace(state_dir, EXIT, &serde_json::to_vec(exit)?)?;
    Ok(Written { file, directory: File::open(state_dir)? })
}

/// A record that is visible, but may not survive a power failure yet.
pub(super) struct Written {
    file: File,
    directory: File,
}

impl Written {
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        self.directory.sync_all()
    }
}

/// A record of an earlier run must not be taken for one of this.
pub(super) fn forget_exit(state_dir: &Path) -> io::Result<()> {
    remove(state_dir, EXIT)
}

pub(super) fn write_state(run_dir: &Path, state: &RunState) -> io::Result<()> {
    replace(run_dir, STATE, &serde_json::to_vec(state)?).map(drop)
}

pub(super) fn write_config(run_dir: &Path, spec: &Spec) -> io::Result<()> {
    replace(run_dir, CONFIG, &serde_json::to_vec(spec)?).map(drop)
}

/// Notes a trouble that the container does not notice; what comes first says most, so that later ones are left out in the end.
pub(super) fn complain(state_dir: &Path, what: &str, why: &dyn std::fmt::Display) -> io::Result<()> {
    let mut file = File::options().append(true).create(true).open(state_dir.join(TROUBLES))?;
    if file.metadata()?.len() >= TROUBLES_BYTES_MAX {
        return Ok(());
    }
    file.write_all(format!("{} {what}: {why}\n", format_rfc3339(Timestamp::now())).as_bytes())
}

/// Removes what is in the run directory of a container that has ended.
pub(super) fn clear(run_dir: &Path) -> io::Result<()> {
    // All of them are tried before the first failure is told.
    [STATE, CONFIG, super::SOCKET].map(|name| remove(run_dir, name)).into_iter().collect()
}

/// Field 22 of `/proc/<pid>/stat`.
pub fn start_ticks(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may contain anything.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    rest.split_ascii_whitespace()
        .nth(19)
        .and_then(|f| f.parse().ok())
        .ok_or(io::ErrorKind::InvalidData.into())
}

fn replace(directory: &Path, name: &str, content: &[u8]) -> io::Result<File> {
    let temporary = directory.join(format!(".{name}.new"));
    // The configuration has the environment, and so a container's secrets.
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(content).and_then(|()| std::fs::rename(&temporary, directory.join(name)));
    if let Err(error) = written {
        // Half a record on a disk that is full.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    Ok(file)
}

fn remove(directory: &Path, name: &str) -> io::Result<()> {
    match std::fs::remove_file(directory.join(name)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_have_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        let why = "y".repeat(9000);
        for _ in 0..100 {
            complain(directory.path(), "exec", &why).unwrap();
        }
        let text = std::fs::read_to_string(directory.path().join(TROUBLES)).unwrap();
        assert!(
            (TROUBLES_BYTES_MAX..TROUBLES_BYTES_MAX + 10_000).contains(&(text.len() as u64)),
            "{}",
            text.len()
        );
        assert!(text.lines().all(|line| line.contains(" exec: yyy")));
    }
}
