//! Corten's image store: references, manifests, content by digest, layers, snapshots.
//!
//! What goes in: archives and layouts as `docker save`, podman, buildah and skopeo write them, root file
//! system tarballs, the host's own distribution. What comes out: an [`Image`] to run, a [`snapshots::Rootfs`]
//! to mount, an archive any of these tools reads.
//!
//! The crate is synchronous and knows nothing of containers, networks and HTTP. Start reading at
//! [`Store`]; `docs/image-store.md` describes what lies on the disk.

pub mod config;
pub mod digest;
pub mod manifest;
pub mod platform;
pub mod reference;

pub use config::ImageConfig;
pub use digest::{DiffId, Digest, ImageId};
pub use platform::Platform;
pub use reference::Reference;
