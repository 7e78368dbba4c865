//! `image provenance`: where an image comes from, as its builder says.

use super::attested;
use crate::cli::{Context, Outcome, Verb};

/// SLSA's predicates of all versions.
const KINDS: [&str; 1] = ["https://slsa.dev/provenance/"];

#[derive(Clone, Debug, clap::Args)]
pub struct Provenance {
    /// Show that of the image for the given platform (os[/arch[/variant]])
    #[arg(long)]
    platform: Option<String>,
    #[arg(value_name = "IMAGE")]
    image: String,
}

impl Verb for Provenance {
    const ABOUT: &'static str =
        "Show where an image comes from, as its builder says: in-toto statements that came with it";
    const USAGE: &'static str = "[OPTIONS] IMAGE";

    fn run(self, context: &Context) -> Outcome {
        let said =
            attested::statements(context, &self.image, self.platform.as_deref(), ("provenance", &KINDS))?;
        said.iter().try_for_each(attested::show)?;
        Ok(0)
    }
}
