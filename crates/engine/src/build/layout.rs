//! Images that a client has in an image layout of its own: bases of stages, known by the digest of their manifest or index.

use std::sync::Arc;

use corten_api::stream::JsonMessage;
use corten_build::Asker;
use corten_image::manifest::{Descriptor, Document, media};
use corten_image::{Digest, Fetch, Image, Platform, Stage};
use tokio::sync::mpsc::Sender;

use super::content::{ContentSource, document};
use crate::image::{Report, failed, tell_received};
use crate::{Engine, Error, Result};

impl Engine {
    /// The image for a platform, out of one of the client's stores. It is in the image store then, without a name.
    pub(super) async fn build_layout_image(
        &self,
        asker: &dyn Asker,
        store: &str,
        manifest: &Digest,
        platform: &Platform,
        listener: Sender<JsonMessage>,
    ) -> Result<Arc<Image>> {
        let unreadable = |why: &dyn std::fmt::Display| {
            Error::invalid(format!("cannot read the image {manifest} of the client's OCI layout: {why}"))
        };
        let content = asker.content(store).await.map_err(|error| unreadable(&error))?;
        let content = content.ok_or_else(|| unreadable(&"the client offers none"))?;
        let size = content.size(manifest).await.map_err(|error| unreadable(&error))?;
        let size = size.ok_or_else(|| Error::not_found(unreadable(&"it is not there").message))?;
        let source = ContentSource::new(content, listener.clone());
        let untyped = Descriptor::new("", *manifest, size);
        let (engine, platform) = (self.clone(), platform.clone());
        let brought = self.heavily(move || {
            let (media_type, usual) = match document(&source, &untyped).map_err(Error::invalid)? {
                Document::Manifest(manifest) => (manifest.media_type, media::OCI_MANIFEST),
                Document::Index(index) => (index.media_type, media::OCI_INDEX),
            };
            let target = Descriptor { media_type: media_type.unwrap_or_else(|| usual.to_owned()), ..untyped };
            let report = Report::new(listener);
            let watch = |layer: &Descriptor, stage: Stage| tell_received(&report, layer, stage);
            let fetch = Fetch { name: None, target, platform: Some(platform) };
            let loaded = engine.images.fetch(&fetch, &source, &watch).map_err(failed)?;
            engine.images.resolve(&loaded.image.to_string()).map_err(failed)
        });
        brought.await.map_err(|error| Error::new(error.kind, unreadable(&error.message).message))
    }
}
