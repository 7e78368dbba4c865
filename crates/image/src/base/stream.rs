//! Writes the collected tree as a tar stream, straight into the layer importer.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::BaseError;
use super::tree::{Node, Source, Tree};
use crate::archive::{Feed, Progress};
use crate::tar::{Entry, Kind, Time, Writer};

/// How often progress is reported.
const REPORT_BYTES: u64 = 4 << 20;
/// The one attribute that packages set on files: what a program may do that its user may not.
const CAPABILITY: &str = "security.capability";

pub(super) fn write(
    root: &Path,
    tree: &Tree,
    feed: &mut Feed,
    progress: &dyn Fn(Progress),
) -> Result<(), BaseError> {
    let total_bytes = tree.iter().map(|(_, node)| size(node)).sum();
    let mut state = Progress { object: root.display().to_string(), current_bytes: 0, total_bytes };
    let mut reported_bytes = 0;
    let mut archive = Writer::new(feed.writer());
    let mut named: HashMap<(u64, u64), &str> = HashMap::new();
    for (path, node) in tree.iter() {
        if let Source::File { shared: Some(inode), .. } = &node.source {
            if let Some(first) = named.get(inode) {
                let mut entry = entry(Kind::HardLink, path, node);
                entry.link = first.as_bytes().to_vec();
                archive.append(&entry, &mut io::empty()).map_err(BaseError::Write)?;
                continue;
            }
            named.insert(*inode, path);
        }
        append(&mut archive, path, node)?;
        state.current_bytes += size(node);
        if state.current_bytes - reported_bytes >= REPORT_BYTES {
            reported_bytes = state.current_bytes;
            progress(state.clone());
        }
    }
    archive.finish().and_then(|mut output| output.flush()).map_err(BaseError::Write)?;
    progress(Progress { current_bytes: total_bytes, ..state });
    Ok(())
}

fn size(node: &Node) -> u64 {
    match &node.source {
        Source::File { size, .. } => *size,
        Source::Bytes(bytes) => bytes.len() as u64,
        Source::Directory | Source::Symlink(_) => 0,
    }
}

fn entry(kind: Kind, path: &str, node: &Node) -> Entry {
    let path = if kind == Kind::Directory { format!("{path}/") } else { path.to_owned() };
    let mut entry = Entry::new(kind, path, node.mode);
    (entry.uid, entry.gid) = (node.uid, node.gid);
    entry.mtime = Time { seconds: node.mtime, nanoseconds: 0 };
    entry
}

fn append<W: Write>(archive: &mut Writer<W>, path: &str, node: &Node) -> Result<(), BaseError> {
    match &node.source {
        Source::Directory => {
            archive.append(&entry(Kind::Directory, path, node), &mut io::empty()).map_err(BaseError::Write)
        }
        Source::Symlink(target) => {
            let mut entry = entry(Kind::Symlink, path, node);
            entry.link.clone_from(target);
            archive.append(&entry, &mut io::empty()).map_err(BaseError::Write)
        }
        Source::Bytes(bytes) => {
            let mut entry = entry(Kind::File, path, node);
            entry.size = bytes.len() as u64;
            archive.append(&entry, &mut bytes.as_slice()).map_err(BaseError::Write)
        }
        Source::File { path: host, size, .. } => {
            let read = |source| BaseError::Read { path: host.clone(), source };
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::open(host, flags, Mode::empty()).map_err(|error| read(error.into()))?;
            let mut file = File::from(file);
            let metadata = file.metadata().map_err(read)?;
            if !metadata.is_file() || metadata.len() != *size {
                return Err(BaseError::Changed { path: host.clone() });
            }
            let mut entry = entry(Kind::File, path, node);
            entry.size = *size;
            entry.xattrs = capability(&file).map_err(read)?;
            archive.append_header(&entry).map_err(BaseError::Write)?;
            let copied = io::copy(&mut (&mut file).take(*size), archive).map_err(BaseError::Write)?;
            if copied == *size { Ok(()) } else { Err(BaseError::Changed { path: host.clone() }) }
        }
    }
}

fn capability(file: &File) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut value = [0u8; 64];
    match rustix::fs::fgetxattr(file, CAPABILITY, &mut value[..]) {
        Ok(length) => Ok(vec![(CAPABILITY.as_bytes().to_vec(), value[..length].to_vec())]),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}
