//! What builds leave for the next ones: listed and pruned.

mod du;
mod prune;
pub mod record;

pub use du::Du;
pub use prune::Prune;
