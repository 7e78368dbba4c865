//! A monitor stands beside every container, so what it takes for itself is a promise.

use corten_runtime::monitor::read_state;

use crate::fixture::{Host, eventually, is_root};
use crate::names;

/// KiB of private memory that a monitor may have; a release build against musl takes 76.
const PRIVATE_KIB_MAX: u64 = 250;

#[test]
fn a_monitor_s_private_memory_is_within_its_promise() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let (network, sockets) = names::network();
    let mut asking =
        host.launch("for i in $(seq 200); do nslookup -type=a web 127.0.0.11; done; echo asked; sleep 1000");
    asking.resolver = Some(names::resolver(host.dir.path(), "web", "10.9.9.9"));
    let mut containers = [
        host.run("sleep 1000"),
        host.run("echo some output; sleep 1000"),
        host.start_with_names(asking, &network, &sockets),
    ];
    for container in &containers {
        container.started();
        eventually("state.json is there", || read_state(&container.launch.run_dir).is_ok());
    }
    eventually("there is output", || containers[1].log().contains("output"));
    eventually("all names are found", || containers[2].log().contains("asked"));
    for container in &mut containers {
        // Buffers are given back after a second without anything to do.
        let mut private = 0;
        eventually("a monitor is small", || {
            private = container.monitor_s_private_kib();
            private <= PRIVATE_KIB_MAX
        });
        eprintln!("{private} KiB private");
        container.signal(9);
        container.exited();
        container.gone();
    }
}
