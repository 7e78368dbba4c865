//! `manifest annotate`: what an image of a list runs on.

use super::list::Lists;
use super::reference;
use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct Annotate {
    /// Set architecture
    #[arg(long, value_name = "NAME")]
    arch: Option<String>,
    /// Set operating system
    #[arg(long, value_name = "NAME")]
    os: Option<String>,
    /// Set operating system feature
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    os_features: Vec<String>,
    /// Set operating system version
    #[arg(long, value_name = "VERSION")]
    os_version: Option<String>,
    /// Set architecture variant
    #[arg(long, value_name = "NAME")]
    variant: Option<String>,
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    #[arg(value_name = "MANIFEST")]
    manifest: String,
}

impl Verb for Annotate {
    const ABOUT: &'static str = "Add additional information to a local image manifest";
    const USAGE: &'static str = "[OPTIONS] MANIFEST_LIST MANIFEST";

    fn run(self, context: &Context) -> Outcome {
        let (list, image) = (reference(&self.list)?, reference(&self.manifest)?);
        let lists = Lists::of(context)?;
        let mut member = lists.member(&list, &image)?.ok_or_else(|| {
            let (image, list) = (image.familiar(), list.familiar());
            Failure::new(format!("manifest for image {image} does not exist in {list}"))
        })?;
        let mut platform = member.descriptor.platform.take().unwrap_or_default();
        platform.architecture = self.arch.unwrap_or(platform.architecture);
        platform.os = self.os.unwrap_or(platform.os);
        platform.os_version = self.os_version.or(platform.os_version);
        platform.variant = self.variant.or(platform.variant);
        for feature in self.os_features {
            let features = platform.os_features.get_or_insert_default();
            if !features.contains(&feature) {
                features.push(feature);
            }
        }
        if platform.os.is_empty() || platform.architecture.is_empty() {
            return Err(Failure::new("an image of a list needs an operating system and an architecture")
                .hint("say --os and --arch"));
        }
        member.descriptor.platform = Some(platform);
        lists.put(&list, &image, &member)?;
        Ok(0)
    }
}
