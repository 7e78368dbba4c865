//! The collector: deletes the files of containers and volumes that are gone, off everybody's path, and gives memory back
//! afterwards.
//!
//! A removed container is first entered in the database's garbage list, in the same transaction that forgets it;
//! whatever is on that list when the engine starts is collected then. A volume's directory has a name that tells the same. One thread, idle
//! at low cost.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use corten_sys::{memory, tree};
use tracing::{debug, warn};

use crate::store::StateStore;

/// Without work for so long the engine counts as idle, and what could not be deleted is tried again.
const REST: Duration = Duration::from_secs(1);
/// How often.
const ATTEMPTS: u32 = 10;

/// Directories that bear a container's id as their last part.
pub struct Places {
    pub containers: PathBuf,
    pub run: PathBuf,
}

enum Garbage {
    /// By its id.
    Container(String),
    Directory(PathBuf),
    /// What is left in memory of much work.
    Memory,
}

pub struct Collector {
    sender: Option<Sender<Garbage>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub fn start(
        store: Arc<StateStore>,
        images: Arc<corten_image::Store>,
        places: Places,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("collector".to_owned())
            .stack_size(256 << 10)
            .spawn(move || collect(&receiver, &store, &images, &places))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// The files of container `id` may go.
    pub fn discard(&self, id: String) {
        self.collect(Garbage::Container(id));
    }

    /// This directory, which has a name that the next start knows as garbage, may go.
    pub fn discard_directory(&self, path: PathBuf) {
        self.collect(Garbage::Directory(path));
    }

    /// Much memory was used, and will not be needed again soon.
    pub fn tidy(&self) {
        self.collect(Garbage::Memory);
    }

    fn collect(&self, garbage: Garbage) {
        if let Some(sender) = &self.sender {
            // The receiver only ends after the sender; an entry that got lost would be found at the next start.
            let _ = sender.send(garbage);
        }
    }

    /// Finishes what was asked for.
    pub fn stop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Work<'a> {
    store: &'a StateStore,
    images: &'a corten_image::Store,
    places: &'a Places,
    /// What could not be deleted: a process on its end may have written into it meanwhile.
    failed: Vec<Garbage>,
    attempts: u32,
}

fn collect(receiver: &Receiver<Garbage>, store: &StateStore, images: &corten_image::Store, places: &Places) {
    let mut work = Work { store, images, places, failed: Vec::new(), attempts: 0 };
    while let Ok(first) = receiver.recv() {
        let mut next = Ok(first);
        loop {
            match next {
                // What has piled up meanwhile goes in one transaction.
                Ok(first) => {
                    work.attempts = 0;
                    work.delete(std::iter::once(first).chain(receiver.try_iter()));
                }
                Err(RecvTimeoutError::Timeout) if work.failed.is_empty() => break,
                Err(RecvTimeoutError::Timeout) => work.try_again(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            next = receiver.recv_timeout(REST);
        }
        // Whatever kept the engine busy is over.
        memory::trim_heap();
        if let Err(error) = memory::release_code() {
            debug!(%error, "giving code pages back");
        }
    }
}

impl Work<'_> {
    fn delete(&mut self, garbage: impl Iterator<Item = Garbage>) {
        let mut gone = Vec::new();
        for garbage in garbage {
            let outcome = match &garbage {
                Garbage::Container(id) => delete(id, self.images, self.places),
                Garbage::Directory(path) => tree::remove(path).map_err(|e| e.to_string()),
                Garbage::Memory => continue,
            };
            match (outcome, garbage) {
                (Ok(()), Garbage::Container(id)) => gone.push(id),
                (Ok(()), _) => {}
                (Err(error), garbage) if self.attempts == ATTEMPTS => garbage.complain(&error),
                (Err(_), garbage) => self.failed.push(garbage),
            }
        }
        if let Err(error) = self.store.garbage_collected(&gone) {
            warn!(%error, "garbage list");
        }
    }

    fn try_again(&mut self) {
        self.attempts += 1;
        let failed = std::mem::take(&mut self.failed);
        self.delete(failed.into_iter());
    }
}

impl Garbage {
    fn complain(&self, error: &str) {
        match self {
            Self::Container(id) => {
                warn!(container = id, error, "files of a removed container stay until the next start");
            }
            Self::Directory(path) => {
                warn!(path = %path.display(), error, "files of a removed volume stay until the next start");
            }
            Self::Memory => {}
        }
    }
}

fn delete(id: &str, images: &corten_image::Store, places: &Places) -> Result<(), String> {
    images.remove_snapshot(id).map_err(|e| e.to_string())?;
    for parent in [&places.containers, &places.run] {
        tree::remove(&parent.join(id)).map_err(|e| e.to_string())?;
    }
    Ok(())
}
