//! Removing names and images, with the rules and words of `docker rmi`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{ManifestInfo, ManifestKind, Store};
use crate::catalogue::Image;
use crate::digest::{DiffId, Digest, ImageId};
use crate::error::Error;
use crate::platform::Platform;
use crate::reference::Reference;

/// A container that uses an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub container: String,
    pub running: bool,
}

pub struct RemoveOptions<'a> {
    /// Removes also what a stopped container uses, and all names at once.
    pub force: bool,
    /// Leaves untagged parents alone.
    pub noprune: bool,
    /// Which container uses an image: a running one if there is any.
    pub in_use: &'a dyn Fn(&ImageId) -> Option<User>,
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    pub steps: Vec<Removed>,
    /// What came back of the disk.
    pub freed_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A familiar name that leads nowhere any more.
    Untagged(String),
    /// An image.
    Deleted(Digest),
    /// A layer, by its chain ID.
    Layer(Digest),
}

/// Why an image must stay, and whether force helps.
enum Obstacle {
    Child,
    Running(String),
    Stopped(String),
    Repositories,
}

impl Obstacle {
    fn is_hard(&self) -> bool {
        matches!(self, Obstacle::Child | Obstacle::Running(_))
    }

    fn into_error(self, image: &Image) -> Error {
        let forcing = if self.is_hard() { "cannot be forced" } else { "must be forced" };
        let reason = match self {
            Obstacle::Child => "image has dependent child images".to_owned(),
            Obstacle::Running(container) => {
                format!("image is being used by running container {}", short(&container))
            }
            Obstacle::Stopped(container) => {
                format!("image is being used by stopped container {}", short(&container))
            }
            Obstacle::Repositories => "image is referenced in multiple repositories".to_owned(),
        };
        Error::Conflict(format!("conflict: unable to delete {} ({forcing}) - {reason}", image.id.short()))
    }
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

impl Store {
    /// Removes a name; with the last one, or by ID, the image itself and every layer that nobody else uses.
    ///
    /// By ID, an image with names in several repositories is removed with force only.
    pub fn remove(&self, text: &str, options: &RemoveOptions<'_>) -> Result<Removal, Error> {
        let (image, name) = self.resolve_target(text)?;
        let mut removal = Removal::default();
        let removed = &mut removal;
        let names: Vec<Reference> = self.names_of(&image)?;
        match name {
            Some(reference) => {
                if !options.force
                    && is_single(&names)
                    && let Some(user) = self.user(&image, options)
                {
                    return Err(Error::Conflict(format!(
                        "conflict: unable to remove repository reference {text:?} (must force) - container {} is using its referenced image {}",
                        short(&user.container),
                        image.id.short()
                    )));
                }
                let gone = with_digests(&names, &reference);
                self.untag(&image, &gone, removed)?;
                if names.iter().any(|name| !gone.iter().any(|gone| same(name, gone))) {
                    return Ok(removal);
                }
                // The name is gone; that the image may have to stay is no error of this request.
                self.delete(&image, options, true, removed)?;
            }
            None => {
                if is_single(&names) {
                    if let Some(obstacle) = self.obstacle(&image, options, &[])
                        && (obstacle.is_hard() || !options.force)
                    {
                        return Err(obstacle.into_error(&image));
                    }
                    self.untag(&image, &names, removed)?;
                }
                self.delete(&image, options, false, removed)?;
            }
        }
        Ok(removal)
    }

    /// Keeps room on the disk for removals, once all is open.
    pub fn refill_reserve(&self) {
        self.writer().refill_reserve();
    }

    fn names_of(&self, image: &Image) -> Result<Vec<Reference>, Error> {
        let rows = self.writer().names(Some(&image.id))?;
        Ok(rows.iter().map(|row| Reference::parse_untagged(&row.name)).collect::<Result<_, _>>()?)
    }

