//! `builder du`: what the build cache takes of the disk.

use corten_api::disk::BuildCache;

use super::record::{columns, is_reclaimable, row};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::filters::filters;
use crate::format::listing::{self, render_one};
use crate::format::template::Value;
use crate::format::{size, tabwriter};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Du {
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Show only what fits: until=TIME, unused-for=DURATION, id=ID, type=TYPE, description=TEXT, inuse=BOOL, shared=BOOL or private=BOOL
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Tell all that is known of each
    #[arg(long)]
    verbose: bool,
}

impl Verb for Du {
    const ABOUT: &'static str = "Show what the build cache takes of the disk";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        if self.verbose && !self.format.is_empty() {
            return Err(Failure::new("--verbose and --format exclude each other")
                .hint("a template names what it wants: --format '{{.ID}} {{.Description}}'"));
        }
        let filters = filters(&self.filter)?;
        let client = context.client()?;
        let mut records = context.block_on(client.build_cache(&filters))??;
        // What was used last comes first.
        records.sort_by(|a, b| (b.last_used_at, &b.id).cmp(&(a.last_used_at, &a.id)));
        let text = match (self.verbose, self.format.as_str()) {
            (true, _) => verbose(&records)? + &totals(&records),
            (false, "" | "table") => table(&records, "")? + &totals(&records),
            (false, format) => table(&records, format)?,
        };
        output::print(&text)?;
        Ok(0)
    }
}

fn table(records: &[BuildCache], format: &str) -> Result<String, Failure> {
    let columns = columns("{{.ID}}\t{{.Reclaimable}}\t{{.Size}}\t{{.LastUsedSince}}\t{{.Description}}");
    let is_table = matches!(format, "" | "table");
    let rows: Vec<Value> = records.iter().map(|record| row(record, is_table)).collect();
    Ok(listing::render(format, false, &columns, &rows)?)
}

const VERBOSE: &str = "ID:\t\t{{.ID}}\nCreated at:\t{{.CreatedAt}}\nReclaimable:\t{{.Reclaimable}}\nShared:\t\t{{.Shared}}\n\
    In use:\t\t{{.InUse}}\nSize:\t\t{{.Size}}\nDescription:\t{{.Description}}\nUsage count:\t{{.UsageCount}}\nLast used:\t{{.LastUsedSince}}\n\
    Type:\t\t{{.CacheType}}\n";

fn verbose(records: &[BuildCache]) -> Result<String, Failure> {
    let mut text = String::new();
    for record in records {
        text.push_str(&render_one(VERBOSE, &row(record, false))?);
    }
    Ok(text)
}

fn totals(records: &[BuildCache]) -> String {
    let sum = |wanted: fn(&BuildCache) -> bool| {
        let bytes: i64 = records.iter().filter(|record| wanted(record)).map(|record| record.size).sum();
        size::decimal_fine(bytes as f64)
    };
    let lines = format!(
        "Shared:\t{}\nPrivate:\t{}\nReclaimable:\t{}\nTotal:\t{}\n",
        sum(|record| record.shared),
        sum(|record| !record.shared),
        sum(is_reclaimable),
        sum(|_| true)
    );
    tabwriter::align(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_has_is_not_reclaimable() {
        let record = |id: &str, size, shared| BuildCache {
            id: id.repeat(32),
            kind: "regular".to_owned(),
            description: "RUN make".to_owned(),
            size,
            shared,
            ..BuildCache::default()
        };
        let records = [record("ab", 1_500, false), record("cd", 500, true)];
        let text = table(&records, "").unwrap();
        assert!(
            text.starts_with("CACHE ID       RECLAIMABLE   SIZE      LAST USED   DESCRIPTION\n"),
            "{text}"
        );
        assert!(
            text.contains("abababababab   true          1.5kB") && text.contains("cdcdcdcdcdcd   false"),
            "{text}"
        );
        assert_eq!(
            totals(&records),
            "Shared:        500B\nPrivate:       1.5kB\nReclaimable:   1.5kB\nTotal:         2kB\n"
        );
        assert_eq!(
            table(&records, "{{.ID}} {{.Size}}").unwrap().lines().next(),
            Some(&*format!("{} 1.5kB", "ab".repeat(32)))
        );
        assert!(verbose(&records).unwrap().contains("Description:\tRUN make\nUsage count:\t0\n"));
    }
}
