//! `save`: images as an archive.

use std::path::PathBuf;

use super::platform_json;
use crate::cli::{Context, Outcome, Verb};
use crate::commands::archive::Target;

#[derive(Clone, Debug, clap::Args)]
pub struct Save {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Save only the given platform variants (os[/arch[/variant]])
    #[arg(long, value_delimiter = ',')]
    platform: Vec<String>,
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl Verb for Save {
    const ABOUT: &'static str = "Save one or more images to a tar archive (streamed to STDOUT by default)";
    const USAGE: &'static str = "[OPTIONS] IMAGE [IMAGE...]";

    fn run(self, context: &Context) -> Outcome {
        let platforms =
            self.platform.iter().map(|text| platform_json(text)).collect::<Result<Vec<_>, _>>()?;
        let target = Target::open(self.output.as_deref())?;
        let client = context.client()?;
        context.block_on(async {
            target.receive(client.image_save(&self.images, &platforms).await?).await?;
            Ok(0)
        })?
    }
}
