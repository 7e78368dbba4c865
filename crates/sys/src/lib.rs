//! The thin typed door to the Linux kernel: one module per topic, the only crate with `unsafe`.

mod raw;

pub mod activation;
pub mod bpf;
pub mod caps;
pub mod exe;
pub mod fd;
pub mod loopdev;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod private;
pub mod process;
pub mod quota;
pub mod sched;
pub mod seccomp;
pub mod signal;
pub mod signal_name;
pub mod title;
pub mod tree;
pub mod writeback;
pub mod zone;
