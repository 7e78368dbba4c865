//! Images.

use super::query::segment;
use super::{Body, Client, Messages, Query, Response, Result};
use crate::image::*;
use crate::system::JsonMessage;

impl Client {
    pub async fn image_list(&self, options: &ImageListOptions) -> Result<Vec<ImageSummary>> {
        let query = Query::new()
            .flag("all", options.all)
            .flag("digests", options.digests)
            .flag("shared-size", options.shared_size)
            .flag("manifests", options.manifests)
            .filters(&options.filters);
        self.get("/images/json").query(query).send().await?.json().await
    }

    pub async fn image_inspect(&self, name: &str) -> Result<ImageInspect> {
        self.image_inspect_response(name).await?.json().await
    }

    /// Inspect with the body as it comes, for a caller that prints it as it is.
    pub async fn image_inspect_response(&self, name: &str) -> Result<Response> {
        self.get(format!("/images/{}/json", segment(name))).send().await
    }

    pub async fn image_history(&self, name: &str) -> Result<Vec<ImageHistory>> {
        self.get(format!("/images/{}/history", segment(name))).send().await?.json().await
    }

    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let query = Query::new().text("repo", repo).text("tag", tag);
        self.post(format!("/images/{}/tag", segment(name))).query(query).send().await?.finish().await
    }

    pub async fn image_remove(&self, name: &str, options: ImageRemoveOptions) -> Result<Vec<ImageDelete>> {
        let query = Query::new().flag("force", options.force).flag("noprune", options.noprune);
        self.delete(format!("/images/{}", segment(name))).query(query).send().await?.json().await
    }

    /// `platform` is a JSON document as `image::Platform`, or nothing.
    pub async fn image_load(
        &self,
        archive: Body,
        quiet: bool,
        platform: Option<&str>,
    ) -> Result<Messages<JsonMessage>> {
        let query = Query::new().boolean("quiet", quiet).option("platform", platform);
        let request = self.post("/images/load").query(query).body("application/x-tar", archive);
        Ok(request.send().await?.messages())
    }

    /// The body is a tar archive.
    pub async fn image_save(&self, names: &[String], platform: Option<&str>) -> Result<Response> {
        let query = names.iter().fold(Query::new(), |query, name| query.text("names", name));
        self.get("/images/get").query(query.option("platform", platform)).send().await
    }

    /// Makes an image of a root file system; a `source` other than `-` is a URL for the server to fetch.
    pub async fn image_import(
        &self,
        source: &str,
        archive: Body,
        options: &ImageImportOptions,
    ) -> Result<Messages<JsonMessage>> {
        let query = Query::new()
            .text("fromSrc", source)
            .text("repo", &options.repo)
            .text("tag", &options.tag)
            .text("message", &options.message)
            .option("platform", options.platform.as_deref());
        let query = options.changes.iter().fold(query, |query, change| query.text("changes", change));
        let request = self.post("/images/create").query(query).body("application/x-tar", archive);
        Ok(request.send().await?.messages())
    }
}
