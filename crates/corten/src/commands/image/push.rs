//! `push`: images to a registry.

use corten_api::image::ImagePushOptions;

use super::platform_json;
use super::pull::{parse, with_default_tag};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::login::auth_for;
use crate::commands::progress::{Progress, Words};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Push {
    /// Push all tags of an image to the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Compression of layers that are not compressed yet
    #[arg(long, value_name = "FORMAT", value_parser = ["gzip", "zstd"])]
    compression: Option<String>,
    /// Push one platform of an image with several, without their index
    #[arg(long, value_name = "OS[/ARCH[/VARIANT]]")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG]")]
    name: String,
}

impl Verb for Push {
    const ABOUT: &'static str = "Upload an image to a registry";
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG]";

    fn run(self, context: &Context) -> Outcome {
        let untagged = parse(&self.name)?;
        if self.all_tags && untagged.tag().is_some() {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        let is_default = untagged.tag().is_none() && !self.all_tags;
        if is_default && !self.quiet {
            output::line("Using default tag: latest")?;
        }
        let name = if self.all_tags { untagged } else { with_default_tag(untagged)? };
        let options = ImagePushOptions {
            name: name.name(),
            tag: name.tag().unwrap_or_default().to_owned(),
            platform: self.platform.as_deref().map(platform_json).transpose()?,
            compression: self.compression,
        };
        let auth = auth_for(context, name.domain())?;
        let client = context.probed_client()?;
        let progress = Progress::of_layers(if self.quiet { Words::Nowhere } else { Words::Output });
        context.block_on(async {
            let messages = client.image_push(&options, auth.as_ref()).await?;
            progress.show(messages).await
        })??;
        if self.quiet {
            output::line(&name.to_string())?;
        }
        Ok(0)
    }
}
