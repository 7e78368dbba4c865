//! Pulling: images from their registry, by name.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use corten_api::auth::AuthConfig;
use corten_api::stream::JsonMessage;
use corten_image::manifest::Descriptor;
use corten_image::{Digest, Fetch, Platform, Reference, Source, Stage};
use corten_registry::{Document, Download, Key, RegistryAddress, Repository, SignatureMode, Verdict};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::mpsc::Sender;

use super::report::Report;
use super::{failed, invalid, named, parse_platform, signed};
use crate::Engine;
use crate::error::{Error, Result};
use crate::registry::{credentials, notices};

/// Pieces of a blob between the connection and the thread that unpacks it; each is up to 64 KiB.
const PIECES_MAX: usize = 16;

/// What a client wants to have.
#[derive(Clone, Debug, Default)]
pub struct PullWish {
    /// A name with a tag or a digest, or without.
    pub name: String,
    /// A tag or a digest; empty where the name has one, or where all tags are wanted.
    pub tag: String,
    /// `os[/arch[/variant]]` of another platform than this host's.
    pub platform: Option<String>,
    pub auth: AuthConfig,
}

impl Engine {
    /// Pulls an image, or all that a repository has tags for.
    ///
    /// # Errors
    /// Of the first image that can't be had; those before it stay.
    pub async fn image_pull(&self, wish: PullWish, progress: Sender<JsonMessage>) -> Result<()> {
        let platform = parse_platform(wish.platform.as_deref())?;
        let named = named(&wish.name, &wish.tag)?;
        let registry = RegistryAddress::parse(named.domain())?;
        let repository = self.registries.repository(&registry, named.path(), credentials(wish.auth));
        let repository = repository.with_notices(notices(&progress));
        let all = named.tag().is_none() && named.digest().is_none();
        let wanted = match all {
            false => vec![named],
            true => {
                let tags = repository.tags().await?;
                tags.iter()
                    .map(|tag| named.with_tag(tag))
                    .collect::<std::result::Result<_, _>>()
                    .map_err(invalid)?
            }
        };
        for reference in wanted {
            self.pull_one(&repository, reference, platform.clone(), progress.clone()).await?;
        }
        Ok(())
    }

    async fn pull_one(
        &self,
        repository: &Repository,
        name: Reference,
        platform: Option<Platform>,
        progress: Sender<JsonMessage>,
    ) -> Result<()> {
        let wanted = match name.digest() {
            Some(digest) => digest.to_string(),
            None => name.tag().unwrap_or_default().to_owned(),
        };
        let familiar = name.familiar();
        let begin = JsonMessage {
            id: wanted.clone(),
            ..JsonMessage::status(format!("Pulling from {}", name.path()))
        };
        if let Some(digest) = self.is_up_to_date(repository, &name, platform.as_ref(), &wanted).await? {
            send(&progress, begin).await;
            send(&progress, JsonMessage::status(format!("Digest: {digest}"))).await;
            send(&progress, JsonMessage::status(format!("Status: Image is up to date for {familiar}"))).await;
            return Ok(());
        }
        let document = repository.manifest(&wanted).await?;
        let warning = self.check_signature(repository, &name, &document).await?;
        send(&progress, begin).await;
        if let Some(warning) = warning {
            send(&progress, JsonMessage::status(format!("WARNING: {warning}"))).await;
        }
        let digest = document.digest;
        let target = Descriptor::new(&document.media_type, digest, document.bytes.len() as u64);
        let (engine, messages) = (self.clone(), progress.clone());
        let remote = RemoteSource::of_document(repository, document, progress.clone());
        self.heavily(move || {
            let report = Report::new(messages);
            let watch = |layer: &Descriptor, stage: Stage| tell_received(&report, layer, stage);
            let fetch = Fetch { name: Some(name), target, platform };
            engine.images.fetch(&fetch, &remote, &watch).map(drop).map_err(failed)
        })
        .await?;
        self.image_event(&familiar, "pull", &familiar);
        send(&progress, JsonMessage::status(format!("Digest: {digest}"))).await;
        send(&progress, JsonMessage::status(format!("Status: Downloaded newer image for {familiar}"))).await;
        Ok(())
    }

    /// Refuses what is not signed as it has to be, before anything of it is fetched; or returns what is to be said of it.
    pub(crate) async fn check_signature(
        &self,
        repository: &Repository,
        name: &Reference,
        document: &Document,
    ) -> Result<Option<String>> {
        let rule = {
            let policy = self.signatures.read().unwrap_or_else(PoisonError::into_inner);
            policy.rule(&name.name()).cloned()
        };
        let Some(rule) = rule else { return Ok(None) };
        let verdict =
            match rule.keys.iter().map(|path| Key::read(path)).collect::<std::result::Result<Vec<_>, _>>() {
                Ok(keys) => match repository.verify(document, &keys).await {
                    Ok(Verdict::Signed) => return Ok(None),
                    Ok(Verdict::Unsigned(why)) => why,
                    Err(error) => format!("its signatures can't be read: {error}"),
                },
                Err(error) => error.to_string(),
            };
        let (shown, digest) = (name.familiar(), document.digest);
        let what = format!(
            "{shown} ({digest}) is not signed as {:?} in daemon.json wants: {verdict}",
            rule.repository
        );
        match rule.mode {
            SignatureMode::Enforce => Err(Error::forbidden(what)),
            _ => {
                tracing::warn!("{what}");
                Ok(Some(what))
            }
        }
    }

