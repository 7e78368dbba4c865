//! `builder history logs`: what a build told, as it was shown then.

use corten_api::client::Client;

use super::find;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::build::{Mode, Show};

#[derive(Clone, Debug, clap::Args)]
pub struct Logs {
    /// Set type of progress output ("plain", "rawjson")
    #[arg(long, default_value = "plain")]
    progress: Mode,
    /// A reference or its beginning; the last build when left out
    #[arg(value_name = "BUILD")]
    build: Option<String>,
}

impl Verb for Logs {
    const ABOUT: &'static str = "Show what a build printed";
    const USAGE: &'static str = "[OPTIONS] [BUILD]";

    fn run(self, context: &Context) -> Outcome {
        if !matches!(self.progress, Mode::Plain | Mode::Rawjson) {
            return Err(Failure::new("--progress is plain or rawjson: the build is over"));
        }
        let client = context.client()?;
        context.block_on(self.show(&client))?
    }
}

impl Logs {
    async fn show(&self, client: &Client) -> Outcome {
        let build = find(client, self.build.as_deref()).await?;
        let mut show = Show::new(self.progress, build.dockerfile)?;
        let mut events = client.build_log(&build.reference).await?;
        while let Some(event) = events.next().await? {
            show.event(event)?;
        }
        Ok(0)
    }
}
