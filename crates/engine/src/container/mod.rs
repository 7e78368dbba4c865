//! One container: its durable record, its life, and what the running engine holds of it.

mod archive;
mod attach;
mod check;
mod commit;
mod config;
mod create;
mod filter;
mod health;
mod identity_files;
mod inspect;
mod launch;
mod leftovers;
mod lifecycle;
mod links;
mod list;
mod logs;
mod name_server;
mod network;
mod pins;
mod ports;
mod prune;
mod reason;
mod registry;
mod remove;
mod resolver_file;
mod restart;
mod restore;
mod signal;
mod stop;
mod top;
mod update;
mod users;
mod view;
mod wait;
mod watch;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use corten_api::container::{ContainerConfig, ExitReason, Health, HostConfig};
use corten_api::network::EndpointSettings;
use corten_api::{Map, Timestamp};
use corten_runtime::monitor::protocol::HealthStatus;
use serde::{Deserialize, Serialize};
use tokio::sync::watch as channel;

pub use archive::{Archive, Export, Upload};
pub use attach::{AttachTicket, Connection};
pub(crate) use attach::{Early, detach_keys};
pub(crate) use config::arguments;
pub use lifecycle::{Change, Phase};
pub use logs::LogStream;
pub(crate) use network::NetworkMode;
pub(crate) use ports::requested_ports;
pub(crate) use prune::{Pruning, until};
pub use registry::Registry;
pub use restart::Restarts;
pub(crate) use signal::{signal_number, stop_signal};
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
    /// Its places by the network's id, only while it runs.
    #[serde(default)]
    pub endpoints: BTreeMap<String, EndpointRecord>,
    /// What is published of it, only while it runs.
    #[serde(default)]
    pub ports: Vec<corten_network::PublishedPort>,
    /// Its networks are being changed while it runs: an engine that finds this has to see to its routes.
    #[serde(default)]
    pub rewiring: bool,
    /// By which its resolver file is known as the engine's own, not edited.
    #[serde(default)]
    pub resolver_mark: u64,
    /// How networks are written down: 0 by engines that had one only.
    #[serde(default)]
    pub network_format: u32,
    /// The endpoint as engines wrote it that had one network only; read, and settled into the fields above.
    #[serde(default, skip_serializing)]
    pub endpoint: Option<FormerEndpoint>,
    /// Of a build: in no list, and gone when the engine starts anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_build_step: bool,
    /// The configuration before an update of which the control groups may know nothing yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled: Option<Box<HostConfig>>,
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
    /// How often it was started again by itself since somebody last started it.
    #[serde(default)]
    pub restart_count: u64,
    /// As its monitor has told; only where it is probed, and from the first start on.
    #[serde(default)]
    pub health: Option<Health>,
    /// Frozen by a commit, which lets it go on in the end.
    #[serde(default)]
    pub committing: bool,
    /// The last thing that was done to end this run.
    #[serde(default)]
    pub(crate) asked: Option<reason::Asked>,
    /// Why the last run ended.
    #[serde(default)]
    pub exit_reason: Option<ExitReason>,
}

/// How this engine writes networks down.
pub const NETWORK_FORMAT: u32 = 1;

/// What a network gave it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointRecord {
    pub endpoint_id: String,
    #[serde(flatten)]
    pub place: corten_network::Endpoint,
}

/// An endpoint of the default network, the only one there was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerEndpoint {
    endpoint_id: String,
    ip: Ipv4Addr,
    prefix_len: u8,
    gateway: Ipv4Addr,
    mac: String,
    host_interface: String,
    ports: Vec<corten_network::PublishedPort>,
}

