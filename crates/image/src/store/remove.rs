//! Removing names and images, with the rules and words of `docker rmi`.

use std::sync::Arc;

use super::Store;
use crate::catalogue::Image;
use crate::digest::{DiffId, Digest, ImageId};
use crate::error::Error;
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

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A familiar name that leads nowhere any more.
    Untagged(String),
    /// An image, or a layer by its chain ID.
    Deleted(Digest),
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
    pub fn remove(&self, text: &str, options: &RemoveOptions<'_>) -> Result<Vec<Removed>, Error> {
        let (image, name) = self.resolve_target(text)?;
        let mut removed = Vec::new();
        let names: Vec<Reference> = self.names_of(&image)?;
        match name {
            Some(reference) => {
                if !options.force
                    && is_single(&names)
                    && let Some(user) = (options.in_use)(&image.id)
                {
                    return Err(Error::Conflict(format!(
                        "conflict: unable to remove repository reference {text:?} (must force) - container {} is using its referenced image {}",
                        short(&user.container),
                        image.id.short()
                    )));
                }
                self.untag(&image, std::slice::from_ref(&reference), &mut removed)?;
                if names.iter().any(|name| !same(name, &reference)) {
                    return Ok(removed);
                }
                // The name is gone; that the image may have to stay is no error of this request.
                self.delete(&image, options, true, &mut removed)?;
            }
            None => {
                if is_single(&names) {
                    if let Some(obstacle) = self.obstacle(&image, options, &[])
                        && (obstacle.is_hard() || !options.force)
                    {
                        return Err(obstacle.into_error(&image));
                    }
                    self.untag(&image, &names, &mut removed)?;
                }
                self.delete(&image, options, false, &mut removed)?;
            }
        }
        Ok(removed)
    }

    fn names_of(&self, image: &Image) -> Result<Vec<Reference>, Error> {
        let rows = self.writer().names(Some(&image.id))?;
        Ok(rows.iter().map(|row| Reference::parse_untagged(&row.name)).collect::<Result<_, _>>()?)
    }

    fn untag(&self, image: &Image, names: &[Reference], removed: &mut Vec<Removed>) -> Result<(), Error> {
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
        database.change(|change| gone.iter().try_for_each(|(row, _)| change.remove_name(row)))?;
        self.refresh(&database, [image.id])?;
        removed.extend(gone.into_iter().map(|(_, familiar)| Removed::Untagged(familiar)));
        removed.dedup();
        Ok(())
    }

    /// What stands in the way, hard obstacles first; `names` are those that are still to go.
    fn obstacle(&self, image: &Image, options: &RemoveOptions<'_>, names: &[Reference]) -> Option<Obstacle> {
        if self.catalogue().images().any(|child| child.parent == Some(image.id)) {
            return Some(Obstacle::Child);
        }
        match (options.in_use)(&image.id) {
            Some(User { container, running: true }) => return Some(Obstacle::Running(container)),
            Some(User { container, running: false }) if !options.force => {
                return Some(Obstacle::Stopped(container));
            }
            _ => {}
        }
        (!names.is_empty() && !options.force).then_some(Obstacle::Repositories)
    }

    /// Deletes an image; `quiet` leaves it in place when something needs it.
    fn delete(
        &self,
        image: &Arc<Image>,
        options: &RemoveOptions<'_>,
        quiet: bool,
        removed: &mut Vec<Removed>,
    ) -> Result<(), Error> {
        let names = self.names_of(image)?;
        if let Some(obstacle) = self.obstacle(image, options, &names) {
            return if quiet { Ok(()) } else { Err(obstacle.into_error(image)) };
        }
        removed.extend(names.iter().map(|name| Removed::Untagged(name.familiar())));
        let mut database = self.writer();
        // On the disk before files go: after a power cut, an image must not come back without its layers.
        let garbage = database.change_synced(|change| {
            change.remove_image(&image.id)?;
            change.collect()
        })?;
        self.refresh(&database, [image.id])?;
        drop(database);
        removed.push(Removed::Deleted(image.id));
        let chain = chain_ids(&image.layers);
        let gone = image.layers.iter().zip(&chain).rev().filter(|(id, _)| garbage.layers.contains(id));
        removed.extend(gone.map(|(_, chain_id)| Removed::Deleted(*chain_id)));
        self.discard(garbage);
        let parent = image.parent.filter(|_| !options.noprune).and_then(|parent| self.image(&parent));
        match parent {
            Some(parent) if parent.is_dangling() => self.delete(&parent, options, true, removed),
            _ => Ok(()),
        }
    }
}

/// At most one tag, and all names in one repository: removing by ID is what the user means.
fn is_single(names: &[Reference]) -> bool {
    names.len() <= 1
        || (names.iter().filter(|name| name.tag().is_some()).count() <= 1
            && names.windows(2).all(|pair| pair[0].name() == pair[1].name()))
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
