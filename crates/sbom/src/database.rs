//! The databases of systems' package managers.

pub mod apk;
pub mod dpkg;
pub mod os_release;
pub mod rpm;
mod sqlite;
