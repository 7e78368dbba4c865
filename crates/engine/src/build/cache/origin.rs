//! What a cache mount's directory begins as: empty, or a copy of what layers have; of one that is a copy the name tells of what.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use corten_build::{CacheDirectory, CacheWish};
use corten_image::Digest;
use corten_image::build::{BuildSession, Stack};
use corten_image::mounts::copy_tree;

use super::uses::Use;
use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// The directory of a cache mount that is in use already; made when there is none.
    pub(in crate::build) fn build_cache_directory(
        &self,
        wish: &CacheWish,
        slot: Arc<Use>,
    ) -> Result<CacheDirectory> {
        let path = self.builds.mounts.path(slot.name());
        if !path.is_dir() {
            match &wish.origin {
                None => make(&path, wish.mode, wish.owner)?,
                Some((stack, inside)) => self.make_copy(&path, stack, inside, wish)?,
            }
        }
        self.builds.mounts.note_used(slot.name(), &wish.id)?;
        Ok(CacheDirectory { path, keep: slot, imported: None })
    }

    /// Complete or not there: whoever is first puts its copy in the place.
    fn make_copy(&self, path: &Path, stack: &Stack, inside: &str, wish: &CacheWish) -> Result<()> {
        let scratch = self.build_scratch()?;
        let copy = scratch.path().join("copy");
        make(&copy, wish.mode, wish.owner)?;
        let session = BuildSession::new(self.images.clone(), self.layers.clone());
        let root = session.merged(stack).map_err(crate::image::failed)?;
        let copied =
            copy_tree(&root, Path::new(inside), &copy).map_err(|error| Error::io("fill", &copy, error))?;
        if !copied {
            return Err(Error::invalid(format!(
                "the cache {} can't begin as a copy of /{inside}: there is no such directory",
                wish.id
            )));
        }
        dress(&copy, wish.mode, wish.owner)?;
        make_parent(path)?;
        match fs::rename(&copy, path) {
            Err(error) if !path.is_dir() => Err(Error::io("create", path, error)),
            _ => Ok(()),
        }
    }
}

/// What a cache mount is known by. Those that begin as something else, or as somebody else's, are others.
pub fn key(wish: &CacheWish) -> Digest {
    let mut parts = vec![wish.id.clone()];
    if let Some((stack, inside)) = &wish.origin {
        let layers: Vec<String> = stack.ids().iter().map(ToString::to_string).collect();
        parts.extend([layers.join(" "), inside.clone()]);
    }
    let (owner, mode) = (wish.owner, wish.mode);
    if (owner, mode) != ((0, 0), 0o755) {
        parts.push(format!("{}:{} {mode:o}", owner.0, owner.1));
    }
    Digest::of(parts.join("\0").as_bytes())
}

/// Makes a directory, unless there is one.
pub fn make(path: &Path, mode: u32, owner: (u32, u32)) -> Result<()> {
    make_parent(path)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(()),
        made => made.map_err(|error| Error::io("create", path, error))?,
    }
    dress(path, mode, owner)
}

pub fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(|error| Error::io("create", parent, error))
}

/// Gives a directory what its mount says.
pub fn dress(path: &Path, mode: u32, (uid, gid): (u32, u32)) -> Result<()> {
    let failed = |error| Error::io("create", path, error);
    std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}
