//! `ps`: the containers as a table.

use corten_api::container::{ContainerListOptions, ContainerSummary};

use crate::cli::{Context, Outcome, Verb};
use crate::commands::filters::filters;
use crate::format::listing::{self, Columns, Wanted};
use crate::format::ports::{self, ListedPort};
use crate::format::template::{Nil, Value, quote};
use crate::format::time::{created_at, seconds_since};
use crate::format::{duration, ellipsis, short_id, size};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Ps {
    /// Show all containers (default shows just running)
    #[arg(short, long)]
    all: bool,
    /// Filter output by ancestor, before, exited, expose, health, id, is-task, isolation, label, name, network, publish, since,
    /// status or volume
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Show n last created containers (includes all states)
    #[arg(short = 'n', long, value_name = "N", default_value_t = -1, hide_default_value = true)]
    last: i64,
    /// Show the latest created container (includes all states)
    #[arg(short, long)]
    latest: bool,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only display container IDs
    #[arg(short, long)]
    quiet: bool,
    /// Display total file sizes
    #[arg(short, long)]
    size: bool,
}

impl Verb for Ps {
    const ABOUT: &'static str = "List containers";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let format = context.format(self.format.as_deref(), self.quiet, "psFormat");
        let limit =
            if self.latest { Some(1) } else { u64::try_from(self.last).ok().filter(|last| *last > 0) };
        let columns = columns(self.size);
        let wanted = Wanted::of(&format, self.quiet, &columns);
        let options = ContainerListOptions {
            brief: !LONG.iter().any(|name| wanted.has(name)),
            all: self.all,
            limit,
            // Sizes cost the engine a walk through files: only when they are shown. `json` alone shows none, as with docker.
            size: self.size || (format != "json" && wanted.has("Size")),
            filters: filters(&self.filter)?,
        };
        let client = context.client()?;
        let containers = context.block_on(client.container_list(&options))??;
        let rows: Vec<Value> =
            containers.iter().map(|container| row(container, !self.no_trunc, &wanted)).collect();
        output::print(&listing::render(&format, self.quiet, &columns, &rows)?)?;
        Ok(0)
    }
}

/// The fields that are made of what a brief list lacks.
const LONG: [&str; 5] = ["Labels", "Label", "Mounts", "LocalVolumes", "Networks"];

pub(in crate::commands) fn columns(size: bool) -> Columns {
    let mut table =
        "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}".to_owned();
    if size {
        table.push_str("\t{{.Size}}");
    }
    Columns {
        table,
        quiet: "{{.ID}}",
        titles: &[
            ("ID", "CONTAINER ID"),
            ("Names", "NAMES"),
            ("Image", "IMAGE"),
            ("Command", "COMMAND"),
            ("CreatedAt", "CREATED AT"),
            ("RunningFor", "CREATED"),
            ("Ports", "PORTS"),
            ("State", "STATE"),
            ("Status", "STATUS"),
            ("ExitReason", "EXIT REASON"),
            ("Size", "SIZE"),
            ("Labels", "LABELS"),
            ("Label", ""),
            ("Mounts", "MOUNTS"),
            ("LocalVolumes", "LOCAL VOLUMES"),
            ("Networks", "NETWORKS"),
            ("Platform", "PLATFORM"),
        ],
    }
}

/// The fields that a template may name, as far as it does.
pub fn row(container: &ContainerSummary, cut: bool, wanted: &Wanted) -> Value {
    let id = if cut { short_id(&container.id) } else { &container.id };
    let networks =
        || -> Vec<&str> { container.network_settings.networks.keys().map(String::as_str).collect() };
    let local = || container.mounts.iter().filter(|mount| mount.driver == "local").count();
    wanted.row(&[
        ("ID", &|| id.into()),
        ("Names", &|| names(container, cut).into()),
        ("Image", &|| image(container, cut).into()),
        ("Command", &|| command(container, cut).into()),
        ("CreatedAt", &|| created_at(container.created).into()),
        ("RunningFor", &|| format!("{} ago", duration::words(seconds_since(container.created))).into()),
        ("Ports", &|| ports(container).into()),
        ("State", &|| container.state.as_str().into()),
        ("Status", &|| status(container).into()),
        ("ExitReason", &|| container.exit_reason.as_str().into()),
        ("Size", &|| sizes(container).into()),
        ("Labels", &|| labels(container).join(",").into()),
        ("Label", &|| Value::Lookup(container.labels.clone().into_inner())),
        ("Mounts", &|| mounts(container, cut).into()),
        ("LocalVolumes", &|| local().to_string().into()),
        ("Networks", &|| networks().join(",").into()),
        ("Platform", &|| platform(container)),
    ])
}

fn labels(container: &ContainerSummary) -> Vec<String> {
    container.labels.iter().map(|(key, value)| format!("{key}={value}")).collect()
}

fn command(container: &ContainerSummary, cut: bool) -> String {
    if cut { quote(&ellipsis(&container.command, 20)) } else { quote(&container.command) }
}

fn ports(container: &ContainerSummary) -> String {
    let listed = |port: &corten_api::container::Port| ListedPort {
        ip: port.ip.clone(),
        private: port.private_port,
        public: port.public_port,
        protocol: port.kind.clone(),
    };
    ports::column(&container.ports.iter().map(listed).collect::<Vec<_>>())
}

