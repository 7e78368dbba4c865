//! Builds that were, and what they have left; Corten's own.

use super::query::segment;
use super::{Client, Messages, Query, Result};
use crate::build::{BuildEvent, BuildRecord};
use crate::disk::BuildCache;
use crate::filters::Filters;

impl Client {
    /// Builds under way, and the last ones that were; newest first.
    pub async fn builds(&self) -> Result<Vec<BuildRecord>> {
        self.get("/corten/builds").send().await?.json().await
    }

    /// What builds have left for the next ones.
    pub async fn build_cache(&self, filters: &Filters) -> Result<Vec<BuildCache>> {
        self.get("/corten/build/cache").query(Query::new().filters(filters)).send().await?.json().await
    }

    /// What a build told that is over.
    pub async fn build_log(&self, reference: &str) -> Result<Messages<BuildEvent>> {
        Ok(self.get(format!("/corten/builds/{}/log", segment(reference))).send().await?.messages())
    }

    pub async fn build_forget(&self, reference: &str) -> Result<()> {
        self.delete(format!("/corten/builds/{}", segment(reference))).send().await?.finish().await
    }

    pub async fn build_pin(&self, reference: &str, pinned: bool) -> Result<()> {
        let query = Query::new().option("pinned", Some(pinned));
        self.post(format!("/corten/builds/{}/pin", segment(reference)))
            .query(query)
            .send()
            .await?
            .finish()
            .await
    }
}
