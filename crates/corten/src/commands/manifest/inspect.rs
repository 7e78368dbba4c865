//! `manifest inspect`: a list that is not pushed yet, or what a registry has.

use serde::Serialize;

use super::found::{Found, find};
use super::list::{Lists, Member, document};
use super::{missing, reference};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::remote::Remote;
use crate::format::json::indent_by;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct InspectManifest {
    /// Allow communication with an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Output additional info including layers and platform
    #[arg(short, long)]
    verbose: bool,
    #[arg(value_name = "MANIFEST", required = true, num_args = 1..=2)]
    names: Vec<String>,
}

impl Verb for InspectManifest {
    const ABOUT: &'static str = "Display an image manifest, or manifest list";
    const USAGE: &'static str = "[OPTIONS] [MANIFEST_LIST] MANIFEST";

    fn run(self, context: &Context) -> Outcome {
        let lists = Lists::of(context)?;
        let name = match self.names.as_slice() {
            [list, image] => {
                let member = lists.member(&reference(list)?, &reference(image)?)?;
                return self.image(&member.ok_or_else(|| missing(image))?);
            }
            names => reference(names.first().map(String::as_str).unwrap_or_default())?,
        };
        if let Some(members) = lists.get(&name)? {
            return match self.verbose {
                true => show(&members),
                false => output::line(&document(&members).1).map(|()| 0).map_err(Failure::from),
            };
        }
        let remote = Remote::of(context, &name, self.insecure)?;
        let (bytes, below) = match context.block_on(find(&remote, &name))?? {
            Found::Image(member) => return self.image(&member),
            Found::List(bytes, below) => (bytes, below),
        };
        if !self.verbose {
            output::line(&indent_by("   ", &String::from_utf8_lossy(&bytes)))?;
            return Ok(0);
        }
        let mut members = Vec::new();
        for listed in below {
            let name = name.with_digest(listed.digest);
            match context.block_on(find(&remote, &name))?? {
                Found::Image(mut member) => {
                    // What the list says of it counts.
                    member.descriptor.platform = listed.platform.or(member.descriptor.platform);
                    members.push(*member);
                }
                Found::List(..) => {
                    return Err(Failure::new(format!("{} is a list within a list", name.familiar()))
                        .hint("leave --verbose out, and inspect it by its digest"));
                }
            }
        }
        show(&members)
    }
}

impl InspectManifest {
    fn image(&self, member: &Member) -> Outcome {
        if self.verbose { show(member) } else { show(member.shown()) }
    }
}

fn show(what: &(impl Serialize + ?Sized)) -> Outcome {
    let text = serde_json::to_string(what).map_err(|error| Failure::new(error.to_string()))?;
    output::line(&indent_by("\t", &text))?;
    Ok(0)
}
