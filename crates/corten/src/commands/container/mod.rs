//! Commands on containers.

mod attach;
mod create;
mod exec;
mod list;
mod logs;
mod port;
mod run;
mod start;
mod state;
mod top;

pub use crate::commands::inspect::InspectContainer;
pub use attach::Attach;
pub use create::Create;
pub use exec::Exec;
pub use list::Ps;
pub use logs::{Logs, bound};
pub use port::Port;
pub use run::Run;
pub use start::Start;
pub use state::{Kill, Pause, Rename, Restart, Rm, Stop, Unpause, Wait};
pub use top::Top;
