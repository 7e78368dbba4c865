//! An image's history in Docker's shape.

use super::Store;
use crate::catalogue::Image;
use crate::error::Error;

/// One step of an image's making, as `docker history` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image's ID for the newest step, `<missing>` below it.
    pub id: String,
    /// RFC 3339, if the step has a time.
    pub created: Option<String>,
    pub created_by: String,
    /// Bytes the step added.
    pub size: u64,
    pub tags: Vec<String>,
    pub comment: String,
}

impl Store {
    /// The steps that made an image, the newest first.
    pub fn history(&self, image: &Image) -> Result<Vec<HistoryEntry>, Error> {
        let mut layers = image.layers.iter();
        let mut entries = Vec::with_capacity(image.config.history.len());
        let database = self.writer();
        for step in &image.config.history {
            let layer = if step.empty_layer { None } else { layers.next() };
            let row = match layer {
                Some(id) => database.layer(id)?,
                None => None,
            };
            entries.push(HistoryEntry {
                id: "<missing>".to_owned(),
                created: step.created.clone(),
                created_by: step.created_by.clone(),
                size: row.map_or(0, |row| row.unpacked_bytes),
                tags: Vec::new(),
                comment: step.comment.clone(),
            });
        }
        drop(database);
        entries.reverse();
        let mut below = Some(image.id);
        for entry in &mut entries {
            let Some(known) = below.and_then(|id| self.image(&id)) else { break };
            entry.id = known.id.to_string();
            entry.tags.clone_from(&known.repo_tags);
            below = known.parent;
        }
        Ok(entries)
    }
}
