//! Passes signals that reach us on to the container.

use std::io;

use corten_api::client::Client;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// What is passed on. Left out: what can't be caught, what the kernel sends for our own doings (CHLD, PIPE, URG, faults)
/// and WINCH, which becomes a resize.
const FORWARDED: [(i32, &str); 16] = [
    (1, "HUP"),
    (2, "INT"),
    (3, "QUIT"),
    (6, "ABRT"),
    (10, "USR1"),
    (12, "USR2"),
    (14, "ALRM"),
    (15, "TERM"),
    (18, "CONT"),
    (20, "TSTP"),
    (21, "TTIN"),
    (22, "TTOU"),
    (24, "XCPU"),
    (25, "XFSZ"),
    (29, "IO"),
    (30, "PWR"),
];

/// Catches signals from now on and sends each to the container.
pub fn forward(client: &Client, container: &str) -> io::Result<()> {
    let (sender, mut caught) = mpsc::unbounded_channel();
    for (number, name) in FORWARDED {
        let mut stream = signal(SignalKind::from_raw(number))?;
        let sender = sender.clone();
        tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(name).is_ok() {} });
    }
    let client = client.clone();
    let container = container.to_owned();
    tokio::spawn(async move {
        while let Some(name) = caught.recv().await {
            // A container that isn't running (yet, or any more) has no use for it.
            let _ = client.container_kill(&container, name).await;
        }
    });
    Ok(())
}
