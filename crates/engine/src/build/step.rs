//! One program of a build: a container that nobody sees, its output, its end.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;

use corten_api::container::{
    ContainerConfig, ContainerCreateRequest, HostConfig, RemoveOptions, Ulimit, WaitCondition, WaitResponse,
};
use corten_build::{Debug, MountSource, Network, Output, Ran, RunStep, StepMount, Stream};
use corten_image::config::{ImageConfig, RunConfig};
use corten_image::manifest::Descriptor;
use corten_image::{Digest, Image};
use corten_runtime::monitor::protocol::Attach;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::Engine;
use crate::container::{Container, Early, lock};
use crate::error::{Error, Result};
use crate::mounts::{MountKind, ResolvedMount};

/// A piece of output that is told at once.
const PIECE_MAX: usize = 32 * 1024;

/// Removes the container when nobody needs it any more, whatever became of it.
struct Removal {
    engine: Engine,
    id: String,
    /// The name of the memory that holds its secrets and sockets, where it has some.
    memory: Option<String>,
    /// What keeps mounted directories and serves sockets, for as long as the container is there.
    keep: Vec<Arc<dyn std::any::Any + Send + Sync>>,
}

impl Drop for Removal {
    fn drop(&mut self) {
        let (engine, id, memory) = (self.engine.clone(), std::mem::take(&mut self.id), self.memory.take());
        let keep = std::mem::take(&mut self.keep);
        tokio::spawn(async move {
            let options = RemoveOptions { force: true, volumes: true, ..RemoveOptions::default() };
            // None was made yet, or who looked into it has removed it.
            let is_gone = id.is_empty() || engine.containers.find(&id).is_err();
            let removed = if is_gone { Ok(()) } else { engine.container_remove(&id, options).await };
            if let Err(error) = removed {
                tracing::warn!(container = id, %error, "the container of a build's step");
            }
            drop(keep);
            if let Some(memory) = memory
                && let Err(error) = engine.layers.unmount_memory(&memory)
            {
                tracing::warn!(memory, %error, "secrets of a build's step");
            }
        });
    }
}

/// A container that was started.
struct Begun {
    removal: Removal,
    container: Arc<Container>,
    stream: std::os::unix::net::UnixStream,
    ended: Pin<Box<dyn Future<Output = WaitResponse> + Send>>,
}

pub async fn run(engine: &Engine, step: RunStep, output: Output<'_>) -> Result<Ran> {
    // A task of its own: when nobody wants the build any more a container must not be left half-started. What was begun is then
    // removed with the task's result.
    let begun = tokio::spawn(begin(engine.clone(), step)).await;
    let begun = begun.map_err(|e| Error::internal(format!("internal task: {e}")))??;
    let Begun { removal, container, stream, ended } = begun;
    stream.set_nonblocking(true).map_err(|e| Error::internal(format!("socket: {e}")))?;
    let stream = UnixStream::from_std(stream).map_err(|e| Error::internal(format!("socket: {e}")))?;
    // Its output may go on for a moment after its end is known.
    let (told, end) = tokio::join!(tell(stream, output), ended);
    told.map_err(|e| Error::internal(format!("cannot read what the step prints: {e}")))?;
    if let Some(error) = end.error {
        return Err(Error::internal(error.message));
    }
    let is_out_of_memory = container.read().state.oom_killed;
    let (exit_code, snapshot) = (end.status_code, container.id.clone());
    Ok(Ran { exit_code, is_out_of_memory, snapshot, keep: Box::new(removal) })
}

