//! The monitor: parent of one container, and the zygote that forks monitors.

pub mod protocol;
