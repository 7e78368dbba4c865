//! `registry usage`: what quotas and repositories hold.

use std::path::PathBuf;

use corten_registry::server::{self, Config};

use super::serve::failure;
use crate::cli::{Context, Outcome, Verb};
use crate::format::listing::{self, Columns};
use crate::format::size;
use crate::format::template::Value;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Usage {
    /// Configuration file [default: /etc/corten/registry.json, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The registry's directory [default: as configured, or /var/lib/corten-registry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Format output: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Only show quotas
    #[arg(long)]
    quotas: bool,
}

impl Verb for Usage {
    const ABOUT: &'static str = "Tell what quotas and repositories hold";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        let mut config = Config::read(self.config.as_deref()).map_err(|error| failure(error.into()))?;
        config.data = self.data.or(config.data.take());
        let used = server::usage(&config).map_err(failure)?;
        let rows: Vec<Value> = used.iter().filter(|one| one.quota || !self.quotas).map(row).collect();
        let columns = Columns {
            table: "{{.Kind}}\t{{.Name}}\t{{.Size}}\t{{.Limit}}\t{{.Tags}}\t{{.TagLimit}}".to_owned(),
            quiet: "{{.Name}}",
            titles: &[
                ("Kind", "KIND"),
                ("Name", "NAME"),
                ("Size", "SIZE"),
                ("Limit", "LIMIT"),
                ("Tags", "TAGS"),
                ("TagLimit", "TAG LIMIT"),
                ("Coming", "COMING"),
                ("Bytes", "BYTES"),
            ],
        };
        output::print(&listing::render(&self.format, false, &columns, &rows)?)?;
        Ok(0)
    }
}

fn row(used: &server::Usage) -> Value {
    let bytes = |bytes: u64| size::decimal(i64::try_from(bytes).unwrap_or(i64::MAX));
    let none = || "-".to_owned();
    Value::row([
        ("Kind", if used.quota { "quota" } else { "repository" }.into()),
        ("Name", used.name.as_str().into()),
        ("Size", bytes(used.bytes).as_str().into()),
        ("Limit", used.bytes_max.map_or_else(none, bytes).as_str().into()),
        ("Tags", used.tags.to_string().as_str().into()),
        ("TagLimit", used.tags_max.map_or_else(none, |tags| tags.to_string()).as_str().into()),
        ("Coming", bytes(used.coming).as_str().into()),
        ("Bytes", used.bytes.to_string().as_str().into()),
    ])
}
