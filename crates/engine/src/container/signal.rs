//! Signals as requests name them.

use corten_sys::signal_name;

use crate::error::{Error, Result};

/// `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3` → the number.
pub(crate) fn signal_number(text: &str) -> Result<i32> {
    signal_name::number(text).ok_or_else(|| Error::invalid(format!("invalid signal: {text}")))
}
