//! Commands about the engine itself.

mod events;
mod info;
mod version;

pub use events::Events;
pub use info::Info;
pub use version::Version;
