//! `load`: images from an archive.

use std::path::PathBuf;

use corten_api::client::Body;

use super::platform_json;
use crate::cli::{Context, Outcome, Verb};
use crate::commands::archive::open;
use crate::commands::progress::{Progress, Upload};

#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// Load only the given platform variants (os[/arch[/variant]])
    #[arg(long, value_delimiter = ',')]
    platform: Vec<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for Load {
    const ABOUT: &'static str = "Load an image from a tar archive or STDIN";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, context: &Context) -> Outcome {
        let platforms =
            self.platform.iter().map(|text| platform_json(text)).collect::<Result<Vec<_>, _>>()?;
        let (archive, length) = open(self.input.as_deref())?;
        let client = context.probed_client()?;
        let progress = Progress::new(self.quiet);
        context.block_on(async {
            let archive = Upload::new(archive, length, "Sending archive", &progress);
            let body = Body::from_reader(archive, length);
            let messages = client.image_load(body, progress.is_quiet(), &platforms).await?;
            progress.show(messages).await?;
            Ok(0)
        })?
    }
}
