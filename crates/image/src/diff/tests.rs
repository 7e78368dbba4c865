//! Writable directories as no overlay of ours leaves them, read as an overlay shows them. As root, in a private namespace.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::*;
use crate::layer::{DriverKind, ImportOptions, Layers};
use crate::mounts::{LayerMounts, open_in_root, without_devices};
use crate::store::Rootfs;
use crate::tar::{Entry, Kind, Reader, Writer};

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: this test needs root");
    }
    root
}

/// A layer with `d/f` and `big`, and a writable directory in which an overlay that renames directories as a whole and copies only
/// metadata has renamed `d` and changed the mode of `big`.
fn changed_elsewhere(scratch: &Path, mounts: &LayerMounts) -> Rootfs {
    let layers = Layers::open(&scratch.join("layers"), DriverKind::Directory).unwrap();
    let mut writer = Writer::new(Vec::new());
    for (path, data) in [("big", "its data"), ("d/f", "moved along")] {
        let mut entry = Entry::new(Kind::File, path, 0o644);
        entry.size = data.len() as u64;
        writer.append(&entry, &mut data.as_bytes()).unwrap();
    }
    let archive = writer.finish().unwrap();
    let id = layers.import(&mut &archive[..], &ImportOptions::default(), &|_| {}).unwrap().id;
    let lower = mounts.mount(id, &layers.mount_source(&id).unwrap()).unwrap();
    let [upper, work, target] = ["upper", "work", "target"].map(|name| scratch.join(name));
    for directory in [&upper, &work, &target] {
        fs::create_dir(directory).unwrap();
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={},redirect_dir=on,metacopy=on",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).unwrap();
    let changed = mounts.run(move || -> io::Result<()> {
        rustix::mount::mount("overlay", &target, "overlay", MountFlags::empty(), Some(options.as_c_str()))?;
        fs::rename(target.join("d"), target.join("moved"))?;
        fs::set_permissions(target.join("big"), fs::Permissions::from_mode(0o600))?;
        Ok(rustix::mount::unmount(&target, UnmountFlags::DETACH)?)
    });
    changed.unwrap().unwrap();
    Rootfs { lower: vec![lower], upper, work }
}

fn upper_of(rootfs: &Rootfs) -> OwnedFd {
    let opened = rustix::fs::open(&rootfs.upper, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
    without_devices(&opened, false).unwrap()
}

#[test]
fn what_was_renamed_or_copied_in_part_is_read_whole() {
    if !is_root() {
        return;
    }
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let mounts = LayerMounts::start(&scratch.path().join("mounts")).unwrap();
    let rootfs = changed_elsewhere(scratch.path(), &mounts);
    let merged = || mounts.detached_root(&rootfs, true).map_err(io::Error::other);
    let upper = Upper::new(upper_of(&rootfs), mounts.lower_root(&rootfs).unwrap(), &merged);
    assert!(upper.open_merged(b"big", OFlags::PATH).is_ok(), "the layers can be merged");
    let told: Vec<String> = changes(&upper)
        .unwrap()
        .iter()
        .map(|change| format!("{:?} {}", change.kind, String::from_utf8_lossy(&change.path)))
        .collect();
    assert_eq!(told, ["Modified /big", "Deleted /d", "Added /moved", "Added /moved/f"]);
    let mut archive = Vec::new();
    write_layer(&upper, None, &mut archive).unwrap();
    let mut reader = Reader::new(&archive[..]);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let mut data = String::new();
        reader.read_to_string(&mut data).unwrap();
        assert!(entry.xattrs.is_empty(), "{:?}", entry.xattrs);
        entries.push((entry.name(), data));
    }
    let entry = |name: &str, data: &str| (name.to_owned(), data.to_owned());
    assert_eq!(
        entries,
        [entry("big", "its data"), entry(".wh.d", ""), entry("moved/", ""), entry("moved/f", "moved along")]
    );
    // As `export` and `cp` see it, whether something is to be written or not.
    for read_only in [true, false] {
        let root = mounts.detached_root(&rootfs, read_only).unwrap();
        let text = |path: &str| -> io::Result<String> {
            let mut text = String::new();
            open_in_root(&root, Path::new(path), OFlags::RDONLY)?.read_to_string(&mut text)?;
            Ok(text)
        };
        assert_eq!(text("moved/f").unwrap(), "moved along");
        if read_only {
            assert_eq!(text("big").unwrap(), "its data");
        }
    }
}

#[test]
fn what_is_put_in_the_place_of_a_file_is_not_opened_as_a_device() {
    if !is_root() {
        return;
    }
    let scratch = tempfile::tempdir_in("/var/tmp").unwrap();
    let device = rustix::fs::makedev(1, 3);
    let path = scratch.path().join("null");
    rustix::fs::mknodat(CWD, &path, FileType::CharacterDevice, Mode::RWXU, device).unwrap();
    let rootfs =
        Rootfs { lower: Vec::new(), upper: scratch.path().to_owned(), work: scratch.path().to_owned() };
    let upper = upper_of(&rootfs);
    let opened = rustix::fs::openat(&upper, c"null", OFlags::RDONLY, Mode::empty());
    assert_eq!(opened.err(), Some(Errno::ACCESS));
}
