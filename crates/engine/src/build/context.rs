//! Build contexts at the engine: an archive that is unpacked for the time of a build, or a directory that the engine sees itself.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_build::Tree;
use corten_image::compression::archive_stream;
use corten_image::files::{Owner, Plain, UnpackOptions, unpack};

use crate::Engine;
use crate::error::{Error, Result};

/// A directory of a build's own, removed with the last one that has it.
pub(super) struct Scratch {
    engine: Engine,
    path: PathBuf,
}

impl Scratch {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.engine.collector().discard_directory(std::mem::take(&mut self.path));
    }
}

impl Engine {
    /// Unpacks an archive, compressed or not.
    pub async fn build_context_of_archive(&self, reader: impl BufRead + Send + 'static) -> Result<Tree> {
        let engine = self.clone();
        crate::image::blocking(move || {
            let tree = engine.empty_build_context()?;
            let plain = archive_stream(reader)
                .map_err(|error| Error::invalid(format!("cannot read the build context: {error}")))?;
            // Whose the files were on the client's side is of no matter to any image.
            let owner = Owner::Fixed { uid: 0, gid: 0 };
            let options = UnpackOptions { owner, skip_refused_xattrs: true, ..UnpackOptions::default() };
            unpack(&*tree.root, b"/", Plain(BufReader::new(plain)), &options).map_err(|error| {
                Error::invalid(format!("cannot unpack the build context: {}", in_full(&error)))
            })?;
            Ok(tree)
        })
        .await
    }

    /// A directory for a tree that somebody else fills.
    pub fn empty_build_context(&self) -> Result<Tree> {
        let scratch = self.build_scratch()?;
        let root = File::open(scratch.path()).map_err(|error| Error::io("open", scratch.path(), error))?;
        Ok(Tree { root: Arc::new(root.into()), keep: Some(Arc::new(scratch)) })
    }

    /// An empty directory for the time of a build.
    pub(super) fn build_scratch(&self) -> Result<Scratch> {
        self.build_scratch_at(self.unpacked_archives().join(crate::id::random()))
    }

    /// The same in a place where somebody sweeps.
    pub(super) fn build_scratch_at(&self, path: PathBuf) -> Result<Scratch> {
        std::fs::create_dir_all(&path).map_err(|error| Error::io("create", &path, error))?;
        Ok(Scratch { engine: self.clone(), path })
    }

    /// A directory that a client names, if it is the same that the client means; none when it isn't.
    pub fn build_context_of_directory(&self, path: &Path, device: u64, inode: u64) -> Option<Tree> {
        let root = File::open(path).ok()?;
        let found = root.metadata().ok()?;
        let is_it = found.is_dir() && found.dev() == device && found.ino() == inode;
        is_it.then(|| Tree { root: Arc::new(root.into()), keep: None })
    }

    fn unpacked_archives(&self) -> PathBuf {
        self.build_root().join("archives")
    }

    /// What an engine that was killed has left there.
    pub(crate) fn sweep_unpacked_archives(&self) {
        super::git::end_leftovers(&self.unpacked_archives());
        let left = std::fs::read_dir(self.unpacked_archives()).into_iter().flatten().flatten();
        left.for_each(|entry| self.collector().discard_directory(entry.path()));
        self.builds.mounts.leftovers().into_iter().for_each(|path| self.collector().discard_directory(path));
    }
}

fn in_full(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {cause}"));
    format!("{error}{}", cause.unwrap_or_default())
}
