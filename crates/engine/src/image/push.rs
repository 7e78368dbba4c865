//! Pushing: images to their registry, by name.

use std::fs::File;
use std::io;
use std::sync::Mutex;

use bytes::Bytes;
use corten_api::auth::AuthConfig;
use corten_api::image::Platform as ApiPlatform;
use corten_api::stream::{JsonMessage, JsonProgress};
use corten_image::manifest::{Descriptor, Manifest};
use corten_image::metadata::DocumentRow;
use corten_image::{
    CompressionFormat, Digest, LoadError, Outgoing, Place, Publish, Published, Reference, SendStage, Target,
};
use corten_registry::{Mounted, RegistryAddress, Repository, Upload};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc::Sender;

use super::outgoing::{InPieces, Taker};
use super::report::Report;
use super::{failed, platforms, signed};
use crate::Engine;
use crate::error::{Error, Result};
use crate::registry::{credentials, notices};

/// What a client wants to be sent.
#[derive(Clone, Debug, Default)]
pub struct PushWish {
    /// A name without tag, or with.
    pub name: String,
    /// Empty: the name's, or all.
    pub tag: String,
    pub platform: Option<ApiPlatform>,
    /// `gzip` or `zstd`, for layers that are not compressed yet.
    pub compression: Option<String>,
    pub auth: AuthConfig,
}

impl Engine {
    /// Pushes an image, or all tags of a repository. Gives what each name stands for at the registry: not what it does here where layers
    /// were compressed for it.
    ///
    /// # Errors
    /// Of the first image that can't be sent; those before it are there.
    pub async fn image_push(&self, wish: PushWish, progress: Sender<JsonMessage>) -> Result<Vec<Descriptor>> {
        let named = super::named(&wish.name, &wish.tag)?;
        if named.digest().is_some() {
            return Err(Error::invalid("cannot push a digest reference"));
        }
        let compression = wish.compression.as_deref().unwrap_or("gzip");
        let compression: CompressionFormat = compression.parse().map_err(Error::invalid)?;
        let wanted = match named.tag() {
            Some(_) => vec![named.clone()],
            None => self.images.tags_of(&named),
        };
        if wanted.is_empty() {
            let name = named.familiar_name();
            return Err(Error::not_found(format!("An image does not exist locally with the tag: {name}")));
        }
        for reference in &wanted {
            if self.images.named(reference).is_none() {
                let name = reference.familiar();
                return Err(Error::not_found(format!(
                    "An image does not exist locally with the tag: {name}"
                )));
            }
        }
        let registry = RegistryAddress::parse(named.domain())?;
        let repository =
            self.registries.repository(&registry, named.path(), credentials(wish.auth)).without_mirrors();
        let repository = repository.with_notices(notices(&progress));
        let status = format!("The push refers to repository [{}]", named.name());
        let _ = progress.send(JsonMessage::status(status)).await;
        let mut pushed = Vec::new();
        for reference in wanted {
            let publish = Publish {
                name: reference,
                platform: wish.platform.as_ref().map(platforms::wanted),
                compression,
            };
            pushed.push(self.push_one(&repository, publish, progress.clone()).await?);
        }
        Ok(pushed)
    }

    async fn push_one(
        &self,
        repository: &Repository,
        wish: Publish,
        progress: Sender<JsonMessage>,
    ) -> Result<Descriptor> {
        let name = wish.name.clone();
        let remote = RemoteTarget::new(repository, self.siblings(&name));
        let (engine, messages) = (self.clone(), progress.clone());
        let published = self.heavily(move || {
            let report = Report::new(messages);
            let watch = |layer: &Descriptor, stage: SendStage| tell_sent(&report, layer, stage);
            engine.images.publish(&wish, &remote, &watch).map_err(refused)
        });
        let Published { target, instead_of } = published.await?;
        let familiar = name.familiar();
        self.image_event(&familiar, "push", &familiar);
        let tag = name.tag().unwrap_or_default();
        if let Some(index) = instead_of {
            let text = format!(
                "Not all platforms of {index} are here: only the one that is was pushed, as {}",
                target.digest
            );
            let _ = progress.send(JsonMessage::status(text)).await;
        }
        let text = format!("{tag}: digest: {} size: {}", target.digest, target.size);
        let _ = progress.send(JsonMessage::status(text)).await;
        let aux = json!({"Tag": tag, "Digest": target.digest.to_string(), "Size": target.size});
        let progress_detail = Some(JsonProgress::default());
        let _ =
            progress.send(JsonMessage { aux: Some(aux), progress_detail, ..JsonMessage::default() }).await;
        Ok(target)
    }

