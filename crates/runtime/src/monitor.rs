//! The monitor: parent of one container, and the zygote that forks monitors.
//!
//! The engine holds a [`Zygote`] and one [`Connection`] per running container; what they say is in [`protocol`].
//! Inside the process `corten-shim`: [`serve_zygote`] forks, `beginning` and `start` bring the container up, and `run` is the loop that
//! lives as long as it does, until `ending`: `streams` and `attached` carry its output and input, `control` and `requests` talk to
//! engines, `execs` runs further processes, `health` and `probes` ask after the container's health, `record` writes what has to be
//! found again. docs/monitor.md tells what clients may expect.
//!
//! Everything is single-threaded and small: a monitor stands beside every container. Knows nothing of HTTP, tokio and images.

mod attached;
mod beginning;
mod birth;
mod clients;
mod connection;
mod control;
mod detach;
mod ending;
mod execs;
mod health;
mod lookup;
mod packing;
mod patience;
mod poll;
mod probes;
mod process_tree;
pub mod protocol;
mod record;
mod requests;
mod run;
mod shipping;
mod start;
mod streams;
mod zygote;

pub use connection::Connection;
pub use record::{RunState, read_exit, read_state, start_ticks};
pub use start::{control_group, filter, group_entry, group_error, remove_group};
pub use zygote::{Zygote, serve_zygote};

use std::time::{SystemTime, UNIX_EPOCH};

use protocol::{Step, StepError, Timestamp};

/// The name of the monitor's socket in the run directory.
pub const SOCKET: &str = "monitor.sock";

impl Timestamp {
    pub fn now() -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
}

impl StepError {
    /// An error of the system on the way.
    pub fn of(step: Step, object: impl Into<String>, error: impl Into<std::io::Error>) -> Self {
        let error = error.into();
        let errno = error.raw_os_error().unwrap_or(0);
        Self { step, object: object.into(), errno, message: describe(&error) }
    }
}

/// Without "(os error 2)", which says nothing to people.
fn describe(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_lowercase(),
        None => text,
    }
}
