//! `pull`: images from a registry.

use corten_api::client::Client;
use corten_api::image::ImagePullOptions;
use corten_image::Reference;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::container::DEFAULT_PLATFORM;
use crate::commands::login::auth_for;
use crate::commands::progress::{Progress, Words};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Pull {
    /// Download all tagged images in the repository
    #[arg(short, long)]
    all_tags: bool,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "OS[/ARCH[/VARIANT]]")]
    platform: Option<String>,
    /// Suppress verbose output
    #[arg(short, long)]
    quiet: bool,
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    name: String,
}

impl Verb for Pull {
    const ABOUT: &'static str = "Download an image from a registry";
    const USAGE: &'static str = "[OPTIONS] NAME[:TAG|@DIGEST]";

    fn run(self, context: &Context) -> Outcome {
        let untagged = parse(&self.name)?;
        let is_exact = untagged.tag().is_some() || untagged.digest().is_some();
        if self.all_tags && is_exact {
            return Err(Failure::new("tag can't be used with --all-tags/-a"));
        }
        if !is_exact && !self.all_tags && !self.quiet {
            output::line("Using default tag: latest")?;
        }
        let name = if self.all_tags { untagged } else { with_default_tag(untagged)? };
        let platform = self.platform.or_else(|| std::env::var(DEFAULT_PLATFORM).ok());
        let client = context.probed_client()?;
        let progress = Progress::of_layers(if self.quiet { Words::Nowhere } else { Words::Output });
        context.block_on(pull(context, &client, &name, platform, &progress))??;
        output::line(&name.to_string())?;
        Ok(0)
    }
}

/// Reads a name as Docker does.
pub fn parse(name: &str) -> Result<Reference, Failure> {
    Reference::parse_untagged(name).map_err(|error| Failure::new(format!("{error}: {name:?}")))
}

/// The same with the tag that is meant where none is said.
pub fn with_default_tag(name: Reference) -> Result<Reference, Failure> {
    if name.tag().is_some() || name.digest().is_some() {
        return Ok(name);
    }
    name.with_tag("latest").map_err(|error| Failure::new(error.to_string()))
}

/// Pulls what a name means: its tag or digest, or else all of its tags.
pub async fn pull(
    context: &Context,
    client: &Client,
    name: &Reference,
    platform: Option<String>,
    progress: &Progress,
) -> Result<(), Failure> {
    let auth = auth_for(context, name.domain())?;
    let tag = match name.digest() {
        Some(digest) => digest.to_string(),
        None => name.tag().unwrap_or_default().to_owned(),
    };
    let options = ImagePullOptions {
        from_image: name.name(),
        tag,
        platform: platform.filter(|platform| !platform.is_empty()),
    };
    let messages = client.image_pull(&options, auth.as_ref()).await?;
    progress.show(messages).await
}
