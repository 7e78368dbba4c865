//! `registry restore`: puts tags back that a retention rule took away, as long as their manifests are there.

use std::path::PathBuf;

use corten_registry::server::{self, Config};

use super::place::shown;
use super::serve::failure;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::format::listing::{self, Columns};
use crate::format::template::Value;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Restore {
    /// Configuration file [default: /etc/corten/registry.json, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The registry's directory [default: as configured, or /var/lib/corten-registry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Format the list: 'table', 'table TEMPLATE', 'json' or a Go TEMPLATE
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: String,
    /// Which tags; without any, those that can be put back are listed
    #[arg(value_name = "REPOSITORY:TAG")]
    tags: Vec<String>,
}

impl Verb for Restore {
    const ABOUT: &'static str = "Put tags back that a retention rule took away, or list them";
    const USAGE: &'static str = "[OPTIONS] [REPOSITORY:TAG...]";

    fn run(self, _: &Context) -> Outcome {
        let mut config = Config::read(self.config.as_deref()).map_err(|error| failure(error.into()))?;
        config.data = self.data.clone().or(config.data.take());
        if self.tags.is_empty() {
            return self.list(&config);
        }
        for name in &self.tags {
            let (repository, tag) = name
                .rsplit_once(':')
                .ok_or_else(|| Failure::new(format!("{name}: want REPOSITORY:TAG, as team/app:1.0")))?;
            let digest = server::restore(&config, repository, tag).map_err(failure)?;
            output::line(&format!("{name}: {digest}"))?;
        }
        Ok(0)
    }
}

impl Restore {
    fn list(&self, config: &Config) -> Outcome {
        let row = |one: &server::Retired| {
            Value::row([
                ("Repository", one.repository.as_str().into()),
                ("Tag", one.tag.as_str().into()),
                ("Digest", one.digest.as_str().into()),
                ("Removed", shown(one.retired_s).as_str().into()),
            ])
        };
        let rows: Vec<Value> = server::retired(config).map_err(failure)?.iter().map(row).collect();
        let columns = Columns {
            table: "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.Removed}}".to_owned(),
            quiet: "{{.Tag}}",
            titles: &[
                ("Repository", "REPOSITORY"),
                ("Tag", "TAG"),
                ("Digest", "DIGEST"),
                ("Removed", "REMOVED"),
            ],
        };
        output::print(&listing::render(&self.format, false, &columns, &rows)?)?;
        Ok(0)
    }
}
