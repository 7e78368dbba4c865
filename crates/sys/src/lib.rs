//! The thin typed door to the Linux kernel: one module per topic, the only crate with `unsafe`.

pub mod caps;
pub mod exe;
pub mod fd;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod process;
mod raw;
pub mod sched;
pub mod signal;
