//! `commit`: an image of a container's files and settings.

use corten_api::archive::CommitOptions;

use crate::cli::{Context, Outcome, Verb};
use crate::commands::image::repository_and_tag;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Commit {
    /// Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")
    #[arg(short, long, default_value = "", hide_default_value = true)]
    author: String,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, default_value = "", hide_default_value = true)]
    message: String,
    /// Pause container during commit
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true",
        value_parser = crate::options::values::boolean, action = clap::ArgAction::Set, value_name = "BOOL")]
    pause: bool,
    /// Don't pause the container during commit
    #[arg(long, hide = true)]
    no_pause: bool,
    #[arg(value_name = "CONTAINER")]
    container: String,
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

impl Verb for Commit {
    const ABOUT: &'static str = "Create a new image from a container's changes";
    const USAGE: &'static str = "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]";

    fn run(self, context: &Context) -> Outcome {
        let (repo, tag) = repository_and_tag(self.name.as_deref().unwrap_or_default());
        let options = CommitOptions {
            repo: repo.to_owned(),
            // A name alone is that of the newest.
            tag: if tag.is_empty() && !repo.is_empty() && !repo.contains('@') {
                "latest".to_owned()
            } else {
                tag.to_owned()
            },
            container: self.container,
            comment: self.message,
            author: self.author,
            changes: self.change,
            pause: self.pause && !self.no_pause,
        };
        let client = context.client()?;
        let committed = context.block_on(client.container_commit(&options, None))??;
        output::line(&committed.id)?;
        Ok(0)
    }
}