    /// Other repositories of the same registry that the image is from: what is there need not be sent.
    fn siblings(&self, name: &Reference) -> Vec<String> {
        let Some((image, _)) = self.images.named(name) else { return Vec::new() };
        let names = image.repo_tags.iter().chain(&image.repo_digests);
        let mut paths: Vec<String> = names
            .filter_map(|text| Reference::parse_untagged(text).ok())
            .filter(|other| other.domain() == name.domain() && other.path() != name.path())
            .map(|other| other.path().to_owned())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// What the registry denies is told in its own words, as Docker does: they may be those of a quota.
pub(crate) fn refused(error: corten_image::Error) -> Error {
    if let corten_image::Error::Load(LoadError::Send { source, .. }) = &error
        && let Some(inner) = source.get_ref()
        && let Some(denied @ corten_registry::Error::Denied { .. }) = inner.downcast_ref()
    {
        return denied.clone().into();
    }
    failed(error)
}

/// A repository, for threads.
pub(crate) struct RemoteTarget {
    repository: Repository,
    runtime: Handle,
    /// Where blobs may be taken from.
    siblings: Vec<String>,
    /// Uploads that the registry began when it could not mount; the next blobs go by them.
    begun: Mutex<Vec<Upload>>,
}

impl RemoteTarget {
    /// Layers may be taken from the siblings, other repositories of the same registry.
    pub(crate) fn new(repository: &Repository, siblings: Vec<String>) -> Self {
        let (repository, runtime) = (repository.clone(), Handle::current());
        Self { repository, runtime, siblings, begun: Mutex::default() }
    }

    fn wait<T>(&self, future: impl Future<Output = corten_registry::Result<T>>) -> io::Result<T> {
        self.runtime.block_on(future).map_err(|error| match error.is_temporary() {
            true => io::Error::new(io::ErrorKind::ConnectionReset, error),
            false => io::Error::other(error),
        })
    }

    /// An upload to go by.
    fn next(&self) -> io::Result<Upload> {
        let begun = self.begun().pop();
        begun.map_or_else(|| self.wait(self.repository.upload()), Ok)
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, Vec<Upload>> {
        self.begun.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Target for RemoteTarget {
    fn find(&self, descriptor: &Descriptor) -> io::Result<Option<Place>> {
        if self.wait(self.repository.blob_exists(&descriptor.digest))?.is_some() {
            return Ok(Some(Place::Here));
        }
        for sibling in &self.siblings {
            match self.wait(self.repository.mount(&descriptor.digest, sibling))? {
                Mounted::Yes => return Ok(Some(Place::Elsewhere(sibling.clone()))),
                Mounted::No(upload) => self.begun().push(upload),
            }
        }
        Ok(None)
    }

    fn has_manifest(&self, digest: &Digest) -> io::Result<bool> {
        Ok(self.wait(self.repository.manifest_descriptor(&digest.to_string()))?.is_some())
    }

    fn give(&self, digest: &Digest, file: &File) -> io::Result<bool> {
        let mut upload = self.next()?;
        if !upload.give(file) {
            self.begun().push(upload);
            return Ok(false);
        }
        // A registry that was started anew in between has nothing of it.
        let finished = self.wait(upload.finish(digest));
        if let Err(error) = &finished {
            tracing::debug!(%digest, %error, "a blob that was given is sent");
        }
        Ok(finished.is_ok())
    }

    fn blob(&self) -> io::Result<Box<dyn Outgoing + '_>> {
        let upload = self.next()?;
        Ok(Box::new(InPieces::new(Sending { remote: self, upload })))
    }

    fn manifest(&self, document: &DocumentRow, tag: Option<&str>) -> io::Result<()> {
        let digest = document.digest.to_string();
        let bytes = Bytes::from(document.bytes.clone());
        let put = self.repository.put_manifest(tag.unwrap_or(&digest), &document.media_type, bytes);
        self.wait(put).map(drop)
    }

    fn referrer(&self, document: &DocumentRow, manifest: &Manifest, subject: &Digest) -> io::Result<()> {
        let descriptor = Descriptor {
            artifact_type: manifest.artifact_type.clone(),
            annotations: manifest.annotations.clone(),
            ..Descriptor::of(&document.media_type, &document.bytes)
        };
        self.wait(self.repository.put_referrer(&descriptor, Bytes::from(document.bytes.clone()), subject))
    }
}

/// A blob on its way.
struct Sending<'a> {
    remote: &'a RemoteTarget,
    upload: Upload,
}

impl Taker for Sending<'_> {
    fn send(&mut self, piece: Bytes) -> io::Result<()> {
        self.remote.wait(self.upload.send(piece))
    }

    fn finish(self, digest: &Digest) -> io::Result<()> {
        self.remote.wait(self.upload.finish(digest))
    }
}

pub(crate) fn tell_sent(report: &Report, layer: &Descriptor, stage: SendStage) {
    match stage {
        SendStage::Waiting => report.state(layer, "Preparing"),
        SendStage::Sent(bytes) => report.bytes(layer, "Pushing", signed(bytes)),
        SendStage::Given => report.state(layer, "Shared with the registry of this host"),
        SendStage::Done => report.state(layer, "Pushed"),
        SendStage::Found(Place::Here) => report.state(layer, "Layer already exists"),
        SendStage::Found(Place::Elsewhere(repository)) => {
            report.state(layer, &format!("Mounted from {repository}"));
        }
    }
}
