//! What is in a tree, without the contents of its files.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::OFlags;

use super::lookup::open;
use super::node::{Links, Node};
use super::pack::attributes;
use super::walk::Trail;
use crate::tar::Entry;

/// Tells of everything below a directory as an archive of it would: a directory before what is in it, names ascending by their bytes.
/// Paths have no slash in front, and one behind where they are directories. The visitor's error ends it.
pub fn describe(root: &impl AsFd, visit: &mut dyn FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
    let top = open(root, b".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
    let mut links = Links::default();
    let mut trail = Trail::new(top, Vec::new(), ())?;
    while let Some((name, hint)) = trail.next()? {
        let Some((directory, above, ())) = trail.current() else { break };
        let path = [above, &name].concat();
        let Some(mut node) = Node::open(directory, &name, hint)? else { continue };
        let Some(mut entry) = links.entry(&node, directory, &name, path)? else { continue };
        entry.xattrs = attributes(&node)?;
        let below = if node.is_directory() { node.file.take() } else { None };
        let path = entry.path.clone();
        visit(entry)?;
        if let Some(below) = below {
            trail.enter(below, path, ())?;
        }
    }
    Ok(())
}
