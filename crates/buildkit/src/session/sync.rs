//! A directory of the client, brought here.

use super::{Session, metadata};
use crate::tree::{Limits, Place, REQUESTS_OUTSTANDING_MAX, SyncError, receive};
use crate::wire::fsutil::Packet;
use futures_util::StreamExt;
use futures_util::stream::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc;
use tonic::{Request, Streaming};

/// Packets that are handed on together when they have come together, and such handfuls that wait for the disk. A packet is 32 KiB long
/// where the client is fsutil.
const HANDFUL_MAX: usize = 32;
const HANDFULS_WAITING_MAX: usize = 2;
const DIFF_COPY: &str = "/moby.filesync.v1.FileSync/DiffCopy";

/// Which of the client's directories, and what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncOptions {
    /// What the client calls it: `context`, `dockerfile`.
    pub name: String,
    /// Nothing else than these; everything when empty.
    pub include: Vec<String>,
    /// Patterns of a `.dockerignore`.
    pub exclude: Vec<String>,
    /// These, and what they lead to when they are links; everything when empty.
    pub follow: Vec<String>,
}

impl Session {
    /// Brings a place to what the client has in a directory; `received` counts the bytes of contents that came.
    pub async fn sync(
        &self,
        options: &SyncOptions,
        mut place: Place,
        received: Arc<AtomicU64>,
    ) -> Result<Place, SyncError> {
        if !self.serves(DIFF_COPY) {
            return Err(SyncError::Client("no local sources enabled".to_owned()));
        }
        // A request that waits to be sent is one whose file is not here yet; besides these an end or an error.
        let (requests, mut outgoing) = mpsc::channel::<Packet>(REQUESTS_OUTSTANDING_MAX + 2);
        let mut call = Request::new(poll_fn(move |context| outgoing.poll_recv(context)));
        let headers = call.metadata_mut();
        metadata::append(headers, "dir-name", std::slice::from_ref(&options.name));
        metadata::append(headers, "include-patterns", &options.include);
        metadata::append(headers, "exclude-patterns", &options.exclude);
        metadata::append(headers, "followpaths", &options.follow);
        let stream = self
            .channel
            .streaming(DIFF_COPY, call)
            .await
            .map_err(|status| SyncError::Client(status.message().to_owned()))?;
        let (packets, mut incoming) = mpsc::channel(HANDFULS_WAITING_MAX);
        let writer = tokio::task::spawn_blocking(move || {
            let mut count = |bytes| {
                received.fetch_add(bytes, Ordering::Relaxed);
            };
            let mut packets = std::iter::from_fn(|| incoming.blocking_recv()).flatten();
            let done = receive(&mut place, &mut packets, &requests, Limits::default(), &mut count);
            done.map(|()| place)
        });
        let failure = forward(stream, packets).await;
        match writer.await {
            // What the client said is why the files broke off.
            Ok(Err(SyncError::BrokenOff)) => Err(failure.map_or(SyncError::BrokenOff, SyncError::Client)),
            Ok(done) => done,
            Err(_) => Err(SyncError::BrokenOff),
        }
    }
}

/// Passes packets on until either side is done; the client's reason if it gave one.
async fn forward(stream: Streaming<Packet>, packets: mpsc::Sender<Vec<Packet>>) -> Option<String> {
    let mut handfuls = stream.ready_chunks(HANDFUL_MAX);
    loop {
        let handful = tokio::select! {
            handful = handfuls.next() => handful?,
            () = packets.closed() => return None,
        };
        let mut failure = None;
        let good =
            handful.into_iter().map_while(|packet| packet.map_err(|status| failure = Some(status)).ok());
        if packets.send(good.collect()).await.is_err() {
            return None;
        }
        if let Some(status) = failure {
            return Some(status.message().to_owned());
        }
    }
}
