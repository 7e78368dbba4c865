//! `tag`: one more name for an image.

use super::repository_and_tag;
use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct Tag {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    target: String,
}

impl Verb for Tag {
    const ABOUT: &'static str = "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE";
    const USAGE: &'static str = "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]";

    fn run(self, context: &Context) -> Outcome {
        if self.target.contains('@') {
            return Err(Failure::new(format!("{}: a digest can't be given as a name", self.target)));
        }
        let (repository, tag) = repository_and_tag(&self.target);
        let tag = if tag.is_empty() { "latest" } else { tag };
        let client = context.client()?;
        context.block_on(client.image_tag(&self.source, repository, tag))??;
        Ok(0)
    }
}
