//! Which namespaces a container gets of its own, which it shares, and with whom.

use corten_api::container::HostConfig;
use corten_runtime::spec::{Namespace, NamespaceKind};

use crate::error::{Error, Result};

/// One of the modes of `--pid`, `--ipc`, `--uts`, `--userns`, `--cgroupns`, `--network`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    Private,
    Host,
    /// Of another container, by what the user called it.
    Container(String),
    /// Private, and others may join it (ipc).
    Shareable,
    /// No shared memory at all (ipc).
    None,
}

/// The modes of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modes {
    pub pid: Mode,
    pub ipc: Mode,
    pub uts: Mode,
    pub user: Mode,
    pub cgroup: Mode,
}

impl Modes {
    /// `unified`: the host's control groups are version 2, where a private namespace is the default.
    pub fn parse(host: &HostConfig, unified: bool) -> Result<Self> {
        let cgroup = match host.cgroupns_mode.as_str() {
            "" if unified && !host.privileged => Mode::Private,
            "" => Mode::Host,
            "private" => Mode::Private,
            "host" => Mode::Host,
            other => return Err(Error::invalid(format!("invalid cgroup namespace mode: {other}"))),
        };
        Ok(Self {
            pid: mode("PID", &host.pid_mode, &["host", "container"])?,
            ipc: mode("IPC", &host.ipc_mode, &["private", "host", "container", "shareable", "none"])?,
            uts: mode("UTS", &host.uts_mode, &["host"])?,
            user: mode("user namespace", &host.userns_mode, &["host"])?,
            cgroup,
        })
    }
}

fn mode(what: &str, text: &str, allowed: &[&str]) -> Result<Mode> {
    let (word, name) = text.split_once(':').map_or((text, None), |(word, name)| (word, Some(name)));
    let invalid = || Error::invalid(format!("invalid {what} mode: {text}"));
    if !word.is_empty() && !allowed.contains(&word) {
        return Err(invalid());
    }
    match (word, name) {
        ("", None) | ("private", None) => Ok(Mode::Private),
        ("host", None) => Ok(Mode::Host),
        ("shareable", None) => Ok(Mode::Shareable),
        ("none", None) => Ok(Mode::None),
        ("container", Some(name)) if !name.is_empty() => Ok(Mode::Container(name.to_owned())),
        _ => Err(invalid()),
    }
}

/// The list for the OCI configuration. `pid_of` finds the first process of a partner.
///
/// The network namespace is not in it where the engine hands one over ready-made.
pub fn namespaces(
    modes: &Modes,
    network: Option<Namespace>,
    pid_of: &dyn Fn(&str) -> Result<i32>,
) -> Result<Vec<Namespace>> {
    let new = |kind| Namespace { kind, path: None };
    let mut list = vec![new(NamespaceKind::Mount)];
    for (kind, word, mode) in [
        (NamespaceKind::Pid, "pid", &modes.pid),
        (NamespaceKind::Ipc, "ipc", &modes.ipc),
        (NamespaceKind::Uts, "uts", &modes.uts),
        (NamespaceKind::Cgroup, "cgroup", &modes.cgroup),
        (NamespaceKind::User, "user", &modes.user),
    ] {
        match mode {
            Mode::Host => {}
            // A user namespace of one's own comes with mappings, which only a remapped engine has.
            Mode::Private if kind == NamespaceKind::User => {}
            Mode::Private | Mode::Shareable | Mode::None => list.push(new(kind)),
            Mode::Container(name) => {
                let path = format!("/proc/{}/ns/{word}", pid_of(name)?);
                list.push(Namespace { kind, path: Some(path) });
            }
        }
    }
    list.extend(network);
    Ok(list)
}
