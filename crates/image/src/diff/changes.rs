//! The list of changes: `docker diff`.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, OFlags};
use rustix::io::Errno;

use super::{OPAQUE, REDIRECT, Upper, beneath, is_same, is_whiteout};
use crate::files::{Node, Trail, names};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Modified,
    Added,
    Deleted,
}

/// One changed file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Absolute in the container.
    pub path: Vec<u8>,
    pub kind: ChangeKind,
}

/// What is known of a directory while its names are looked at.
struct Known {
    /// The layers beneath have it too.
    old: bool,
    /// What they have in it is hidden.
    opaque: bool,
    /// It is in the list.
    told: bool,
}

/// The changes in the order of the names, a directory before what is in it.
pub(crate) fn changes(upper: &Upper<'_>) -> io::Result<Vec<Change>> {
    let top = beneath(&upper.upper, b"", OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut trail = Trail::new(top, Vec::new(), Known { old: true, opaque: false, told: true })?;
    let mut list = List::default();
    while let Some((name, hint)) = trail.next()? {
        let Some((directory, above, known)) = trail.current() else { break };
        let path = [above, &name].concat();
        if is_whiteout(directory, &name, hint)? {
            list.parent(above, known);
            list.add(&path, ChangeKind::Deleted);
            continue;
        }
        if upper.is_implied(directory, &name, &path)? {
            continue;
        }
        let below = if known.old { upper.beneath(&path)? } else { None };
        let kind = if below.is_some() { ChangeKind::Modified } else { ChangeKind::Added };
        // What a directory has on the disk is only asked where it matters: in a new one everything is new.
        let node = match hint {
            FileType::Directory | FileType::Unknown => Node::open(directory, &name, hint)?,
            _ => None,
        };
        let Some(node) = node.filter(Node::is_directory) else {
            if kind == ChangeKind::Added {
                list.parent(above, known);
            }
            list.add(&path, kind);
            continue;
        };
        let was_directory =
            below.as_ref().is_some_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory);
        let opaque =
            was_directory && (known.opaque || node.xattr(OPAQUE)?.is_some_and(|value| value == b"y"));
        let told =
            opaque || !below.as_ref().is_some_and(|below| is_same(below, &node.stat, !has_places(&path)));
        if kind == ChangeKind::Added {
            list.parent(above, known);
        }
        if told {
            list.add(&path, kind);
        }
        if !was_directory && node.xattr(REDIRECT)?.is_some() {
            moved(upper, &path, &mut list)?;
            continue;
        }
        let Some(own) = node.file else { continue };
        if opaque {
            hidden(upper, &own, &path, &mut list)?;
        }
        trail.enter(own, [&path, &b"/"[..]].concat(), Known { old: was_directory, opaque, told })?;
    }
    if list.has_hidden {
        // What an opaque directory hides was found before what it shows.
        list.changes.sort_by(order);
    }
    Ok(list.changes)
}

/// Whether a start may have put places for its mounts there, and so changed the time.
fn has_places(path: &[u8]) -> bool {
    super::IMPLIED_FILES.iter().any(|file| file.starts_with(path) && file.get(path.len()) == Some(&b'/'))
}

#[derive(Default)]
struct List {
    changes: Vec<Change>,
    has_hidden: bool,
}

impl List {
    fn add(&mut self, path: &[u8], kind: ChangeKind) {
        self.changes.push(Change { path: [b"/", path].concat(), kind });
    }

    /// A directory that something was added to or taken from is changed, even if its own time says otherwise.
    fn parent(&mut self, path: &[u8], known: &mut Known) {
        if !std::mem::replace(&mut known.told, true) {
            self.add(path.strip_suffix(b"/").unwrap_or(path), ChangeKind::Modified);
        }
    }
}

/// Names sort part by part: what is in a directory follows it at once.
fn order(one: &Change, other: &Change) -> std::cmp::Ordering {
    let parts =
        |change: &'_ Change| change.path.split(|&byte| byte == b'/').map(<[u8]>::to_vec).collect::<Vec<_>>();
    parts(one).cmp(&parts(other))
}

/// What an opaque directory hides and does not replace.
fn hidden(upper: &Upper<'_>, own: &OwnedFd, path: &[u8], list: &mut List) -> io::Result<()> {
    let below = beneath(&upper.lower, path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    list.has_hidden = true;
    for (name, _) in names(&below)? {
        match rustix::fs::statat(own, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {}
            Err(Errno::NOENT) => list.add(&[path, b"/", &name].concat(), ChangeKind::Deleted),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// A directory of the layers beneath that got another name: everything in it is new here.
fn moved(upper: &Upper<'_>, path: &[u8], list: &mut List) -> io::Result<()> {
    let top = upper.open_merged(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut trail = Trail::new(top, [path, b"/"].concat(), ())?;
    while let Some((name, hint)) = trail.next()? {
        let Some((directory, above, ())) = trail.current() else { break };
        let path = [above, &name].concat();
        list.add(&path, ChangeKind::Added);
        if !matches!(hint, FileType::Directory | FileType::Unknown) {
            continue;
        }
        if let Some(own) =
            Node::open(directory, &name, hint)?.filter(Node::is_directory).and_then(|node| node.file)
        {
            trail.enter(own, [&path, &b"/"[..]].concat(), ())?;
        }
    }
    Ok(())
}
