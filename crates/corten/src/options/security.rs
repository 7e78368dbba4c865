//! What the container may do: capabilities, profiles, namespaces, kernel parameters.

use corten_api::container::ContainerCreateRequest;
use corten_api::{List, Map};

use crate::format::json::compact;

use super::process::non_empty;
use super::values::strict_key_value;
use super::{OptionError, Outside};

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Isolation and security")]
pub struct SecurityFlags {
    /// Give extended privileges to this container
    #[arg(long)]
    pub privileged: bool,
    /// Add Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
    /// Security options (seccomp=FILE|unconfined, no-new-privileges, apparmor=PROFILE, label=…, systempaths=unconfined)
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// IPC mode to use
    #[arg(long, value_name = "MODE")]
    pub ipc: Option<String>,
    /// PID namespace to use
    #[arg(long, value_name = "MODE")]
    pub pid: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "MODE")]
    pub uts: Option<String>,
    /// User namespace to use
    #[arg(long, value_name = "MODE")]
    pub userns: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "MODE")]
    pub cgroupns: Option<String>,
    /// Sysctl options
    #[arg(long, value_name = "KEY=VALUE")]
    pub sysctl: Vec<String>,
}

impl SecurityFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest, outside: &Outside) -> Result<(), OptionError> {
        let host = &mut request.host_config;
        host.privileged = self.privileged;
        host.cap_add = capabilities(&self.cap_add);
        host.cap_drop = capabilities(&self.cap_drop);
        for option in &self.security_opt {
            if option == "systempaths=unconfined" || option == "systempaths:unconfined" {
                host.masked_paths = List::empty();
                host.readonly_paths = List::empty();
                continue;
            }
            let option = security_option(option, outside)?;
            host.security_opt.push(option);
        }
        host.ipc_mode = self.ipc.clone().unwrap_or_default();
        host.pid_mode = mode("--pid", self.pid.as_deref(), |mode| {
            mode == "host" || mode.strip_prefix("container:").is_some_and(|name| !name.is_empty())
        })?;
        host.uts_mode = mode("--uts", self.uts.as_deref(), |mode| mode == "host")?;
        host.userns_mode = self.userns.clone().unwrap_or_default();
        host.cgroupns_mode =
            mode("--cgroupns", self.cgroupns.as_deref(), |mode| matches!(mode, "host" | "private"))?;
        host.sysctls = Map::empty();
        for word in &self.sysctl {
            let (key, value) = strict_key_value("--sysctl", word)?;
            host.sysctls.insert(key, value);
        }
        Ok(())
    }
}

/// Capabilities by their full names, each once: `net_admin` is `CAP_NET_ADMIN`.
fn capabilities(words: &[String]) -> List<String> {
    let full = |word: &String| {
        let name = word.trim().to_ascii_uppercase();
        if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
    };
    let names: std::collections::BTreeSet<String> = words.iter().map(full).collect();
    non_empty(&names.into_iter().collect::<Vec<_>>())
}

fn mode(flag: &'static str, given: Option<&str>, known: fn(&str) -> bool) -> Result<String, OptionError> {
    let given = given.unwrap_or_default();
    if given.is_empty() || known(given) {
        return Ok(given.to_owned());
    }
    Err(OptionError::invalid(flag, given, "there is no such mode"))
}

/// Checks one option; a seccomp profile is read here, since the engine may run elsewhere.
fn security_option(option: &str, outside: &Outside) -> Result<String, OptionError> {
    let (name, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
        Some(pair) => pair,
        None if option == "no-new-privileges" => return Ok(option.to_owned()),
        None => return Err(OptionError::invalid("--security-opt", option, "expected name=value")),
    };
    if name != "seccomp" || matches!(value, "builtin" | "unconfined" | "default") {
        return Ok(option.to_owned());
    }
    let text = outside.read("--security-opt seccomp", value)?;
    let profile: Box<serde_json::value::RawValue> = serde_json::from_str(&text).map_err(|error| {
        OptionError::invalid("--security-opt", option, format!("the profile is no JSON: {error}"))
    })?;
    Ok(format!("seccomp={}", compact(profile.get())))
}
