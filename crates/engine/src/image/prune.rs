//! `prune`: removes the images that no container needs.

use corten_api::Timestamp;
use corten_api::filters::Filters;
use corten_api::image::{ImageRemoveOptions, ImagesPruneReport};

use corten_image::Image;

use super::{blocking, created};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};

const FILTERS: [&str; 4] = ["dangling", "label", "label!", "until"];

impl Engine {
    /// Removes unused images without a name, with the filter `dangling=false` all unused ones.
    pub async fn images_prune(&self, filters: &Filters) -> Result<ImagesPruneReport> {
        let _running = crate::container::Pruning::begin(self)?;
        filters.validate(&FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let dangling =
            filters.boolean("dangling").map_err(|e| Error::invalid(e.to_string()))?.unwrap_or(true);
        let until = crate::container::until(filters)?;
        let (engine, filters) = (self.clone(), filters.clone());
        let report = blocking(move || engine.prune_images(&filters, dangling, until)).await?;
        self.prune_event("image", report.space_reclaimed);
        Ok(report)
    }

    fn prune_images(
        &self,
        filters: &Filters,
        dangling: bool,
        until: Option<Timestamp>,
    ) -> Result<ImagesPruneReport> {
        let mut report = ImagesPruneReport::default();
        let mut deleted = Vec::new();
        let options = ImageRemoveOptions::default();
        let used = self.containers_by_image();
        for image in self.images.list().map_err(super::failed)? {
            let labels = &image.config.config.labels;
            let wanted = (!dangling || image.is_dangling())
                && until.is_none_or(|until| came(&image) <= until)
                && filters.labels(|key| labels.get(key).map(String::as_str))
                && !used.contains_key(&image.id.to_string())
                && self.image_user(&image.id).is_none();
            if !wanted {
                continue;
            }
            // Each name by itself: an image with several is not removed by its ID without force.
            let id = image.id.to_string();
            let names = if image.repo_tags.is_empty() { vec![id] } else { image.repo_tags.clone() };
            for name in names {
                match self.remove_image(&name, &options) {
                    Ok((steps, bytes)) => {
                        deleted.extend(steps);
                        report.space_reclaimed += bytes;
                    }
                    // Somebody has begun to use it, removed it, or made another one of it.
                    Err(error) if matches!(error.kind, ErrorKind::Conflict | ErrorKind::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if until.is_none() && ["label", "label!"].iter().all(|name| filters.get(name).next().is_none()) {
            report.space_reclaimed += self.images.discard_partial().map_err(super::failed)?;
        }
        if !deleted.is_empty() {
            report.images_deleted = deleted.into();
        }
        Ok(report)
    }
}

/// How new an image is here: one that was built of old files, or pulled today, is not an old one.
fn came(image: &Image) -> Timestamp {
    let here = image.stored_at.max(image.tagged_at.unwrap_or(0));
    created(image).max(Timestamp::from_unix_nanos(here))
}
