//! `start`: everything a container needs is gathered, and handed to a monitor in one message.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corten_api::Timestamp;
use corten_runtime::monitor::protocol::{self, Launch, LaunchFd, Stdio, Step, StepError};
use corten_runtime::monitor::{read_state, start_ticks};
use corten_runtime::spec::{Namespace, NamespaceKind, Spec};
use tokio::sync::oneshot;

use super::identity_files::{self, Identity};
use super::network::Joined;
use super::reason::By;
use super::resolver_file::Servers;
use super::watch::Launched;
use super::{Change, Container, Phase, Record, attach::Early, lock};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::link::MonitorLink;
use crate::spec;

/// How many clients go along with a launch; others are handed over when it runs.
const EARLY_MAX: usize = 8;

/// A monitor that has told of its container's end is gone in milliseconds, unless the disk is slow.
const CLEARING_DEADLINE: Duration = Duration::from_secs(30);

impl Engine {
    pub async fn container_start(&self, key: &str) -> Result<()> {
        let container = self.containers.find(key)?;
        match container.phase() {
            Phase::Running | Phase::Restarting => return Err(Error::not_modified("")),
            Phase::Paused => {
                return Err(Error::conflict("cannot start a paused container, try unpause instead"));
            }
            _ => {}
        }
        self.start(&container).await
    }

    pub(super) async fn start(&self, container: &Arc<Container>) -> Result<()> {
        let turn = container.operation.lock().await;
        let phase = container.phase();
        if phase == Phase::Restarting || phase.after(Change::Start).is_none() {
            return match phase {
                Phase::Running | Phase::Restarting => Err(Error::not_modified("")),
                _ => Err(Error::conflict(format!(
                    "container {} is {} and can't be started",
                    container.id,
                    phase.name()
                ))),
            };
        }
        container.write().state.restart_count = 0;
        *lock(&container.backoff) = Default::default();
        let Err(error) = self.attempt(container).await else { return Ok(()) };
        drop(turn);
        if !container.read().host_config.auto_remove {
            self.save(container);
        } else if let Err(error) = self.discard(container, true).await {
            tracing::warn!(container = container.id, %error, "removal of a container that could not be started");
        }
        Err(error)
    }

    /// One start, by a user or by the engine itself, in the container's turn. After a failure nothing is left of it but its error in
    /// the container's state.
    pub(super) async fn attempt(&self, container: &Arc<Container>) -> Result<()> {
        if !container.unmonitored(CLEARING_DEADLINE).await {
            return Err(Error::internal(format!(
                "container {} can't be started: the monitor of its last run has not ended; a process of it may hang in the kernel (state D in ps)",
                crate::id::short(&container.id)
            )));
        }
        if !container.uncopied(CLEARING_DEADLINE).await {
            return Err(Error::conflict(format!(
                "container {} can't be started: files are still being copied into it; end that copy first",
                crate::id::short(&container.id)
            )));
        }
        let Err(failure) = self.launch(container).await else {
            self.mount_events(container, true);
            self.container_event(container, "start", &[]);
            return Ok(());
        };
        self.release_network(container);
        self.release_memory(container);
        self.release_volumes(container).await;
        lock(&container.early).clear();
        let (error, exit_code) = explain(container, failure);
        {
            let mut record = container.write();
            record.state.exit_code = exit_code;
            record.state.error = error.message.clone();
            record.state.exit_reason = Some(super::reason::not_started(&error.message));
            record.state.finished = Timestamp::now();
        }
        Err(error)
    }

