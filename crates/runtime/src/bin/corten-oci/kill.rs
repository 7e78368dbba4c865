//! `kill`: a signal for the first process, or for all.

use std::os::fd::AsFd;

use corten_sys::{process, signal_name};

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::store::{Container, Status};

pub fn kill(global: &Global, arguments: &Arguments) -> Outcome<u8> {
    let container = Container::open(global, arguments.id())?;
    let signal = number(arguments.words.get(1).map_or("SIGTERM", String::as_str))?;
    if arguments.has("all") {
        // Also when the first process has ended: in a shared PID namespace others may be left.
        if let Ok(cgroup) = container.cgroup() {
            cgroup.signal_all(signal)?;
        }
        return Ok(0);
    }
    let process = container.process().filter(|_| container.status() != Status::Stopped);
    let Some(pidfd) = process else { return Err(Failure::new("container not running")) };
    process::pidfd_send_signal(pidfd.as_fd(), signal).map_err(|e| match e {
        rustix::io::Errno::SRCH => Failure::new("container not running"),
        e => Failure::during("signal")(e),
    })?;
    Ok(0)
}

/// `15`, `TERM`, `SIGTERM`, `RTMIN+3`; `0` only asks whether it is there (kill(2)).
fn number(text: &str) -> Outcome<i32> {
    if text == "0" {
        return Ok(0);
    }
    signal_name::number(text).ok_or_else(|| Failure::new(format!("unknown signal {text:?}")))
}
