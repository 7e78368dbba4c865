//! How a container comes and goes: name, restart policy, removal, isolation, where its image is from.

use corten_api::container::{ContainerCreateRequest, RestartPolicy};

use super::OptionError;
use super::environment::key_values;

/// When `--pull` fetches the image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PullPolicy {
    Always,
    #[default]
    Missing,
    Never,
}

#[derive(Clone, Debug, Default, clap::Args)]
pub struct LifecycleFlags {
    /// Assign a name to the container
    #[arg(long)]
    pub name: Option<String>,
    /// Automatically remove the container and its anonymous volumes when it exits
    #[arg(long)]
    pub rm: bool,
    /// Restart policy to apply when a container exits (no|always|unless-stopped|on-failure[:N])
    #[arg(long, value_name = "POLICY")]
    pub restart: Option<String>,
    /// Write the container ID to the file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<String>,
    /// Pull the image before creating the container
    #[arg(long, value_enum, default_value_t, value_name = "POLICY")]
    pub pull: PullPolicy,
    /// Suppress the pull output
    #[arg(short, long)]
    pub quiet: bool,
    /// Set platform if server is multi-platform capable (os[/arch[/variant]])
    #[arg(long)]
    pub platform: Option<String>,
    /// Isolation technology: process, that is by the kernel, is what there is so far
    #[arg(long, value_name = "TECHNOLOGY")]
    pub isolation: Option<String>,
    /// Runtime to use for this container
    #[arg(long)]
    pub runtime: Option<String>,
    /// Storage driver options for the container
    #[arg(long, value_name = "KEY=VALUE", hide = true)]
    pub storage_opt: Vec<String>,
    /// Skip image verification; kept for scripts, images are always verified by digest
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = super::values::boolean)]
    pub disable_content_trust: Option<bool>,
}

impl LifecycleFlags {
    pub fn apply(&self, request: &mut ContainerCreateRequest) -> Result<(), OptionError> {
        let host = &mut request.host_config;
        host.auto_remove = self.rm;
        host.restart_policy = restart_policy(self.restart.as_deref().unwrap_or("no"))?;
        if self.rm && !matches!(host.restart_policy.name.as_str(), "" | "no") {
            return Err(OptionError::Conflict("cannot specify both --restart and --rm".into()));
        }
        host.container_id_file = self.cidfile.clone().unwrap_or_default();
        host.runtime = self.runtime.clone().unwrap_or_default();
        host.storage_opt = key_values("--storage-opt", &self.storage_opt)?;
        if let Some(isolation) = &self.isolation {
            host.isolation = match isolation.to_ascii_lowercase().as_str() {
                known @ ("" | "default" | "process" | "hyperv" | "hypervisor") => known.to_owned(),
                "kernel" => "process".to_owned(),
                _ => {
                    let why = "expected process, hypervisor (or hyperv) or default";
                    return Err(OptionError::invalid("--isolation", isolation, why));
                }
            };
        }
        Ok(())
    }
}

/// `no`, `always`, `unless-stopped`, `on-failure` or `on-failure:N`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, OptionError> {
    let bad = |why: &str| OptionError::invalid("--restart", text, why);
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let known = matches!(name, "" | "no" | "always" | "unless-stopped" | "on-failure");
    if !known {
        return Err(bad("expected no, always, unless-stopped or on-failure[:N]"));
    }
    let maximum_retry_count = match count {
        None => 0,
        Some(_) if name != "on-failure" => return Err(bad("only on-failure takes a maximum of retries")),
        Some(count) => count
            .parse()
            .ok()
            .filter(|count| *count >= 0)
            .ok_or_else(|| bad("expected a number of retries"))?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}
