//! Containers: what a client asks for (`ContainerConfig`, `HostConfig`) and what it is told (inspect, list, state).
//! Host options live in `host_config`, files and mounts in `mount`, addresses in `network`.

use crate::image::Descriptor;
use crate::json::{self, Empty, List, Map, is_zero};
use crate::mount::MountPoint;
use crate::network::{EndpointSettings, NetworkSettings, NetworkingConfig, PortSet};
use crate::time::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

pub use crate::host_config::*;

/// The part of a container's configuration that does not depend on the host.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerConfig {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub exposed_ports: PortSet,
    pub tty: bool,
    pub open_stdin: bool,
    /// Close stdin when the first attached client goes.
    pub stdin_once: bool,
    /// `NAME=value`; a name alone unsets the image's variable.
    pub env: List<String>,
    #[serde(deserialize_with = "json::words")]
    pub cmd: List<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    #[serde(skip_serializing_if = "is_zero")]
    pub args_escaped: bool,
    /// As the client wrote it.
    pub image: String,
    /// Paths in the container that become anonymous volumes.
    pub volumes: Map<Empty>,
    pub working_dir: String,
    #[serde(deserialize_with = "json::words")]
    pub entrypoint: List<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub network_disabled: bool,
    /// Deprecated since API 1.44 for the one in `EndpointSettings`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac_address: String,
    pub on_build: List<String>,
    pub labels: Map<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// In seconds; negative waits for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "List::is_empty", deserialize_with = "json::words")]
    pub shell: List<String>,
}

/// How health is probed; durations in nanoseconds, zero inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `[]` inherits, `["NONE"]` disables, `["CMD", …]` or `["CMD-SHELL", line]`.
    #[serde(skip_serializing_if = "List::is_empty")]
    pub test: List<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

/// Body of `POST /containers/create`: the members of `ContainerConfig` side by side with the two others.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerCreateRequest {
    #[serde(flatten)]
    pub config: ContainerConfig,
    pub host_config: HostConfig,
    pub networking_config: NetworkingConfig,
    /// Read-only binds leave mounts below them writable, as they did before API 1.44; not on the wire.
    #[serde(skip)]
    pub read_only_non_recursive: bool,
}

impl<'de> Deserialize<'de> for ContainerCreateRequest {
    /// Reads the document twice instead of with serde's flatten, which would lose the tolerance for null. `Runtime` beside the other
    /// settings, where docker-py puts it, counts unless `HostConfig` has one.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        struct Beside {
            host_config: HostConfig,
            networking_config: NetworkingConfig,
            runtime: String,
        }
        use serde::de::Error;
        let raw = Box::<serde_json::value::RawValue>::deserialize(deserializer)?;
        let config = json::from_str(raw.get()).map_err(D::Error::custom)?;
        let Beside { mut host_config, networking_config, runtime } =
            json::from_str(raw.get()).map_err(D::Error::custom)?;
        if host_config.runtime.is_empty() {
            host_config.runtime = runtime;
        }
        Ok(Self { config, host_config, networking_config, read_only_non_recursive: false })
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerCreateResponse {
    pub id: String,
    /// `[]` when there are none; fill it with `List::empty()` or a `Vec`.
    pub warnings: List<String>,
}

/// Answer of `GET /containers/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerInspect {
    pub id: String,
    pub created: Timestamp,
    pub path: String,
    pub args: List<String>,
    pub state: ContainerState,
    /// The image's id.
    pub image: String,
    pub resolv_conf_path: String,
    pub hostname_path: String,
    pub hosts_path: String,
    pub log_path: String,
    /// With a leading slash.
    pub name: String,
    pub restart_count: i64,
    pub driver: String,
    pub platform: String,
    pub mount_label: String,
    pub process_label: String,
    pub app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    pub exec_ids: List<String>,
    pub host_config: HostConfig,
    pub graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<i64>,
    pub mounts: List<MountPoint>,
    pub config: ContainerConfig,
    pub network_settings: NetworkSettings,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
}

/// The driver that holds a file system, and its own words about it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GraphDriver {
    pub data: Map<String>,
    pub name: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerState {
    /// created, running, paused, restarting, removing, exited or dead.
    pub status: String,
    pub running: bool,
    pub paused: bool,
    pub restarting: bool,
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    pub dead: bool,
    pub pid: i32,
    pub exit_code: i32,
    pub error: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Of Corten: why it ended. Docker's clients pass over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_reason: Option<ExitReason>,
}

