//! Log drivers: which there are, what their options mean, and what becomes of them at a container's start.
//!
//! `options` refuses what no driver can do (pure), `attributes` tells labels, variables and tags, `remote` makes a receiver's
//! settings, `connect` finds and reaches it. The monitor does the rest; reading a log is `container/logs.rs`.

mod address;
mod attributes;
mod connect;
mod options;
mod remote;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use corten_runtime::monitor::protocol::{self, LogDriver};

use crate::container::Record;
use crate::error::{Error, Result};

pub use attributes::details;
pub use options::{check, fill_defaults};

/// The drivers, as `info` lists them; `none` besides.
pub const DRIVERS: &[&str] = &["fluentd", "gelf", "journald", "json-file", "local", "syslog"];

type Options = BTreeMap<String, String>;

/// What a container's messages are told to be from.
pub struct Source<'a> {
    pub record: &'a Record,
    /// The host's name.
    pub host: &'a str,
}

/// What a log can be read back from.
pub struct Readable {
    pub driver: LogDriver,
    pub path: PathBuf,
}

/// The file of a container's log, or of the copy that is kept of what goes elsewhere. `path` is the container's by driver.
pub fn readable(record: &Record, path: impl FnOnce(&str) -> PathBuf) -> Result<Readable> {
    let file = options::file(&record.host_config.log_config)?;
    Ok(Readable { driver: file.driver, path: path(&record.host_config.log_config.kind) })
}

/// The settings as the monitor wants them, and the first connection to the receiver, if there is one.
pub async fn launch(source: &Source<'_>, path: PathBuf) -> Result<(protocol::LogConfig, Option<OwnedFd>)> {
    let log = &source.record.host_config.log_config;
    let options::FileOptions { driver, bytes_max, files_max, compress } = options::file(log)?;
    let attributes = match driver {
        LogDriver::JsonFile => attributes::json(source)?,
        _ => String::new(),
    };
    let (remote, socket) = match remote::plan(source)? {
        None => (None, None),
        Some(plan) => {
            let (remote, socket) = connect::reach(plan).await.map_err(|why| {
                Error::internal(format!(
                    "failed to create task for container: failed to initialize logging driver: {why}"
                ))
            })?;
            (Some(Box::new(remote)), socket)
        }
    };
    Ok((protocol::LogConfig { driver, path, bytes_max, files_max, compress, attributes, remote }, socket))
}
