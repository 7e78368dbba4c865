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
    zygote: Mutex<Numbered>,
}

/// A zygote, and the how many-th it is.
struct Numbered {
    number: u64,
    zygote: Zygote,
}

impl ZygoteKeeper {
    pub fn start(shim: PathBuf, layers: Arc<LayerMounts>) -> Result<Self> {
        let zygote = Mutex::new(Numbered { number: 0, zygote: fork(&shim, &layers)? });
        Ok(Self { shim, layers, zygote })
    }

    /// Hands a launch over; by which zygote, its number says.
    pub fn launch(&self, launch: &Launch, fds: &[BorrowedFd<'_>]) -> Result<(Connection, u64)> {
        let mut current = lock(&self.zygote);
        if let Ok(connection) = current.zygote.launch(launch, fds) {
            return Ok((connection, current.number));
        }
        self.renew(&mut current)?;
        let connection = current.zygote.launch(launch, fds);
        let connection =
            connection.map_err(|e| Error::internal(format!("hand a container to its monitor: {e}")))?;
        Ok((connection, current.number))
    }

    /// Has another zygote in the place of one that has lost a launch. It may be on its way to its end and still take messages: what it
    /// was told and its own socket are closed one after the other.
    pub fn replace(&self, number: u64) -> Result<()> {
        let mut current = lock(&self.zygote);
        if current.number == number { self.renew(&mut current) } else { Ok(()) }
    }

    fn renew(&self, current: &mut Numbered) -> Result<()> {
        tracing::warn!("the zygote does not answer; another one is started");
        *current = Numbered { number: current.number + 1, zygote: fork(&self.shim, &self.layers)? };
        Ok(())
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