/// Docker's words, and behind them what nobody would guess from an exit code.
fn status(container: &ContainerSummary) -> String {
    let why = match container.exit_reason.as_str() {
        "out-of-memory" => "out of memory",
        "unhealthy" => "unhealthy",
        "monitor-lost" => "its monitor was killed",
        "host-restarted" => "host restarted",
        _ => return container.status.clone(),
    };
    format!("{} ({why})", container.status)
}

fn platform(container: &ContainerSummary) -> Value {
    let platform = container.image_manifest_descriptor.as_ref().and_then(|image| image.platform.as_ref());
    platform.and_then(|platform| Value::from_serialize(platform).ok()).unwrap_or(Value::Nil(Nil::Pointer))
}

fn names(container: &ContainerSummary, cut: bool) -> String {
    let names = container.names.iter().map(|name| name.strip_prefix('/').unwrap_or(name));
    // Names with a slash inside are links from other containers.
    let own: Vec<&str> = names.filter(|name| !cut || !name.contains('/')).collect();
    own.join(",")
}

fn image(container: &ContainerSummary, cut: bool) -> String {
    if container.image.is_empty() {
        return "<no image>".to_owned();
    }
    // An id stands where the name has gone to another image.
    let is_id = cut && (container.image == container.image_id || container.image.starts_with("sha256:"));
    if is_id { short_id(&container.image).to_owned() } else { container.image.clone() }
}

fn sizes(container: &ContainerSummary) -> String {
    let own = size::decimal(container.size_rw);
    match container.size_root_fs {
        0 => own,
        total => format!("{own} (virtual {})", size::decimal(total)),
    }
}

fn mounts(container: &ContainerSummary, cut: bool) -> String {
    let shown = container.mounts.iter().map(|mount| {
        let name = if mount.name.is_empty() { &mount.source } else { &mount.name };
        if cut { ellipsis(name, 15) } else { name.clone() }
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::container::Port;
    use corten_api::mount::MountPoint;

    fn containers() -> Vec<ContainerSummary> {
        let now = seconds_since(0);
        let port = |ip: &str, public_port, private_port| Port {
            ip: ip.into(),
            public_port,
            private_port,
            kind: "tcp".into(),
        };
        let mut web = ContainerSummary {
            id: "4f5e3a0b9c8d7e6f".into(),
            names: vec!["/web".to_owned(), "/db/alias".to_owned()].into(),
            image: "nginx:latest".into(),
            command: "nginx -g 'daemon off;'".into(),
            created: now - 200,
            ports: vec![port("0.0.0.0", 8080, 80), port("", 0, 443)].into(),
            state: "running".into(),
            status: "Up 3 minutes".into(),
            size_rw: 12_345,
            size_root_fs: 7_800_000,
            ..ContainerSummary::default()
        };
        web.labels.insert("a.b-c".into(), "1".into());
        web.mounts = vec![MountPoint {
            name: "0123456789abcdef".into(),
            driver: "local".into(),
            ..Default::default()
        }]
        .into();
        let old = ContainerSummary {
            id: "0123456789abcdef".into(),
            names: vec!["/old".to_owned()].into(),
            image: "sha256:aabbccddeeff00112233".into(),
            command: "sh".into(),
            created: now - 90_000,
            state: "exited".into(),
            status: "Exited (0) 2 hours ago".into(),
            exit_reason: "exited".into(),
            ..ContainerSummary::default()
        };
        vec![web, old]
    }

    fn show(format: &str, quiet: bool, size: bool, cut: bool) -> String {
        let columns = columns(size);
        let wanted = Wanted::of(format, quiet, &columns);
        let rows: Vec<Value> = containers().iter().map(|container| row(container, cut, &wanted)).collect();
        listing::render(format, quiet, &columns, &rows).unwrap()
    }

    #[test]
    fn the_table_is_dockers() {
        assert_eq!(
            show("", false, false, true),
            "CONTAINER ID   IMAGE          COMMAND                  CREATED         STATUS                   \
             PORTS                           NAMES\n\
             4f5e3a0b9c8d   nginx:latest   \"nginx -g 'daemon of…\"   3 minutes ago   Up 3 minutes             \
             443/tcp, 0.0.0.0:8080->80/tcp   web\n\
             0123456789ab   aabbccddeeff   \"sh\"                     25 hours ago    Exited (0) 2 hours ago   \
             \u{20}                               old\n"
        );
    }

    #[test]
    fn an_end_that_an_exit_code_does_not_explain() {
        let mut gone = containers().remove(1);
        gone.status = "Exited (137) 2 hours ago".into();
        gone.exit_reason = "out-of-memory".into();
        assert_eq!(status(&gone), "Exited (137) 2 hours ago (out of memory)");
    }

    #[test]
    fn fields_and_quiet() {
        assert_eq!(show("", true, false, true), "4f5e3a0b9c8d\n0123456789ab\n");
        assert_eq!(show("", true, false, false), "4f5e3a0b9c8d7e6f\n0123456789abcdef\n");
        assert_eq!(show("{{.Names}} {{.Size}}", false, true, true), "web 12.3kB (virtual 7.8MB)\nold 0B\n");
        assert_eq!(
            show("table {{.Mounts}}\\t{{.LocalVolumes}}\\t{{.Label \"a.b-c\"}}", false, false, true),
            "MOUNTS            LOCAL VOLUMES   b c\n0123456789abcd…   1               1\n                  0               \n"
        );
    }
}
