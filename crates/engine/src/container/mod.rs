//! One container: its durable record, its life, and what the running engine holds of it.

mod attach;
mod check;
mod config;
mod create;
mod identity_files;
mod inspect;
mod launch;
mod leftovers;
mod lifecycle;
mod list;
mod logs;
mod network;
mod pins;
mod registry;
mod remove;
mod restore;
mod signal;
mod stop;
mod top;
mod wait;
mod watch;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use corten_api::container::{ContainerConfig, HostConfig};
use corten_api::network::EndpointSettings;
use corten_api::{Map, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch as channel;

pub(crate) use attach::detach_keys;
pub use attach::{AttachTicket, Connection};
pub(crate) use config::arguments;
pub use lifecycle::{Change, Phase};
pub use logs::LogStream;
pub use registry::Registry;
pub(crate) use signal::signal_number;
pub(crate) use stop::not_running;

use crate::link::MonitorLink;
use crate::mounts::ResolvedMount;

/// What is written to the database: all that must survive a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    pub id: String,
    /// Without the slash that the API puts before it.
    pub name: String,
    pub created: Timestamp,
    /// The image's id.
    pub image_id: String,
    /// The image's settings and the request's, merged.
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    /// What was asked for, by network.
    pub networks: Map<EndpointSettings>,
    pub mounts: Vec<ResolvedMount>,
    #[serde(default)]
    pub state: State,
    /// Only while it runs.
    #[serde(default)]
    pub endpoint: Option<EndpointRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub phase: Phase,
    /// 0 unless a process exists.
    pub pid: i32,
    pub exit_code: i32,
    pub oom_killed: bool,
    /// Why it could not be started.
    pub error: String,
    pub started: Timestamp,
    pub finished: Timestamp,
    /// Stopped by its user's wish, which restart policies respect.
    #[serde(default)]
    pub stopped_by_user: bool,
}

/// What the network gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    pub endpoint_id: String,
    pub ip: Ipv4Addr,
    pub prefix_len: u8,
    pub gateway: Ipv4Addr,
    pub mac: String,
    pub host_interface: String,
    pub ports: Vec<corten_network::PublishedPort>,
}

/// A container as the running engine knows it.
pub struct Container {
    pub id: String,
    /// What of it is in the database; written there by whoever changes it.
    record: RwLock<Record>,
    /// Life-cycle operations of one container follow each other.
    pub(crate) operation: tokio::sync::Mutex<()>,
    pub(crate) link: Mutex<Option<MonitorLink>>,
    /// A monitor of it exists. One that has told of the end still clears away what the next start would make again.
    pub(crate) monitored: channel::Sender<bool>,
    /// Sends what waiters want to know.
    pub(crate) progress: channel::Sender<Progress>,
    pub(crate) execs: Mutex<HashMap<String, crate::exec::Exec>>,
    /// Clients that attached before the start; they go along with the launch.
    pub(crate) early: Mutex<Vec<attach::Early>>,
    /// Stopped only to be started again: not the end that `--rm` waits for.
    pub(crate) restarting: AtomicBool,
    /// Clients that have leave to attach and whose connection is still to come: a start waits for them.
    pub(crate) expected: channel::Sender<usize>,
}

/// What a waiter can see: how often it has ended, and whether it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub alive: bool,
    pub exits: u64,
    pub exit_code: i32,
    pub removed: bool,
}

impl Container {
    pub fn new(record: Record) -> Self {
        let progress = Progress {
            alive: record.state.phase.is_alive(),
            exit_code: record.state.exit_code,
            ..Progress::default()
        };
        Self {
            id: record.id.clone(),
            record: RwLock::new(record),
            operation: tokio::sync::Mutex::new(()),
            link: Mutex::new(None),
            monitored: channel::Sender::new(false),
            progress: channel::Sender::new(progress),
            execs: Mutex::default(),
            early: Mutex::default(),
            restarting: AtomicBool::new(false),
            expected: channel::Sender::new(0),
        }
    }

    pub fn read(&self) -> RwLockReadGuard<'_, Record> {
        self.record.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Record> {
        self.record.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no monitor of an earlier start is left; false when it does not go.
    pub(crate) async fn unmonitored(&self, patience: Duration) -> bool {
        let mut monitored = self.monitored.subscribe();
        tokio::time::timeout(patience, monitored.wait_for(|monitored| !monitored)).await.is_ok()
    }

    pub fn name(&self) -> String {
        self.read().name.clone()
    }

    pub fn phase(&self) -> Phase {
        self.read().state.phase
    }

    pub(crate) fn link(&self) -> Option<MonitorLink> {
        lock(&self.link).clone()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a container's files lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// On disk: identity files, logs, the exit record.
    pub directory: PathBuf,
    /// On tmpfs: the monitor's socket and state.
    pub run: PathBuf,
}

impl Places {
    pub fn of(data_root: &Path, exec_root: &Path, id: &str) -> Self {
        Self { directory: data_root.join("containers").join(id), run: exec_root.join("containers").join(id) }
    }

    pub fn log(&self, driver: &str, id: &str) -> PathBuf {
        match driver {
            "json-file" => self.directory.join(format!("{id}-json.log")),
            _ => self.directory.join("log").join("container.log"),
        }
    }
}
