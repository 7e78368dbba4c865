//! System call filters: from the specification's words to a BPF program.
//!
//! [`compile`] turns a [`Seccomp`] into a [`Program`], which `corten_sys::seccomp` installs; [`default_profile`] is the policy
//! of containers for which nobody chose another one; [`from_docker_json`] reads a user's own. Everything happens before
//! the container's process exists. `docs/seccomp.md` tells what the rules mean where the specification is silent.

mod arch;
mod compile;
mod default;
mod docker;
mod filter;
mod multiplex;
mod table;
#[cfg(test)]
mod tests;

pub use arch::Arch;
pub use compile::{Error, Program, compile};
pub use default::default_profile;
pub use docker::{ProfileError, from_docker_json};
