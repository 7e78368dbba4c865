//! The door for this host's engine, which hands over files instead of sending their bytes ([`crate::share`]). Whether they make the blob
//! that they are said to be is seen when the upload is finished.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use hyper::header::HeaderValue;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::control;
use super::gate::Peer;
use super::registry::Registry;
use super::route::Endpoint;
use crate::share::{PATH_MAX, PATIENCE, SOCKET, TAKEN};

/// What a client of this host is told when an upload begins: where the door is. None where it can't be written.
pub fn header(peer: &Peer, data: &Path) -> Option<HeaderValue> {
    let data = peer.address.ip().to_canonical().is_loopback().then(|| std::path::absolute(data))?.ok()?;
    HeaderValue::from_str(data.to_str()?).ok()
}

/// Opens the door.
pub fn open(data: &Path) -> io::Result<UnixListener> {
    control::bind(data, SOCKET)
}

/// Serves until it is dropped.
pub async fn serve(listener: UnixListener, registry: Registry) {
    control::each(listener, |stream| {
        let registry = registry.clone();
        async move {
            match timeout(PATIENCE, take(&registry, stream)).await {
                Ok(Ok(taken)) => tracing::debug!(taken, "a file was offered"),
                Ok(Err(error)) => tracing::debug!(%error, "a file was offered"),
                Err(_) => tracing::debug!("a file was to be offered, but nothing came in time"),
            }
        }
    })
    .await;
}

async fn take(registry: &Registry, mut stream: UnixStream) -> io::Result<bool> {
    let mut path = [0; PATH_MAX];
    let mut fds = Vec::new();
    let read = stream
        .async_io(Interest::READABLE, || Ok(corten_sys::fd::receive(stream.as_fd(), &mut path, &mut fds)?));
    let length = read.await?;
    let path = std::str::from_utf8(&path[..length]).unwrap_or_default();
    let taken = match (Endpoint::parse(path), fds.pop()) {
        (Ok(Endpoint::Upload(repository, id)), Some(file)) => {
            let taken = registry.uploads.adopt(&repository, id, File::from(file)).await;
            taken.map_err(|refusal| io::Error::other(refusal.cause.unwrap_or(refusal.message)))?
        }
        _ => false,
    };
    stream.write_all(if taken { TAKEN } else { b"no" }).await?;
    Ok(taken)
}
