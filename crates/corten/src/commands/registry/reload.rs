//! `registry reload`: has a registry that runs read its configuration again.

use corten_registry::server;

use super::place::Place;
use super::serve::failure;
use crate::cli::{Context, Outcome, Verb};
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct Reload {
    #[command(flatten)]
    place: Place,
}

impl Verb for Reload {
    const ABOUT: &'static str = "Have a registry that runs read its configuration again";
    const USAGE: &'static str = "[OPTIONS]";

    fn run(self, _: &Context) -> Outcome {
        let changed = server::reload(&self.place.data()?).map_err(failure)?;
        for key in &changed {
            output::line(&format!("changed: {key}"))?;
        }
        if changed.is_empty() {
            output::line("nothing has changed")?;
        }
        Ok(0)
    }
}
