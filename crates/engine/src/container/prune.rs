//! `prune`: removes every container that is at rest.

use std::sync::atomic::Ordering;

use corten_api::container::ContainersPruneReport;
use corten_api::filters::Filters;
use corten_api::{List, Timestamp};

use crate::Engine;
use crate::error::{Error, Result};

const FILTERS: [&str; 3] = ["label", "label!", "until"];

impl Engine {
    /// Removes the containers that do not run and that the filters let through; volumes stay.
    pub async fn containers_prune(&self, filters: &Filters) -> Result<ContainersPruneReport> {
        let _running = Pruning::begin(self)?;
        filters.validate(&FILTERS).map_err(|e| Error::invalid(e.to_string()))?;
        let until = until(filters)?;
        let (mut deleted, mut reclaimed) = (Vec::new(), 0);
        for container in self.containers.listed() {
            let (wanted, image_id) = {
                let record = container.read();
                let labels = &record.config.labels;
                let wanted = record.state.phase.is_at_rest()
                    && until.is_none_or(|until| record.created <= until)
                    && filters.labels(|key| labels.get(key).map(String::as_str));
                (wanted, record.image_id.clone())
            };
            if !wanted {
                continue;
            }
            let (engine, id) = (self.clone(), container.id.clone());
            let (bytes, _) = crate::image::blocking(move || Ok(engine.sizes(&id, &image_id))).await?;
            // One that was started in between stays, as does one that somebody else removes.
            match self.discard(&container, false).await {
                Ok(()) => {
                    deleted.push(container.id.clone());
                    reclaimed += u64::try_from(bytes).unwrap_or(0);
                }
                Err(error) => tracing::warn!(container = container.id, %error, "prune"),
            }
        }
        self.prune_event("container", reclaimed);
        let containers_deleted = if deleted.is_empty() { List::default() } else { deleted.into() };
        Ok(ContainersPruneReport { containers_deleted, space_reclaimed: reclaimed })
    }
}

/// One prune at a time, as Docker has it.
pub(crate) struct Pruning<'a>(&'a Engine);

impl<'a> Pruning<'a> {
    pub(crate) fn begin(engine: &'a Engine) -> Result<Self> {
        if engine.pruning.swap(true, Ordering::AcqRel) {
            return Err(Error::conflict("a prune operation is already running"));
        }
        Ok(Self(engine))
    }
}

impl Drop for Pruning<'_> {
    fn drop(&mut self) {
        self.0.pruning.store(false, Ordering::Release);
    }
}

/// The one time that `until` names.
pub(crate) fn until(filters: &Filters) -> Result<Option<Timestamp>> {
    let mut values = filters.get("until");
    let Some(text) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::invalid("more than one until filter specified"));
    }
    Timestamp::parse_bound(text, Timestamp::now())
        .map(Some)
        .ok_or_else(|| Error::invalid(format!("invalid filter 'until={text}': it is not a time")))
}
