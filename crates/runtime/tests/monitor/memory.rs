//! A monitor stands beside every container, so what it takes for itself is a promise.

use corten_runtime::monitor::read_state;

use crate::fixture::{Host, eventually, is_root};

/// KiB of private memory that a monitor may have; a release build against musl takes 76.
const PRIVATE_KIB_MAX: u64 = 250;

#[test]
fn a_monitor_s_private_memory_is_within_its_promise() {
    if !is_root() {
        return;
    }
    let host = Host::new();
    let mut containers = [host.run("sleep 1000"), host.run("echo some output; sleep 1000")];
    for container in &containers {
        container.started();
        eventually("state.json is there", || read_state(&container.launch.run_dir).is_ok());
    }
    eventually("there is output", || containers[1].log().contains("output"));
    // Buffers are given back after a second without anything to do.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    for container in &mut containers {
        let monitor = read_state(&container.launch.run_dir).unwrap().monitor_pid;
        let smaps = std::fs::read_to_string(format!("/proc/{monitor}/smaps_rollup")).unwrap();
        let private: u64 = smaps
            .lines()
            .filter(|l| l.starts_with("Private_"))
            .filter_map(|l| l.split_ascii_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        assert!(private <= PRIVATE_KIB_MAX, "{private} KiB private\n{smaps}");
        container.signal(9);
        container.exited();
        container.gone();
    }
}
