//! The product driven by real clients: a private engine per test, and a look at the host before and after.
//!
//! [`TestEngine`] has its own data root, socket, bridge and table, so that tests run side by side and beside a real Docker.
//! When it goes, nothing of it may be left: mounts, interfaces, control groups, rules, processes, files.

mod archive;
mod client;
mod engine;
mod leaks;

pub use archive::{busybox_archive, busybox_rootfs, tar_of};
pub use client::{Output, run};
pub use engine::{TestEngine, binary};

use std::time::{Duration, Instant};

/// Waits for a condition that some other process brings about.
///
/// # Panics
/// When it has not come true within half a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: still not so after 30 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}
