//! The collector: deletes the files of containers and volumes that are gone, off everybody's path.
//!
//! A removed container is first entered in the database's garbage list, in the same transaction that forgets it;
//! whatever is on that list when the engine starts is collected then. A volume's directory has a name that tells the same. One thread, idle
//! at low cost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use corten_sys::tree;
use tracing::warn;

use crate::store::StateStore;

/// Directories that bear a container's id as their last part.
pub struct Places {
    pub containers: PathBuf,
    pub run: PathBuf,
}

enum Garbage {
    /// By its id.
    Container(String),
    Directory(PathBuf),
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

fn collect(receiver: &Receiver<Garbage>, store: &StateStore, images: &corten_image::Store, places: &Places) {
    while let Ok(first) = receiver.recv() {
        let mut gone = Vec::new();
        // What has piled up meanwhile goes in one transaction.
        for garbage in std::iter::once(first).chain(receiver.try_iter()) {
            match garbage {
                Garbage::Container(id) => match delete(&id, images, places) {
                    Ok(()) => gone.push(id),
                    Err(error) => {
                        warn!(container = id, %error, "files of a removed container stay until the next start")
                    }
                },
                Garbage::Directory(path) => delete_directory(&path),
            }
        }
        if let Err(error) = store.garbage_collected(&gone) {
            warn!(%error, "garbage list");
        }
    }
}

fn delete_directory(path: &Path) {
    if let Err(error) = tree::remove(path) {
        warn!(path = %path.display(), %error, "files of a removed volume stay until the next start");
    }
}

fn delete(id: &str, images: &corten_image::Store, places: &Places) -> Result<(), String> {
    images.remove_snapshot(id).map_err(|e| e.to_string())?;
    for parent in [&places.containers, &places.run] {
        tree::remove(&parent.join(id)).map_err(|e| e.to_string())?;
    }
    Ok(())
}
