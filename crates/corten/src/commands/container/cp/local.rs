//! This side of a copy: what a path of the host names, and what becomes of it.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use corten_image::files::{
    Input, Source, UnpackError, UnpackOptions, base_name, clean, keep_ending, specifies_current, split,
    unpack,
};
use rustix::fs::{Mode, OFlags};

use crate::cli::Failure;

/// As many links as Docker follows at the end of a destination.
const LINKS_MAX: usize = 10;

/// One end of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyInfo {
    pub path: String,
    pub exists: bool,
    pub is_directory: bool,
    /// What it is called in the end, where following a link led to another name.
    pub name: Option<String>,
}

/// `CONTAINER:PATH`, unless it is a path of the host: one that begins with a slash or a dot.
pub fn container_path(argument: &str) -> Option<(&str, &str)> {
    if argument.starts_with('/') {
        return None;
    }
    argument.split_once(':').filter(|(container, _)| !container.starts_with('.') && !container.is_empty())
}

/// From the root, cleaned; an ending that means something stays.
pub fn absolute(path: &str) -> Result<String, Failure> {
    let full = match path.starts_with('/') {
        true => path.to_owned(),
        false => {
            let here = std::env::current_dir()
                .map_err(|e| Failure::from(e).while_doing("finding the working directory"))?;
            format!("{}/{path}", here.display())
        }
    };
    Ok(keep_ending(clean(&full), path))
}

/// Refuses what can't be written to.
pub fn check_output(path: &str) -> Result<(), Failure> {
    let (directory, _) = split(&clean(path));
    if !Path::new(&directory).exists() {
        return Err(Failure::new(format!("invalid output path: directory \"{directory}\" does not exist")));
    }
    let kind = match fs::metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Failure::from(error).while_doing(path)),
    };
    if kind.is_block_device() || kind.is_char_device() {
        return Err(Failure::new(format!(
            "invalid output path: \"{path}\" must be a directory or a regular file: got a device"
        )));
    }
    Ok(())
}

/// Where a copy goes: links at the end are followed, also to what is not there yet.
pub fn destination(path: &str) -> Result<CopyInfo, Failure> {
    let failed = |path: &str, error: io::Error| Failure::from(error).while_doing(path);
    let mut path = path.to_owned();
    for _ in 0..=LINKS_MAX {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_symlink() => {
                let target = fs::read_link(&path).map_err(|e| failed(&path, e))?;
                path = joined(&path, &target.to_string_lossy());
            }
            Ok(meta) => return Ok(CopyInfo { path, exists: true, is_directory: meta.is_dir(), name: None }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (parent, _) = split(&path);
                let meta = fs::metadata(&parent).map_err(|e| failed(&parent, e))?;
                if !meta.is_dir() {
                    return Err(Failure::new(format!("{parent}: not a directory")));
                }
                return Ok(CopyInfo { path, exists: false, is_directory: false, name: None });
            }
            Err(error) => return Err(failed(&path, error)),
        }
    }
    Err(Failure::new(format!("too many symlinks in {path}")))
}

/// What is copied: links before the last element of its path are followed, the last one when that is wished.
pub fn source(path: &str, follow: bool) -> Result<(Source, CopyInfo), Failure> {
    let failed = |error: io::Error| Failure::from(error).while_doing(path);
    let (resolved, name) = match follow {
        true => {
            let real = fs::canonicalize(path).map_err(failed)?;
            rebased(path, real.to_string_lossy().into_owned())
        }
        false => (path.to_owned(), None),
    };
    let (source, found) = Source::own(&resolved).map_err(failed)?;
    Ok((source, CopyInfo { path: resolved, exists: true, is_directory: found.is_directory(), name }))
}

/// A link's target as seen from where the link is.
pub fn joined(link: &str, target: &str) -> String {
    match target.starts_with('/') {
        true => target.to_owned(),
        false => clean(&format!("{}/{target}", split(link).0)),
    }
}

/// A path after links were followed: with the ending that was written, and the name that was written where it is another one.
pub fn rebased(path: &str, resolved: String) -> (String, Option<String>) {
    let mut resolved = resolved;
    if specifies_current(path) && !specifies_current(&resolved) {
        resolved.push_str("/.");
    }
    if path.ends_with('/') && !resolved.ends_with('/') {
        resolved.push('/');
    }
    let name = (base_name(path) != base_name(&resolved)).then(|| base_name(path).to_owned());
    (resolved, name)
}

/// Unpacks below a directory; nothing in the archive leads out of it.
pub fn unpack_into(directory: &str, archive: impl Input, options: &UnpackOptions) -> Result<(), Failure> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty());
    let root = root.map_err(|error| Failure::from(io::Error::from(error)).while_doing(directory))?;
    unpack(&root, b"/", archive, options).map_err(|error| match error {
        UnpackError::OverDirectory { entry, .. } => {
            Failure::new(format!("cannot overwrite directory \"{entry}\" with non-directory \"{directory}\""))
        }
        UnpackError::OverFile { entry, .. } => {
            Failure::new(format!("cannot overwrite non-directory \"{entry}\" with directory \"{directory}\""))
        }
        error => {
            let cause =
                std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            Failure::new(format!("{error}{cause}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_and_paths_are_told_apart() {
        assert_eq!(container_path("web:/etc"), Some(("web", "/etc")));
        assert_eq!(container_path("web:etc:x"), Some(("web", "etc:x")));
        for local in ["/a:b", "./a:b", "../a:b", "file", "-", ":x"] {
            assert_eq!(container_path(local), None, "{local}");
        }
    }

    #[test]
    fn followed_links_keep_ending_and_name() {
        assert_eq!(rebased("/a/link", "/b/real".into()), ("/b/real".into(), Some("link".into())));
        assert_eq!(rebased("/a/link/.", "/b/real".into()), ("/b/real/.".into(), None));
        assert_eq!(rebased("/a/link/", "/b/real".into()), ("/b/real/".into(), Some("link".into())));
        assert_eq!(joined("/a/link", "../b"), "/b");
    }
}
