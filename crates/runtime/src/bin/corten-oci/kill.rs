//! `kill`: a signal for the first process, or for all.

use std::os::fd::AsFd;

use corten_sys::process;

use crate::Global;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::store::{Container, Status};

/// In the order of their numbers, from 1 (x86, arm, riscv and most others).
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
const LAST: i32 = 64;
const REALTIME: i32 = 34;

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

/// `15`, `TERM`, `SIGTERM`, `RTMIN+3`.
fn number(text: &str) -> Outcome<i32> {
    let unknown = || Failure::new(format!("unknown signal {text:?}"));
    if let Ok(number) = text.parse::<i32>() {
        return if (0..=LAST).contains(&number) { Ok(number) } else { Err(unknown()) };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(index) = NAMES.iter().position(|n| *n == name) {
        return Ok(index as i32 + 1);
    }
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => Some(REALTIME),
        (_, Some("")) => Some(LAST),
        (Some(more), _) => {
            more.strip_prefix('+').and_then(|n| n.parse::<i32>().ok()).map(|n| REALTIME.saturating_add(n))
        }
        (_, Some(less)) => {
            less.strip_prefix('-').and_then(|n| n.parse::<i32>().ok()).map(|n| LAST.saturating_sub(n))
        }
        _ => None,
    };
    let aliases = [("IOT", 6), ("CLD", 17), ("POLL", 29)];
    realtime
        .filter(|n| (REALTIME..=LAST).contains(n))
        .or_else(|| aliases.iter().find(|(alias, _)| *alias == name).map(|(_, n)| *n))
        .ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn signals_have_names_and_numbers() {
        let cases = [
            ("9", 9),
            ("KILL", 9),
            ("sigterm", 15),
            ("SIGSYS", 31),
            ("RTMIN+3", 37),
            ("RTMAX-1", 63),
            ("0", 0),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text).unwrap(), expected, "{text}");
        }
        for text in ["", "65", "-1", "NOPE", "RTMIN+31", "RTMAX+1"] {
            assert!(number(text).is_err(), "{text}");
        }
    }
}
