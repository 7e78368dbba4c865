//! Corten's image store: references, manifests, content by digest, layers, snapshots.
//!
//! What goes in: archives and layouts as `docker save`, podman, buildah and skopeo write them, root file
//! system tarballs, the host's own distribution. What comes out: an [`Image`] to run, a [`Rootfs`] to mount, an
//! archive any of these tools reads.
//!
//! The crate is synchronous and knows nothing of containers, networks and HTTP. Start reading at
//! [`Store`]; `docs/image-store.md` describes what lies on the disk.

mod archive;
mod base;
pub mod blobs;
mod catalogue;
pub mod changes;
pub mod compression;
pub mod config;
pub mod digest;
pub mod erofs;
mod error;
mod import;
pub mod layer;
pub mod manifest;
pub mod metadata;
pub mod mounts;
pub mod platform;
pub mod reference;
mod store;
pub mod tar;

pub use archive::{LoadError, LoadLimits, LoadOptions, Loaded, Progress, SaveError};
pub use base::{BaseError, BaseOptions};
pub use catalogue::Image;
pub use config::ImageConfig;
pub use digest::{DiffId, Digest, ImageId};
pub use error::{Error, ErrorKind};
pub use import::{ImportError, ImportOptions};
pub use layer::DriverKind;
pub use mounts::{LayerMounts, MountError};
pub use platform::Platform;
pub use reference::Reference;
pub use store::{
    HistoryEntry, ImageUsage, LayerUsage, RemoveOptions, Removed, Rootfs, Store, StoreOptions, Usage, User,
};
