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
pub mod build;
mod catalogue;
pub mod changes;
mod commit;
mod compress;
pub mod compression;
pub mod config;
mod diff;
pub mod digest;
pub mod erofs;
mod error;
pub mod files;
mod import;
pub mod layer;
pub mod manifest;
pub mod metadata;
pub mod mounts;
pub mod platform;
pub mod reference;
mod reserve;
mod store;
pub mod tar;
mod zeros;

pub use archive::{
    Artifact, ArtifactLayer, DirectoryError, Fetch, LoadError, LoadLimits, LoadOptions, Loaded, Outgoing,
    PackedDirectory, Place, Progress, Publish, Published, RemoteLayer, SaveError, SendStage, SendWatch,
    Source, Stage, Target, Watch, fetch_directory, measure_directory, pack_directory,
};
pub use base::{BaseError, BaseOptions};
pub use catalogue::Image;
pub use commit::{CommitError, CommitOptions};
pub use compress::Format as CompressionFormat;
pub use config::ImageConfig;
pub use diff::{Change, ChangeKind, Changes, DiffError};
pub use digest::{DiffId, Digest, ImageId};
pub use error::{Error, ErrorKind, explain};
pub use import::{ImportError, ImportOptions};
pub use layer::{DriverKind, Limits as LayerLimits};
pub use mounts::{LayerMounts, MountError};
pub use platform::Platform;
pub use reference::Reference;
pub use reserve::Reserve;
pub use store::{
    HistoryEntry, ImageUsage, LayerUsage, ManifestInfo, ManifestKind, Removal, RemoveOptions, Removed,
    Rootfs, Store, StoreOptions, Usage, User,
};
