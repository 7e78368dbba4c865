//! What builds leave for the next ones: listed and pruned.

mod du;
pub mod history;
mod prune;
pub mod record;

pub use du::Du;
pub use prune::Prune;
