//! Writing loaded blobs out to the disk behind the user's back.
//!
//! Layers are on the disk when they are imported; the compressed blobs beside them are needed for pushing only, so
//! nobody waits for those: until a blob is on the disk, the database knows it as unsynced (see
//! [`super::recover`]). One thread, owned by the
//! store, which ends when the store goes; what it has not done by then, the next process does.

use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::blobs::Blobs;
use crate::digest::Digest;
use crate::metadata::{Database, DatabaseError};

enum Order {
    Sync(Vec<Digest>),
    /// Answers when everything before it is done.
    Report(Sender<()>),
}

#[derive(Debug)]
pub(super) struct Writeout {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Writeout {
    pub(super) fn start(blobs: Arc<Blobs>, database: Arc<Mutex<Database>>) -> Writeout {
        let (sender, receiver) = mpsc::channel();
        let work = move || {
            while let Ok(order) = receiver.recv() {
                match order {
                    Order::Sync(content) => write_out(&content, &blobs, &database),
                    Order::Report(done) => drop(done.send(())),
                }
            }
        };
        let thread = thread::Builder::new().name("image-writeout".to_owned()).spawn(work);
        match thread {
            Ok(thread) => Writeout { orders: Some(sender), thread: Some(thread) },
            // Without the thread content stays unsynced until a process can start one.
            Err(error) => {
                tracing::warn!(%error, "cannot start the thread that writes images out");
                Writeout { orders: None, thread: None }
            }
        }
    }

    /// Hands content over; returns at once.
    pub(super) fn push(&self, content: Vec<Digest>) {
        if let Some(orders) = &self.orders
            && !content.is_empty()
        {
            let _ = orders.send(Order::Sync(content));
        }
    }

    /// Waits for everything handed over so far.
    pub(super) fn wait(&self) {
        let (done, finished) = mpsc::channel();
        if let Some(orders) = &self.orders
            && orders.send(Order::Report(done)).is_ok()
        {
            let _ = finished.recv();
        }
    }
}

impl Drop for Writeout {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_out(content: &[Digest], blobs: &Blobs, database: &Mutex<Database>) {
    for digest in content {
        if !blobs.contains(digest) {
            continue; // Removed meanwhile, and its row with it.
        }
        if let Err(error) = blobs.sync(digest) {
            tracing::warn!(%digest, %error, "cannot write a blob out; it counts as lost if the machine crashes");
            continue;
        }
        let mut database = database.lock().unwrap_or_else(PoisonError::into_inner);
        let marked: Result<(), DatabaseError> = database.change(|change| change.mark_synced(digest));
        if let Err(error) = marked {
            tracing::warn!(%digest, %error, "cannot record that a blob is on the disk");
        }
    }
}
