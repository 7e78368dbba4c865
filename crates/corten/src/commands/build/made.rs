//! Directories that something is to go to: made before it is known whether anything comes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What was made for one, innermost first. When it is dropped, what is empty goes again.
#[derive(Debug)]
pub struct Made(Vec<PathBuf>);

impl Made {
    /// Makes a directory, and those that it is in.
    pub fn directory(path: &Path) -> io::Result<Made> {
        let missing = path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists());
        let made = Made(missing.map(Path::to_owned).collect());
        fs::create_dir_all(path).map(|()| made)
    }

    /// It stays, though there be nothing in it.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            // One with files in it stays.
            let _ = fs::remove_dir(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_came_to_goes() {
        let place = tempfile::tempdir().unwrap();
        let there = place.path().join("there");
        fs::create_dir(&there).unwrap();
        let deep = there.join("a/b");
        let made = Made::directory(&deep).unwrap();
        assert!(deep.is_dir());
        drop(made);
        assert!(there.is_dir() && !there.join("a").exists());
        drop(Made::directory(&there).unwrap());
        assert!(there.is_dir(), "it was there before");
        let made = Made::directory(&deep).unwrap();
        fs::write(there.join("a/file"), "").unwrap();
        drop(made);
        assert!(!deep.exists() && there.join("a/file").exists());
        Made::directory(&deep).unwrap().keep();
        assert!(deep.is_dir());
        assert!(Made::directory(&there.join("a/file/c")).is_err());
    }
}
