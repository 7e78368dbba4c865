//! `system df`: where the disk's bytes are.

use corten_api::disk::{DataRootUsage, DiskUsage, KindUsage};

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::{builder, container, image, volume};
use crate::format::listing::{self, Columns, Wanted, render_one};
use crate::format::size;
use crate::format::tabwriter;
use crate::format::template::{TemplateError, Value};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Df {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Show detailed information on space usage
    #[arg(short, long)]
    verbose: bool,
}

impl Verb for Df {
    const ABOUT: &'static str = "Show where the disk's bytes are";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        if self.verbose && self.format.starts_with("table ") {
            return Err(Failure::new("a table of one's own does not go together with --verbose")
                .hint("use a template without 'table', or leave out --verbose"));
        }
        let client = context.client()?;
        let usage = context.block_on(client.disk_usage())??;
        let text = match (self.verbose, self.format.as_str()) {
            (false, format) => listing::render(format, false, &columns(), &rows(&usage))?,
            (true, "" | "table") => {
                // Other engines don't know it.
                let root = context.block_on(client.data_root_usage())?.ok();
                tables(&usage, root.as_ref())?
            }
            (true, format) => render_one(format, &all(&usage))?,
        };
        output::print(&text)?;
        Ok(0)
    }
}

fn columns() -> Columns {
    Columns {
        table: "{{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}".to_owned(),
        quiet: "{{.Type}}",
        titles: &[
            ("Type", "TYPE"),
            ("TotalCount", "TOTAL"),
            ("Active", "ACTIVE"),
            ("Size", "SIZE"),
            ("Reclaimable", "RECLAIMABLE"),
        ],
    }
}

fn rows(usage: &DiskUsage) -> Vec<Value> {
    vec![
        row("Images", usage.image_usage.as_ref()),
        row("Containers", usage.container_usage.as_ref()),
        row("Local Volumes", usage.volume_usage.as_ref()),
        row("Build Cache", usage.build_cache_usage.as_ref()),
    ]
}

fn row<T>(kind: &str, usage: Option<&KindUsage<T>>) -> Value {
    let number = |of: fn(&KindUsage<T>) -> i64| usage.map_or(0, of);
    let (total, reclaimable) = (number(|u| u.total_size), number(|u| u.reclaimable));
    let mut share = size::decimal_fine(reclaimable as f64);
    if total > 0 && kind != "Build Cache" {
        share.push_str(&format!(" ({}%)", reclaimable.saturating_mul(100) / total));
    }
    Value::row([
        ("Type", Value::from(kind)),
        ("TotalCount", number(|u| u.total_count).to_string().into()),
        ("Active", number(|u| u.active_count).to_string().into()),
        ("Size", size::decimal_fine(total as f64).into()),
        ("Reclaimable", share.into()),
    ])
}

/// The rows of each kind of object, for templates; nothing is cut short in them.
fn all(usage: &DiskUsage) -> Value {
    Value::row([
        ("Images", Value::List(images(usage, false))),
        ("Containers", Value::List(containers(usage, false))),
        ("Volumes", Value::List(volumes(usage))),
        ("BuildCache", Value::List(build_cache(usage, false))),
    ])
}

/// One row for each image, under its first name.
fn images(usage: &DiskUsage, cut: bool) -> Vec<Value> {
    let images = usage.image_usage.iter().flat_map(|images| &images.items);
    images.filter_map(|summary| image::list::rows(summary, false, cut).into_iter().next()).collect()
}

fn containers(usage: &DiskUsage, cut: bool) -> Vec<Value> {
    let containers = usage.container_usage.iter().flat_map(|containers| &containers.items);
    let own = |summary: &corten_api::container::ContainerSummary| {
        let mut summary = summary.clone();
        // Only what it has written itself is of interest here.
        summary.size_root_fs = 0;
        container::list::row(&summary, cut, &Wanted::everything())
    };
    containers.map(own).collect()
}

fn volumes(usage: &DiskUsage) -> Vec<Value> {
    usage.volume_usage.iter().flat_map(|volumes| &volumes.items).map(volume::row).collect()
}

