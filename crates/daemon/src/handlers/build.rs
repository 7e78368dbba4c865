//! Builds: Docker's older way in (`POST /build`, an archive and parameters), Corten's own, and what builds have left in the cache.

mod asker;
mod classic;
mod connections;
mod history;
mod own;
mod posted;
mod wish;

pub use classic::{build, prune};
pub use connections::connection;
pub use history::{cache, forget, history, log, pin};
pub use own::build as own_build;
pub use posted::cancel;