    /// The digest that a name stands for here and at its registry.
    async fn is_up_to_date(
        &self,
        repository: &Repository,
        name: &Reference,
        platform: Option<&Platform>,
        wanted: &str,
    ) -> Result<Option<Digest>> {
        let Some((image, digest)) = self.images.named(name) else { return Ok(None) };
        if platform.is_some_and(|platform| image.config.platform().fitness(platform).is_none()) {
            return Ok(None);
        }
        // What has the digest that was asked for is what was asked for.
        if name.digest().is_some() {
            return Ok(Some(digest));
        }
        let Some(there) = repository.manifest_descriptor(wanted).await? else { return Ok(None) };
        // Also when it was pushed from here, and has another manifest there.
        let pushed = || self.images.named(&name.with_digest(there.digest)).map(|(image, _)| image.id);
        let is_same = there.digest == digest || pushed() == Some(image.id);
        Ok(is_same.then_some(there.digest))
    }
}

/// A client that is gone needs no messages.
async fn send(progress: &Sender<JsonMessage>, message: JsonMessage) {
    let _ = progress.send(message).await;
}

/// A repository, for threads.
pub(crate) struct RemoteSource {
    repository: Repository,
    runtime: Handle,
    /// What the name stands for, which is there already.
    top: Option<Document>,
    /// Whoever asked; nothing is fetched for one who is gone.
    client: Sender<JsonMessage>,
    /// The last download of each blob; locked as long as it goes on.
    downloads: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<Download>>>>,
}

impl RemoteSource {
    /// One that is asked for blobs alone.
    pub(crate) fn of_blobs(repository: &Repository, client: Sender<JsonMessage>) -> Self {
        let (repository, runtime) = (repository.clone(), Handle::current());
        Self { repository, runtime, top: None, client, downloads: Mutex::default() }
    }

    /// One whose first manifest is there already.
    pub(crate) fn of_document(repository: &Repository, top: Document, client: Sender<JsonMessage>) -> Self {
        Self { top: Some(top), ..Self::of_blobs(repository, client) }
    }

    fn downloads(&self) -> MutexGuard<'_, HashMap<Digest, Arc<tokio::sync::Mutex<Download>>>> {
        self.downloads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for RemoteSource {
    fn manifest(&self, descriptor: &Descriptor) -> io::Result<Vec<u8>> {
        if let Some(top) = self.top.as_ref().filter(|top| top.digest == descriptor.digest) {
            return Ok(top.bytes.to_vec());
        }
        let wanted = descriptor.digest.to_string();
        let document = self.runtime.block_on(self.repository.manifest(&wanted)).map_err(io::Error::other)?;
        Ok(document.bytes.to_vec())
    }

    fn blob(&self, descriptor: &Descriptor, offset: u64) -> io::Result<Box<dyn Read + Send>> {
        let (sender, pieces) = mpsc::channel(PIECES_MAX);
        let download = Arc::new(tokio::sync::Mutex::new(self.repository.download(descriptor, offset)));
        self.downloads().insert(descriptor.digest, download.clone());
        self.runtime.spawn(async move { pass_on(&mut *download.lock().await, sender).await });
        Ok(Box::new(Incoming { pieces, current: Bytes::new(), client: self.client.clone() }))
    }

    fn distrust(&self, descriptor: &Descriptor) -> bool {
        let download = self.downloads().remove(&descriptor.digest);
        download.is_some_and(|download| download.blocking_lock().distrust())
    }
}

async fn pass_on(download: &mut Download, pieces: Sender<io::Result<Bytes>>) {
    loop {
        let piece = download.chunk().await.map_err(io::Error::other).transpose();
        let Some(piece) = piece else { return };
        let is_last = piece.is_err();
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// The bytes of a download, for a thread.
struct Incoming {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
    client: Sender<JsonMessage>,
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            if self.client.is_closed() {
                return Err(io::Error::other("the pull was given up by its client"));
            }
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

pub(crate) fn tell_received(report: &Report, layer: &Descriptor, stage: Stage) {
    match stage {
        Stage::Wanted => report.state(layer, "Pulling fs layer"),
        Stage::Known => report.state(layer, "Already exists"),
        Stage::Received(bytes) => report.bytes(layer, "Downloading", signed(bytes)),
        Stage::Whole => report.state(layer, "Download complete"),
        Stage::Unpacked => report.state(layer, "Pull complete"),
    }
}
