//! `registry`: a registry of one's own. These commands work with its directory and process, not with an engine.

mod gc;
mod login;
mod place;
mod reload;
mod restore;
mod robot;
mod serve;
mod usage;
mod user;

pub use gc::Gc;
pub use login::{LsLogins, RevokeLogins, RotateKey};
pub use reload::Reload;
pub use restore::Restore;
pub use robot::{CreateRobot, LsRobots, RevokeRobot};
pub use serve::Serve;
pub use usage::Usage;
pub use user::{AddUser, LsUsers, RmUser};
