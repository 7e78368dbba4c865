//! Both drivers against GNU tar: same archive, same files, same bytes back. Hostile archives in `hostile`.

mod conformance;
mod facts;
mod hostile;
mod semantics;

use std::path::Path;
use std::process::Command;

use super::{DriverKind, ImportOptions, ImportedLayer, LayerError, Layers};
use crate::tar::{Entry, Kind, Writer};

pub(super) const DRIVERS: [DriverKind; 2] = [DriverKind::Erofs, DriverKind::Directory];

/// Whether the test may make devices, owners and mounts; says so when not.
pub(super) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: this test needs root");
    }
    root
}

/// A new directory on a disk: /tmp may lack attributes or sparse files.
pub(super) fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("corten-layer-").tempdir_in("/var/tmp").expect("a scratch directory")
}

pub(super) fn import(layers: &Layers, archive: &[u8]) -> Result<ImportedLayer, LayerError> {
    layers.import(&mut &archive[..], &ImportOptions::default(), &|_| {})
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, arguments: &[&str], directory: &Path) -> Vec<u8> {
    let output = Command::new(program).args(arguments).current_dir(directory).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output.stdout
}

/// An archive in the making: entries with their data.
#[derive(Default)]
pub(super) struct Archive(Vec<(Entry, Vec<u8>)>);

impl Archive {
    pub(super) fn entry(mut self, entry: Entry) -> Archive {
        self.0.push((entry, Vec::new()));
        self
    }

    pub(super) fn directory(self, path: &str) -> Archive {
        self.entry(Entry::new(Kind::Directory, path, 0o755))
    }

    pub(super) fn file(mut self, path: &str, data: &str) -> Archive {
        let mut entry = Entry::new(Kind::File, path, 0o644);
        entry.size = data.len() as u64;
        self.0.push((entry, data.as_bytes().to_vec()));
        self
    }

    pub(super) fn link(self, kind: Kind, path: &str, target: &str) -> Archive {
        let mut entry = Entry::new(kind, path, 0o777);
        entry.link = target.into();
        self.entry(entry)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, data) in &self.0 {
            writer.append(entry, &mut data.as_slice()).expect("writing into memory");
        }
        writer.finish().expect("writing into memory")
    }
}
