//! SSH agents of those who ask for builds, as sockets that a step sees: `RUN --mount=type=ssh`.
//!
//! A socket lies in memory that only the engine's mount namespace sees, and is served as long as the step runs.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_build::Agent;
use rustix::fs::{Mode, OFlags};
use tokio::task::{JoinHandle, JoinSet};

use super::step::SECRETS_BYTES_MAX;
use crate::Engine;
use crate::error::{Error, Result};

/// Connections of one step to one agent at a time; another one waits for the end of one of them.
const CONNECTIONS_MAX: usize = 64;

/// A socket with somebody behind it, until it is dropped.
pub struct Served {
    pub path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Makes a socket in a step's memory and connects it with the agent.
pub fn serve(
    engine: &Engine,
    memory: &str,
    number: usize,
    agent: Arc<dyn Agent>,
    (mode, uid, gid): (u32, u32, u32),
) -> Result<Served> {
    let failed =
        |error: &dyn std::fmt::Display| Error::internal(format!("cannot offer an SSH agent: {error}"));
    let directory = engine.layers.mount_memory(memory, SECRETS_BYTES_MAX).map_err(|e| failed(&e))?;
    let path = directory.join(number.to_string());
    let name = number.to_string();
    let listener = engine.layers.run(move || -> io::Result<UnixListener> {
        let listener = bind(&directory, &name)?;
        let path = directory.join(name);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
        Ok(listener)
    });
    let listener = listener.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    listener.set_nonblocking(true).map_err(|e| failed(&e))?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(|e| failed(&e))?;
    Ok(Served { path, task: tokio::spawn(accept(listener, agent)) })
}

/// Connects a program of this host with the agent, by a socket in a directory that no one else enters.
pub fn serve_in(directory: &Path, name: &str, agent: Arc<dyn Agent>) -> Result<Served> {
    let path = directory.join(name);
    let failed = |error: io::Error| Error::io("offer an SSH agent at", &path, error);
    let listener = bind(directory, name).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let listener = tokio::net::UnixListener::from_std(listener).map_err(failed)?;
    Ok(Served { path: path.clone(), task: tokio::spawn(accept(listener, agent)) })
}

/// By the descriptor of the directory: a socket's path must not have more than 107 bytes.
fn bind(directory: &Path, name: &str) -> io::Result<UnixListener> {
    let directory = rustix::fs::open(directory, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()))
}

/// Dropped, it ends what is under way on all connections.
async fn accept(listener: tokio::net::UnixListener, agent: Arc<dyn Agent>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        let Ok((mut program, _)) = listener.accept().await else { return };
        let agent = agent.clone();
        connections.spawn(async move {
            // The program sees an agent that hangs up.
            match agent.connect().await {
                Ok(mut line) => drop(tokio::io::copy_bidirectional(&mut program, &mut line).await),
                Err(error) => tracing::debug!(%error, "the SSH agent of a build"),
            }
        });
    }
}
