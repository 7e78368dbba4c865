//! `image sbom`: what an image is made of, as a document for programs.

use corten_api::client::Query;

use crate::cli::{Context, Failure, Outcome, Verb};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Sbom {
    /// Write a document of this kind ("spdx", "cyclonedx")
    #[arg(long, value_name = "FORMAT", default_value = "spdx")]
    format: String,
    /// Look into the image for the given platform (os[/arch[/variant]])
    #[arg(long)]
    platform: Option<String>,
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Verb for Sbom {
    const ABOUT: &'static str = "Show what an image is made of: its packages, as SPDX or CycloneDX";
    const USAGE: &'static str = "[OPTIONS] IMAGE";

    fn run(self, context: &Context) -> Outcome {
        let platform = self.platform.as_deref().map(super::platform_json).transpose()?;
        let query = Query::new().text("format", &self.format).option("platform", platform.as_deref());
        let client = context.client()?;
        let path = format!("/corten/images/{}/sbom", self.image);
        let document = context.block_on(async {
            client.get(&path).query(query).send().await?.json::<serde_json::Value>().await
        })??;
        let text = serde_json::to_string_pretty(&document)
            .map_err(|error| Failure::new(format!("cannot write the document: {error}")))?;
        output::line(&text)?;
        Ok(0)
    }
}
