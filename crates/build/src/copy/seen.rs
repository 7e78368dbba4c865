//! What COPY and ADD put, as a step's key tells of it: looked at where it is, remembered where it is in layers, or told by a cache where
//! those are not here.

use std::sync::Arc;

use corten_image::Digest;

use super::{From, Put, PutSource, Transport, base_name};
use crate::cache::with_told_time;
use crate::dockerfile::Copy;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::platform::Claim;
use crate::remote::Origin;
use crate::stage::Running;
use crate::state::State;

/// What there is to put.
pub(super) struct Seen {
    pub fingerprint: Digest,
    /// Unix seconds.
    pub newest: Option<i64>,
}

impl Running<'_> {
    /// Looks at what is to be put; the newest of it bounds the times of all files from here on.
    pub(super) async fn look(&self, from: &From, puts: Vec<Put>) -> Result<(Vec<Put>, Seen)> {
        // Layers are mounted anew each time, and the kernel gives a device's number to the next one: what was read then is not known
        // again by number and inode, but by the request.
        let known = if from.keeps_owners { Arc::default() } else { self.build.worker.fingerprints() };
        let (root, filter) = (from.root.clone(), from.filter.clone());
        let keeps_owners = from.keeps_owners;
        // It may read all that is to be copied.
        let read = crate::blocking(move || {
            let mut seen = Vec::new();
            for put in &puts {
                let (path, filter) = match &put.source {
                    PutSource::Path { path, filter, .. } => (path, filter),
                    PutSource::Archive { path } => (path, &filter),
                    PutSource::Document { bytes, .. } => {
                        seen.push((Digest::of(bytes), None));
                        continue;
                    }
                    PutSource::Remote { remote, .. } => {
                        seen.push((remote.fetched.digest, remote.fetched.modified));
                        continue;
                    }
                };
                let found = known.of(&root, path, filter.as_ref(), keeps_owners).map_err(|error| {
                    Error::Invalid(format!("cannot read {:?}: {error}", String::from_utf8_lossy(path)))
                })?;
                seen.push((found.digest, found.newest));
            }
            Ok((puts, seen))
        });
        let (puts, seen) = read.await?;
        let (mut key, mut newest) = (Key::new("read"), None);
        for (put, (digest, modified)) in puts.iter().zip(seen) {
            key.text(&self.absolute(&put.target));
            match &put.source {
                // Its name counts where the target is a directory.
                PutSource::Path { path, with_parents, .. } => {
                    let mut above = path.as_slice();
                    for _ in 0..with_parents.map_or(0, |count| count + 1) {
                        attributes(from, above, &mut key)?;
                        above = &above[..above.len().saturating_sub(base_name(above).len() + 1)];
                    }
                    key.text("path").bytes(base_name(path))
                }
                PutSource::Archive { path } => key.text("archive").bytes(base_name(path)),
                PutSource::Document { name, .. } => key.text("document").text(name),
                PutSource::Remote { remote, unpacks, exclude } => match &remote.origin {
                    Origin::File { name, .. } => key.text("url").text(name).number((*unpacks).into()),
                    Origin::Repository(_) => key.text("repository").texts(exclude),
                },
            };
            key.bytes(digest.as_bytes());
            newest = newest.max(modified);
        }
        Ok((puts, Seen { fingerprint: key.digest(), newest }))
    }

    /// What stands for all that COPY reads of layers. What is found there, and how that is put, depends on nothing else of them: of its
    /// own stage's layers, its owners and its permissions the step's key tells.
    pub(super) fn request(
        &self,
        state: &State,
        copy: &Copy,
        sources: &[String],
        target: &str,
        documents: &[Put],
    ) -> Digest {
        let mut key = Key::new("source");
        key.stack(&state.stack).texts(sources).texts(&copy.transfer.exclude).number(copy.parents.into());
        key.text(&self.absolute(target)).number(documents.len() as i64);
        for document in documents {
            if let PutSource::Document { name, bytes } = &document.source {
                key.text(name).bytes(bytes);
            }
        }
        key.digest()
    }

    /// Takes what was made of these files before without a look at them, if it is known what they are: this host has looked before, or a
    /// cache tells of those that are not here. What that says is believed in nothing else. Tells whether there was such a step.
    pub(super) async fn put_as_known(
        &mut self,
        request: &Digest,
        state: &State,
        transport: &Transport<'_>,
    ) -> Result<bool> {
        if self.build.is_uncached(self.index) {
            return Ok(false);
        }
        let worker = &self.build.worker;
        let seen = worker.fingerprints().source(request);
        let told = || worker.imported_source(request).filter(|_| !state.stack.absent().is_empty());
        let Some(source) = seen.or_else(told) else { return Ok(false) };
        let key = self.put_key(transport, true, &source.fingerprint);
        let (newest, is_newest_told) = (self.state.newest, self.state.is_newest_told);
        self.count(source.newest);
        self.state.is_newest_told |= seen.is_none() && self.build.epoch.is_none();
        let Claim::Known(layer) = self.claim(&key).await? else {
            (self.state.newest, self.state.is_newest_told) = (newest, is_newest_told);
            return Ok(false);
        };
        self.build.note_source(source);
        self.take(key, layer, transport.shown.clone())?;
        Ok(true)
    }

    /// Counts what was read among the inputs.
    pub(super) fn count(&mut self, newest: Option<i64>) {
        if self.build.epoch.is_none() {
            self.state.newest = self.state.newest.max(newest.unwrap_or(0));
        }
    }

    pub(super) fn put_key(&self, transport: &Transport<'_>, keeps_owners: bool, read: &Digest) -> Digest {
        let mut key = Key::new(transport.kind);
        if !transport.transfer.link || transport.names_owner() {
            key.stack(&self.state.stack);
        }
        key.text(transport.chown.as_deref().unwrap_or(""))
            .text(&format!("{:?}", transport.mode))
            .number(keeps_owners.into());
        self.with_epoch(&mut key);
        key.bytes(read.as_bytes()).digest()
    }

    pub(super) fn with_epoch(&self, key: &mut Key) {
        if let Some(epoch) = self.build.epoch {
            key.number(epoch);
        }
    }

    /// A step of this stage; where nothing known is to be used it is to be done in any case.
    pub async fn claim(&self, key: &Digest) -> Result<Claim> {
        self.claim_any(key, Vec::new()).await
    }

    /// The same of one that may be known by other keys, too.
    pub async fn claim_any(&self, key: &Digest, mut others: Vec<Digest>) -> Result<Claim> {
        others.extend(Some(self.own_key(*key)).filter(|own| own != key));
        match self.build.is_uncached(self.index) {
            true => Ok(Claim::Ours(None)),
            false => self.build.claim(key, &others).await,
        }
    }

    /// The key under which a step is remembered that is done now.
    pub fn own_key(&self, key: Digest) -> Digest {
        match self.state.is_newest_told {
            true => with_told_time(&key, self.state.newest),
            false => key,
        }
    }
}

/// Puts into the key what comes along with its attributes.
fn attributes(from: &From, directory: &[u8], key: &mut Key) -> Result<()> {
    let found = corten_image::files::stat(&*from.root, directory).map_err(|error| {
        Error::Invalid(format!("cannot look at {:?}: {error}", String::from_utf8_lossy(directory)))
    })?;
    key.number(found.mode.into()).number(found.uid.into()).number(found.gid.into());
    Ok(())
}
