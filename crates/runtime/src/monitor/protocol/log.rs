//! Where a container's output is kept and sent: settled by the engine, carried out by the monitor.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The log of one container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LogConfig {
    /// Of the file; for a log that goes elsewhere, of the copy that can be read here.
    pub driver: LogDriver,
    /// The log file; rotated ones are `<path>.1`, `<path>.2`, … (the highest number is the oldest).
    pub path: PathBuf,
    /// Bytes after which the file is rotated; 0: never.
    pub bytes_max: u64,
    /// Files kept, the current one included; at least 1.
    pub files_max: u32,
    /// Rotated files become `<path>.N.gz`.
    #[serde(default)]
    pub compress: bool,
    /// A JSON object that every line of a `json-file` bears as `attrs`; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attributes: String,
    /// Where the output is sent to besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Box<RemoteLog>>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    None,
    Local,
    JsonFile,
}

/// A receiver of log messages.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct RemoteLog {
    pub format: RemoteFormat,
    pub transport: Transport,
    /// Tried in turn.
    pub addresses: Vec<RemoteAddress>,
    /// The name and port that they come from, if they do: looked up again when none of them answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<(String, u16)>,
    pub policy: RemotePolicy,
}

/// What happens when the receiver does not take messages.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct RemotePolicy {
    /// Output kept meanwhile; beyond that it is lost. `None`: the container waits.
    pub buffer_bytes_max: Option<u64>,
    /// Whether the container waits also while there is no connection at all.
    pub wait_for_connection: bool,
    /// The first pause before another attempt to connect; later ones are longer.
    pub retry_ms: u32,
    /// Failed attempts in a row after which what waits is lost.
    pub retries_max: Option<u32>,
    /// A connection that takes nothing for so long is given up; 0: never.
    pub write_timeout_ms: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    Stream,
    Datagram,
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum RemoteAddress {
    Ip(SocketAddr),
    Unix(PathBuf),
}

/// How a message is written.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum RemoteFormat {
    Syslog(Syslog),
    /// The journal's native protocol: fields beside the message, with names that it takes.
    Journald {
        fields: Vec<(String, String)>,
    },
    Fluentd {
        tag: String,
        /// Beside `source`, `log` and what tells of partial messages.
        record: Vec<(String, String)>,
        sub_second: bool,
    },
    Gelf {
        host: String,
        /// Members of the JSON object, without braces.
        members: String,
        compression: GelfCompression,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Syslog {
    pub format: SyslogFormat,
    /// 0 to 23.
    pub facility: u8,
    pub host: String,
    pub tag: String,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum SyslogFormat {
    /// RFC 3164 without the host's name, as for the log socket of one's own host.
    Unix,
    Rfc3164,
    Rfc5424,
    /// With microseconds.
    Rfc5424Micro,
}

/// Of datagrams.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum GelfCompression {
    None,
    Gzip(i8),
    Zlib(i8),
}
