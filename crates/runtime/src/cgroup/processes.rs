//! The processes of a group: joining, listing, freezing, ending.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use corten_sys::process::kill;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::layout::{Controller, Group, Version};
use super::{Cgroup, Error, file};

const SIGKILL: i32 = 9;

/// How long the kernel may take to stop all processes of a group.
const FREEZE_DEADLINE: Duration = Duration::from_secs(10);
/// Rounds of listing and killing, for groups whose processes fork faster than they die.
const KILL_ROUNDS: usize = 100;

/// What a new process needs to be born into a group.
#[derive(Debug)]
pub struct JoinFds {
    /// The child itself writes `0` into each (version 1: a thread that moves itself takes no global lock).
    pub tasks: Vec<OwnedFd>,
    /// For `clone3` with `CLONE_INTO_CGROUP` (version 2).
    pub into: Option<OwnedFd>,
}

impl Cgroup {
    /// Opens what a child needs to be in the group from its first instruction on.
    pub fn join_fds(&self) -> Result<JoinFds, Error> {
        let mut fds = JoinFds { tasks: Vec::with_capacity(self.groups.len()), into: None };
        for group in &self.groups {
            let (name, flags) = match group.version {
                Version::V1 => ("tasks", OFlags::WRONLY),
                Version::V2 => (".", OFlags::RDONLY | OFlags::DIRECTORY),
            };
            let path = group.path.join(name);
            let fd = rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty())
                .map_err(|source| Error::Read { path, source })?;
            match group.version {
                Version::V1 => fds.tasks.push(fd),
                Version::V2 => fds.into = Some(fd),
            }
        }
        Ok(fds)
    }

    /// Moves a process that runs already. On version 1 this waits for a grace period of the kernel, some milliseconds.
    pub fn add_process(&self, pid: i32) -> Result<(), Error> {
        let value = pid.to_string();
        for group in &self.groups {
            file::write(&group.path, "cgroup.procs", &value).map_err(|source| Error::Write {
                path: group.path.join("cgroup.procs"),
                value: value.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// All processes of the group and of the groups below it, in ascending order, as this PID namespace numbers them.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let has = |controller| self.groups.iter().find(|group| group.controllers.has(controller));
        let group = has(Controller::Pids).or_else(|| has(Controller::Freezer)).or(self.groups.first());
        let mut pids = BTreeSet::new();
        if let Some(group) = group {
            collect_pids(&group.path, &mut pids)?;
        }
        Ok(pids.into_iter().collect())
    }

    /// Sends a signal to every process of the group; those born meanwhile get it too.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        if signal == SIGKILL {
            return self.kill_all();
        }
        let was_frozen = self.is_frozen()?;
        if !was_frozen {
            self.freeze()?;
        }
        let result = self.all_pids().and_then(|pids| self.signal_each(&pids, signal));
        // Thawed even when the signals failed: a container that stands still helps nobody.
        if !was_frozen {
            self.thaw()?;
        }
        result
    }

    /// Kills every process of the group. They die on their own time: [`Self::remove`] waits for them.
    pub fn kill_all(&self) -> Result<(), Error> {
        let mut killed: BTreeSet<i32> = BTreeSet::new();
        if let Some(group) = self.unified() {
            match file::write(&group.path, "cgroup.kill", "1") {
                // Who is still listed is dying.
                Ok(()) => collect_pids(&group.path, &mut killed)?,
                // Before Linux 5.14.
                Err(Errno::NOENT) => {}
                Err(source) => {
                    let path = group.path.join("cgroup.kill");
                    return Err(Error::Write { path, value: "1".into(), source });
                }
            }
        }
        for _ in 0..KILL_ROUNDS {
            let pids = self.all_pids()?;
            if pids.iter().all(|pid| killed.contains(pid)) {
                break;
            }
            // Who cannot run cannot fork: one round is enough unless the freezer is slow.
            let freezer = self.groups.iter().find(|group| group.controllers.has(Controller::Freezer));
            if let Some(group) = freezer {
                let _ = file::write(&group.path, "freezer.state", "FROZEN");
            }
            let result = self.all_pids().and_then(|pids| {
                killed.extend(&pids);
                self.signal_each(&pids, SIGKILL)
            });
            if let Some(group) = freezer {
                set_state(group, "THAWED")?;
            }
            result?;
        }
        // What was frozen before must run to die.
        self.thaw()
    }

    /// Stops all processes of the group; returns when they stand.
    pub fn freeze(&self) -> Result<(), Error> {
        self.set_frozen(true)
    }

    /// Lets them run on.
    pub fn thaw(&self) -> Result<(), Error> {
        self.set_frozen(false)
    }

    /// Was the group frozen (by us; not by a group above)?
    pub fn is_frozen(&self) -> Result<bool, Error> {
        if let Some(group) = self.unified() {
            match file::read(&group.path, "cgroup.freeze") {
                Ok(text) => return Ok(text.trim() == "1"),
                Err(Errno::NOENT) => {}
                Err(source) => return Err(Error::Read { path: group.path.join("cgroup.freeze"), source }),
            }
        }
        match self.groups.iter().find(|group| group.controllers.has(Controller::Freezer)) {
            Some(group) => Ok(file::text(&group.path, "freezer.state")?.trim() != "THAWED"),
            None => Ok(false),
        }
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        // Version 2's freezer is better where there is one: its processes can be killed as they stand.
        if let Some(group) = self.unified() {
            match file::write(&group.path, "cgroup.freeze", if frozen { "1" } else { "0" }) {
                Ok(()) => return wait_for_event(group, if frozen { "frozen 1" } else { "frozen 0" }),
                Err(Errno::NOENT) => {}
                Err(source) => {
                    let path = group.path.join("cgroup.freeze");
                    return Err(Error::Write { path, value: frozen.to_string(), source });
                }
            }
        }
        match self.groups.iter().find(|group| group.controllers.has(Controller::Freezer)) {
            Some(group) if frozen => freeze_v1(group),
            Some(group) => set_state(group, "THAWED"),
            None if frozen => {
                let field = "freezer".into();
                Err(Error::ControllerAbsent { field, controller: Controller::Freezer })
            }
            None => Ok(()),
        }
    }

    pub(super) fn unified(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.version == Version::V2)
    }

    /// The processes in any hierarchy.
    pub(super) fn all_pids(&self) -> Result<BTreeSet<i32>, Error> {
        let mut pids = BTreeSet::new();
        for group in &self.groups {
            collect_pids(&group.path, &mut pids)?;
        }
        Ok(pids)
    }

    fn signal_each(&self, pids: &BTreeSet<i32>, signal: i32) -> Result<(), Error> {
        for &pid in pids {
            match kill(pid, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(source) => {
                    let path = self.groups.first().map(|group| group.path.clone()).unwrap_or_default();
                    return Err(Error::Signal { pid, path, source });
                }
            }
        }
        Ok(())
    }
}

