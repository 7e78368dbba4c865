//! `registry gc`: removes what nobody needs any more from a registry, running or not.

use std::path::PathBuf;

use corten_registry::server::{self, CollectRequest, Collected, Config, What};

use super::serve::failure;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::format::size;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Gc {
    /// Only tell what would go, and why
    #[arg(long)]
    dry_run: bool,
    /// Configuration file [default: /etc/corten/registry.json, if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The registry's directory [default: /var/lib/corten-registry]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Keep for so long what nobody needs (90s, 15m, 24h, 7d) [default: as configured, or 24h]
    #[arg(long, value_name = "TIME")]
    undo: Option<String>,
    /// Remove manifests without a tag, too, that were pushed so long ago [default: as configured, or never]
    #[arg(long, value_name = "TIME")]
    untagged: Option<String>,
    /// Tell of the tags that a retention rule keeps, too, and why
    #[arg(long)]
    kept: bool,
    /// Tell it in JSON, a line each
    #[arg(long)]
    json: bool,
}

impl Verb for Gc {
    const ABOUT: &'static str = "Remove blobs and manifests that nobody needs any more";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        let mut config = Config::read(self.config.as_deref()).map_err(|error| failure(error.into()))?;
        config.data = self.data.clone().or(config.data.take());
        let time = |key, text: &Option<String>| {
            let parsed = text.as_deref().map(|text| server::duration(key, text)).transpose();
            parsed.map_err(|error| Failure::new(error.to_string()))
        };
        let request = CollectRequest {
            dry_run: self.dry_run,
            kept: self.kept,
            undo: time("--undo", &self.undo)?,
            untagged: time("--untagged", &self.untagged)?,
        };
        let (mut blobs, mut bytes) = (0, 0);
        let mut written = Ok(());
        let told = server::collect(&config, &request, |one| {
            if matches!(one.what, What::Blob | What::CachedBlob) {
                blobs += 1;
                bytes += one.size;
            }
            written = output::line(&if self.json { json(&one) } else { sentence(&one, self.dry_run) });
            written.is_ok()
        });
        told.map_err(failure)?;
        written?;
        if !self.json {
            let verb = if self.dry_run { "would go" } else { "removed" };
            output::line(&format!("{blobs} blobs {verb}, {}", size::decimal(bytes as i64)))?;
        }
        Ok(0)
    }
}

fn json(one: &Collected) -> String {
    serde_json::to_string(one).unwrap_or_default()
}

fn sentence(one: &Collected, dry_run: bool) -> String {
    let verb = match (one.kept, dry_run) {
        (true, true) => "would keep",
        (true, false) => "kept",
        (false, true) => "would remove",
        (false, false) => "removed",
    };
    let what = match one.what {
        What::Tag => "tag",
        What::Manifest => "manifest",
        What::Link => "from its repository: blob",
        What::Blob => "blob",
        What::Repository => "repository",
        What::CachedBlob => "cached blob",
        What::CachedManifest => "cached manifest",
    };
    let repository = match &one.tag {
        Some(tag) => one.repository.as_ref().map(|repository| format!("{repository}:{tag}")),
        None => one.repository.clone(),
    };
    let name = match (&repository, &one.digest) {
        (Some(repository), Some(digest)) => format!("{repository}@{digest}"),
        (Some(name), None) | (None, Some(name)) => name.clone(),
        (None, None) => String::new(),
    };
    let size = match one.size {
        0 => String::new(),
        bytes => format!(" ({})", size::decimal(bytes as i64)),
    };
    format!("{verb} {what} {name}{size}: {}", one.why)
}
