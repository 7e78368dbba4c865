//! `info`: the engine, its host and what is on it.

use std::fmt::Write;

use corten_api::system::SystemInfo;

use crate::cli::{Context, Failure, Outcome, VERSION, Verb};
use crate::format::listing::render_one;
use crate::format::size;
use crate::format::template::{Kind, Object, Value};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Info {
    /// Format output: 'json' or a Go TEMPLATE
    #[arg(short, long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
}

impl Verb for Info {
    const ABOUT: &'static str = "Display system-wide information";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let info = context.block_on(client.info())??;
        if self.format.is_empty() {
            output::print(&plain(&info, &context.name()))?;
            for warning in &info.warnings {
                output::say!("{warning}");
            }
            return Ok(0);
        }
        let value = Value::from_serialize(&info).map_err(|error| Failure::new(error.to_string()))?;
        output::print(&render_one(&self.format, &with_client(value, &context.name()))?)?;
        Ok(0)
    }
}

/// The engine's fields and, as Docker has it, the client's beside them.
fn with_client(info: Value, context: &str) -> Value {
    let client = Value::row([("Version", Value::from(VERSION)), ("Context", context.into())]);
    match info {
        Value::Object(Object { mut fields, .. }) => {
            fields.push(("ClientInfo".to_owned(), client));
            Value::Object(Object { kind: Kind::Struct, fields })
        }
        other => other,
    }
}

fn plain(info: &SystemInfo, context: &str) -> String {
    let mut text = format!("Client: Corten\n Version:    {VERSION}\n Context:    {context}\n\nServer:\n");
    let mut line = |indent: usize, key: &str, value: &str| {
        let colon = if key.is_empty() { "" } else { ": " };
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:indent$}{key}{colon}{value}", "");
    };
    line(1, "Containers", &info.containers.to_string());
    line(2, "Running", &info.containers_running.to_string());
    line(2, "Paused", &info.containers_paused.to_string());
    line(2, "Stopped", &info.containers_stopped.to_string());
    line(1, "Images", &info.images.to_string());
    line(1, "Server Version", &info.server_version);
    line(1, "Storage Driver", &info.driver);
    for (key, value) in &info.driver_status {
        line(2, key, value);
    }
    line(1, "Logging Driver", &info.logging_driver);
    line(1, "Cgroup Driver", &info.cgroup_driver);
    if !info.cgroup_version.is_empty() {
        line(1, "Cgroup Version", &info.cgroup_version);
    }
    line(1, "Plugins", "");
    line(2, "Volume", &info.plugins.volume.join(" "));
    line(2, "Network", &info.plugins.network.join(" "));
    line(2, "Log", &info.plugins.log.join(" "));
    line(1, "Swarm", &info.swarm.local_node_state);
    line(1, "Runtimes", &info.runtimes.keys().cloned().collect::<Vec<_>>().join(" "));
    line(1, "Default Runtime", &info.default_runtime);
    if !info.isolation.is_empty() {
        line(1, "Default Isolation", &info.isolation);
    }
    if !info.security_options.is_empty() {
        line(1, "Security Options", "");
        for option in &info.security_options {
            let mut fields = option.split(',').filter_map(|field| field.split_once('='));
            let Some((_, name)) = fields.next() else { continue };
            line(2, "", name);
            for (key, value) in fields {
                line(3, if key == "profile" { "Profile" } else { key }, value);
            }
        }
    }
    line(1, "Kernel Version", &info.kernel_version);
    line(1, "Operating System", &info.operating_system);
    line(1, "OSType", &info.os_type);
    line(1, "Architecture", &info.architecture);
    line(1, "CPUs", &info.ncpu.to_string());
    line(1, "Total Memory", &size::binary(info.mem_total as f64));
    line(1, "Name", &info.name);
    line(1, "ID", &info.id);
    line(1, "Docker Root Dir", &info.docker_root_dir);
    line(1, "Debug Mode", &info.debug.to_string());
    for (key, value) in
        [("HTTP Proxy", &info.http_proxy), ("HTTPS Proxy", &info.https_proxy), ("No Proxy", &info.no_proxy)]
    {
        if !value.is_empty() {
            line(1, key, value);
        }
    }
    if !info.labels.is_empty() {
        line(1, "Labels", "");
        for label in &info.labels {
            let _ = writeln!(text, "  {label}");
        }
    }
    let _ = writeln!(text, " Live Restore Enabled: {}", info.live_restore_enabled);
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}
