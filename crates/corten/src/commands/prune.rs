//! What every `prune` has: filters, a question, and a report of what is gone.

use std::io;

use corten_api::Filters;
use corten_api::client::Client;
use corten_api::image::ImageDelete;

use super::filters::filters;
use crate::cli::{Context, Failure, Outcome};
use crate::format::size;
use crate::output;
use crate::stream::ask;

#[derive(Clone, Debug, Default, clap::Args)]
pub struct PruneFlags {
    /// Remove only what fits: label=KEY[=VALUE], label!=KEY[=VALUE] or, but for volumes, until=TIME
    #[arg(long, value_name = "NAME=VALUE")]
    filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl PruneFlags {
    pub fn new(filter: Vec<String>, force: bool) -> PruneFlags {
        PruneFlags { filter, force }
    }

    pub fn filters(&self) -> Result<Filters, Failure> {
        filters(&self.filter)
    }

    /// Asks on standard error, unless forced; anything but `y` or `yes` is a no. `command` is what that cancels. Gives the client for
    /// it, since an answer can't be had twice.
    pub fn confirm(&self, context: &Context, command: &str, warning: &str) -> Result<Client, Failure> {
        if self.force {
            return context.client();
        }
        let client = context.probed_client()?;
        let answer = ask(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => Ok(client),
            _ => Err(Failure::new(format!("{command} has been cancelled"))),
        }
    }
}

/// Names what is gone, if anything is.
pub fn tell_deleted(kind: &str, names: impl IntoIterator<Item = impl AsRef<str>>) -> io::Result<()> {
    let lines: String = names.into_iter().map(|name| format!("{}\n", name.as_ref())).collect();
    if lines.is_empty() {
        return Ok(());
    }
    output::print(&format!("Deleted {kind}:\n{lines}\n"))
}

/// The last line, and the end of the command.
pub fn tell_reclaimed(bytes: u64) -> Outcome {
    output::line(&format!("Total reclaimed space: {}", size::decimal_fine(bytes as f64)))?;
    Ok(0)
}

/// An image's name or the image itself, as the lists of what is gone have it.
pub fn image_line(gone: &ImageDelete) -> String {
    match gone.untagged.is_empty() {
        true => format!("deleted: {}", gone.deleted),
        false => format!("untagged: {}", gone.untagged),
    }
}
