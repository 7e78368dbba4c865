//! An image of what a container has become: its image, and its changes as one more layer. `docker commit` and `docker diff`.
//!
//! The changes go from the writable directory into the layer driver while they are read: no archive is written.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};

use crate::archive::{Feed, plain_blob};
use crate::catalogue::Image;
use crate::changes::{self as instructions, ChangeError};
use crate::config::{Healthcheck, History, ImageConfig, RunConfig};
use crate::diff::{Change, Changes, DiffError, Upper, changes, write_layer};
use crate::digest::ImageId;
use crate::error::{Error, ErrorKind};
use crate::import::ImportError;
use crate::layer::{ImportedLayer, LayerError};
use crate::mounts::{LayerMounts, without_devices};
use crate::reference::Reference;
use crate::store::{Composition, Rootfs, Session, Store, layer_row};

#[derive(Clone, Debug)]
pub struct CommitOptions {
    /// The image that the container was made from.
    pub parent: ImageId,
    /// What the image is to start as, before the changes; what it leaves open is the container's.
    pub config: RunConfig,
    /// The container's own settings.
    pub container: RunConfig,
    /// Dockerfile instructions.
    pub changes: Vec<String>,
    pub author: String,
    pub comment: String,
    /// The image's name; without it only the ID leads to it.
    pub reference: Option<String>,
}

/// Why a container did not become an image. Nothing of it is kept.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error("cannot look at the changes")]
    Open(#[source] io::Error),
    #[error("cannot read the changes")]
    Diff(#[from] DiffError),
    #[error("cannot keep the changes")]
    Layer(#[source] LayerError),
    #[error("cannot keep the changes")]
    Import(#[source] ImportError),
    /// There are none; never seen outside.
    #[error("no changes")]
    Unchanged,
}

impl From<ImportError> for CommitError {
    fn from(error: ImportError) -> Self {
        match error {
            // The changes are an archive on their way, but that is nobody's business.
            ImportError::Layer(error) => Self::Layer(error),
            other => Self::Import(other),
        }
    }
}

impl CommitError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            CommitError::Change(_) => ErrorKind::InvalidParameter,
            _ => ErrorKind::Internal,
        }
    }
}

impl Store {
    /// What differs from its image in a container.
    pub fn diff(&self, id: &str, mounts: &LayerMounts) -> Result<Vec<Change>, Error> {
        let rootfs = self.rootfs(id, mounts)?;
        let merged = || open_merged(&rootfs, mounts);
        let upper = self.upper(&rootfs, mounts, &merged)?;
        changes(&upper).map_err(|source| CommitError::Open(source).into())
    }

    /// Makes an image of a container's settings and changes. `is_there` is asked after the changes were read: those of a container
    /// that was removed meanwhile may have been read half.
    pub fn commit(
        &self,
        id: &str,
        mounts: &LayerMounts,
        options: &CommitOptions,
        is_there: &dyn Fn() -> bool,
    ) -> Result<Arc<Image>, Error> {
        let reference = options.reference.as_deref().map(Reference::parse).transpose()?;
        if reference.as_ref().is_some_and(|name| name.digest().is_some()) {
            return Err(Error::TagByDigest);
        }
        let mut run = options.config.clone();
        instructions::apply(&mut run, &options.changes).map_err(CommitError::from)?;
        inherit(&mut run, &options.container);
        let parent =
            self.image(&options.parent).ok_or_else(|| Error::NotFound(options.parent.to_string()))?;
        let rootfs = self.rootfs(id, mounts)?;
        let session = self.session();
        let layer = self.import_changes(&session, &rootfs, mounts, &Changes::default())?;
        if !is_there() {
            return Err(Error::NoSnapshot(id.to_owned()));
        }
        self.add_child(&parent, layer.as_ref(), run, options, reference.as_ref())
    }

