//! The engine about itself, its events, and what its host can do.

use corten_api::container::HostConfig;
use corten_api::event::{EventActor, EventMessage, EventsOptions};
use corten_api::system::{
    Commit, ComponentVersion, PlatformName, PluginsInfo, RegistryConfig, Runtime, SystemInfo, SystemVersion,
};
use corten_api::{API_VERSION, API_VERSION_MIN, List, Map, Timestamp};
use corten_runtime::cgroup::{Controller, Layout};
use tokio::sync::mpsc;

use crate::Engine;
use crate::container::{Container, Phase};
use crate::error::{Error, Result};

/// Facts about the host that don't change while the engine runs.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    /// Control groups of version 2 only.
    pub unified: bool,
    /// The bounding set that containers can get at most.
    pub capabilities: u64,
    groups: Option<&'static Layout>,
    kernel: String,
    operating_system: String,
    os_version: String,
    architecture: String,
    memory_bytes: u64,
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
    pub fn version(&self) -> SystemVersion {
        let arch = api_architecture(&self.host.architecture).to_owned();
        let details = [
            ("ApiVersion", API_VERSION.to_owned()),
            ("Arch", arch.clone()),
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

    pub async fn info(&self) -> Result<SystemInfo> {
        let containers = self.containers.all();
        let count =
            |wanted: &[Phase]| containers.iter().filter(|c| wanted.contains(&c.phase())).count() as u64;
        let host = &self.host;
        let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
        let runtime = Runtime { path: "corten-shim".to_owned(), ..Runtime::default() };
        Ok(SystemInfo {
            id: self.instance.clone(),
            containers: containers.len() as u64,
            containers_running: count(&[Phase::Running]),
            containers_paused: count(&[Phase::Paused]),
            containers_stopped: count(&[Phase::Created, Phase::Exited, Phase::Removing]),
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
                log: ["json-file", "local", "none"].map(str::to_owned).to_vec().into(),
            },
            memory_limit: host.has(Controller::Memory),
            swap_limit: host.has(Controller::Memory),
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
            index_server_address: "https://index.docker.io/v1/".to_owned(),
            registry_config: RegistryConfig::default(),
            ncpu: std::thread::available_parallelism().map_or(1, |n| n.get() as u64),
            mem_total: host.memory_bytes,
            docker_root_dir: self.options.data_root.display().to_string(),
            name: host.name.clone(),
            labels: self.options.labels.clone().into(),
            server_version: self.options.version.clone(),
            runtimes: [("corten", runtime)].into_iter().collect(),
            default_runtime: "corten".to_owned(),
            // Containers go on when the engine stops; there is no other way.
            live_restore_enabled: true,
            init_binary: "corten-shim".to_owned(),
            containerd_commit: Commit::default(),
            runc_commit: Commit::default(),
            init_commit: Commit::default(),
            security_options: self.security_options().into(),
            cdi_spec_dirs: List::default(),
            warnings: List::default(),
            ..SystemInfo::default()
        })
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

    /// What happened since, and what happens, until the receiver is dropped or the time is up.
    pub fn events(&self, options: EventsOptions) -> Result<mpsc::Receiver<EventMessage>> {
        options.filters.validate(&EVENT_FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let (past, mut live) = self.events.subscribe();
        let (sender, receiver) = mpsc::channel(64);
        tokio::spawn(async move {
            let until = options.until;
            let wanted = |event: &EventMessage| matches(event, &options.filters);
            let late = |event: &EventMessage| until.is_some_and(|until| event.time_nano > until.unix_nanos());
            if let Some(since) = options.since {
                for event in past.iter().filter(|event| event.time_nano >= since.unix_nanos()) {
                    if !late(event) && wanted(event) && sender.send((**event).clone()).await.is_err() {
                        return;
                    }
                }
            }
            let left = until.map(|until| until.since(Timestamp::now()));
            let deadline = async {
                match left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::pin!(deadline);
            loop {
                tokio::select! {
                    biased;
                    event = live.recv() => match event {
                        Ok(event) if late(&event) => return,
                        Ok(event) if wanted(&event) => {
                            if sender.send((*event).clone()).await.is_err() {
                                return;
                            }
                        }
                        Ok(_) => {}
                        // A listener this slow has lost some; what comes next is still worth telling.
                        Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                        Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
                    },
                    () = sender.closed() => return,
                    () = &mut deadline => return,
                }
            }
        });
        Ok(receiver)
    }

    pub(crate) fn container_event(&self, container: &Container, action: &str, more: &[(&str, &str)]) {
        let record = container.read();
        let mut attributes: Map<String> = record.config.labels.clone();
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), record.name.clone());
        attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let from = record.config.image.clone();
        drop(record);
        self.publish(EventMessage { from, ..message("container", action, &container.id, attributes, true) });
    }

    pub(crate) fn image_event(&self, id: &str, action: &str, name: &str) {
        let attributes = [("name", name.to_owned())].into_iter().collect();
        self.publish(message("image", action, id, attributes, true));
    }

    pub(crate) fn volume_event(&self, name: &str, action: &str, more: &[(&str, &str)]) {
        let attributes = more.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.publish(message("volume", action, name, attributes, false));
    }

    /// Of one of the networks that every engine has, whose driver bears its name.
    pub(crate) fn network_event(&self, network: &str, action: &str, container: &str) {
        let id = crate::network::id(&self.instance, network);
        let attributes = [("container", container), ("name", network), ("type", network)];
        let attributes = attributes.map(|(name, value)| (name, value.to_owned())).into_iter().collect();
        self.publish(message("network", action, &id, attributes, false));
    }

    fn publish(&self, event: EventMessage) {
        self.events.publish(event);
    }
}

/// `old`: with the fields that clients of API 1.21 read.
fn message(kind: &str, action: &str, id: &str, attributes: Map<String>, old: bool) -> EventMessage {
    let now = Timestamp::now();
    EventMessage {
        status: if old { action.to_owned() } else { String::new() },
        id: if old { id.to_owned() } else { String::new() },
        from: String::new(),
        kind: kind.to_owned(),
        action: action.to_owned(),
        actor: EventActor { id: id.to_owned(), attributes },
        scope: "local".to_owned(),
        time: now.unix(),
        time_nano: now.unix_nanos(),
    }
}

const EVENT_FILTERS: [&str; 14] = [
    "config",
    "container",
    "daemon",
    "event",
    "image",
    "label",
    "network",
    "node",
    "plugin",
    "scope",
    "secret",
    "service",
    "type",
    "volume",
];

fn matches(event: &EventMessage, filters: &corten_api::filters::Filters) -> bool {
    let attribute = |name: &str| event.actor.attributes.get(name).map(String::as_str);
    let about = |kind: &str| {
        filters.any(kind, |wish| {
            event.kind == kind && (event.actor.id.starts_with(wish) || attribute("name") == Some(wish))
                || kind == "image" && attribute("image") == Some(wish)
        })
    };
    filters.exact("type", &event.kind)
        && filters.exact("scope", &event.scope)
        && filters.any("event", |wish| event.action == wish || event.action.split(':').next() == Some(wish))
        && filters.labels(attribute)
        && [
            "container",
            "image",
            "network",
            "volume",
            "daemon",
            "plugin",
            "service",
            "node",
            "secret",
            "config",
        ]
        .iter()
        .all(|kind| about(kind))
}
