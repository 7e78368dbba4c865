//! `builder history ls`: one line per build.

use std::time::Duration;

use corten_api::build::BuildRecord;

use crate::cli::{Context, Outcome, Verb};
use crate::format::duration;
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::format::time::seconds_since;
use crate::output;

/// Digits of a reference that a table shows.
const SHORT: usize = 12;

#[derive(Clone, Debug, clap::Args)]
pub struct Ls {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Don't truncate output
    #[arg(long)]
    no_trunc: bool,
    /// Only show references
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Ls {
    const ABOUT: &'static str = "List builds under way, and the last ones that were";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        let builds = context.block_on(client.builds())??;
        let cuts = matches!(self.format.as_str(), "" | "table") && !self.no_trunc && !self.quiet;
        let rows: Vec<Value> = builds.iter().map(|build| row(build, cuts)).collect();
        let columns = Columns {
            table: "{{.Ref}}\t{{.Name}}\t{{.Status}}\t{{.Steps}}\t{{.CreatedSince}}\t{{.Duration}}"
                .to_owned(),
            quiet: "{{.Ref}}",
            titles: &[
                ("Ref", "BUILD ID"),
                ("Name", "NAME"),
                ("Dockerfile", "DOCKERFILE"),
                ("Target", "TARGET"),
                ("Platform", "PLATFORM"),
                ("Status", "STATUS"),
                ("Error", "ERROR"),
                ("Steps", "STEPS"),
                ("Warnings", "WARNINGS"),
                ("Image", "IMAGE"),
                ("CreatedSince", "CREATED"),
                ("Duration", "DURATION"),
                ("Pinned", "PINNED"),
            ],
        };
        output::print(&listing::render(&self.format, self.quiet, &columns, &rows)?)?;
        Ok(0)
    }
}

fn row(build: &BuildRecord, cuts: bool) -> Value {
    let mut reference = build.reference.clone();
    if cuts && reference.is_ascii() {
        reference.truncate(SHORT);
    }
    let status = match build.completed {
        None => "Running",
        Some(_) if build.canceled => "Canceled",
        Some(_) if build.error.is_empty() => "Completed",
        Some(_) => "Error",
    };
    let nanoseconds = build.completed.map_or(0, |completed| completed - build.started);
    let took = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(0));
    Value::row([
        ("Ref", Value::from(reference)),
        ("Name", build.name.as_str().into()),
        ("Dockerfile", build.dockerfile.as_str().into()),
        ("Target", build.target.as_str().into()),
        ("Platform", build.platform.as_str().into()),
        ("Status", status.into()),
        ("Error", build.error.as_str().into()),
        (
            "Steps",
            format!("{}/{} ({} cached)", build.completed_steps, build.steps, build.cached_steps).into(),
        ),
        ("Warnings", build.warnings.to_string().into()),
        ("Image", build.image.as_str().into()),
        (
            "CreatedSince",
            format!("{} ago", duration::words(seconds_since(build.started / 1_000_000_000))).into(),
        ),
        (
            "Duration",
            if build.completed.is_some() { format!("{:.1}s", took.as_secs_f64()).into() } else { "".into() },
        ),
        ("Pinned", build.pinned.to_string().into()),
    ])
}