    async fn launch(&self, container: &Arc<Container>) -> std::result::Result<(), Failure> {
        let rootfs = self.images.rootfs(&container.id, &self.layers).map_err(crate::image::failed)?;
        let joined = self.join_network(container).await?;
        let mut record = container.read().clone();
        let names = self.names_at_start(&record, &joined).await?;
        container.write().resolver_mark = self.write_identity(&record, &joined, names.is_some())?;
        // Before its own, which win.
        record.config.env =
            [self.link_variables(&record), record.config.env.to_vec(), lock(&container.secret_env).clone()]
                .concat()
                .into();
        self.mount_volumes(container, &mut record).await?;
        let pins = self.pin_sources(&mut record)?;
        if !record.state.started.is_zero() {
            // A volatile overlay refuses to be mounted a second time until this mark is gone (overlayfs, "volatile mount").
            let _ = std::fs::remove_dir_all(rootfs.work.join("work/incompat/volatile"));
        }
        let spec = self.spec(&record, &joined)?;
        let places = self.places(&record.id);
        std::fs::create_dir_all(&places.run).map_err(|e| Error::io("create", &places.run, e))?;
        let source = crate::logging::Source { record: &record, host: &self.host.name };
        let log_path = places.log(&record.host_config.log_config.kind, &record.id);
        let (log, log_socket) = crate::logging::launch(&source, log_path).await?;
        super::attach::expected_clients(container).await;
        let early: Vec<Early> = {
            let mut waiting = lock(&container.early);
            let count = waiting.len().min(EARLY_MAX);
            waiting.drain(..count).collect()
        };
        let mut fds: Vec<BorrowedFd<'_>> = Vec::with_capacity(early.len() + 1);
        let mut wanted = Vec::with_capacity(early.len() + 1);
        if let Joined::Namespace(netns) = &joined {
            fds.push(netns.as_fd());
            wanted.push(LaunchFd::NetworkNamespace);
        }
        for Early { attach, connection } in &early {
            fds.push(connection.as_fd());
            wanted.push(LaunchFd::Attach(attach.clone()));
        }
        if let Some((_, (udp, tcp))) = &names {
            fds.extend([udp.as_fd(), tcp.as_fd()]);
            wanted.push(LaunchFd::Resolver);
        }
        if let Some(socket) = &log_socket {
            fds.push(socket.as_fd());
            wanted.push(LaunchFd::Log);
        }
        let launch = Launch {
            id: record.id.clone(),
            run_dir: places.run.clone(),
            state_dir: places.directory.clone(),
            spec,
            rootfs: protocol::Rootfs::Overlay {
                lower: rootfs.lower,
                upper: rootfs.upper,
                work: rootfs.work,
                // What a build keeps of it is a layer of its own.
                volatile: record.host_config.auto_remove || record.is_build_step,
                mount_point: self.root_mount_point(),
            },
            user: Some(record.config.user.clone()).filter(|user| !user.is_empty()),
            groups: record.host_config.group_add.to_vec(),
            strict: spec::resources::strict(&record.host_config),
            create_cwd: true,
            init: record.host_config.init.unwrap_or(self.options.defaults.init),
            stdio: stdio(&record),
            log,
            fds: wanted,
            hold: false,
            runtime: self.options.runtimes.find(&record.host_config.runtime)?.cloned(),
            health: self.health_check(container)?,
            resolver: names.as_ref().map(|(resolver, _)| resolver.clone()),
        };
        let (mut outcome, zygote) = self.hand_over(container, &launch, &fds).await?;
        if matches!(outcome, Launched::Lost) && !places.run.join(corten_runtime::monitor::SOCKET).exists() {
            // The zygote was killed with the message unread: there never was a monitor, and another zygote will do.
            container.unmonitored(CLEARING_DEADLINE).await;
            self.zygote.replace(zygote)?;
            (outcome, _) = self.hand_over(container, &launch, &fds).await?;
        }
        drop(early);
        // The container has them mounted by now, or never will.
        drop(pins);
        match outcome {
            Launched::Started | Launched::Created => {
                self.links_changed(container);
                self.attach_late(container).await;
                self.save_start(container).await.map_err(Failure::Other)
            }
            failed => {
                *lock(&container.link) = None;
                let Launched::Failed(error) = failed else {
                    // Whoever killed the monitor may have left a process on its way to becoming the container's.
                    let path = self.cgroups_path(&record);
                    let swept = crate::image::blocking(move || super::leftovers::end_group(&path)).await;
                    if let Err(error) = swept {
                        tracing::warn!(container = record.id, %error, "what a killed monitor left behind");
                    }
                    return Err(Failure::Other(Error::internal(
                        "the container's monitor ended before the container was started",
                    )));
                };
                Err(Failure::Step(error))
            }
        }
    }

    /// Gives a launch to the zygote, and listens for what comes of it. With the zygote's number.
    async fn hand_over(
        &self,
        container: &Arc<Container>,
        launch: &Launch,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Launched, u64)> {
        let (connection, zygote) = self.zygote.launch(launch, fds)?;
        let link = MonitorLink::new(connection)?;
        *lock(&container.link) = Some(link.clone());
        let (sender, receiver) = oneshot::channel();
        self.watch(container.clone(), link, Some(sender));
        Ok((receiver.await.unwrap_or(Launched::Lost), zygote))
    }

