//! From a tar stream to a driver: parses, decides what each entry does, and records how to give the stream
//! back. The only place that knows OCI whiteouts.

use super::chunks::Source;
use super::recipe::{self, Copy};
use super::sink::Sink;
use super::tree::{Child, Place, ROOT, Step, Tree, lossy, refuse};
use super::{LayerError, Limits, Metadata, Special};
use crate::tar::{BLOCK, Decoder, Device, Entry, Event, Kind, MetadataLimits, Xattrs};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const SYMLINK_BYTES_MAX: usize = 4095;
/// What ext4 allows; the same for every driver, so that an image does not depend on one.
const LINKS_MAX: u32 = 65_000;

/// What came in.
pub(super) struct Parsed {
    pub tree: Tree,
    pub unpacked_bytes: u64,
}

/// Reads the whole stream into the sink; `finish` of the sink, the source and the recipe are the caller's.
pub(super) fn import(
    source: &mut Source<'_, '_>,
    sink: &mut dyn Sink,
    recipe: &mut recipe::Writer,
    limits: &Limits,
) -> Result<Parsed, LayerError> {
    let mut import = Import {
        source,
        sink,
        recipe,
        limits,
        tree: Tree::new(limits.entries_max),
        unpacked_bytes: 0,
        links: Vec::new(),
    };
    import.run()?;
    Ok(Parsed { tree: import.tree, unpacked_bytes: import.unpacked_bytes })
}

struct Import<'a, 'b, 'scope> {
    source: &'a mut Source<'b, 'scope>,
    sink: &'a mut dyn Sink,
    recipe: &'a mut recipe::Writer,
    limits: &'a Limits,
    tree: Tree,
    unpacked_bytes: u64,
    /// Names per file, by its number.
    links: Vec<u32>,
}

