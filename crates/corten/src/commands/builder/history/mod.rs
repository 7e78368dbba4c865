//! `builder history`: builds under way, and those that were.

mod logs;
mod ls;
mod mark;

pub use logs::Logs;
pub use ls::Ls;
pub use mark::{Pin, Rm, Unpin};

use corten_api::build::BuildRecord;
use corten_api::client::Client;

use crate::cli::Failure;

/// The build that a reference means, or the beginning of one; the newest where none is named.
async fn find(client: &Client, wanted: Option<&str>) -> Result<BuildRecord, Failure> {
    let mut builds = client.builds().await?;
    let Some(wanted) = wanted else {
        let newest = builds.into_iter().find(|build| build.completed.is_some());
        return newest.ok_or_else(|| Failure::new("no build is over yet"));
    };
    if let Some(exact) = builds.iter().position(|build| build.reference == wanted) {
        return Ok(builds.swap_remove(exact));
    }
    builds.retain(|build| !wanted.is_empty() && build.reference.starts_with(wanted));
    match builds.len() {
        0 => {
            Err(Failure::new(format!("no such build: {wanted}"))
                .hint("`corten builder history ls` lists them"))
        }
        1 => Ok(builds.remove(0)),
        many => Err(Failure::new(format!("{wanted} is the beginning of {many} references: give more of it"))),
    }
}
