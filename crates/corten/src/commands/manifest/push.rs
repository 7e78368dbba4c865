//! `manifest push`: a list to its registry, with whatever of its images that lacks.

use corten_image::Reference;
use corten_image::manifest::{Descriptor, Document};
use corten_registry::{Mounted, Repository};

use super::list::{Lists, Member, document};
use super::{missing, reference};
use crate::cli::{Context, Failure, Outcome, Verb};
use crate::commands::remote::Remote;
use crate::output;

#[derive(Clone, Debug, clap::Args)]
pub struct PushManifest {
    /// Allow push to an insecure registry
    #[arg(long)]
    insecure: bool,
    /// Remove the local manifest list after push
    #[arg(short, long)]
    purge: bool,
    #[arg(value_name = "MANIFEST_LIST")]
    list: String,
}

impl Verb for PushManifest {
    const ABOUT: &'static str = "Push a manifest list to a repository";
    const USAGE: &'static str = "[OPTIONS] MANIFEST_LIST";

    fn run(self, context: &Context) -> Outcome {
        let list = reference(&self.list)?;
        let lists = Lists::of(context)?;
        let members = lists.get(&list)?.ok_or_else(|| missing(&list.familiar()))?;
        let Some(tag) = list.tag() else {
            return Err(Failure::new("a list is pushed by a tag, not by a digest"));
        };
        let sources = members.iter().map(|member| reference(&member.name)).collect::<Result<Vec<_>, _>>()?;
        let names = [&sources[..], std::slice::from_ref(&list)].concat();
        let remote = Remote::new(context, if self.insecure { &names[..] } else { &[] })?;
        let target = remote.repository(&list)?;
        for (member, source) in members.iter().zip(&sources) {
            context.block_on(send(&remote, member, source, &target, &list))??;
            let digest = member.descriptor.digest;
            output::line(&format!("Pushed ref {}@{digest} with digest: {digest}", list.name()))?;
        }
        let (media_type, bytes) = document(&members);
        let digest = context.block_on(target.put_manifest(tag, media_type, bytes.into_bytes().into()))??;
        output::line(&digest.to_string())?;
        if self.purge {
            lists.remove(&list)?;
        }
        Ok(0)
    }
}

/// Sends an image, unless it is there.
async fn send(
    remote: &Remote<'_>,
    member: &Member,
    from: &Reference,
    target: &Repository,
    list: &Reference,
) -> Result<(), Failure> {
    let digest = member.descriptor.digest.to_string();
    if target.manifest_descriptor(&digest).await?.is_some() {
        return Ok(());
    }
    let bytes = member.bytes()?;
    let document = Document::parse(&bytes, &member.descriptor.media_type)
        .map_err(|error| Failure::new(error.to_string()).while_doing(&member.name))?;
    if let Document::Manifest(manifest) = document {
        let source = remote.repository(from)?;
        let sibling = (from.domain() == list.domain()).then(|| from.path());
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            // What is had from elsewhere stays there.
            if blob.urls.as_ref().is_none_or(Vec::is_empty) {
                copy(&source, sibling, target, blob).await?;
            }
        }
    }
    target.put_manifest(&digest, &member.descriptor.media_type, bytes.into()).await?;
    Ok(())
}

/// Takes a blob over: mounted within one registry, else through here.
async fn copy(
    source: &Repository,
    sibling: Option<&str>,
    target: &Repository,
    blob: &Descriptor,
) -> Result<(), Failure> {
    if target.blob_exists(&blob.digest).await?.is_some() {
        return Ok(());
    }
    let mut upload = match sibling {
        Some(path) => match target.mount(&blob.digest, path).await? {
            Mounted::Yes => return Ok(()),
            Mounted::No(upload) => upload,
        },
        None => target.upload().await?,
    };
    let mut download = source.download(blob, 0);
    while let Some(chunk) = download.chunk().await? {
        upload.send(chunk).await?;
    }
    // The registry checks what it was sent.
    upload.finish(&blob.digest).await?;
    Ok(())
}