    fn untag(&self, image: &Image, names: &[Reference], removed: &mut Removal) -> Result<(), Error> {
        if names.is_empty() {
            return Ok(());
        }
        let mut database = self.writer();
        let rows = database.names(Some(&image.id))?;
        let mut gone = Vec::new();
        for name in names {
            let canonical = name.to_string();
            let by_digest = |row: &&crate::metadata::NameRow| {
                name.digest() == Some(row.target)
                    && Reference::parse_untagged(&row.name).is_ok_and(|known| known.name() == name.name())
            };
            match rows.iter().find(|row| row.name == canonical) {
                Some(row) => gone.push((row.name.clone(), name.familiar())),
                // `name@digest` stands for every tag of the repository that points there.
                None => {
                    gone.extend(rows.iter().filter(by_digest).map(|row| (row.name.clone(), name.familiar())))
                }
            }
        }
        database.remove(|change| gone.iter().try_for_each(|(row, _)| change.remove_name(row)))?;
        self.refresh(&database, [image.id])?;
        removed.steps.extend(gone.into_iter().map(|(_, familiar)| Removed::Untagged(familiar)));
        removed.steps.dedup();
        Ok(())
    }

    /// What stands in the way, hard obstacles first; `names` are those that are still to go.
    fn obstacle(&self, image: &Image, options: &RemoveOptions<'_>, names: &[Reference]) -> Option<Obstacle> {
        if self.catalogue().images().any(|child| child.parent == Some(image.id)) {
            return Some(Obstacle::Child);
        }
        match self.user(image, options) {
            Some(User { container, running: true }) => return Some(Obstacle::Running(container)),
            Some(User { container, running: false }) if !options.force => {
                return Some(Obstacle::Stopped(container));
            }
            _ => {}
        }
        (!names.is_empty() && !options.force).then_some(Obstacle::Repositories)
    }

    /// Who uses an image on any of its platforms, a running container if there is one.
    fn user(&self, image: &Image, options: &RemoveOptions<'_>) -> Option<User> {
        let members: Vec<ImageId> = {
            let catalogue = self.catalogue();
            catalogue.images().filter(|other| other.owner == Some(image.id)).map(|other| other.id).collect()
        };
        let mut users: Vec<User> =
            [image.id].iter().chain(&members).filter_map(|id| (options.in_use)(id)).collect();
        users.sort_by_key(|user| !user.running);
        users.into_iter().next()
    }

