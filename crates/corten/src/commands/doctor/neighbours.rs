//! Other engines on this host: they may live beside ours, but people should know whom their clients talk to.

use std::os::unix::net::UnixStream;
use std::path::Path;

use super::{Finding, Verdict};

const AREA: &str = "neighbours";

const SOCKETS: [(&str, &str); 4] = [
    ("/var/run/docker.sock", "Docker's socket"),
    ("/run/podman/podman.sock", "Podman's socket"),
    ("/run/containerd/containerd.sock", "containerd's socket"),
    ("/run/corten/corten.sock", "Corten's socket"),
];

pub fn findings() -> Vec<Finding> {
    SOCKETS
        .into_iter()
        .filter(|(path, _)| Path::new(path).exists())
        .map(|(path, what)| match (UnixStream::connect(path), path) {
            (Ok(_), "/var/run/docker.sock") => Finding::bad(
                Verdict::Warning,
                AREA,
                what,
                format!("an engine listens on {path}"),
                "clients without DOCKER_HOST talk to that one; stop it before the engine is to listen there",
            ),
            (Ok(_), _) => Finding::ok(AREA, what, format!("somebody listens on {path}")),
            (Err(_), _) => Finding::bad(
                Verdict::Warning,
                AREA,
                what,
                format!("nobody listens on {path}"),
                format!("a socket left behind: rm {path}"),
            ),
        })
        .collect()
}
