//! The collector: deletes the files of containers that are gone, off everybody's path.
//!
//! A removed container is first entered in the database's garbage list, in the same transaction that forgets it;
//! whatever is on that list when the engine starts is collected then. One thread, idle at low cost.

use std::path::PathBuf;
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

pub struct Collector {
    sender: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    pub fn start(
        store: Arc<StateStore>,
        images: Arc<corten_image::Store>,
        places: Places,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = channel::<String>();
        let thread = std::thread::Builder::new()
            .name("collector".to_owned())
            .stack_size(256 << 10)
            .spawn(move || collect(&receiver, &store, &images, &places))?;
        Ok(Self { sender: Some(sender), thread: Some(thread) })
    }

    /// The files of container `id` may go.
    pub fn discard(&self, id: String) {
        if let Some(sender) = &self.sender {
            // The receiver only ends after the sender; an entry that got lost would be found at the next start.
            let _ = sender.send(id);
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

fn collect(receiver: &Receiver<String>, store: &StateStore, images: &corten_image::Store, places: &Places) {
    while let Ok(first) = receiver.recv() {
        let mut gone = Vec::new();
        // What has piled up meanwhile goes in one transaction.
        for id in std::iter::once(first).chain(receiver.try_iter()) {
            match delete(&id, images, places) {
                Ok(()) => gone.push(id),
                Err(error) => {
                    warn!(container = id, %error, "files of a removed container stay until the next start")
                }
            }
        }
        if let Err(error) = store.garbage_collected(&gone) {
            warn!(%error, "garbage list");
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
