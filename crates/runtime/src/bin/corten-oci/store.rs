//! The containers that there are: `<root>/<id>/state.json`, written once when a container is created.
//!
//! What changes is not written but looked up: whether the process lives (its id and start time name it for good), whether it waits
//! for its start (`start.sock` is there), whether its group is frozen.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use corten_runtime::cgroup::Cgroup;
use corten_runtime::monitor::protocol::Timestamp;
use corten_runtime::monitor::start_ticks;
use corten_runtime::spec::{self, Spec, State};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};

use crate::Global;
use crate::create::rootfs;
use crate::failure::{Failure, Outcome};

const STATE: &str = "state.json";
const START: &str = "start.sock";

/// What is written when a container is created.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    pub id: String,
    pub pid: i32,
    /// Clock ticks since boot.
    pub start_ticks: u64,
    pub bundle: PathBuf,
    pub created: Timestamp,
    /// In the form that [`Cgroup::open`] takes.
    pub cgroup: PathBuf,
    pub owner: u32,
    /// Without a mount namespace: how many mounts the root directory had on it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_mounts: Option<usize>,
    pub config: Spec,
}

pub struct Container {
    pub directory: PathBuf,
    pub record: Record,
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// The directory of a container that is being created; removed again unless it is kept.
pub struct Reservation {
    pub directory: PathBuf,
    kept: bool,
}

impl Reservation {
    /// Takes the id.
    pub fn new(global: &Global, id: &str) -> Outcome<Self> {
        check_id(id)?;
        fs::create_dir_all(&global.root).map_err(Failure::during(global.root.display()))?;
        let directory = global.root.join(id);
        match fs::create_dir(&directory) {
            Ok(()) => Ok(Self { directory, kept: false }),
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(Failure::new("container with given ID already exists"))
            }
            Err(e) => Err(Failure::during(directory.display())(e)),
        }
    }

    pub fn start_socket(&self) -> PathBuf {
        self.directory.join(START)
    }

    /// Writes the record; the container is there from now on.
    pub fn keep(mut self, record: Record) -> Outcome<Container> {
        let path = self.directory.join(STATE);
        let text = serde_json::to_vec(&record).map_err(Failure::during(path.display()))?;
        let temporary = self.directory.join(".state.json.new");
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(Failure::during(path.display()))?;
        self.kept = true;
        Ok(Container { directory: self.directory.clone(), record })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// Letters, digits and `_+-.`, as in runc: an id becomes part of paths.
fn check_id(id: &str) -> Outcome<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id == "." || id == ".." || id.len() > 255 || !id.chars().all(allowed) {
        return Err(Failure::new(format!("invalid container ID format: {id:?}")));
    }
    Ok(())
}

impl Container {
    pub fn open(global: &Global, id: &str) -> Outcome<Self> {
        check_id(id)?;
        let directory = global.root.join(id);
        let path = directory.join(STATE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Failure::new("container does not exist"));
            }
            Err(e) => return Err(Failure::during(path.display())(e)),
        };
        let record = serde_json::from_slice(&text).map_err(Failure::during(path.display()))?;
        Ok(Self { directory, record })
    }

    /// All containers, by id.
    pub fn all(global: &Global) -> Outcome<Vec<Self>> {
        let entries = match fs::read_dir(&global.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Failure::during(global.root.display())(e)),
        };
        let mut ids: Vec<String> =
            entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
        ids.sort();
        // One that is being created or deleted at this moment has no record.
        Ok(ids.iter().filter_map(|id| Self::open(global, id).ok()).collect())
    }

    pub fn start_socket(&self) -> PathBuf {
        self.directory.join(START)
    }

    pub fn cgroup(&self) -> Outcome<Cgroup> {
        Ok(Cgroup::open(&self.record.cgroup)?)
    }

    /// The process, while it lives.
    pub fn process(&self) -> Option<OwnedFd> {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(self.record.pid)?, PidfdFlags::empty()).ok()?;
        let own = start_ticks(self.record.pid).is_ok_and(|ticks| ticks == self.record.start_ticks);
        (own && !is_zombie(self.record.pid)).then_some(pidfd)
    }

    pub fn status(&self) -> Status {
        if self.process().is_none() {
            return Status::Stopped;
        }
        if self.start_socket().exists() {
            return Status::Created;
        }
        match self.cgroup().is_ok_and(|cgroup| cgroup.is_frozen().unwrap_or(false)) {
            true => Status::Paused,
            false => Status::Running,
        }
    }

    /// What hooks are told.
    pub fn hook_state(&self, status: spec::Status) -> State {
        State {
            oci_version: self.record.config.oci_version.clone(),
            id: self.record.id.clone(),
            status,
            pid: (status != spec::Status::Stopped).then_some(self.record.pid),
            bundle: self.record.bundle.display().to_string(),
            annotations: self.record.config.annotations.clone(),
        }
    }

    /// The root file system's absolute path.
    pub fn rootfs(&self) -> PathBuf {
        rootfs(&self.record.bundle, &self.record.config)
    }
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}