impl Import<'_, '_, '_> {
    fn run(&mut self) -> Result<(), LayerError> {
        let mut decoder = Decoder::new(MetadataLimits { bytes_max: self.limits.metadata_bytes_max });
        loop {
            let need = decoder.need();
            let block = self.source.exact(need)?;
            if block.len() < need {
                if block.is_empty() && decoder.may_end() {
                    return Ok(());
                }
                return Err(decoder.truncated().into());
            }
            self.recipe.literal(block).map_err(recipe_error)?;
            match decoder.feed(block)? {
                Event::More => {}
                Event::End => break,
                Event::Entry(entry) => self.entry(&entry, &decoder)?,
            }
        }
        // Padding behind the end mark, and whatever a writer left there: part of the digest.
        self.literals(u64::MAX).map(|_| ())
    }

    fn entry(&mut self, entry: &Entry, decoder: &Decoder) -> Result<(), LayerError> {
        self.tree.count()?;
        let base = last_component(&entry.path);
        if base.starts_with(WHITEOUT) {
            self.whiteout(entry, base)?;
            return self.skip_data(entry, decoder);
        }
        let mut steps = Vec::new();
        let place = self.tree.place(&entry.path, &mut steps)?;
        if entry.kind == Kind::Directory {
            self.tree.put_directory(place.as_ref(), metadata(entry)?, &mut steps)?;
            return self.apply(steps);
        }
        let Some(place) = place else {
            return Err(refuse(&entry.path, "the layer's root must be a directory"));
        };
        self.tree.clear(&place, &mut steps);
        self.apply(steps)?;
        let child = match entry.kind {
            Kind::HardLink => self.hard_link(entry, &place)?,
            Kind::Symlink => {
                if entry.link.is_empty() || entry.link.len() > SYMLINK_BYTES_MAX {
                    return Err(refuse(&entry.path, "symbolic link with an empty or too long target"));
                }
                let file = self.sink.symlink(&place.path, &metadata(entry)?, &entry.link)?;
                self.links.push(1);
                Child::Symlink(file, entry.link.as_slice().into())
            }
            Kind::File => self.file(entry, &place, decoder)?,
            _ => {
                let file = self.sink.special(&place.path, &metadata(entry)?, special(entry)?)?;
                self.links.push(1);
                Child::File(file)
            }
        };
        self.tree.insert(place, child);
        Ok(())
    }

    fn apply(&mut self, steps: Vec<Step>) -> Result<(), LayerError> {
        for step in steps {
            match step {
                Step::MakeDirectory { path } => self.sink.directory(&path)?,
                Step::Remove { path, files } => {
                    for file in &files {
                        self.links[file.0 as usize] -= 1;
                    }
                    self.sink.remove(&path, &files)?;
                }
            }
        }
        Ok(())
    }

    fn file(&mut self, entry: &Entry, place: &Place, decoder: &Decoder) -> Result<Child, LayerError> {
        if entry.size > self.limits.file_bytes_max {
            return Err(LayerError::Limit { what: "bytes in one file", max: self.limits.file_bytes_max });
        }
        let mut copies: Vec<Copy> = Vec::new();
        let sparse = entry.sparse.as_deref();
        let file = self.sink.begin_file(&place.path, &metadata(entry)?, entry.size, sparse, &mut copies)?;
        for copy in copies {
            self.recipe.copy(copy).map_err(recipe_error)?;
        }
        let mut left = entry.stored_bytes;
        while left > 0 {
            let bytes = self.source.some(left)?;
            if bytes.is_empty() {
                return Err(decoder.truncated().into());
            }
            self.sink.data(bytes)?;
            left -= bytes.len() as u64;
        }
        self.sink.end_file()?;
        self.padding(entry, decoder)?;
        self.unpacked_bytes = self.unpacked_bytes.saturating_add(entry.size);
        self.links.push(1);
        Ok(Child::File(file))
    }

    fn hard_link(&mut self, entry: &Entry, place: &Place) -> Result<Child, LayerError> {
        let missing = || LayerError::HardLinkTarget { entry: entry.name(), target: lossy(&entry.link) };
        let (target, child) = match self.tree.find(&entry.link) {
            Ok(Some(found)) => found,
            Ok(None) | Err(LayerError::Breakout { .. }) => return Err(missing()),
            Err(error) => return Err(error),
        };
        let file = match &child {
            Child::File(file) | Child::Symlink(file, _) => *file,
            Child::Directory(_) => return Err(refuse(&entry.path, "hard link to a directory")),
            Child::Whiteout(_) => return Err(missing()),
        };
        let links = &mut self.links[file.0 as usize];
        *links += 1;
        if *links > LINKS_MAX {
            return Err(refuse(&entry.path, "more than 65000 hard links to one file"));
        }
        self.sink.link(&place.path, file, &target.path)?;
        Ok(child)
    }

    /// `.wh.name` hides a name of the layers below, `.wh..wh..opq` all of them; other `.wh..wh.` names are
    /// bookkeeping of AUFS, which Docker skips too.
    fn whiteout(&mut self, entry: &Entry, base: &[u8]) -> Result<(), LayerError> {
        let hidden = &base[WHITEOUT.len()..];
        let opaque = base == OPAQUE;
        if hidden.starts_with(WHITEOUT) && !opaque {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refuse(&entry.path, "whiteout of no name"));
        }
        // The place of the hidden name: its parents are those of the marker.
        let path = entry.path.strip_suffix(b"/").unwrap_or(&entry.path);
        let parent = &path[..path.len() - base.len()];
        let mut steps = Vec::new();
        let place = self.tree.place(&[parent, hidden].concat(), &mut steps)?;
        self.apply(steps)?;
        let Some(place) = place else {
            return Err(refuse(&entry.path, "whiteout of no name"));
        };
        if opaque {
            self.tree.set_opaque(place.directory);
            return Ok(());
        }
        match self.tree.child(&place) {
            // The layer brings the name itself: what it brings stays, what is below is hidden.
            Some(Child::Directory(id)) => {
                let id = *id;
                self.tree.set_opaque(id);
            }
            Some(_) => {}
            None => {
                let device = Special::CharDevice(Device::default());
                let file = self.sink.special(&place.path, &Metadata::default(), device)?;
                self.links.push(1);
                self.tree.insert(place, Child::Whiteout(file));
            }
        }
        Ok(())
    }

    fn skip_data(&mut self, entry: &Entry, decoder: &Decoder) -> Result<(), LayerError> {
        if self.literals(entry.stored_bytes)? < entry.stored_bytes {
            return Err(decoder.truncated().into());
        }
        self.padding(entry, decoder)
    }

    fn padding(&mut self, entry: &Entry, decoder: &Decoder) -> Result<(), LayerError> {
        let bytes = (BLOCK as u64 - entry.stored_bytes % BLOCK as u64) % BLOCK as u64;
        if self.literals(bytes)? < bytes {
            return Err(decoder.truncated().into());
        }
        Ok(())
    }

    /// Records up to `bytes` bytes as they are; gives how many there were.
    fn literals(&mut self, bytes: u64) -> Result<u64, LayerError> {
        let mut done = 0;
        while done < bytes {
            let now = self.source.some(bytes - done)?;
            if now.is_empty() {
                break;
            }
            done += now.len() as u64;
            self.recipe.literal(now).map_err(recipe_error)?;
        }
        Ok(done)
    }
}

