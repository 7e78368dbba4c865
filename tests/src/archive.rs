//! Images that the tests make themselves.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root file system around the static busybox.
///
/// # Panics
/// When busybox-static is not installed or the directory can't be written.
pub fn busybox_rootfs(root: &Path) {
    for name in ["bin", "etc", "tmp", "proc", "sys", "dev", "root", "usr", "var", "home/app"] {
        fs::create_dir_all(root.join(name)).expect("directory of the root file system");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    let applets = Command::new("/bin/busybox").arg("--list").output().expect("busybox --list").stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(applet)).expect("applet");
    }
    symlink("../bin", root.join("usr/bin")).expect("usr/bin");
    let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n";
    fs::write(root.join("etc/passwd"), passwd).expect("passwd");
    fs::write(root.join("etc/group"), "root:x:0:\napp:x:1000:\nextra:x:2000:app\n").expect("group");
}

/// A tarball of that root file system.
///
/// # Panics
/// As [`busybox_rootfs`].
pub fn busybox_archive(directory: &Path) -> PathBuf {
    let root = directory.join("busybox-rootfs");
    busybox_rootfs(&root);
    let archive = directory.join("busybox.tar");
    tar_of(&root, &archive);
    fs::remove_dir_all(&root).expect("remove the root file system");
    archive
}

/// Packs a directory with GNU tar.
///
/// # Panics
/// When tar fails.
pub fn tar_of(directory: &Path, archive: &Path) {
    let status =
        Command::new("tar").arg("-C").arg(directory).arg("-cf").arg(archive).arg(".").status().expect("tar");
    assert!(status.success());
}
