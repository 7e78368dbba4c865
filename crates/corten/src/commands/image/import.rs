//! `import`: an image from the files of a root file system.

use std::path::Path;

use corten_api::client::Body;
use corten_api::image::ImageImportOptions;

use super::repository_and_tag;
use crate::cli::{Context, Outcome, Verb};
use crate::commands::archive::open;
use crate::commands::container::DEFAULT_PLATFORM;
use crate::commands::progress::{Progress, Upload};

#[derive(Clone, Debug, clap::Args)]
pub struct Import {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,
    /// Set platform if server is multi-platform capable
    #[arg(long)]
    platform: Option<String>,
    /// A file, a URL for the engine to fetch, or - for standard input
    #[arg(value_name = "file|URL|-")]
    source: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Verb for Import {
    const ABOUT: &'static str = "Import the contents from a tarball to create a filesystem image";
    const USAGE: &'static str = "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]";

    fn run(self, context: &Context) -> Outcome {
        let (repo, tag) = repository_and_tag(self.name.as_deref().unwrap_or_default());
        let options = ImageImportOptions {
            repo: repo.to_owned(),
            tag: tag.to_owned(),
            message: self.message.clone(),
            changes: self.change.clone(),
            platform: self.platform.clone().or_else(|| std::env::var(DEFAULT_PLATFORM).ok()),
        };
        let is_url = ["http://", "https://"].iter().any(|scheme| self.source.starts_with(scheme));
        let source = if is_url { self.source.as_str() } else { "-" };
        let archive = if is_url { None } else { Some(open(Some(Path::new(&self.source)))?) };
        let client = context.probed_client()?;
        let progress = Progress::new(false);
        context.block_on(async {
            let body = match archive {
                None => Body::empty(),
                Some((archive, length)) => {
                    Body::from_reader(Upload::new(archive, length, "Sending files", &progress), length)
                }
            };
            let messages = client.image_import(source, body, &options).await?;
            progress.show(messages).await?;
            Ok(0)
        })?
    }
}
