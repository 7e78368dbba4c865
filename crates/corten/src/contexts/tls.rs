//! The certificates and the key of a connection, in PEM, each in a file of its own.

use std::path::Path;

use corten_api::client::TlsOptions;

use super::StoreError;

/// The files' names, as Docker's client has them.
pub const NAMES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// In the order of [`NAMES`].
    pub files: [Option<Vec<u8>>; 3],
}

impl TlsFiles {
    /// Those that are there.
    pub fn read(directory: &Path) -> Result<TlsFiles, StoreError> {
        let mut found = TlsFiles::default();
        for (file, name) in found.files.iter_mut().zip(NAMES) {
            let path = directory.join(name);
            match std::fs::read(&path) {
                Ok(content) => *file = Some(content),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(StoreError::File { path, source }),
            }
        }
        Ok(found)
    }

    /// Makes the directory hold these and no others.
    pub fn write(&self, directory: &Path) -> Result<(), StoreError> {
        for (file, name) in self.files.iter().zip(NAMES) {
            let path = directory.join(name);
            match file {
                Some(content) => super::write(&path, content, 0o600)?,
                None => match std::fs::remove_file(&path) {
                    Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                        return Err(StoreError::File { path, source });
                    }
                    _ => {}
                },
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.files.iter().all(Option::is_none)
    }

    /// The names of the files that are there.
    pub fn names(&self) -> Vec<&'static str> {
        self.files.iter().zip(NAMES).filter(|(file, _)| file.is_some()).map(|(_, name)| name).collect()
    }

    /// What a connection is made with.
    pub fn options(&self, verify: bool) -> TlsOptions {
        let [ca, cert, key] = self.files.clone();
        TlsOptions { ca, identity: cert.zip(key), verify, ..TlsOptions::default() }
    }
}
