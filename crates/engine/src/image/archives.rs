//! Images as archives: load, save, import, and the base image that is made of the host's own files.

use std::io::{Read, Write};

use corten_api::image::{ImageImportOptions, Platform as ApiPlatform};
use corten_api::system::JsonMessage;
use corten_image::Platform;
use tokio::sync::mpsc::Sender;

use super::{failed, parse_platform, platforms, signed};
use crate::Engine;
use crate::error::{Error, Result};

impl Engine {
    /// Reads an archive; names what came in, line by line.
    pub async fn image_load(
        &self,
        mut body: impl Read + Send + 'static,
        platforms: Vec<ApiPlatform>,
        progress: Sender<JsonMessage>,
    ) -> Result<()> {
        let platforms = platforms.iter().map(platforms::wanted).collect();
        let engine = self.clone();
        self.heavily(move || {
            let options = corten_image::LoadOptions { platforms };
            let report = |step: corten_image::Progress| tell(&progress, step);
            let loaded = engine.images.load(&mut body, &options, &report).map_err(failed)?;
            for image in loaded {
                let id = image.image.to_string();
                let text = match &image.reference {
                    Some(reference) => format!("Loaded image: {reference}\n"),
                    None => format!("Loaded image ID: {id}\n"),
                };
                engine.image_event(&id, "load", &id);
                let _ = progress.blocking_send(JsonMessage::stream(text));
            }
            Ok(())
        })
        .await
    }

    pub async fn image_save(
        &self,
        names: Vec<String>,
        platforms: Vec<ApiPlatform>,
        mut sink: Box<dyn Write + Send>,
    ) -> Result<()> {
        let platforms: Vec<Platform> = platforms.iter().map(platforms::wanted).collect();
        let engine = self.clone();
        self.heavily(move || {
            engine.images.save(&names, &mut sink, &platforms).map_err(failed)?;
            sink.flush().map_err(|e| Error::internal(format!("save: {e}")))
        })
        .await
    }

    /// Whether all of these images are there: what a save checks before it begins to answer.
    pub fn images_exist(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| self.images.resolve(name).map(drop).map_err(failed))
    }

    /// A root file system's tarball becomes an image; returns its id.
    pub async fn image_import(
        &self,
        mut body: impl Read + Send + 'static,
        options: ImageImportOptions,
        progress: Sender<JsonMessage>,
    ) -> Result<String> {
        let platform = parse_platform(options.platform.as_deref())?;
        let engine = self.clone();
        self.heavily(move || {
            let reference = match (options.repo.as_str(), options.tag.as_str()) {
                ("", _) => None,
                (repo, "") => Some(repo.to_owned()),
                (repo, tag) => Some(format!("{repo}:{tag}")),
            };
            let wish = corten_image::ImportOptions {
                reference,
                message: options.message,
                changes: options.changes,
                platform,
            };
            let report = |step: corten_image::Progress| tell(&progress, step);
            let image = engine.images.import(&mut body, &wish, &report).map_err(failed)?;
            engine.image_event(&image.id.to_string(), "import", &image.id.to_string());
            let _ = progress.blocking_send(JsonMessage::status(image.id.to_string()));
            Ok(image.id.to_string())
        })
        .await
    }

    /// A base image from the host's own distribution.
    pub async fn image_create_base(
        &self,
        reference: Option<String>,
        packages: Vec<String>,
        progress: Sender<JsonMessage>,
    ) -> Result<String> {
        let engine = self.clone();
        self.heavily(move || {
            let wish = corten_image::BaseOptions { reference, packages, ..Default::default() };
            let report = |step: corten_image::Progress| tell(&progress, step);
            let image = engine.images.create_base(&wish, &report).map_err(failed)?;
            engine.image_event(&image.id.to_string(), "import", &image.id.to_string());
            let name = image.repo_tags.first().cloned().unwrap_or_else(|| image.id.to_string());
            let _ = progress.blocking_send(JsonMessage::stream(format!("Created image: {name}\n")));
            Ok(image.id.to_string())
        })
        .await
    }
}

fn tell(sender: &Sender<JsonMessage>, step: corten_image::Progress) {
    // Progress is for whoever has time to read it; only results may wait.
    let (current, total) = (signed(step.current_bytes), signed(step.total_bytes));
    let _ = sender.try_send(JsonMessage::progress(step.object, "Loading layer", current, total));
}
