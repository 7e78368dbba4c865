//! Files and directories that are for their owner, and what of them others may use: made so, or made so again.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Makes a directory with at most these rights, and its parents with the usual ones; takes from one that is there what
/// exceeds them.
pub fn directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    reduce(path, mode)
}

/// Opens a file for writing, or makes it, that only its owner may read and write.
pub fn file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    reduce(path, 0o600)?;
    Ok(file)
}

/// Takes from a file's rights what exceeds `mode`.
pub fn reduce(path: &Path, mode: u32) -> io::Result<()> {
    let found = std::fs::metadata(path)?.permissions().mode() & 0o7777;
    if found & !mode == 0 {
        return Ok(());
    }
    std::fs::set_permissions(path, Permissions::from_mode(found & mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_open_is_closed_and_what_is_closed_stays_so() {
        let place = tempfile::tempdir().unwrap();
        let (outer, inner) = (place.path().join("outer"), place.path().join("outer/inner"));
        directory(&inner, 0o700).unwrap();
        assert_eq!(mode(&inner), 0o700);
        std::fs::set_permissions(&outer, Permissions::from_mode(0o755)).unwrap();
        directory(&outer, 0o710).unwrap();
        assert_eq!(mode(&outer), 0o710);
        std::fs::set_permissions(&outer, Permissions::from_mode(0o700)).unwrap();
        directory(&outer, 0o710).unwrap();
        assert_eq!(mode(&outer), 0o700);
    }

    #[test]
    fn a_file_keeps_its_content_and_loses_its_readers() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, "secret").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        file(&path).unwrap();
        assert_eq!((mode(&path), std::fs::read_to_string(&path).unwrap().as_str()), (0o600, "secret"));
        file(&place.path().join("new")).unwrap();
        assert_eq!(mode(&place.path().join("new")), 0o600);
    }
}
