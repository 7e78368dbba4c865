//! Opening files below a root that somebody untrusted has filled.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// Whoever renames faster than this is told of.
const ATTEMPTS_MAX: usize = 1000;

/// Opens a path as a process would whose root directory is `root`: absolute paths and symbolic links start there,
/// `..` stays there. Nothing is made.
pub fn open_in_root(root: &impl AsFd, path: &Path, flags: OFlags) -> io::Result<File> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Never waits for the other end of a fifo, never becomes somebody's terminal.
    let more = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NOCTTY | OFlags::NONBLOCK };
    Ok(File::from(open_by(root, path, flags | more, resolve)?))
}

/// `openat2`, again where a rename or a mount somewhere else crossed a `..` on the way: the kernel then can't be sure that it has
/// stayed below the root, and asks for another try.
pub(crate) fn open_by(
    root: &impl AsFd,
    path: impl rustix::path::Arg + Copy,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if attempts < ATTEMPTS_MAX => {}
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn renames_elsewhere_don_t_stop_a_walk_by_two_dots() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(place.path().join("a/b/c")).unwrap();
        std::fs::write(place.path().join("file"), "found").unwrap();
        std::os::unix::fs::symlink("../../../a/b/../../file", place.path().join("a/b/c/link")).unwrap();
        let root = File::open(place.path()).unwrap();
        let (done, other) = (AtomicBool::new(false), tempfile::tempdir().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, two) = (other.path().join("one"), other.path().join("two"));
                std::fs::create_dir(&one).unwrap();
                while !done.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &two).unwrap();
                    std::fs::rename(&two, &one).unwrap();
                }
            });
            let opened: Vec<_> = (0..20_000)
                .map(|_| open_in_root(&root, Path::new("a/b/c/link"), OFlags::PATH))
                .filter_map(Result::err)
                .collect();
            done.store(true, Ordering::Relaxed);
            assert!(opened.is_empty(), "{opened:?}");
        });
    }
}