/// Adds the processes of a directory and of those below; a group that is gone has none.
fn collect_pids(dir: &Path, pids: &mut BTreeSet<i32>) -> Result<(), Error> {
    match file::read(dir, "cgroup.procs") {
        // 0 stands for a process that this PID namespace cannot see.
        Ok(text) => {
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0))
        }
        Err(Errno::NOENT | Errno::NODEV) => return Ok(()),
        // A threaded group of version 2; its processes are listed above it.
        Err(Errno::OPNOTSUPP) => {}
        Err(source) => return Err(Error::Read { path: dir.join("cgroup.procs"), source }),
    }
    for child in children(dir)? {
        collect_pids(&child, pids)?;
    }
    Ok(())
}

/// The groups directly below a group.
pub(super) fn children(dir: &Path) -> Result<Vec<std::path::PathBuf>, Error> {
    // A directory's link count says how many directories are in it, so that the common answer needs no listing.
    match rustix::fs::stat(dir) {
        Ok(stat) if stat.st_nlink == 2 => return Ok(Vec::new()),
        Ok(_) => {}
        Err(Errno::NOENT) => return Ok(Vec::new()),
        Err(source) => return Err(Error::Read { path: dir.to_owned(), source }),
    }
    let failed = |error: std::io::Error| Error::Read {
        path: dir.to_owned(),
        source: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    };
    let mut children = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            children.push(entry.path());
        }
    }
    Ok(children)
}

fn set_state(group: &Group, state: &str) -> Result<(), Error> {
    match file::write(&group.path, "freezer.state", state) {
        Ok(()) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        Err(source) => {
            Err(Error::Write { path: group.path.join("freezer.state"), value: state.to_owned(), source })
        }
    }
}

/// Version 1 has no event for "all stand": its state is asked again, after pauses that grow from 50 µs to 5 ms.
fn freeze_v1(group: &Group) -> Result<(), Error> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        // Written again each time: a process born while freezing may have been missed.
        set_state(group, "FROZEN")?;
        if file::text(&group.path, "freezer.state")?.trim() == "FROZEN" {
            return Ok(());
        }
        if start.elapsed() > FREEZE_DEADLINE {
            set_state(group, "THAWED")?;
            let waited_ms = FREEZE_DEADLINE.as_millis() as u64;
            return Err(Error::FreezeTimeout { path: group.path.clone(), wanted: "frozen", waited_ms });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// Waits until `cgroup.events` says so; the kernel signals each change of it.
pub(super) fn wait_for_event(group: &Group, line: &'static str) -> Result<(), Error> {
    let path = group.path.join("cgroup.events");
    let deadline = Instant::now() + FREEZE_DEADLINE;
    if wait_for_line(&path, line, deadline)? {
        return Ok(());
    }
    let waited_ms = FREEZE_DEADLINE.as_millis() as u64;
    Err(Error::FreezeTimeout { path: group.path.clone(), wanted: line, waited_ms })
}

/// Was the line there before the deadline?
pub(super) fn wait_for_line(path: &Path, line: &str, deadline: Instant) -> Result<bool, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed)?;
    loop {
        let mut text = [0; 256];
        let length = rustix::io::pread(&fd, &mut text, 0).map_err(failed)?;
        if text[..length].split(|byte| *byte == b'\n').any(|found| found == line.as_bytes()) {
            return Ok(true);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let timeout =
            rustix::time::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut fds = [PollFd::new(&fd, PollFlags::PRI)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
    }
}
