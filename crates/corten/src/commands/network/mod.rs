//! Commands on networks.

mod connect;
mod create;
mod ipam;
mod list;
mod remove;

pub use super::inspect::InspectNetwork as Inspect;
pub use connect::{Connect, Disconnect};
pub use create::Create;
pub use list::Ls;
pub use remove::{Prune, Rm};