async fn begin(engine: Engine, step: RunStep) -> Result<Begun> {
    let engine = &engine;
    if !crate::image::runs_here(&step.platform) {
        return Err(Error::invalid(format!(
            "a step for {} can't be run: this host runs {}; register an emulator for it (binfmt_misc)",
            step.platform,
            corten_image::Platform::host()
        )));
    }
    let image = image(&step);
    let mut keep = Vec::new();
    let needs_memory =
        |source: &MountSource| matches!(source, MountSource::Secret { .. } | MountSource::Agent { .. });
    let memory = step.mounts.iter().any(|mount| needs_memory(&mount.source));
    let memory = memory.then(|| format!("build-{}", crate::id::short(&crate::id::random())));
    let mut removal = Removal { engine: engine.clone(), id: String::new(), memory, keep: Vec::new() };
    let (tmpfs, mounts) = resolve(engine, step.mounts, removal.memory.as_deref(), &mut keep)?;
    removal.keep = keep;
    let request = ContainerCreateRequest {
        config: config(step.command, step.config, step.hostname),
        host_config: HostConfig { tmpfs, ..host_config(&step.network, step.extra_hosts, &step.limits)? },
        ..ContainerCreateRequest::default()
    };
    let id = engine.create_build_step(&image, request, mounts).await?;
    removal.id.clone_from(&id);
    let container = engine.containers.find(&id)?;
    *lock(&container.secret_env) = step.secret_env;
    let (ours, theirs) =
        std::os::unix::net::UnixStream::pair().map_err(|e| Error::internal(format!("socket pair: {e}")))?;
    let attach = Attach {
        stdin: false,
        stdout: true,
        stderr: true,
        raw: false,
        detach_keys: Vec::new(),
        stdin_head: Vec::new(),
        holds: false,
    };
    lock(&container.early).push(Early { attach, connection: OwnedFd::from(theirs) });
    let ended = engine.container_wait(&id, WaitCondition::NextExit)?;
    engine.container_start(&id).await?;
    Ok(Begun { removal, container, stream: ours, ended: Box::pin(ended) })
}

/// Readies a container that has ended for a shell that somebody else starts; the future ends when the container is removed.
pub fn ready_shell(
    engine: &Engine,
    container: &str,
    shell: Vec<String>,
    debug: Debug,
) -> Result<impl Future<Output = WaitResponse> + Send + use<>> {
    let container = engine.containers.find(container)?;
    let config = &mut container.write().config;
    config.cmd = shell.into();
    config.tty = debug.has_terminal;
    (config.open_stdin, config.stdin_once) = (true, true);
    engine.container_wait(&container.id, WaitCondition::Removed)
}

