//! The engine about itself, its events, and what its host can do.

use corten_api::container::HostConfig;
use std::sync::PoisonError;

use corten_api::system::{
    Commit, ComponentVersion, FirewallInfo, PlatformName, PluginsInfo, SystemInfo, SystemVersion,
};
use corten_api::{API_VERSION, API_VERSION_MIN, List, Timestamp};
use corten_runtime::cgroup::{Controller, Layout};

use crate::Engine;
use crate::container::Phase;
use crate::error::Result;

/// What this engine was built from, and of when that is: `scripts/build` says so of releases.
pub(crate) const COMMIT: &str = match option_env!("CORTEN_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
const BUILD_TIME: &str = match option_env!("CORTEN_BUILD_TIME") {
    Some(time) => time,
    None => "unknown",
};

/// Facts about the host that don't change while the engine runs.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    /// Control groups of version 2 only.
    pub unified: bool,
    /// The bounding set that containers can get at most.
    pub capabilities: u64,
    /// Swap is accounted for, so that it can be limited.
    limits_swap: bool,
    groups: Option<&'static Layout>,
    kernel: String,
    operating_system: String,
    os_version: String,
    architecture: String,
    pub memory_bytes: u64,
}

impl Host {
    pub fn explore() -> Self {
        let groups = Layout::host().ok();
        let uname = rustix::system::uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let (operating_system, os_version) = os_release();
        Self {
            name: text(uname.nodename()),
            unified: groups.is_some_and(Layout::is_unified),
            capabilities: crate::spec::capabilities::available(),
            limits_swap: limits_swap(groups),
            groups,
            kernel: text(uname.release()),
            operating_system,
            os_version,
            architecture: text(uname.machine()),
            memory_bytes: rustix::system::sysinfo().totalram as u64,
        }
    }

    fn has(&self, controller: Controller) -> bool {
        self.groups.is_some_and(|groups| groups.has(controller))
    }

