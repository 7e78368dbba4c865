//! OCI runtime library: turns an OCI configuration into a process, and watches over it.
//!
//! * [`spec`]: the configuration's types. * [`plan`]: pure decisions, `Spec` → list of steps. * [`launch`]: one `clone3`, whose
//!   child applies the plan and execs. * [`exec`]: a further process in a running container. * [`hooks`]: the programs that a
//!   configuration wants run around the container's life. * [`cgroup`], [`seccomp`], [`log`], [`dns`], [`monitor`]: as they say.
//!   * [`remote`]: log messages as receivers want them.
//!
//! Knows nothing of images, HTTP, tokio.

pub mod cgroup;
pub mod dns;
pub mod exec;
mod foreign;
pub mod hooks;
pub mod launch;
pub mod log;
pub mod monitor;
pub mod plan;
pub mod remote;
pub mod seccomp;
pub mod spec;
