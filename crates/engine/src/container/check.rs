//! Everything of a request that can be refused before anything is made.

use corten_api::container::{ContainerConfig, HostConfig};
use corten_sys::signal_name;

use crate::Engine;
use crate::error::{Error, Result};
use crate::spec::{self, Modes, Security};

/// The kernel's limit (`__NEW_UTS_LEN`, include/uapi/linux/utsname.h), in bytes.
const HOSTNAME_MAX: usize = 64;

impl Engine {
    /// Everything that can be refused before anything is made.
    pub(super) fn check(
        &self,
        config: &ContainerConfig,
        host: &HostConfig,
        warnings: &mut Vec<String>,
    ) -> Result<()> {
        spec::resources::check(host)?;
        spec::resources::rlimits(host, &self.options.defaults.ulimits)?;
        Modes::parse(host, self.host.unified)?;
        Security::parse(host, &self.options.defaults)?;
        spec::capabilities::effective(&host.cap_add, &host.cap_drop, host.privileged, u64::MAX)?;
        crate::logging::check(&host.log_config)?;
        spec::devices::check(&host.devices, &host.device_cgroup_rules)?;
        check_restart_policy(host)?;
        super::health::check(config, host, warnings)?;
        if config.hostname.len() > HOSTNAME_MAX {
            return Err(Error::invalid(format!(
                "invalid hostname \"{}\": it has more than {HOSTNAME_MAX} bytes",
                config.hostname
            )));
        }
        if !config.stop_signal.is_empty() && !signal_name::is_stop_signal(&config.stop_signal) {
            return Err(Error::invalid(format!("invalid signal: {}", config.stop_signal)));
        }
        match host.isolation.as_str() {
            "" | "default" | "process" => {}
            other => {
                return Err(Error::unsupported(format!(
                    "isolation \"{other}\" is not supported by this engine; it has \"process\""
                )));
            }
        }
        if self.options.runtimes.find(&host.runtime)?.is_some()
            && host.init.unwrap_or(self.options.defaults.init)
        {
            return Err(Error::unsupported(format!(
                "an init process (--init) is not supported with the runtime \"{}\"",
                host.runtime
            )));
        }
        if let Some(request) = host.device_requests.first() {
            let sets: Vec<String> =
                request.capabilities.iter().map(|set| format!("[{}]", set.join(" "))).collect();
            // There are no device drivers, neither for GPUs nor for CDI: Docker's words where that is so.
            return Err(Error::invalid(format!(
                "could not select device driver {:?} with capabilities: [{}]",
                request.driver,
                sets.join(" ")
            )));
        }
        for (given, what) in [
            (!host.storage_opt.is_empty(), "storage options (--storage-opt)"),
            (config.network_disabled, "NetworkDisabled (use --network none)"),
            (
                host.kernel_memory != 0 || host.kernel_memory_tcp != 0,
                "kernel memory limits, which Linux no longer has,",
            ),
            (!host.cgroup.is_empty(), "cgroups of other containers (Cgroup)"),
            (
                host.cpu_count != 0 || host.cpu_percent != 0,
                "CPU count and CPU percent, which are for Windows,",
            ),
            (
                host.io_maximum_iops != 0 || host.io_maximum_bandwidth != 0,
                "IOMaximum limits, which are for Windows,",
            ),
        ] {
            if given {
                return Err(Error::unsupported(format!("{what} are not supported by this engine")));
            }
        }
        super::launch::extra_hosts(&host.extra_hosts, "127.0.0.1")?;
        if host.network_mode == "container:" {
            return Err(Error::invalid("invalid network mode: invalid container format container:<name|id>"));
        }
        for group in &host.group_add {
            if group.is_empty() {
                return Err(Error::invalid("invalid group: \"\""));
            }
        }
        warnings.extend(self.host.limits_warnings(host));
        if matches!(host.network_mode.as_str(), "host" | "none")
            && (!host.port_bindings.is_empty() || host.publish_all_ports)
        {
            warnings
                .push(format!("Published ports are discarded when using {} network mode", host.network_mode));
        }
        Ok(())
    }
}

/// What the request itself says; an image may say what it likes.
pub(super) fn check_environment(config: &ContainerConfig) -> Result<()> {
    match config.env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        Some(unnamed) => Err(Error::invalid(format!("invalid environment variable: {unnamed}"))),
        None => Ok(()),
    }
}

pub(super) fn check_restart_policy(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    match policy.name.as_str() {
        // Clients of old send this with any count.
        "" => Ok(()),
        "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            let more = if policy.maximum_retry_count < 0 { " and cannot be negative" } else { "" };
            Err(Error::invalid(format!(
                "invalid restart policy: maximum retry count can only be used with 'on-failure'{more}"
            )))
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative"))
        }
        "no" => Ok(()),
        "always" | "unless-stopped" | "on-failure" if host.auto_remove => {
            Err(Error::invalid("can't create 'AutoRemove' container with restart policy"))
        }
        "always" | "unless-stopped" | "on-failure" => Ok(()),
        other => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}