impl Record {
    /// Brings what a former engine wrote into today's shape; `network` is the default one.
    pub fn settle_former(&mut self, network: &str) {
        if self.network_format == 0 && self.networks.is_empty() {
            let mode = self.host_config.network_mode.as_str();
            if !mode.starts_with("container:") {
                let name = crate::network::canonical(mode).to_owned();
                self.networks.insert(name, EndpointSettings::default());
            }
        }
        self.network_format = NETWORK_FORMAT;
        let Some(former) = self.endpoint.take() else { return };
        let Ok(mac) = former.mac.parse() else { return };
        let place = corten_network::Endpoint {
            network: network.to_owned(),
            interface: "eth0".to_owned(),
            host_interface: former.host_interface,
            mac,
            ipv4: Some(corten_network::Assigned {
                ip: former.ip,
                prefix_len: former.prefix_len,
                gateway: Some(former.gateway),
            }),
            ipv6: None,
            gateway_priority: 0,
        };
        let endpoint = EndpointRecord { endpoint_id: former.endpoint_id, place };
        self.endpoints.insert(network.to_owned(), endpoint);
        self.ports = former.ports;
    }
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
    pub(crate) samples: crate::stats::SampleSender,
    pub(crate) execs: Mutex<crate::exec::Execs>,
    /// Environment of a build's step that is in no record.
    pub(crate) secret_env: Mutex<Vec<String>>,
    /// Clients that attached before the start; they go along with the launch.
    pub(crate) early: Mutex<Vec<attach::Early>>,
    /// Stopped only to be started again: not the end that `--rm` waits for.
    pub(crate) restarting: AtomicBool,
    /// The pauses between the starts that its restart policy asks for.
    pub(crate) backoff: Mutex<restart::Backoff>,
    /// Its volumes are counted as used, and told of as mounted.
    pub(crate) has_volumes: AtomicBool,
    /// Clients that have leave to attach and whose connection is still to come: a start waits for them.
    pub(crate) expected: channel::Sender<usize>,
    /// Who writes into its files from outside: a start waits for them.
    pub(crate) copies: channel::Sender<view::Copies>,
    /// One at a time where it does not run, as overlayfs wants a writable directory for itself.
    pub(crate) writing: tokio::sync::Mutex<()>,
}

/// What a waiter can see: how often it has ended, and whether it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub alive: bool,
    /// Over, and to be started again.
    pub restarting: bool,
    /// Ends, and starts that were to follow one and were called off.
    pub exits: u64,
    pub exit_code: i32,
    /// Means something only while it is probed.
    pub health: HealthStatus,
    pub removed: bool,
}

impl Container {
    pub fn new(record: Record) -> Self {
        let progress = Progress {
            alive: record.state.phase.is_alive(),
            restarting: record.state.phase == Phase::Restarting,
            exit_code: record.state.exit_code,
            health: status_of(record.state.health.as_ref()),
            ..Progress::default()
        };
        Self {
            id: record.id.clone(),
            record: RwLock::new(record),
            operation: tokio::sync::Mutex::new(()),
            link: Mutex::new(None),
            monitored: channel::Sender::new(false),
            progress: channel::Sender::new(progress),
            samples: channel::Sender::new(None),
            execs: Mutex::default(),
            secret_env: Mutex::default(),
            early: Mutex::default(),
            restarting: AtomicBool::new(false),
            backoff: Mutex::default(),
            has_volumes: AtomicBool::new(false),
            expected: channel::Sender::new(0),
            copies: channel::Sender::new(view::Copies::default()),
            writing: tokio::sync::Mutex::new(()),
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

    /// The phase, after the end of what is being done to one that is at rest: its program's first output gets to people before the
    /// engine hears of the start, and they may want something of it at once.
    pub(crate) async fn settled_phase(&self) -> Phase {
        if !self.phase().is_alive() {
            drop(self.operation.lock().await);
        }
        self.phase()
    }

    pub(crate) fn link(&self) -> Option<MonitorLink> {
        lock(&self.link).clone()
    }
}

fn status_of(health: Option<&Health>) -> HealthStatus {
    match health.map(|health| health.status.as_str()) {
        Some("healthy") => HealthStatus::Healthy,
        Some("unhealthy") => HealthStatus::Unhealthy,
        _ => HealthStatus::Starting,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_of_a_former_engine_is_settled() {
        let former = serde_json::json!({
            "endpoint_id": "e1", "ip": "172.30.0.2", "prefix_len": 16, "gateway": "172.30.0.1",
            "mac": "02:42:ac:1e:00:02", "host_interface": "v1a2b3c4d-0",
            "ports": [{"container_port": 80, "protocol": "tcp", "host_ip": "0.0.0.0", "host_port": 8080}],
        });
        let mut document = serde_json::to_value(Record::default()).unwrap();
        document["endpoint"] = former;
        for added in ["endpoints", "ports", "rewiring", "network_format"] {
            document.as_object_mut().unwrap().remove(added);
        }
        let mut record: Record = serde_json::from_value(document).unwrap();
        record.settle_former("net1");
        assert_eq!(record.endpoints["net1"].place.ipv4.unwrap().ip, Ipv4Addr::new(172, 30, 0, 2));
        assert_eq!(record.ports[0].host_port, 8080);
        assert!(record.networks.contains_key("bridge"));
        let again: Record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
        assert_eq!((again.endpoints, again.endpoint), (record.endpoints, None));
    }
}
