//! Mounts of a container that has no mount namespace of its own: they are the caller's, and are taken away with the container.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use corten_runtime::spec::NamespaceKind;
use rustix::mount::{UnmountFlags, unmount};

use crate::create::Bundle;
use crate::failure::{Failure, Outcome};

/// How many mounts are on the root directory already; `None` with a mount namespace, where it is nobody's concern.
pub fn before(bundle: &Bundle) -> Outcome<Option<usize>> {
    let namespaces = bundle.spec.linux.iter().flat_map(|linux| &linux.namespaces);
    if namespaces.into_iter().any(|n| n.kind == NamespaceKind::Mount) {
        return Ok(None);
    }
    count(&bundle.rootfs()).map(Some)
}

/// Unmounts what has been put on the root directory since, and all that is below.
pub fn remove(root: &Path, before: Option<usize>) -> Outcome<()> {
    let Some(before) = before else { return Ok(()) };
    for _ in before..count(root)? {
        unmount(root, UnmountFlags::DETACH).map_err(Failure::during(root.display()))?;
    }
    Ok(())
}

fn count(root: &Path) -> Outcome<usize> {
    let Ok(root) = fs::canonicalize(root) else { return Ok(0) };
    let table = fs::read("/proc/self/mountinfo").map_err(Failure::during("/proc/self/mountinfo"))?;
    let wanted = escaped(root.as_os_str().as_bytes());
    let place = |line: &[u8]| line.split(|b| *b == b' ').nth(4).is_some_and(|field| field == wanted);
    Ok(table.split(|b| *b == b'\n').filter(|line| place(line)).count())
}

/// As the kernel writes paths there.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            byte => out.push(*byte),
        }
    }
    out
}
