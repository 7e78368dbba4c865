//! `image create-base`: a base image from the host's own distribution, no registry needed.

use corten_api::client::Query;

use crate::cli::{Context, Outcome, Verb};
use crate::commands::progress::Progress;

#[derive(Clone, Debug, clap::Args)]
pub struct CreateBase {
    /// Take the files of the host's essential packages (the only source for now, and the default)
    #[arg(long)]
    from_host: bool,
    /// Add the files of an installed package and of what it depends on
    #[arg(long, value_name = "NAME")]
    package: Vec<String>,
    /// Print the image ID only
    #[arg(short, long)]
    quiet: bool,
    /// The image's name; the distribution's own (debian:13, say) if left out
    #[arg(value_name = "REPOSITORY[:TAG]", default_value = "", hide_default_value = true)]
    reference: String,
}

impl Verb for CreateBase {
    const ABOUT: &'static str = "Make a base image from the host's own distribution";
    const USAGE: &'static str = "[OPTIONS] [REPOSITORY[:TAG]]";

    fn run(self, context: &Context) -> Outcome {
        let query = Query::new().text("from", "host").text("reference", &self.reference);
        let query = self.package.iter().fold(query, |query, name| query.text("package", name));
        let client = context.client()?;
        let progress = Progress::new(self.quiet);
        context.block_on(async {
            let response = client.post("/corten/images/create-base").query(query).send().await?;
            progress.show(response.messages()).await?;
            Ok(0)
        })?
    }
}
