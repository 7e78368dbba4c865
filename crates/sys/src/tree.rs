//! Walking and removing whole directory trees that somebody else has made: of any depth, with a bounded stack and two open
//! descriptors, and without ever following a link.
//!
//! The way up is `..`, checked against the directory that was left: whoever moves a directory meanwhile gets an error, not
//! another tree removed.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat};
use rustix::io::Errno;

/// What tells a directory from all others.
type Identity = (u64, u64);

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes a file or a tree; what is not there is no error.
pub fn remove(path: &Path) -> io::Result<()> {
    remove_from(&CWD, path.as_os_str().as_bytes(), ResolveFlags::empty())
}

/// Removes a name of a directory with everything below it. What is mounted there or below is no part of the tree: it stays, and is
/// an error.
pub fn remove_at(directory: &impl AsFd, name: &[u8]) -> io::Result<()> {
    remove_from(directory, name, ResolveFlags::NO_XDEV)
}

fn remove_from(directory: &impl AsFd, path: &[u8], resolve: ResolveFlags) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // unlink(2): Linux says EISDIR, POSIX EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let open = |parent: &dyn AsFd, name: &[u8]| {
        if resolve.is_empty() {
            return rustix::fs::openat(parent, name, DIRECTORY, Mode::empty());
        }
        rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), resolve)
    };
    let mut current = open(directory, path)?;
    let mut pending = vec![empty_out(&current)?];
    let mut trail: Vec<Identity> = Vec::new();
    while let Some(children) = pending.last() {
        if let Some(child) = children.last() {
            let next = open(&current, child.to_bytes())?;
            trail.push(identity(&current)?);
            current = next;
            pending.push(empty_out(&current)?);
            continue;
        }
        pending.pop();
        let Some(parent) = trail.pop() else { break };
        current = up(&current, parent)?;
        if let Some(name) = pending.last_mut().and_then(Vec::pop) {
            rustix::fs::unlinkat(&current, &name, AtFlags::REMOVEDIR)?;
        }
    }
    Ok(rustix::fs::unlinkat(directory, path, AtFlags::REMOVEDIR)?)
}

/// Unlinks what a directory has but for directories that are not empty, and gives these.
///
/// All of them, as reading on after each would mean to read from the beginning: on ext4 that takes the longer the more
/// names there are, and 3000 directories would take twenty times as long.
fn empty_out(directory: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut children = Vec::new();
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let is_directory = match entry.file_type() {
            FileType::Unknown => file_type(directory, name)? == FileType::Directory,
            kind => kind == FileType::Directory,
        };
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(directory, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if is_directory => children.push(name.to_owned()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(children)
}

/// Calls `each` for everything below a directory, and for the directory itself. What vanishes meanwhile is left out.
pub fn visit(path: &Path, each: &mut dyn FnMut(&Stat)) -> io::Result<()> {
    let mut current = rustix::fs::openat(CWD, path, DIRECTORY, Mode::empty())?;
    each(&rustix::fs::fstat(&current)?);
    let mut pending = vec![look(&current, each)?];
    let mut trail: Vec<Identity> = Vec::new();
    while let Some(children) = pending.last_mut() {
        let Some(child) = children.pop() else {
            pending.pop();
            match trail.pop() {
                Some(parent) => current = up(&current, parent)?,
                None => break,
            }
            continue;
        };
        let Ok(next) = rustix::fs::openat(&current, &child, DIRECTORY, Mode::empty()) else { continue };
        trail.push(identity(&current)?);
        current = next;
        pending.push(look(&current, each)?);
    }
    Ok(())
}

/// Tells of all entries of a directory and gives the directories among them.
fn look(directory: &OwnedFd, each: &mut dyn FnMut(&Stat)) -> io::Result<Vec<CString>> {
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut children = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let Ok(stat) = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        each(&stat);
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            children.push(name.to_owned());
        }
    }
    Ok(children)
}

fn up(directory: &OwnedFd, expected: Identity) -> io::Result<OwnedFd> {
    let parent = rustix::fs::openat(directory, c"..", DIRECTORY, Mode::empty())?;
    if identity(&parent)? != expected {
        return Err(io::Error::other("a directory was moved while its tree was walked"));
    }
    Ok(parent)
}

fn identity(directory: &impl AsFd) -> io::Result<Identity> {
    let stat = rustix::fs::fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

fn file_type(directory: &OwnedFd, name: &std::ffi::CStr) -> io::Result<FileType> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of directories with a file and a link in each.
    fn deep(root: &Path, levels: usize) {
        std::fs::create_dir(root).unwrap();
        let mut current = rustix::fs::open(root, DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..levels {
            rustix::fs::mkdirat(&current, c"d", Mode::RWXU).unwrap();
            rustix::fs::symlinkat(c"/etc", &current, c"link").unwrap();
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
            drop(rustix::fs::openat(&current, c"file", flags, Mode::RUSR).unwrap());
            current = rustix::fs::openat(&current, c"d", DIRECTORY, Mode::empty()).unwrap();
        }
    }

    #[test]
    fn a_tree_of_any_depth_is_walked_and_removed_on_a_small_stack() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        deep(&root, 10_000);
        let own = root.clone();
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let walked = small.spawn(move || {
            let mut count = 0;
            visit(&own, &mut |_| count += 1).unwrap();
            remove(&own).unwrap();
            count
        });
        assert_eq!(walked.unwrap().join().unwrap(), 1 + 3 * 10_000);
        assert!(!root.exists());
        assert!(Path::new("/etc/passwd").exists(), "links are not followed");
    }

    #[test]
    fn wide_trees_single_files_and_nothing() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        for number in 0..300 {
            std::fs::create_dir_all(root.join(format!("{number}/inner"))).unwrap();
            std::fs::write(root.join(format!("{number}/inner/file")), "x").unwrap();
        }
        remove(&root).unwrap();
        assert!(!root.exists());
        std::fs::write(&root, "a file").unwrap();
        remove(&root).unwrap();
        remove(&root).unwrap();
    }
}
