//! The thin typed door to the Linux kernel: one module per topic, the only crate with `unsafe`.

pub mod netlink;
pub mod netns;
