//! `image sbom`: what an image is made of, as a document for programs.

use corten_api::client::Query;

use super::attested;
use crate::cli::{Context, Outcome, Verb};

/// SPDX's and CycloneDX's predicates.
const KINDS: [&str; 2] = ["https://spdx.dev/Document", "https://cyclonedx.org/bom"];

#[derive(Clone, Debug, clap::Args)]
pub struct Sbom {
    /// Show what came with the image, as its builder says, instead of looking into it
    #[arg(long, conflicts_with = "format")]
    attached: bool,
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
        if self.attached {
            let said =
                attested::statements(context, &self.image, self.platform.as_deref(), ("sbom", &KINDS))?;
            said.iter().try_for_each(|statement| attested::show(&statement["predicate"]))?;
            return Ok(0);
        }
        let platform = self.platform.as_deref().map(super::platform_json).transpose()?;
        let query = Query::new().text("format", &self.format).option("platform", platform.as_deref());
        let client = context.client()?;
        let path = format!("/corten/images/{}/sbom", self.image);
        let document = context.block_on(async {
            client.get(&path).query(query).send().await?.json::<serde_json::Value>().await
        })??;
        attested::show(&document)?;
        Ok(0)
    }
}
