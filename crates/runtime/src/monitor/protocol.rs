//! What the engine, the zygote and the monitors say to each other.
//!
//! Every conversation runs over a `SOCK_SEQPACKET` unix socket: one JSON document per packet, descriptors
//! beside it by `SCM_RIGHTS`. A [`Launch`] may be larger than a packet and so travels in a memfd.
//!
//! engine → zygote: one byte `L` with the descriptors `[launch memfd, control socket, (netns), (streams of the first attach)]`.
//! engine ↔ monitor: [`Request`] and [`Event`] over the control socket given at launch, and later over any
//! connection to `<run_dir>/monitor.sock`. A monitor serves several connections; events go to all of them.

mod health;
mod log;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use log::{
    GelfCompression, LogConfig, LogDriver, RemoteAddress, RemoteFormat, RemoteLog, RemotePolicy, Syslog,
    SyslogFormat, Transport,
};

use crate::dns::Resolver;
use crate::spec::{Process, Spec};

pub use health::{Health, HealthCheck, HealthStatus, ProbeResult, Remedy};

/// Everything a monitor needs to start one container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Directory on tmpfs that exists already: `monitor.sock`, `state.json` and `config.json` are written there.
    pub run_dir: PathBuf,
    /// Directory on disk that exists already: `exit.json` is written there, durably.
    pub state_dir: PathBuf,
    /// The OCI configuration. `process.args[0]` is searched in the container's `PATH`.
    pub spec: Spec,
    pub rootfs: Rootfs,
    /// Who runs the process, as the user wrote it (`name`, `uid`, `name:group`, …); resolved by the child in the
    /// container's own passwd and group files. `None`: `spec.process.user` stands as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Supplementary groups by name or number (`--group-add`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Limits that must be met or the start fails: `RLIMIT_…` kinds, `oomScoreAdj`. Others are cut down to what is allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strict: Vec<String>,
    /// Create the working directory when the image lacks it, as Docker does.
    #[serde(default)]
    pub create_cwd: bool,
    /// Run the command under a small init that forwards signals and reaps orphans (`--init`).
    #[serde(default)]
    pub init: bool,
    pub stdio: Stdio,
    pub log: LogConfig,
    /// Which of the descriptors that follow the control socket are there, in this order.
    #[serde(default)]
    pub fds: Vec<LaunchFd>,
    /// Wait for [`Request::Start`] before the exec (two-phase start, for namespaces that the engine must equip first).
    #[serde(default)]
    pub hold: bool,
    /// What the container's name server says; it needs [`LaunchFd::Resolver`] to be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<Resolver>,
    /// How the container's health is probed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Box<HealthCheck>>,
    /// Another OCI runtime that makes the container; `None`: the monitor does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Program>,
}

/// The command line of another OCI runtime, up to where runc's global flags follow.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
}

/// A descriptor that comes with a [`Launch`].
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum LaunchFd {
    /// The network namespace to enter.
    NetworkNamespace,
    /// A client's connection, attached before the first byte of output.
    Attach(Attach),
    /// Two descriptors, with [`Launch::resolver`]: a UDP socket and a listening TCP socket in the container's network.
    Resolver,
    /// The first connection to the receiver of the log.
    Log,
}

/// Where the container's root file system comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// `spec.root.path`, a directory.
    Directory,
    /// An overlay that the child mounts in its own mount namespace on `mount_point`.
    Overlay {
        /// Topmost layer first.
        lower: Vec<PathBuf>,
        upper: PathBuf,
        work: PathBuf,
        /// Skip all syncing: the writable layer dies with the container (`--rm`).
        volatile: bool,
        mount_point: PathBuf,
    },
}

/// The container's own standard streams.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stdio {
    pub tty: bool,
    /// Rows, columns at the start; 0, 0 where unknown.
    #[serde(default)]
    pub size: (u16, u16),
    /// Keep stdin open although nobody is attached.
    pub open_stdin: bool,
    /// Close stdin when the first attached client is done with it.
    pub stdin_once: bool,
}

/// A client's wish to see and feed the streams of the container or of one exec.
///
/// The connection's descriptor comes along; from then on it belongs to the monitor, which writes to it in Docker's
/// framing (8-byte headers) unless `raw`, reads stdin from it, honours half-close in both directions, and closes
/// it when the process and its output have ended.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Attach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    /// No framing: a terminal's stream.
    pub raw: bool,
    /// Bytes that, typed in a row, detach this client. Empty: none do.
    #[serde(default)]
    pub detach_keys: Vec<u8>,
    /// Bytes that were read from the connection before it was handed over: the beginning of stdin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stdin_head: Vec<u8>,
    /// It came with the start, as a terminal does: the container waits for it for as long as it takes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds: bool,
}

