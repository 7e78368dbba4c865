//! Why a container ended, in one word for programs and one line for people. Pure.

use corten_api::Timestamp;
use corten_api::container::ExitReason;
use corten_runtime::monitor::protocol::{Cause, Exit};
use serde::{Deserialize, Serialize};

use corten_sys::signal_name::name as signal_name;

/// TERM and its like, which a program may react to in its own way, are taken for the cause of an end that follows within so many seconds.
const CONSEQUENCE_S: u64 = 10;

/// The last thing that was done to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub by: By,
    pub signal: i32,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// `stop`, `restart`.
    Stop,
    /// A stop whose signal was not heeded.
    StopByForce,
    /// `kill`.
    Kill,
    /// The engine could not write its start down.
    Engine,
}

/// Its end was not seen by its monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Which was killed itself.
    Monitor,
    /// As the host was started anew.
    Host,
}

/// What is known of an end. `memory_bytes_max`: its limit, 0 for none.
pub fn explain(exit: &Exit, asked: Option<Asked>, lost: Option<Lost>, memory_bytes_max: i64) -> ExitReason {
    let (kind, message) = match (lost, exit.cause, asked.filter(|asked| follows(exit, *asked))) {
        (Some(Lost::Monitor), ..) => ("monitor-lost", "its monitor was killed, and it with it".to_owned()),
        (Some(Lost::Host), ..) => ("host-restarted", "the host was started anew".to_owned()),
        (_, Some(Cause::Unhealthy { again }), _) => ("unhealthy", unhealthy(again)),
        (_, _, Some(asked)) => on_request(asked),
        _ if exit.oom_killed && exit.code == 137 => ("out-of-memory", out_of_memory(memory_bytes_max)),
        _ => by_itself(exit),
    };
    ExitReason {
        kind: kind.to_owned(),
        message,
        signal: exit.signal.map(signal_name).unwrap_or_default(),
        core_dumped: exit.core_dumped,
    }
}

/// A start that came to nothing.
pub fn not_started(error: &str) -> ExitReason {
    ExitReason { kind: "not-started".to_owned(), message: error.to_owned(), ..ExitReason::default() }
}

/// Whether the end is what was asked for.
fn follows(exit: &Exit, asked: Asked) -> bool {
    if asked.by != By::Kill || asked.signal == 9 {
        return true;
    }
    let finished = Timestamp::from_unix_nanos(exit.finished.0);
    let soon = finished.since(asked.at).as_secs() < CONSEQUENCE_S;
    let means_the_end = [2, 3, 15].contains(&asked.signal);
    means_the_end && soon || exit.signal == Some(asked.signal) || exit.code == 128 + asked.signal
}

fn on_request(asked: Asked) -> (&'static str, String) {
    let signal = signal_name(asked.signal);
    match asked.by {
        By::Stop => ("stopped", format!("stopped by its user with {signal}")),
        By::StopByForce => {
            ("stopped", format!("stopped by its user; {signal} was not heeded in time, SIGKILL was"))
        }
        By::Kill => ("killed", format!("killed by its user with {signal}")),
        By::Engine => ("engine", "ended by the engine, which could not write its start down".to_owned()),
    }
}

fn unhealthy(again: Option<bool>) -> String {
    let what = match again {
        None => "killed",
        Some(true) => "stopped, to be started again,",
        Some(false) => "stopped",
    };
    format!("{what} because its health checks failed")
}

fn out_of_memory(bytes_max: i64) -> String {
    let limit = match bytes_max {
        ..=0 => String::new(),
        bytes if bytes % (1 << 20) == 0 => format!(" (its limit is {} MiB)", bytes >> 20),
        bytes => format!(" (its limit is {bytes} bytes)"),
    };
    format!("the kernel killed it for want of memory{limit}")
}

