//! Loading an OCI image layout from a directory: its files are taken as an archive's entries are.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{LoadError, LoadOptions, Loaded, Progress};
use crate::error::Error;
use crate::store::Store;

impl Store {
    /// Loads all images of an image layout directory (`oci-layout`, `index.json`, `blobs/sha256/…`).
    pub fn load_layout(
        &self,
        directory: &Path,
        options: &LoadOptions,
        progress: &dyn Fn(Progress),
    ) -> Result<Vec<Loaded>, Error> {
        self.load_by(options, progress, |intake| {
            let mut paths = vec!["index.json".to_owned()];
            let blobs = directory.join("blobs/sha256");
            let read_error = |source| LoadError::ReadFile { path: blobs.clone(), source };
            for entry in fs::read_dir(&blobs).map_err(read_error)? {
                let name = entry.map_err(read_error)?.file_name();
                // What is not named by a digest is a tool's temporary file.
                if let Some(name) = name.to_str().filter(|name| crate::Digest::from_hex(name).is_some()) {
                    paths.push(format!("blobs/sha256/{name}"));
                }
            }
            paths.sort();
            for path in paths {
                let full = directory.join(&path);
                let (mut file, size) = open_regular(&full)
                    .map_err(|source| LoadError::ReadFile { path: full.clone(), source })?;
                intake.file(path, size, &mut file)?;
            }
            Ok(())
        })
    }
}

/// Opens without following a link at the end, and takes nothing but a regular file.
fn open_regular(path: &Path) -> io::Result<(File, u64)> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok((file, metadata.len()))
}