/// engine → monitor. Every request but [`Request::Start`] is answered by exactly one event that bears its `seq`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Request {
    /// Lets a held container run.
    Start,
    /// Signals the container's first process.
    Signal {
        seq: u64,
        signal: i32,
    },
    /// Descriptors: one connection when `attach` is there.
    Attach {
        seq: u64,
        exec: Option<String>,
        attach: Attach,
    },
    /// Descriptors: one connection when `attach` is there.
    Exec {
        seq: u64,
        exec: String,
        process: Box<Process>,
        user: Option<String>,
        groups: Vec<String>,
        stdio: Stdio,
        attach: Option<Attach>,
    },
    SignalExec {
        seq: u64,
        exec: String,
        signal: i32,
    },
    Resize {
        seq: u64,
        exec: Option<String>,
        rows: u16,
        columns: u16,
    },
    /// Changes what the container's name server says, or ends it. Descriptors: none, or two sockets at which it is to serve
    /// from now on, as with [`LaunchFd::Resolver`].
    Resolve {
        seq: u64,
        resolver: Option<Resolver>,
    },
    /// Asks for the process and the execs, answered by [`Event::Status`].
    Status {
        seq: u64,
    },
    /// Asks for the container's health, answered by [`Event::Health`].
    Health {
        seq: u64,
    },
    /// Its memory is limited from now on: [`Event::OutOfMemory`] is wanted. Who is launched with a limit tells of it anyway.
    WatchMemory {
        seq: u64,
    },
}

/// monitor → engine.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The container's process exists and waits (only with `hold`).
    Created {
        pid: i32,
    },
    /// The exec succeeded.
    Started {
        pid: i32,
        at: Timestamp,
    },
    /// The container could not be started; nothing of it is left. The monitor ends.
    Failed {
        error: StepError,
    },
    /// The container's first process has ended, its output is logged, its exit record is written. The monitor ends once every
    /// client has got its output.
    Exited {
        exit: Exit,
    },
    ExecStarted {
        seq: u64,
        exec: String,
        pid: i32,
    },
    ExecFailed {
        seq: u64,
        exec: String,
        error: StepError,
    },
    ExecExited {
        exec: String,
        code: i32,
    },
    Done {
        seq: u64,
    },
    Refused {
        seq: u64,
        error: StepError,
    },
    Status {
        seq: u64,
        pid: i32,
        started: Timestamp,
        execs: Vec<ExecStatus>,
    },
    Health {
        seq: u64,
        /// `None` where nobody asks after it.
        health: Option<Health>,
    },
    /// A probe of the container's health has begun.
    ProbeStarted {
        exec: String,
    },
    /// It is over.
    Probed {
        exec: String,
        /// How its process ended; `None` where there was none.
        exit: Option<i32>,
        status: HealthStatus,
        failing_streak: u64,
        result: ProbeResult,
    },
    /// The container was sent this signal because it is unhealthy.
    Remedied {
        signal: i32,
    },
    /// The container was at its limit of memory, and the kernel ends a process of it. At its end [`Exit::oom_killed`] tells the same.
    OutOfMemory,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecStatus {
    pub exec: String,
    pub pid: i32,
    /// `None` while it runs.
    pub code: Option<i32>,
}

/// How a container ended; also the content of `exit.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Exit {
    /// 0..=255; 128 + signal when a signal ended it.
    pub code: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// The kernel killed a process of the container for want of memory.
    pub oom_killed: bool,
    /// It left a core dump.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub core_dumped: bool,
    /// Why the monitor ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    pub started: Timestamp,
    pub finished: Timestamp,
}

/// Why the monitor ended its container.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It was unhealthy. Whether it is to be started again; `None`: that is its restart policy's business.
    Unhealthy { again: Option<bool> },
}

/// Nanoseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(transparent)]
pub struct Timestamp(pub i64);

/// What went wrong while a container or an exec was started: which step, on which object, and the kernel's answer.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq, thiserror::Error)]
#[error("{step}: {object}: {message}")]
pub struct StepError {
    pub step: Step,
    /// The path, name or number that the step was about.
    pub object: String,
    /// 0 where no system call failed.
    pub errno: i32,
    pub message: String,
}

/// The steps of a start that can fail, in the order in which they happen.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Spec,
    Cgroup,
    Namespace,
    IdMapping,
    Rootfs,
    Mount,
    Device,
    MaskedPath,
    Hook,
    Console,
    Hostname,
    Sysctl,
    Rlimit,
    Scheduler,
    Seccomp,
    Label,
    Capability,
    User,
    WorkingDirectory,
    /// The program itself: not found, not executable, wrong architecture, missing interpreter.
    Exec,
    Log,
    Monitor,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = match self {
            Self::Spec => "configuration",
            Self::Cgroup => "cgroup",
            Self::Namespace => "namespace",
            Self::IdMapping => "user mapping",
            Self::Rootfs => "root file system",
            Self::Mount => "mount",
            Self::Device => "device",
            Self::MaskedPath => "masked path",
            Self::Hook => "hook",
            Self::Console => "console",
            Self::Hostname => "hostname",
            Self::Sysctl => "sysctl",
            Self::Rlimit => "rlimit",
            Self::Scheduler => "scheduler",
            Self::Seccomp => "seccomp",
            Self::Label => "security label",
            Self::Capability => "capability",
            Self::User => "user",
            Self::WorkingDirectory => "working directory",
            Self::Exec => "exec",
            Self::Log => "log",
            Self::Monitor => "monitor",
        };
        f.write_str(name)
    }
}
