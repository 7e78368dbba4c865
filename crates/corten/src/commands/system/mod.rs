//! Commands about the engine itself.

mod df;
mod dial_stdio;
mod events;
mod info;
mod prune;
mod version;

pub use df::Df;
pub use dial_stdio::DialStdio;
pub use events::Events;
pub use info::Info;
pub use prune::Prune;
pub use version::Version;
