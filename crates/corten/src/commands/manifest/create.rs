//! `manifest create`: a list of images that registries have.

use super::found::{Found, find};
use super::list::Lists;
use super::reference;
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::remote::Remote;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Create {
    /// Amend an existing manifest list
    #[arg(short, long)]
    amend: bool,
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
    #[arg(value_name = "MANIFEST", required = true)]
    manifests: Vec<String>,
}

impl Verb for Create {
    const ABOUT: &'static str = "Create a local manifest list for annotating and pushing to a registry";
    const USAGE: &'static str = "[OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]";

    fn run(self, context: &Context) -> Outcome {
        let list = reference(&self.list)?;
        let lists = Lists::of(context)?;
        if !self.amend && lists.get(&list)?.is_some() {
            return Err(Failure::new("refusing to amend an existing manifest list with no --amend flag"));
        }
        let names = self.manifests.iter().map(|name| reference(name)).collect::<Result<Vec<_>, _>>()?;
        let remote = Remote::new(context, if self.insecure { &names[..] } else { &[] })?;
        let mut members = Vec::new();
        for name in &names {
            match context.block_on(find(&remote, name))?? {
                Found::Image(member) => members.push(member),
                Found::List(..) => {
                    let name = name.familiar();
                    return Err(Failure::new(format!("{name} is a manifest list"))
                        .hint(format!("`corten manifest inspect {name}` shows the digests of its images")));
                }
            }
        }
        // With all of them, or not at all.
        for (name, member) in names.iter().zip(&members) {
            lists.put(&list, name, member)?;
        }
        output::line(&format!("Created manifest list {}", list.familiar()))?;
        Ok(0)
    }
}
