//! Commands on volumes.

use corten_api::volume::{Volume, VolumeCreateRequest};

mod archive;
mod copies;

pub use super::inspect::InspectVolume as Inspect;
use super::prune::{PruneFlags, tell_deleted, tell_reclaimed};
use super::{each::each, filters::filters, natural};
use crate::cli::{Context, EXIT_ENGINE, Failure, Outcome, Verb};
use crate::format::listing::{self, Columns};
use crate::format::size;
use crate::format::template::Value;
use crate::options::key_values;
use crate::output;
pub use archive::{Export, Import};
pub use copies::{CloneVolume, Rename};

#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// Specify volume driver name
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Set metadata for a volume
    #[arg(long, value_name = "KEY[=VALUE]")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "KEY=VALUE")]
    opt: Vec<String>,
    /// The old place of the name
    #[arg(long = "name", hide = true)]
    flag_name: Option<String>,
    #[arg(value_name = "VOLUME")]
    name: Option<String>,
}

impl Verb for Create {
    const ABOUT: &'static str = "Create a volume";
    const USAGE: &'static str = "[OPTIONS] [VOLUME]";

    fn run(self, context: &Context) -> Outcome {
        if self.name.is_some() && self.flag_name.is_some() {
            return Err(Failure::new("the volume's name is given twice").exit(EXIT_ENGINE));
        }
        let request = VolumeCreateRequest {
            driver: self.driver,
            driver_opts: key_values("--opt", &self.opt)?,
            labels: key_values("--label", &self.label)?,
            name: self.name.or(self.flag_name).unwrap_or_default(),
        };
        let client = context.client()?;
        let volume = context.block_on(client.volume_create(&request))??;
        output::line(&volume.name)?;
        Ok(0)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Ls {
    /// Filter output by dangling, driver, label or name
    #[arg(short, long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Only display volume names
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Ls {
    const ABOUT: &'static str = "List volumes";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let format = context.format(self.format.as_deref(), self.quiet, "volumesFormat");
        let filters = filters(&self.filter)?;
        let client = context.client()?;
        let mut volumes = context.block_on(client.volume_list(&filters))??.volumes.into_vec();
        volumes.sort_by(|a, b| natural::compare(&a.name, &b.name));
        let rows: Vec<Value> = volumes.iter().map(row).collect();
        output::print(&listing::render(&format, self.quiet, &columns(), &rows)?)?;
        Ok(0)
    }
}

pub(super) fn columns() -> Columns {
    Columns {
        table: "{{.Driver}}\t{{.Name}}".to_owned(),
        quiet: "{{.Name}}",
        titles: &[
            ("Driver", "DRIVER"),
            ("Name", "VOLUME NAME"),
            ("Scope", "SCOPE"),
            ("Mountpoint", "MOUNTPOINT"),
            ("Labels", "LABELS"),
            ("Label", ""),
            ("Links", "LINKS"),
            ("Size", "SIZE"),
            ("Availability", "AVAILABILITY"),
            ("Group", "GROUP"),
            ("Status", "STATUS"),
        ],
    }
}

pub(super) fn row(volume: &Volume) -> Value {
    let labels: Vec<String> = volume.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let by_name = volume.labels.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
    let usage = |text: fn(&corten_api::volume::VolumeUsage) -> String| {
        volume.usage_data.as_ref().map_or_else(|| "N/A".to_owned(), text)
    };
    Value::row([
        ("Driver", Value::from(volume.driver.as_str())),
        ("Name", volume.name.as_str().into()),
        ("Scope", volume.scope.as_str().into()),
        ("Mountpoint", volume.mountpoint.as_str().into()),
        ("Labels", labels.join(",").into()),
        ("Label", Value::Lookup(by_name)),
        ("Links", usage(|usage| usage.ref_count.to_string()).into()),
        ("Size", usage(|usage| size::decimal(usage.size)).into()),
        // What clustered volumes have; ours are local.
        ("Availability", "N/A".into()),
        ("Group", "N/A".into()),
        ("Status", "N/A".into()),
    ])
}

#[derive(Clone, Debug, clap::Args)]
pub struct Rm {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
    #[arg(required = true, value_name = "VOLUME")]
    volumes: Vec<String>,
}

impl Verb for Rm {
    const ABOUT: &'static str = "Remove one or more volumes that no container uses";
    const USAGE: &'static str = "[OPTIONS] VOLUME [VOLUME...]";

    fn run(self, context: &Context) -> Outcome {
        let force = self.force;
        let client = context.client()?;
        context.block_on(each(&client, self.volumes, move |client, name| async move {
            client.volume_remove(&name, force).await.map(|()| name)
        }))?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Prune {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    flags: PruneFlags,
}

impl Verb for Prune {
    const ABOUT: &'static str = "Remove unused local volumes";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let mut filters = self.flags.filters()?;
        if self.all {
            if filters.contains("all") {
                let why = "conflicting options: --all and --filter all=… exclude each other";
                return Err(Failure::new(why));
            }
            filters.add("all", "true");
        }
        let what = if self.all { "all local volumes" } else { "anonymous local volumes" };
        let warning = format!("This will remove {what} not used by at least one container.");
        let client = self.flags.confirm(context, "volume prune", &warning)?;
        let report = context.block_on(client.volume_prune(&filters))??;
        tell_deleted("Volumes", &report.volumes_deleted)?;
        tell_reclaimed(report.space_reclaimed)
    }
}