/// Reads frames: the number of the stream, three zeros, the length, that many bytes.
async fn tell(mut stream: UnixStream, output: Output<'_>) -> std::io::Result<()> {
    let mut head = [0; 8];
    loop {
        match stream.read_exact(&mut head).await {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let kind = if head[0] == 2 { Stream::Stderr } else { Stream::Stdout };
        while left > 0 {
            let mut bytes = vec![0; left.min(PIECE_MAX)];
            stream.read_exact(&mut bytes).await?;
            left -= bytes.len();
            output(kind, bytes).await;
        }
    }
}

/// What the container is made from: no image of the store, but it has all that one has of which a container wants to know.
fn image(step: &RunStep) -> Image {
    let config = ImageConfig {
        os: step.platform.os.clone(),
        architecture: step.platform.architecture.clone(),
        variant: step.platform.variant.clone().unwrap_or_default(),
        ..ImageConfig::default()
    };
    let id = step.image.unwrap_or_else(|| Digest::of(b""));
    Image {
        id,
        config,
        config_bytes: Arc::from(Vec::new()),
        made_as: None,
        manifest: id,
        descriptor: Descriptor::new("", id, 0),
        layers: step.stack.ids(),
        blobs: Vec::new(),
        size: 0,
        created: None,
        repo_tags: Vec::new(),
        repo_digests: Vec::new(),
        parent: None,
        owner: None,
        stored_at: 0,
        tagged_at: None,
    }
}

fn config(command: Vec<String>, config: RunConfig, hostname: String) -> ContainerConfig {
    let mut env = config.env;
    // A name alone is left out: the environment is the Dockerfile's.
    if !env.iter().any(|entry| entry.starts_with("HOSTNAME=")) {
        env.push("HOSTNAME".to_owned());
    }
    ContainerConfig {
        hostname,
        user: config.user,
        env: env.into(),
        cmd: command.into(),
        working_dir: config.working_dir,
        attach_stdout: true,
        attach_stderr: true,
        ..ContainerConfig::default()
    }
}

fn host_config(
    network: &Network,
    extra_hosts: Vec<String>,
    limits: &corten_build::Limits,
) -> Result<HostConfig> {
    let mut host = HostConfig {
        network_mode: match network {
            Network::Default => "default",
            Network::None => "none",
            Network::Host => "host",
            Network::Named(name) => name,
        }
        .to_owned(),
        extra_hosts: extra_hosts.into(),
        shm_size: i64::try_from(limits.shm_bytes).unwrap_or(i64::MAX),
        cgroup_parent: limits.cgroup_parent.clone(),
        memory: limits.memory_bytes,
        memory_swap: limits.memory_swap_bytes,
        cpu_shares: limits.cpu_shares,
        cpu_period: limits.cpu_period_us,
        cpu_quota: limits.cpu_quota_us,
        cpuset_cpus: limits.cpuset_cpus.clone(),
        cpuset_mems: limits.cpuset_mems.clone(),
        ..HostConfig::default()
    };
    host.log_config.kind = "none".to_owned();
    let mut ulimits = Vec::new();
    for text in &limits.ulimits {
        let parsed = text.split_once('=').and_then(|(name, values)| {
            let (soft, hard) = values.split_once(':').unwrap_or((values, values));
            Some(Ulimit { name: name.to_owned(), soft: soft.parse().ok()?, hard: hard.parse().ok()? })
        });
        ulimits.push(
            parsed.ok_or_else(|| Error::invalid(format!("invalid ulimit: {text}: write name=soft:hard")))?,
        );
    }
    host.ulimits = ulimits.into();
    Ok(host)
}

/// The mounts as the container has them; secrets are put into memory first, and sockets of agents.
fn resolve(
    engine: &Engine,
    mounts: Vec<StepMount>,
    memory: Option<&str>,
    keep: &mut Vec<Arc<dyn std::any::Any + Send + Sync>>,
) -> Result<(corten_api::Map<String>, Vec<ResolvedMount>)> {
    let mut tmpfs = HashMap::new();
    let mut resolved = Vec::new();
    for (number, StepMount { target, is_read_only, source }) in mounts.into_iter().enumerate() {
        let mut mount = ResolvedMount {
            destination: target.clone(),
            read_only: is_read_only,
            ..ResolvedMount::default()
        };
        match source {
            MountSource::Path { path, keep: kept } => {
                keep.extend(kept);
                mount.source = path.display().to_string();
            }
            MountSource::Layers { stack, path } => {
                mount.kind = MountKind::Image;
                mount.layers = stack.ids().iter().map(ToString::to_string).collect();
                mount.subpath = path;
                if !is_read_only {
                    let scratch = engine.build_scratch()?;
                    mount.writes = scratch.path().display().to_string();
                    keep.push(Arc::new(scratch));
                }
            }
            MountSource::Tmpfs { bytes } => {
                let options = if bytes > 0 { format!("size={bytes},exec") } else { "exec".to_owned() };
                tmpfs.insert(target, options);
                continue;
            }
            MountSource::Secret { bytes, mode, uid, gid } => {
                let name = memory.ok_or_else(|| Error::internal("no memory for a secret"))?;
                mount.source = secret(engine, name, number, bytes, mode, (uid, gid))?;
            }
            MountSource::Agent { agent, mode, uid, gid } => {
                let name = memory.ok_or_else(|| Error::internal("no memory for an agent's socket"))?;
                let served = super::agent::serve(engine, name, number, agent, (mode, uid, gid))?;
                mount.source = served.path.display().to_string();
                keep.push(Arc::new(served));
            }
        }
        resolved.push(mount);
    }
    Ok((tmpfs.into_iter().collect(), resolved))
}

/// More than any secret has (BuildKit takes 500 kB).
pub(super) const SECRETS_BYTES_MAX: u64 = 16 << 20;

/// Writes a secret into memory that only the engine's mount namespace sees; gives its path there.
fn secret(
    engine: &Engine,
    memory: &str,
    number: usize,
    bytes: Vec<u8>,
    mode: u32,
    (uid, gid): (u32, u32),
) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    let failed =
        |error: &dyn std::fmt::Display| Error::internal(format!("cannot hand over a secret: {error}"));
    let directory = engine.layers.mount_memory(memory, SECRETS_BYTES_MAX).map_err(|e| failed(&e))?;
    let path = directory.join(number.to_string());
    let at = path.clone();
    let written = engine.layers.run(move || -> std::io::Result<()> {
        std::fs::write(&at, bytes)?;
        std::fs::set_permissions(&at, std::fs::Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(&at, Some(uid), Some(gid))
    });
    written.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    Ok(path.display().to_string())
}
