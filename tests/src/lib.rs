//! The product driven by real clients: a private engine per test, and a look at the host before and after.
//!
//! [`TestEngine`] has its own data root, socket, bridge and table, so that tests run side by side and beside a real Docker.
//! When it goes, nothing of it may be left: mounts, interfaces, control groups, rules, processes, files. After a failed test, too, all of
//! it is ended and removed.

mod archive;
pub mod browser;
pub mod buildx;
mod client;
pub mod documents;
mod engine;
pub mod git;
pub mod http;
pub mod leaks;
pub mod proxy;
pub mod reference;
pub mod registry;
pub mod s3;
pub mod ssh;
pub mod tls;

pub use archive::{busybox_archive, busybox_rootfs, tar_of};
pub use client::{Output, run, run_with_input};
pub use engine::{TestEngine, binary, free_port, free_subnet};

use std::time::{Duration, Instant, SystemTime};

/// Seconds since 1970, as Docker's client understands times of `--since` and `--until`.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_secs()
}

/// Waits for a condition that some other process brings about.
///
/// # Panics
/// When it has not come true within a minute.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: still not so after a minute");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What two clients say last, if never the same: the clock goes on, and "1 second ago" may be "2 seconds ago" for the next.
pub fn difference<T: PartialEq>(mut ask: impl FnMut() -> (T, T)) -> Option<(T, T)> {
    for _ in 0..20 {
        let (ours, theirs) = ask();
        if ours == theirs {
            return None;
        }
    }
    Some(ask())
}
