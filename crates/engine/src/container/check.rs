//! Everything of a request that can be refused before anything is made.

use corten_api::container::{ContainerConfig, HostConfig};

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
        super::logs::check_config(&host.log_config)?;
        spec::devices::check(&host.devices, &host.device_cgroup_rules)?;
        check_restart_policy(host)?;
        if config.hostname.len() > HOSTNAME_MAX {
            return Err(Error::invalid(format!(
                "invalid hostname \"{}\": it has more than {HOSTNAME_MAX} bytes",
                config.hostname
            )));
        }
        if !config.stop_signal.is_empty() {
            super::signal_number(&config.stop_signal)?;
        }
        match host.isolation.as_str() {
            "" | "default" | "process" => {}
            other => {
                return Err(Error::unsupported(format!(
                    "isolation \"{other}\" is not supported by this engine; it has \"process\""
                )));
            }
        }
        if !matches!(host.runtime.as_str(), "corten" | "runc" | "io.containerd.runc.v2") {
            return Err(Error::invalid(format!("unknown or invalid runtime name: {}", host.runtime)));
        }
        for (given, what) in [
            (!host.device_requests.is_empty(), "device requests (--gpus)"),
            (!host.links.is_empty(), "links"),
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
        if !matches!(host.restart_policy.name.as_str(), "" | "no") {
            warnings.push(format!(
                "The restart policy \"{}\" is kept, but this version of the engine does not act on it yet.",
                host.restart_policy.name
            ));
        }
        if config
            .healthcheck
            .as_ref()
            .is_some_and(|health| !matches!(health.test.first().map(String::as_str), None | Some("NONE")))
        {
            warnings.push(
                "The health check is kept, but this version of the engine does not run it yet.".to_owned(),
            );
        }
        Ok(())
    }
}

fn check_restart_policy(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    match policy.name.as_str() {
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count > 0 => Err(Error::invalid(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        )),
        "" | "no" => Ok(()),
        "always" | "unless-stopped" | "on-failure" if host.auto_remove => {
            Err(Error::invalid("can't create 'AutoRemove' container with restart policy"))
        }
        "on-failure" if policy.maximum_retry_count < 0 => {
            Err(Error::invalid("invalid restart policy: maximum retry count cannot be negative"))
        }
        "always" | "unless-stopped" | "on-failure" => Ok(()),
        other => Err(Error::invalid(format!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ))),
    }
}
