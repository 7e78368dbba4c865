//! The rows of the image database as values.

use crate::digest::{DiffId, Digest, ImageId};

/// A manifest, index, configuration or other small document, kept byte for byte.
#[derive(Clone, Debug)]
pub struct DocumentRow {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// A layer as it is transported: compressed and kept as a file, or plain and reproduced from its layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobRow {
    pub digest: Digest,
    pub media_type: String,
    pub size: u64,
    /// The layer this is the tar stream of, when it was unpacked.
    pub diff_id: Option<DiffId>,
    /// Whether a file holds the bytes; if not, the layer `diff_id` gives them back.
    pub stored: bool,
}

/// An unpacked layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerRow {
    pub diff_id: DiffId,
    pub tar_bytes: u64,
    pub unpacked_bytes: u64,
    pub disk_bytes: u64,
}

/// What a layer was when it was compressed for a registry; its bytes are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompressedRow {
    pub diff_id: DiffId,
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
}

/// An image: its ID is the digest of its configuration.
#[derive(Clone, Debug)]
pub struct ImageRow {
    pub id: ImageId,
    pub manifest: Digest,
    pub parent: Option<ImageId>,
    /// The index that a build made with it: what it is known by without a name.
    pub made_as: Option<Digest>,
    /// When it came into the store, Unix nanoseconds.
    pub stored_at: i64,
}

/// A name and what it stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRow {
    /// The canonical reference: `docker.io/library/busybox:latest`.
    pub name: String,
    pub image: ImageId,
    /// The manifest or index that the name was given to.
    pub target: Digest,
    /// Unix nanoseconds.
    pub tagged_at: i64,
}

/// Everything that one new image adds.
#[derive(Clone, Debug)]
pub struct NewImage {
    pub image: ImageRow,
    pub documents: Vec<DocumentRow>,
    pub blobs: Vec<BlobRow>,
    pub layers: Vec<LayerRow>,
    /// Bottom first: the layer and the blob it came from.
    pub stack: Vec<(DiffId, Digest)>,
    pub names: Vec<NameRow>,
}

/// Content without an owner: its rows are gone, its files may go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    pub blobs: Vec<Digest>,
    pub layers: Vec<DiffId>,
    /// What they take on the disk.
    pub bytes: u64,
}

/// The writable top of a container and the layers beneath it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    pub id: String,
    pub image: ImageId,
    /// Bottom first.
    pub layers: Vec<DiffId>,
}

/// What a step of a build has made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepRow {
    /// Of all that the step depends on.
    pub key: Digest,
    /// None: it changed no file.
    pub layer: Option<LayerRow>,
    /// For people: `RUN make`
    pub description: String,
    /// Unix nanoseconds, both.
    pub created_at: i64,
    pub used_at: i64,
    pub uses: u64,
}

/// Who has a step's layer besides the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepUse {
    /// An image.
    pub is_shared: bool,
    /// A build that goes on.
    pub is_held: bool,
}