fn build_cache(usage: &DiskUsage, cut: bool) -> Vec<Value> {
    let cache = usage.build_cache_usage.iter().flat_map(|cache| &cache.items);
    cache.map(|record| builder::record::row(record, cut)).collect()
}

const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
const BUILD_CACHE: &str =
    "{{.ID}}\t{{.CacheType}}\t{{.Size}}\t{{.CreatedSince}}\t{{.LastUsedSince}}\t{{.UsageCount}}\t{{.Shared}}";

fn tables(usage: &DiskUsage, root: Option<&DataRootUsage>) -> Result<String, TemplateError> {
    let table =
        |format: &str, columns: &Columns, rows: &[Value]| listing::render(format, false, columns, rows);
    let mut text = format!(
        "Images space usage:\n\n{}\nContainers space usage:\n\n{}\nLocal Volumes space usage:\n\n{}\n\
         Build cache usage: {}\n\n{}",
        table(IMAGES, &image::list::columns(false), &images(usage, true))?,
        table(CONTAINERS, &container::list::columns(true), &containers(usage, true))?,
        table(VOLUMES, &volume::columns(), &volumes(usage))?,
        size::decimal_fine(usage.build_cache_usage.as_ref().map_or(0, |cache| cache.total_size) as f64),
        table("", &builder::record::columns(BUILD_CACHE), &build_cache(usage, true))?,
    );
    if let Some(root) = root {
        text.push_str(&data_root(root));
    }
    Ok(text)
}

fn data_root(root: &DataRootUsage) -> String {
    let bytes = |bytes: u64| size::decimal_fine(bytes as f64);
    let mut table = "WHAT\tSIZE\tPATH\n".to_owned();
    for part in &root.parts {
        table.push_str(&format!("{}\t{}\t{}\n", part.name, bytes(part.bytes), part.paths.join(" ")));
    }
    format!(
        "\nData root usage: {} in {} ({} of {} free)\n\n{}",
        bytes(root.total),
        root.path,
        bytes(root.disk_available),
        bytes(root.disk_size),
        tabwriter::align(&table)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_api::disk::DataRootPart;
    use corten_api::volume::{Volume, VolumeUsage};

    fn usage() -> DiskUsage {
        let data = Volume {
            name: "data".into(),
            usage_data: Some(VolumeUsage { ref_count: 1, size: 1_500 }),
            ..Default::default()
        };
        let volumes = KindUsage {
            total_count: 1,
            active_count: 1,
            total_size: 1_500,
            items: vec![data].into(),
            ..Default::default()
        };
        let images =
            KindUsage { total_count: 2, total_size: 3_000_000, reclaimable: 1_000_000, ..Default::default() };
        DiskUsage { image_usage: Some(images), volume_usage: Some(volumes), ..Default::default() }
    }

    #[test]
    fn the_table_is_dockers() {
        let text = listing::render("", false, &columns(), &rows(&usage())).unwrap();
        assert_eq!(
            text,
            "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE\n\
             Images          2         0         3MB       1MB (33%)\n\
             Containers      0         0         0B        0B\n\
             Local Volumes   1         1         1.5kB     0B (0%)\n\
             Build Cache     0         0         0B        0B\n"
        );
    }

    #[test]
    fn details_end_with_the_data_root() {
        let parts = vec![
            DataRootPart { name: "volumes".into(), bytes: 4_096, ..Default::default() },
            DataRootPart { name: "other".into(), bytes: 512, paths: vec!["/d/x".to_owned()].into() },
        ];
        let root = DataRootUsage {
            path: "/d".into(),
            total: 4_608,
            parts: parts.into(),
            disk_size: 2_000_000,
            disk_available: 1_000_000,
        };
        let text = tables(&usage(), Some(&root)).unwrap();
        assert!(text.contains("\nVOLUME NAME   LINKS     SIZE\ndata          1         1.5kB\n"), "{text}");
        assert!(text.contains("\nData root usage: 4.608kB in /d (1MB of 2MB free)\n"), "{text}");
        assert!(text.contains("\nother     512B      /d/x\n"), "{text}");
        assert_eq!(render_one("{{(index .Volumes 0).Name}}", &all(&usage())).unwrap(), "data\n");
    }
}