fn by_itself(exit: &Exit) -> (&'static str, String) {
    let before =
        if exit.oom_killed { ", after the kernel had killed a process of it for want of memory" } else { "" };
    if let Some(signal) = exit.signal {
        let dumped = if exit.core_dumped { ", with a core dump" } else { "" };
        return ("signal", format!("ended by {}{dumped}{before}", signal_name(signal)));
    }
    let stands_for = match exit.code {
        129..=192 => format!(", which by custom stands for {}", signal_name(exit.code - 128)),
        _ => String::new(),
    };
    ("exited", format!("its program ended with {}{stands_for}{before}", exit.code))
}

#[cfg(test)]
mod tests {
    use corten_runtime::monitor::protocol;

    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_000;

    fn exit(code: i32, signal: Option<i32>) -> Exit {
        Exit { code, signal, finished: protocol::Timestamp(NOW), ..Exit::default() }
    }

    fn asked(by: By, signal: i32, seconds_ago: i64) -> Option<Asked> {
        Some(Asked { by, signal, at: Timestamp::from_unix_nanos(NOW - seconds_ago * 1_000_000_000) })
    }

    fn kind(exit: &Exit, asked: Option<Asked>) -> String {
        explain(exit, asked, None, 0).kind
    }

    #[test]
    fn ends_of_its_own() {
        assert_eq!(explain(&exit(3, None), None, None, 0).message, "its program ended with 3");
        let by_custom = explain(&exit(139, None), None, None, 0);
        assert_eq!((by_custom.kind.as_str(), by_custom.signal.as_str()), ("exited", ""));
        assert!(by_custom.message.ends_with("SIGSEGV"), "{by_custom:?}");
        let dumped = explain(&Exit { core_dumped: true, ..exit(139, Some(11)) }, None, None, 0);
        assert_eq!(
            (dumped.kind.as_str(), dumped.signal.as_str(), dumped.core_dumped),
            ("signal", "SIGSEGV", true)
        );
    }

    #[test]
    fn want_of_memory() {
        let victim = Exit { oom_killed: true, ..exit(137, Some(9)) };
        let reason = explain(&victim, None, None, 64 << 20);
        assert_eq!(reason.kind, "out-of-memory");
        assert!(reason.message.ends_with("(its limit is 64 MiB)"));
        // A shell whose child was the victim.
        assert_eq!(kind(&Exit { oom_killed: true, ..exit(137, None) }, None), "out-of-memory");
        let survivor = explain(&Exit { oom_killed: true, ..exit(1, None) }, None, None, 0);
        assert_eq!(survivor.kind, "exited");
        assert!(survivor.message.contains("want of memory"));
    }

    #[test]
    fn ends_that_were_asked_for() {
        assert_eq!(kind(&exit(0, None), asked(By::Stop, 15, 100)), "stopped");
        assert_eq!(kind(&exit(137, Some(9)), asked(By::StopByForce, 15, 10)), "stopped");
        assert_eq!(kind(&exit(137, Some(9)), asked(By::Kill, 9, 0)), "killed");
        assert_eq!(kind(&exit(1, None), asked(By::Kill, 15, 3)), "killed");
        assert_eq!(kind(&exit(1, None), asked(By::Kill, 15, 3600)), "exited", "it has lived on long after");
        assert_eq!(kind(&exit(1, None), asked(By::Kill, 1, 3)), "exited", "it was told something else");
        assert_eq!(kind(&exit(129, Some(1)), asked(By::Kill, 1, 3600)), "killed");
    }

    #[test]
    fn ends_that_others_brought_about() {
        let unhealthy = Exit { cause: Some(Cause::Unhealthy { again: None }), ..exit(137, Some(9)) };
        assert_eq!(kind(&unhealthy, None), "unhealthy");
        let lost = |lost| explain(&exit(137, Some(9)), asked(By::Stop, 15, 0), Some(lost), 0).kind;
        assert_eq!(lost(Lost::Monitor), "monitor-lost");
        assert_eq!(lost(Lost::Host), "host-restarted");
    }
}