    fn upper<'a>(
        &self,
        rootfs: &Rootfs,
        mounts: &LayerMounts,
        merged: &'a dyn Fn() -> io::Result<OwnedFd>,
    ) -> Result<Upper<'a>, Error> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let upper = rustix::fs::open(&rootfs.upper, flags, Mode::empty()).map_err(std::io::Error::from);
        let upper = upper.and_then(|upper| without_devices(&upper, false)).map_err(CommitError::Open)?;
        Ok(Upper::new(upper, mounts.lower_root(rootfs)?, merged))
    }

    /// The changes as a layer; none when there are none.
    pub(crate) fn import_changes(
        &self,
        session: &Session<'_>,
        rootfs: &Rootfs,
        mounts: &LayerMounts,
        wish: &Changes,
    ) -> Result<Option<ImportedLayer>, Error> {
        let merged = || open_merged(rootfs, mounts);
        let upper = self.upper(rootfs, mounts, &merged)?.with_stubs(&wish.stubs);
        let write = |feed: &mut Feed| write_layer(&upper, wish.newest, &mut feed.writer());
        let imported = self.import_fed(session, |feed| match write(feed) {
            Ok(0) => Err(CommitError::Unchanged),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        });
        match imported {
            Ok(layer) => Ok(Some(layer)),
            Err(CommitError::Unchanged) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn add_child(
        &self,
        parent: &Image,
        layer: Option<&ImportedLayer>,
        run: RunConfig,
        options: &CommitOptions,
        reference: Option<&Reference>,
    ) -> Result<Arc<Image>, Error> {
        let created = jiff::Timestamp::now().to_string();
        let mut config = ImageConfig {
            created: Some(created.clone()),
            author: options.author.clone(),
            config: run,
            docker_version: String::new(),
            ..parent.config.clone()
        };
        config.history.push(History {
            created: Some(created),
            author: options.author.clone(),
            created_by: options.container.cmd.clone().unwrap_or_default().join(" "),
            comment: options.comment.clone(),
            empty_layer: layer.is_none(),
        });
        let mut stack: Vec<_> = parent.layers.iter().copied().zip(parent.blobs.iter().cloned()).collect();
        let row = layer.map(layer_row);
        stack.extend(row.iter().map(|row| (row.diff_id, plain_blob(row))));
        let (image, _) = self.compose(Composition {
            config,
            stack,
            layers: row.into_iter().collect(),
            parent: Some(parent.id),
            names: reference.map(std::slice::from_ref).unwrap_or_default(),
        })?;
        Ok(image)
    }
}

fn open_merged(rootfs: &Rootfs, mounts: &LayerMounts) -> io::Result<OwnedFd> {
    mounts.detached_root(rootfs, true).map_err(io::Error::other)
}

/// What the new image's settings leave open is taken from the container's, as Docker does it.
fn inherit(run: &mut RunConfig, container: &RunConfig) {
    let text = |own: &mut String, other: &String| {
        if own.is_empty() {
            own.clone_from(other);
        }
    };
    text(&mut run.user, &container.user);
    text(&mut run.working_dir, &container.working_dir);
    text(&mut run.stop_signal, &container.stop_signal);
    for (port, empty) in &container.exposed_ports {
        run.exposed_ports.entry(port.clone()).or_insert(*empty);
    }
    for (path, empty) in &container.volumes {
        run.volumes.entry(path.clone()).or_insert(*empty);
    }
    for (key, value) in &container.labels {
        run.labels.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    for entry in &container.env {
        if !run.env.iter().any(|own| name(own) == name(entry)) {
            run.env.push(entry.clone());
        }
    }
    let is_empty = |words: &Option<Vec<String>>| words.as_ref().is_none_or(Vec::is_empty);
    if is_empty(&run.entrypoint) {
        if is_empty(&run.cmd) {
            run.cmd.clone_from(&container.cmd);
        }
        if run.entrypoint.is_none() {
            run.entrypoint.clone_from(&container.entrypoint);
        }
    }
    match (&mut run.healthcheck, &container.healthcheck) {
        (own @ None, other) => own.clone_from(other),
        (Some(own), Some(other)) => inherit_health(own, other),
        (Some(_), None) => {}
    }
}

fn inherit_health(own: &mut Healthcheck, other: &Healthcheck) {
    if own.test.is_empty() {
        own.test.clone_from(&other.test);
    }
    for (own, other) in [
        (&mut own.interval, other.interval),
        (&mut own.timeout, other.timeout),
        (&mut own.start_period, other.start_period),
        (&mut own.start_interval, other.start_interval),
        (&mut own.retries, other.retries),
    ] {
        if *own == 0 {
            *own = other;
        }
    }
}

#[cfg(test)]
mod tests;
