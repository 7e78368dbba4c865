//! What a driver does with a layer's contents while they come in. All paths are resolved: relative, without
//! `.`, `..`, empty parts and symbolic links.

use super::recipe::Copy;
use super::tree::Tree;
use super::{LayerError, Metadata, Special};
use crate::digest::DiffId;
use crate::tar::Extent;

/// A file that is not a directory, as the driver numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(pub u32);

/// Receives a layer. Calls come in the order of the archive; metadata of directories only with `finish`, as
/// later entries may change it (and every new name changes a directory's time).
pub(super) trait Sink {
    /// A directory appears.
    fn directory(&mut self, path: &[u8]) -> Result<(), LayerError>;

    /// A name disappears, with everything below it; `files` are the files that lose it.
    fn remove(&mut self, path: &[u8], files: &[FileId]) -> Result<(), LayerError>;

    /// A regular file appears; its stored bytes follow with `data`. Adds where these bytes will lie to
    /// `copies`, in order.
    fn begin_file(
        &mut self,
        path: &[u8],
        metadata: &Metadata,
        size: u64,
        sparse: Option<&[Extent]>,
        copies: &mut Vec<Copy>,
    ) -> Result<FileId, LayerError>;

    fn data(&mut self, bytes: &[u8]) -> Result<(), LayerError>;

    /// The current file is complete.
    fn end_file(&mut self) -> Result<(), LayerError>;

    fn symlink(&mut self, path: &[u8], metadata: &Metadata, target: &[u8]) -> Result<FileId, LayerError>;

    fn special(&mut self, path: &[u8], metadata: &Metadata, special: Special) -> Result<FileId, LayerError>;

    /// One more name for a file that has the name `target`.
    fn link(&mut self, path: &[u8], file: FileId, target: &[u8]) -> Result<(), LayerError>;

    /// The layer is complete: writes the directories and makes everything durable.
    fn finish(self: Box<Self>, tree: &Tree, id: DiffId) -> Result<(), LayerError>;
}
