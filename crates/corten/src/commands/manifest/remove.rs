//! `manifest rm`: forgets lists that are not pushed.

use super::list::Lists;
use super::{missing, reference};
use crate::cli::{Context, Failure, Outcome, Verb};

#[derive(Clone, Debug, clap::Args)]
pub struct Rm {
    #[arg(value_name = "MANIFEST_LIST", required = true)]
    lists: Vec<String>,
}

impl Verb for Rm {
    const ABOUT: &'static str = "Delete one or more manifest lists from local storage";
    const USAGE: &'static str = "MANIFEST_LIST [MANIFEST_LIST...]";

    fn run(self, context: &Context) -> Outcome {
        let lists = Lists::of(context)?;
        let mut absent = Vec::new();
        for name in &self.lists {
            if !lists.remove(&reference(name)?)? {
                absent.push(missing(name).message);
            }
        }
        match absent.is_empty() {
            true => Ok(0),
            false => Err(Failure::new(absent.join("\n"))),
        }
    }
}
