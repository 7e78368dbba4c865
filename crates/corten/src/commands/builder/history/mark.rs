//! `builder history rm`, `pin` and `unpin`.

use super::find;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Rm {
    /// Remove all builds that are over
    #[arg(long, conflicts_with = "builds")]
    all: bool,
    #[arg(value_name = "BUILD", required_unless_present = "all")]
    builds: Vec<String>,
}

impl Verb for Rm {
    const ABOUT: &'static str = "Remove builds from the history";
    const USAGE: &'static str = "[OPTIONS] BUILD [BUILD...]";

    fn run(self, context: &Context) -> Outcome {
        let client = context.client()?;
        context.block_on(async {
            let mut references = Vec::new();
            if self.all {
                let over = client.builds().await?.into_iter().filter(|build| build.completed.is_some());
                references.extend(over.map(|build| build.reference));
            }
            for build in &self.builds {
                references.push(find(&client, Some(build)).await?.reference);
            }
            for reference in references {
                client.build_forget(&reference).await?;
                output::line(&reference)?;
            }
            Ok::<_, Failure>(0)
        })?
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Pin {
    #[arg(required = true, value_name = "BUILD")]
    builds: Vec<String>,
}

impl Verb for Pin {
    const ABOUT: &'static str = "Keep builds in the history, however many come after them";
    const USAGE: &'static str = "BUILD [BUILD...]";

    fn run(self, context: &Context) -> Outcome {
        pin(context, &self.builds, true)
    }
}

#[derive(Clone, Debug, clap::Args)]
pub struct Unpin {
    #[arg(required = true, value_name = "BUILD")]
    builds: Vec<String>,
}

impl Verb for Unpin {
    const ABOUT: &'static str = "Let builds leave the history again";
    const USAGE: &'static str = "BUILD [BUILD...]";

    fn run(self, context: &Context) -> Outcome {
        pin(context, &self.builds, false)
    }
}

fn pin(context: &Context, builds: &[String], pinned: bool) -> Outcome {
    let client = context.client()?;
    context.block_on(async {
        for build in builds {
            let reference = find(&client, Some(build)).await?.reference;
            client.build_pin(&reference, pinned).await?;
            output::line(&reference)?;
        }
        Ok::<_, Failure>(0)
    })?
}