    /// Deletes an image; `quiet` leaves it in place when something needs it.
    fn delete(
        &self,
        image: &Arc<Image>,
        options: &RemoveOptions<'_>,
        quiet: bool,
        removed: &mut Removal,
    ) -> Result<(), Error> {
        let names = self.names_of(image)?;
        if let Some(obstacle) = self.obstacle(image, options, &names) {
            return if quiet { Ok(()) } else { Err(obstacle.into_error(image)) };
        }
        removed.steps.extend(names.iter().map(|name| Removed::Untagged(name.familiar())));
        let mut database = self.writer();
        let members = database.members(&image.id)?;
        // On the disk before files go: after a power cut, an image must not come back without its layers.
        let garbage = database.remove_synced(|change| {
            change.remove_image(&image.id)?;
            change.collect()
        })?;
        self.refresh(&database, members.into_iter().chain([image.id]))?;
        drop(database);
        removed.freed_bytes += garbage.bytes;
        removed.steps.push(Removed::Deleted(image.id));
        let chain = chain_ids(&image.layers);
        let gone = image.layers.iter().zip(&chain).rev().filter(|(id, _)| garbage.layers.contains(id));
        removed.steps.extend(gone.map(|(_, chain_id)| Removed::Layer(*chain_id)));
        self.discard(garbage);
        let parent = image.parent.filter(|_| !options.noprune).and_then(|parent| self.image(&parent));
        match parent {
            Some(parent) if parent.is_dangling() => self.delete(&parent, options, true, removed),
            _ => Ok(()),
        }
    }
}

impl Store {
    /// Removes single platforms of an image; the image lives on with the others.
    pub fn remove_platforms(
        &self,
        text: &str,
        wanted: &[Platform],
        options: &RemoveOptions<'_>,
    ) -> Result<Removal, Error> {
        let image = self.resolve(text)?;
        let manifests = self.manifests(&image)?;
        let mut doomed: BTreeSet<Digest> = BTreeSet::new();
        for platform in wanted {
            doomed.insert(self.find_platform(text, &image, platform)?.descriptor.digest);
        }
        let goes = |manifest: &&ManifestInfo| match &manifest.kind {
            ManifestKind::Attestation { subject } => subject.is_some_and(|subject| doomed.contains(&subject)),
            _ => doomed.contains(&manifest.descriptor.digest),
        };
        let (gone, kept): (Vec<&ManifestInfo>, Vec<&ManifestInfo>) = manifests.iter().partition(goes);
        self.check_platforms(&image, &gone, options)?;
        let (mut owner, host) = (image.id, Platform::host());
        if gone.iter().any(|manifest| manifest.image == Some(image.id)) {
            // The one that takes its place: the host's own, if it is there.
            let fitness = |manifest: &&&ManifestInfo| match &manifest.kind {
                ManifestKind::Image { platform } => platform.fitness(&host).unwrap_or(u32::MAX),
                _ => u32::MAX,
            };
            let runs = |manifest: &&&ManifestInfo| {
                manifest.available && matches!(manifest.kind, ManifestKind::Image { .. })
            };
            let successor = kept.iter().filter(runs).min_by_key(fitness).ok_or_else(|| {
                Error::Conflict(format!(
                    "conflict: unable to delete {} (cannot be forced) - no other platform of the image is here: remove the image itself",
                    image.id.short()
                ))
            })?;
            owner = self.unpack_member(&image, successor)?.id;
        }
        let own = |manifest: &&ManifestInfo| {
            manifest
                .content
                .iter()
                .map(|part| part.digest)
                .chain([manifest.descriptor.digest])
                .collect::<Vec<_>>()
        };
        let still: BTreeSet<Digest> = kept.iter().flat_map(own).collect();
        let content: BTreeSet<Digest> =
            gone.iter().flat_map(own).filter(|digest| !still.contains(digest)).collect();
        let mut database = self.writer();
        let members = database.members(&image.id)?;
        // One with a name of its own is an image of its own, too.
        let is_hidden = |id: &&ImageId| self.image(id).is_some_and(|member| member.is_hidden());
        let is_gone = |id: &&ImageId| gone.iter().any(|manifest| manifest.image == Some(**id));
        let dropped: Vec<&ImageId> = members.iter().filter(is_gone).filter(is_hidden).collect();
        let garbage = database.remove_synced(|change| {
            if owner != image.id {
                change.succeed(&image.id, &owner)?;
                change.remove_image(&image.id)?;
            }
            for member in &dropped {
                change.remove_image(member)?;
            }
            content.iter().try_for_each(|digest| change.disown_content(&owner, digest))?;
            change.collect()
        })?;
        self.refresh(&database, members.iter().copied().chain([image.id, owner]))?;
        drop(database);
        let steps = gone.iter().map(|manifest| Removed::Deleted(manifest.descriptor.digest)).collect();
        let freed_bytes = garbage.bytes;
        self.discard(garbage);
        Ok(Removal { steps, freed_bytes })
    }

    /// Refuses to take away what a container runs on.
    fn check_platforms(
        &self,
        image: &Image,
        gone: &[&ManifestInfo],
        options: &RemoveOptions<'_>,
    ) -> Result<(), Error> {
        for id in gone.iter().filter_map(|manifest| manifest.image) {
            match (options.in_use)(&id) {
                Some(User { container, running: true }) => {
                    return Err(Obstacle::Running(container).into_error(image));
                }
                Some(User { container, running: false }) if !options.force => {
                    return Err(Obstacle::Stopped(container).into_error(image));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// At most one tag, and all names in one repository: removing by ID is what the user means.
fn is_single(names: &[Reference]) -> bool {
    names.len() <= 1
        || (names.iter().filter(|name| name.tag().is_some()).count() <= 1
            && names.windows(2).all(|pair| pair[0].name() == pair[1].name()))
}

/// A name that goes, and with the last tag of a repository the digests that it has there.
fn with_digests(names: &[Reference], removed: &Reference) -> Vec<Reference> {
    let mut gone = vec![removed.clone()];
    let siblings = || names.iter().filter(|name| name.name() == removed.name() && *name != removed);
    if removed.digest().is_none() && siblings().all(|name| name.tag().is_none()) {
        gone.extend(siblings().cloned());
    }
    gone
}

fn same(name: &Reference, removed: &Reference) -> bool {
    name == removed || (removed.digest().is_some() && name.name() == removed.name())
}

/// The chain IDs of a stack of layers, bottom first (image spec, "Layer ChainID").
pub(crate) fn chain_ids(layers: &[DiffId]) -> Vec<Digest> {
    let mut chain = Vec::with_capacity(layers.len());
    for layer in layers {
        chain.push(match chain.last() {
            None => *layer,
            Some(below) => Digest::of(format!("{below} {layer}").as_bytes()),
        });
    }
    chain
}