    /// Writes the start down. A container that runs without a record would be ended by the next engine: rather now, and with an
    /// answer. One that is over already has been saved, or is gone with `--rm`.
    async fn save_start(&self, container: &Arc<Container>) -> Result<()> {
        if !container.phase().is_alive() {
            return Ok(());
        }
        let saved = self.store.put_container(&container.id, &*container.read());
        if saved.is_err() {
            container.note_asked(By::Engine, super::stop::SIGKILL);
            let _ = self.signal(container, super::stop::SIGKILL).await;
        }
        saved
    }

    /// Hands over clients that came while the launch was on its way.
    async fn attach_late(&self, container: &Arc<Container>) {
        let late = std::mem::take(&mut *lock(&container.early));
        let Some(link) = container.link() else { return };
        for Early { attach, connection } in late {
            let request = |seq| protocol::Request::Attach { seq, exec: None, attach };
            if let Err(error) = link.ask(request, &[connection.as_fd()]).await {
                tracing::debug!(container = container.id, %error, "a client came too late");
            }
        }
    }

    fn spec(&self, record: &Record, joined: &Joined) -> Result<Spec> {
        let network = match joined {
            Joined::Of(pid) => Some(format!("/proc/{pid}/ns/net")),
            _ => None,
        };
        spec::build(
            record,
            &spec::Context {
                defaults: &self.options.defaults,
                directory: &self.identity_directory(record),
                root: &self.root_mount_point(),
                hostname: &record.config.hostname,
                cgroups_path: self.cgroups_path(record),
                unified: self.host.unified,
                network: network.map(|path| Namespace { kind: NamespaceKind::Network, path: Some(path) }),
                shares_host_network: matches!(joined, Joined::Host),
                pid_of: &|name| self.pid_of(name),
                shm_of: &|name| self.shared_memory(record, name),
                capabilities_available: self.host.capabilities,
            },
        )
    }

    /// The container's group below the parent that it, the settings, or the instance name.
    pub(crate) fn cgroups_path(&self, record: &Record) -> String {
        let own = record.host_config.cgroup_parent.trim_matches('/');
        let parent = match (own, &self.options.defaults.cgroup_parent) {
            ("", Some(default)) => default.trim_matches('/').to_owned(),
            ("", None) => format!("corten-{}", self.instance),
            (own, _) => own.to_owned(),
        };
        format!("/{parent}/{}", record.id)
    }

    /// Where the shared memory of `name` is, which may be the container itself.
    fn shared_memory(&self, record: &Record, name: &str) -> Result<String> {
        let failed =
            |e: corten_image::mounts::MountError| Error::internal(format!("shared memory of {name}: {e}"));
        if name == record.id {
            let bytes = u64::try_from(record.host_config.shm_size).unwrap_or(0);
            return Ok(self.layers.mount_memory(name, bytes).map_err(failed)?.display().to_string());
        }
        let partner = self.containers.find(name)?;
        let found = self.layers.find_memory(&partner.id).map_err(failed)?;
        found.map(|path| path.display().to_string()).ok_or_else(|| {
            Error::conflict(format!(
                "the shared memory of container {name} can't be joined: it must have been started with --ipc shareable, by this run of the engine"
            ))
        })
    }

    /// Lets go of shared memory; those who have it mounted keep it.
    pub(super) fn release_memory(&self, container: &Container) {
        if container.read().host_config.ipc_mode == "shareable"
            && let Err(error) = self.layers.unmount_memory(&container.id)
        {
            tracing::warn!(container = container.id, %error, "shared memory");
        }
    }

    /// The first process of a container that others refer to. Its number may be another's by now, as the engine hears of an end a
    /// moment later; the time of its start tells.
    pub(crate) fn pid_of(&self, name: &str) -> Result<i32> {
        let partner = self.containers.find(name)?;
        let state = partner.read().state.clone();
        let is_its_own = || {
            let known = read_state(&self.places(&partner.id).run).ok()?;
            Some(known.pid == state.pid && start_ticks(state.pid).ok()? == known.pid_start_ticks)
        };
        if state.phase.is_alive() && state.pid > 0 && is_its_own() == Some(true) {
            return Ok(state.pid);
        }
        Err(Error::conflict(format!("cannot join the namespaces of container {name}: it is not running")))
    }

