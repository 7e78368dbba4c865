//! `context`: engines with a name. What a context is on disk is `crate::contexts`'s business.

mod list;
mod make;
mod transfer;

pub use list::{Inspect, Ls, Show};
pub use make::{Create, Rm, Update, Use};
pub use transfer::{Export, Import};

use crate::cli::Failure;
use crate::contexts::StoreError;

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let failure = Failure::new(error.to_string());
        match error {
            StoreError::NotFound { .. } | StoreError::Missing(_) => {
                failure.hint("`corten context ls` lists the contexts")
            }
            _ => failure,
        }
    }
}