fn recipe_error(source: std::io::Error) -> LayerError {
    LayerError::write("the layer's recipe", source)
}

fn last_component(path: &[u8]) -> &[u8] {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

fn special(entry: &Entry) -> Result<Special, LayerError> {
    let device = entry.device;
    if device.major > 0xfff || device.minor > 0xf_ffff {
        return Err(refuse(&entry.path, "device number out of range"));
    }
    Ok(match entry.kind {
        Kind::CharDevice => Special::CharDevice(device),
        Kind::BlockDevice => Special::BlockDevice(device),
        _ => Special::Fifo,
    })
}

fn metadata(entry: &Entry) -> Result<Metadata, LayerError> {
    let mut xattrs = Vec::new();
    for (name, value) in &entry.xattrs {
        if keeps_xattr(name, entry.kind) {
            if name.starts_with(b"system.posix_acl_") && !is_acl(value) {
                return Err(refuse(&entry.path, "invalid access control list"));
            }
            xattrs.push((name.clone(), value.clone()));
        }
    }
    Ok(Metadata { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs })
}

/// Attributes that every driver and the kernel can hold for a kind of file. Those that steer overlayfs are
/// never taken from an archive: a layer could redirect names into others with them.
fn keeps_xattr(name: &[u8], kind: Kind) -> bool {
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    match name {
        b"system.posix_acl_access" => kind != Kind::Symlink,
        b"system.posix_acl_default" => kind == Kind::Directory,
        _ if name.starts_with(b"user.") => {
            matches!(kind, Kind::File | Kind::Directory) && !overlay && name.len() > 5
        }
        _ => {
            let known = [&b"trusted."[..], b"security."];
            known.iter().any(|prefix| name.starts_with(prefix) && name.len() > prefix.len()) && !overlay
        }
    }
}

/// Version 2 and whole entries: the kernel refuses to look at files with anything else.
fn is_acl(value: &[u8]) -> bool {
    value.len() >= 4 && value[..4] == [2, 0, 0, 0] && (value.len() - 4).is_multiple_of(8)
}

/// The attributes of a directory with overlayfs's opaque mark. Not at the root: overlayfs merges the roots of
/// its layers whatever they say.
pub(super) fn directory_xattrs(tree: &Tree, id: super::tree::DirectoryId) -> Xattrs {
    let directory = tree.directory(id);
    let mut xattrs = directory.metadata.xattrs.clone();
    if directory.opaque && id != ROOT {
        xattrs.push((b"trusted.overlay.opaque".to_vec(), b"y".to_vec()));
        xattrs.sort();
    }
    xattrs
}
