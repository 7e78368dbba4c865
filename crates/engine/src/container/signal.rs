//! Signals as requests and configurations name them.

use corten_sys::signal_name;

use super::stop::{SIGKILL, SIGTERM};
use crate::error::{Error, Result};

/// `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3` → the number.
pub(crate) fn signal_number(text: &str) -> Result<i32> {
    signal_name::number(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}

/// The signal that a container is stopped by, as its configuration has it. One that the kernel doesn't know reaches nobody, and so
/// the end comes at once.
pub(crate) fn stop_signal(text: &str) -> i32 {
    match text {
        "" => SIGTERM,
        text => signal_name::number(text).unwrap_or(SIGKILL),
    }
}