    /// The host in the labels of a metric; the names are Docker's.
    pub fn labels(&self) -> [(&'static str, String); 5] {
        [
            ("architecture", self.architecture.clone()),
            ("kernel", self.kernel.clone()),
            ("os", self.operating_system.clone()),
            ("os_type", "linux".to_owned()),
            ("os_version", self.os_version.clone()),
        ]
    }

    /// What is asked for and can't be had here.
    pub fn limits_warnings(&self, host: &HostConfig) -> Vec<String> {
        [
            (host.memory != 0 || host.memory_swap != 0, Controller::Memory, "memory limits"),
            (host.nano_cpus != 0 || host.cpu_quota != 0 || host.cpu_shares != 0, Controller::Cpu, "CPU limits"),
            (!host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty(), Controller::Cpuset, "cpuset"),
            (host.pids_limit.is_some_and(|n| n > 0), Controller::Pids, "PIDs limits"),
            (host.blkio_weight != 0, Controller::Block, "block I/O weight"),
        ]
        .into_iter()
        .filter(|(asked, controller, _)| *asked && !self.has(*controller))
        .map(|(_, _, what)| {
            format!("Your kernel does not support {what}, or the cgroup controller is not mounted. Limitation discarded.")
        })
        .collect()
    }
}

/// With version 1 a file of the root group says so; with version 2 the root group has no such file, but those below it.
fn limits_swap(groups: Option<&Layout>) -> bool {
    match groups {
        Some(groups) if groups.is_unified() => {
            groups.has(Controller::Memory) && groups_limit_swap(std::path::Path::new("/sys/fs/cgroup"))
        }
        Some(groups) if groups.has(Controller::Memory) => {
            std::path::Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
        }
        _ => false,
    }
}

/// Whether groups below a root of version 2, where containers' are made, limit swap. Where none limits memory yet there is nothing to
/// look at; then they do if the kernel swaps at all.
fn groups_limit_swap(root: &std::path::Path) -> bool {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let mut with_memory = entries.map(|entry| entry.path()).filter(|group| group.join("memory.max").exists());
    match with_memory.next() {
        Some(group) => group.join("memory.swap.max").exists(),
        None => std::path::Path::new("/proc/swaps").exists(),
    }
}

/// PRETTY_NAME and VERSION_ID.
fn os_release() -> (String, String) {
    let text = std::fs::read_to_string("/etc/os-release")
        .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
        .unwrap_or_default();
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    (value("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()), value("VERSION_ID").unwrap_or_default())
}

/// Docker's names of architectures.
fn api_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Engine {
    /// The instance's name.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    pub fn version(&self) -> SystemVersion {
        let arch = api_architecture(&self.host.architecture).to_owned();
        let details = [
            ("ApiVersion", API_VERSION.to_owned()),
            ("Arch", arch.clone()),
            ("BuildTime", BUILD_TIME.to_owned()),
            ("Experimental", "false".to_owned()),
            ("GitCommit", COMMIT.to_owned()),
            // What clients print of every engine: no Go is in this one.
            ("GoVersion", "none".to_owned()),
            ("KernelVersion", self.host.kernel.clone()),
            ("MinAPIVersion", API_VERSION_MIN.to_owned()),
            ("Os", "linux".to_owned()),
        ];
        SystemVersion {
            platform: PlatformName { name: "Corten".to_owned() },
            components: vec![ComponentVersion {
                name: "Engine".to_owned(),
                version: self.options.version.clone(),
                details: details.into_iter().collect(),
            }]
            .into(),
            version: self.options.version.clone(),
            api_version: API_VERSION.to_owned(),
            min_api_version: API_VERSION_MIN.to_owned(),
            os: "linux".to_owned(),
            arch,
            kernel_version: self.host.kernel.clone(),
            ..SystemVersion::default()
        }
    }

    /// Takes over the settings that can change while the engine runs; whoever listens hears of it. `debug` is the log's.
    pub fn reload(&self, labels: Vec<String>, debug: bool) {
        let listed = serde_json::json!(labels).to_string();
        *self.labels.write().unwrap_or_else(PoisonError::into_inner) = labels;
        let attributes = [
            ("debug", if debug { "true" } else { "false" }),
            ("default-runtime", "corten"),
            ("default-shm-size", &self.options.defaults.shm_size.to_string()),
            ("labels", listed.as_str()),
            ("live-restore", "true"),
        ];
        self.daemon_event("reload", &attributes);
    }

    pub async fn info(&self) -> Result<SystemInfo> {
        let containers = self.containers.listed();
        let count =
            |wanted: &[Phase]| containers.iter().filter(|c| wanted.contains(&c.phase())).count() as u64;
        let host = &self.host;
        let (http_proxy, https_proxy, no_proxy) = self.registries.options().proxies.shown();
        let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
        Ok(SystemInfo {
            id: self.instance.clone(),
            containers: containers.len() as u64,
            containers_running: count(&[Phase::Running]),
            containers_paused: count(&[Phase::Paused]),
            containers_stopped: count(&[Phase::Created, Phase::Restarting, Phase::Exited, Phase::Removing]),
            images: self.images.list().map_err(crate::image::failed)?.len() as u64,
            driver: self.images.driver().name().to_owned(),
            driver_status: vec![(
                "Backing directory".to_owned(),
                self.options.data_root.display().to_string(),
            )]
            .into(),
            plugins: PluginsInfo {
                volume: vec!["local".to_owned()].into(),
                network: ["bridge", "host", "nat", "null"].map(str::to_owned).to_vec().into(),
                authorization: List::default(),
                log: crate::logging::DRIVERS.iter().map(|name| (*name).to_owned()).collect(),
            },
            memory_limit: host.has(Controller::Memory),
            swap_limit: host.limits_swap,
            cpu_cfs_period: host.has(Controller::Cpu),
            cpu_cfs_quota: host.has(Controller::Cpu),
            cpu_shares: host.has(Controller::Cpu),
            cpu_set: host.has(Controller::Cpuset),
            pids_limit: host.has(Controller::Pids),
            ipv4_forwarding: forwarding.trim() == "1",
            debug: tracing::enabled!(tracing::Level::DEBUG),
            n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
            oom_kill_disable: host.has(Controller::Memory) && !host.unified,
            n_goroutines: std::fs::read_dir("/proc/self/task").map_or(0, |entries| entries.count() as u64),
            system_time: Timestamp::now().to_string(),
            logging_driver: self.options.defaults.log_driver.clone(),
            cgroup_driver: "cgroupfs".to_owned(),
            cgroup_version: if host.unified { "2" } else { "1" }.to_owned(),
            n_events_listener: self.events.listeners() as u64,
            kernel_version: host.kernel.clone(),
            operating_system: host.operating_system.clone(),
            os_version: host.os_version.clone(),
            os_type: "linux".to_owned(),
            architecture: host.architecture.clone(),
            http_proxy,
            https_proxy,
            no_proxy,
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: self.registry_config(),
            ncpu: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            mem_total: host.memory_bytes,
            docker_root_dir: self.options.data_root.display().to_string(),
            name: host.name.clone(),
            labels: self.labels.read().unwrap_or_else(PoisonError::into_inner).clone().into(),
            server_version: self.options.version.clone(),
            runtimes: self.options.runtimes.describe().collect(),
            default_runtime: self.options.runtimes.default_name().to_owned(),
            // Containers go on when the engine stops; there is no other way.
            live_restore_enabled: true,
            init_binary: "corten-shim".to_owned(),
            // Docker's word for a part that isn't there.
            containerd_commit: Commit { id: "N/A".to_owned() },
            runc_commit: Commit { id: "N/A".to_owned() },
            init_commit: Commit { id: "N/A".to_owned() },
            security_options: self.security_options().into(),
            // Devices are given by path; there is no CDI.
            cdi_spec_dirs: List::empty(),
            firewall_backend: Some(FirewallInfo { driver: "nftables".to_owned(), info: List::default() }),
            warnings: self.warnings(forwarding.trim() == "1"),
            ..SystemInfo::default()
        })
    }

    /// What containers can't have here, in Docker's words.
    fn warnings(&self, forwarding: bool) -> List<String> {
        let host = &self.host;
        let missing = [
            (!host.has(Controller::Memory), "No memory limit support"),
            (!host.limits_swap, "No swap limit support"),
            (!host.has(Controller::Cpu), "No cpu cfs quota support"),
            (!host.has(Controller::Cpu), "No cpu shares support"),
            (!host.has(Controller::Cpuset), "No cpuset support"),
            (!host.has(Controller::Pids), "No pids limit support"),
            (!host.has(Controller::Block), "No blkio weight support"),
            (!forwarding, "IPv4 forwarding is disabled"),
        ];
        let warnings: Vec<String> =
            missing.iter().filter(|(is, _)| *is).map(|(_, what)| format!("WARNING: {what}")).collect();
        if warnings.is_empty() { List::default() } else { warnings.into() }
    }

    fn security_options(&self) -> Vec<String> {
        let profile = match self.options.defaults.seccomp_profile.as_deref() {
            None => "builtin",
            Some("unconfined") => "unconfined",
            Some(_) => "custom",
        };
        let mut options = vec![format!("name=seccomp,profile={profile}")];
        if self.host.unified {
            options.push("name=cgroupns".to_owned());
        }
        if self.options.defaults.no_new_privileges {
            options.push("name=no-new-privileges".to_owned());
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::groups_limit_swap;

    #[test]
    fn limits_of_swap_are_looked_for_where_containers_are_made() {
        let root = tempfile::tempdir().unwrap();
        let group = |name: &str, files: &[&str]| {
            std::fs::create_dir(root.path().join(name)).unwrap();
            files.iter().for_each(|file| std::fs::write(root.path().join(name).join(file), "max").unwrap());
        };
        group("without.slice", &[]);
        assert_eq!(groups_limit_swap(root.path()), std::path::Path::new("/proc/swaps").exists());
        group("system.slice", &["memory.max"]);
        assert!(!groups_limit_swap(root.path()));
        std::fs::write(root.path().join("system.slice/memory.swap.max"), "max").unwrap();
        assert!(groups_limit_swap(root.path()));
    }
}
