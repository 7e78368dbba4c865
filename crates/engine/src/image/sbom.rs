//! What an image in the store is made of.

use corten_api::image::Platform as ApiPlatform;
use corten_build::{SbomFormat, State};
use corten_image::build::BuildSession;
use serde_json::Value;

use super::platforms::wanted;
use super::{blocking, failed};
use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// The packages in an image, as a document: the same image has the same one.
    pub async fn image_sbom(
        &self,
        name: &str,
        platform: Option<&ApiPlatform>,
        format: SbomFormat,
    ) -> Result<Value> {
        let (engine, name, platform) = (self.clone(), name.to_owned(), platform.map(wanted));
        blocking(move || {
            let image = match &platform {
                None => engine.images.resolve(&name),
                Some(platform) => engine.images.resolve_platform(&name, platform),
            };
            let image = image.map_err(failed)?;
            let session = BuildSession::new(engine.images.clone(), engine.layers.clone());
            session.hold_image(&image).map_err(failed)?;
            let State { stack, newest, .. } = State::of_image(&image);
            let root = if stack.is_empty() { None } else { Some(session.merged(&stack).map_err(failed)?) };
            let inventory = corten_build::inventory(root.as_ref());
            let inventory = inventory.map_err(|error| Error::internal(error.to_string()))?;
            Ok(corten_build::sbom(&inventory, format, &name, &stack, newest))
        })
        .await
    }
}