/// Why a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExitReason {
    /// exited, signal, out-of-memory, stopped, killed, unhealthy, engine, monitor-lost, host-restarted or not-started.
    pub kind: String,
    /// For people.
    pub message: String,
    /// The signal that ended its first process, such as SIGSEGV.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub signal: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub core_dumped: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// none, starting, healthy or unhealthy.
    pub status: String,
    pub failing_streak: i64,
    pub log: List<HealthcheckResult>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthcheckResult {
    pub start: Timestamp,
    pub end: Timestamp,
    pub exit_code: i32,
    pub output: String,
}

/// One element of `GET /containers/json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSummary {
    pub id: String,
    /// With a leading slash.
    pub names: List<String>,
    pub image: String,
    #[serde(rename = "ImageID")]
    pub image_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_manifest_descriptor: Option<Descriptor>,
    pub command: String,
    /// Seconds since 1970.
    pub created: i64,
    /// `[]` when there are none; fill it with `List::empty()` or a `Vec`.
    pub ports: List<Port>,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_rw: i64,
    #[serde(skip_serializing_if = "is_zero")]
    pub size_root_fs: i64,
    /// `{}` when there are none.
    pub labels: Map<String>,
    pub state: String,
    /// For people: "Up 2 minutes", "Exited (0) 3 hours ago".
    pub status: String,
    /// Since API 1.52, with `none` where nothing is probed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthSummary>,
    /// Of Corten: the kind of [`ExitReason`] of one that does not run.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub exit_reason: String,
    pub host_config: HostConfigSummary,
    pub network_settings: NetworkSettingsSummary,
    pub mounts: List<MountPoint>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthSummary {
    /// none, starting, healthy or unhealthy.
    pub status: String,
    pub failing_streak: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfigSummary {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub network_mode: String,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub annotations: Map<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettingsSummary {
    pub networks: Map<EndpointSettings>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    #[serde(rename = "IP", skip_serializing_if = "String::is_empty")]
    pub ip: String,
    pub private_port: u16,
    /// 0: not published.
    #[serde(skip_serializing_if = "is_zero")]
    pub public_port: u16,
    /// tcp, udp or sctp.
    #[serde(rename = "Type")]
    pub kind: String,
}

/// Answer of `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitResponse {
    pub status_code: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WaitError {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Answer of `GET /containers/{id}/top`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TopResponse {
    pub processes: List<List<String>>,
    pub titles: List<String>,
}

/// Answer of `POST /containers/{id}/update`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerUpdateResponse {
    pub warnings: List<String>,
}

/// Answer of `POST /containers/prune`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainersPruneReport {
    pub containers_deleted: List<String>,
    pub space_reclaimed: u64,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitCondition {
    #[default]
    NotRunning,
    NextExit,
    Removed,
}

impl WaitCondition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not-running",
            Self::NextExit => "next-exit",
            Self::Removed => "removed",
        }
    }

    /// An empty text is `not-running`.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "" | "not-running" => Self::NotRunning,
            "next-exit" => Self::NextExit,
            "removed" => Self::Removed,
            _ => return None,
        })
    }
}

/// How to stop: empty signal and no timeout mean the container's own, then SIGTERM and ten seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopOptions {
    pub signal: Option<String>,
    /// Negative waits for ever.
    pub timeout_s: Option<i64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    pub force: bool,
    pub volumes: bool,
    pub link: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerListOptions {
    pub all: bool,
    /// The last n created, whatever their state.
    pub limit: Option<u64>,
    pub size: bool,
    /// Corten's own: without labels, mounts and networks, which are most of a long list.
    pub brief: bool,
    pub filters: crate::filters::Filters,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogsOptions {
    pub follow: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub timestamps: bool,
    /// The last n lines; none is all.
    pub tail: Option<u64>,
    pub details: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Stay attached; otherwise only what is logged so far (with `logs`).
    pub stream: bool,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// Replay what is logged first.
    pub logs: bool,
    /// As in "ctrl-p,ctrl-q"; empty is the default.
    pub detach_keys: String,
}
