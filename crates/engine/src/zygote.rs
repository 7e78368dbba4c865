//! Keeps the zygote: one process that forks a monitor per container. If it was killed, the next launch starts another.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use corten_image::mounts::LayerMounts;
use corten_runtime::monitor::protocol::Launch;
use corten_runtime::monitor::{Connection, Zygote};

use crate::container::lock;
use crate::error::{Error, Result};

pub struct ZygoteKeeper {
    shim: PathBuf,
    layers: Arc<LayerMounts>,
    zygote: Mutex<Zygote>,
}

impl ZygoteKeeper {
    pub fn start(shim: PathBuf, layers: Arc<LayerMounts>) -> Result<Self> {
        let zygote = Mutex::new(fork(&shim, &layers)?);
        Ok(Self { shim, layers, zygote })
    }

    pub fn launch(&self, launch: &Launch, fds: &[BorrowedFd<'_>]) -> Result<Connection> {
        let mut zygote = lock(&self.zygote);
        if let Ok(connection) = zygote.launch(launch, fds) {
            return Ok(connection);
        }
        tracing::warn!("the zygote does not answer; another one is started");
        *zygote = fork(&self.shim, &self.layers)?;
        zygote
            .launch(launch, fds)
            .map_err(|e| Error::internal(format!("hand a container to its monitor: {e}")))
    }
}

/// On the mount thread, so that the zygote and all its children see the mounted layers.
fn fork(shim: &std::path::Path, layers: &LayerMounts) -> Result<Zygote> {
    let path = shim.to_owned();
    layers
        .run(move || Zygote::start(&path))
        .map_err(|e| Error::internal(format!("reach the mount thread: {e}")))?
        .map_err(|e| {
            Error::internal(format!("start {}: {e}; it belongs beside the corten binary", shim.display()))
        })
}