    /// Where the files lie that tell a container who and where it is: with the one whose network it shares, so that what changes there
    /// changes for both.
    pub(super) fn identity_directory(&self, record: &Record) -> PathBuf {
        let (mut id, mut mode) = (record.id.clone(), record.host_config.network_mode.clone());
        // A partner may have one, too.
        while let Some(partner) = mode.strip_prefix("container:")
            && let Ok(partner) = self.containers.find(partner)
            && partner.id != id
        {
            id.clone_from(&partner.id);
            mode = partner.read().host_config.network_mode.clone();
        }
        self.places(&id).directory
    }

    /// The host as containers see it; none without a default network.
    pub fn host_gateway(&self) -> Option<Ipv4Addr> {
        self.networks.nat().ipv4_gateway()
    }

    /// Returns the resolver file's mark.
    fn write_identity(&self, record: &Record, joined: &Joined, has_names: bool) -> Result<u64> {
        let places = self.places(&record.id);
        if let Joined::Of(_) = joined {
            // Who shares a network has its partner's files.
            return Ok(0);
        }
        let names = match joined {
            Joined::Host => Servers::Host,
            _ if has_names => Servers::Own,
            _ => Servers::Reachable,
        };
        let gateway = self.host_gateway().map(|ip| ip.to_string()).unwrap_or_default();
        let identity = Identity {
            hostname: &record.config.hostname,
            domainname: &record.config.domainname,
            addresses: own_addresses(record),
            extra_hosts: extra_hosts(&record.host_config.extra_hosts, &gateway)?,
            links: self.link_lines(record)?,
            dns: self.dns(record, names),
        };
        identity_files::write(&places.directory, &identity, matches!(joined, Joined::Host))
    }
}

/// In the order of the interfaces.
fn own_addresses(record: &Record) -> Vec<std::net::IpAddr> {
    if record.is_build_step {
        // Its address is another one each time, and what reads it may write it down.
        return vec![std::net::Ipv4Addr::LOCALHOST.into()];
    }
    let mut places: Vec<_> = record.endpoints.values().map(|endpoint| &endpoint.place).collect();
    places.sort_by(|a, b| a.interface.cmp(&b.interface));
    places.into_iter().flat_map(|place| place.addresses()).collect()
}

/// `name:address` pairs; `host-gateway` stands for the host as its containers see it.
pub(super) fn extra_hosts(list: &[String], gateway: &str) -> Result<Vec<(String, String)>> {
    list.iter()
        .map(|text| {
            let (name, address) = text
                .split_once(['=', ':'])
                .filter(|(name, address)| !name.is_empty() && !address.is_empty())
                .ok_or_else(|| Error::invalid(format!("bad format for add-host: \"{text}\"")))?;
            let address = if address == "host-gateway" { gateway } else { address };
            let bare = address.trim_start_matches('[').trim_end_matches(']');
            if bare.parse::<std::net::IpAddr>().is_err() {
                return Err(Error::invalid(format!("invalid IP address in add-host: \"{address}\"")));
            }
            Ok((name.to_owned(), bare.to_owned()))
        })
        .collect()
}

fn stdio(record: &Record) -> Stdio {
    let [height, width] = record.host_config.console_size;
    let side = |value: u32| u16::try_from(value).unwrap_or(0);
    Stdio {
        tty: record.config.tty,
        size: (side(height), side(width)),
        open_stdin: record.config.open_stdin,
        stdin_once: record.config.stdin_once,
    }
}

/// Why a launch came to nothing.
enum Failure {
    Step(StepError),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// The error for the caller, and the exit code that the container gets: 127 when the program is not there, 126 when
/// it can't be run, 128 for everything else.
fn explain(container: &Container, failure: Failure) -> (Error, i32) {
    let error = match failure {
        Failure::Other(error) => return (error, 128),
        Failure::Step(error) => error,
    };
    let id = crate::id::short(&container.id);
    let message = match error.step {
        Step::User => format!("unable to find user {}: {}", error.object, error.message),
        _ => format!("failed to start container {id}: {error}"),
    };
    let missing = [libc::ENOENT, libc::ENOTDIR].contains(&error.errno);
    match error.step {
        Step::Exec if missing => (Error::new(ErrorKind::InvalidParameter, message), 127),
        Step::Exec => (Error::new(ErrorKind::InvalidParameter, message), 126),
        Step::User | Step::WorkingDirectory | Step::Mount | Step::Device => {
            (Error::new(ErrorKind::InvalidParameter, message), 126)
        }
        _ => (Error::internal(message), 128),
    }
}

/// errno values that the monitor reports (errno(3), the same on all our architectures).
mod libc {
    pub const ENOENT: i32 = 2;
    pub const ENOTDIR: i32 = 20;
}
