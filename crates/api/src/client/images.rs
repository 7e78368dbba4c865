//! Images.

use super::query::segment;
use super::{Body, Client, Error, Messages, Query, Request, Response, Result};
use crate::Filters;
use crate::auth::AuthConfig;
use crate::image::*;
use crate::system::JsonMessage;

/// Tells the engine who its client is to a registry.
fn with_auth<'a>(request: Request<'a>, auth: Option<&AuthConfig>) -> Request<'a> {
    match auth {
        Some(auth) => request.header("x-registry-auth", auth.to_header()),
        None => request,
    }
}

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
        self.image_inspect_response(name, None).await?.json().await
    }

    /// Inspect with the body as it comes, for a caller that prints it as it is. `platform` as for [`Client::image_load`].
    pub async fn image_inspect_response(&self, name: &str, platform: Option<&str>) -> Result<Response> {
        let query = Query::new().option("platform", platform);
        self.get(format!("/images/{}/json", segment(name))).query(query).send().await
    }

    pub async fn image_history(&self, name: &str, platform: Option<&str>) -> Result<Vec<ImageHistory>> {
        let query = Query::new().option("platform", platform);
        self.get(format!("/images/{}/history", segment(name))).query(query).send().await?.json().await
    }

    pub async fn images_prune(&self, filters: &crate::filters::Filters) -> Result<ImagesPruneReport> {
        self.post("/images/prune").query(Query::new().filters(filters)).send().await?.json().await
    }

    pub async fn image_tag(&self, name: &str, repo: &str, tag: &str) -> Result<()> {
        let query = Query::new().text("repo", repo).text("tag", tag);
        self.post(format!("/images/{}/tag", segment(name))).query(query).send().await?.finish().await
    }

    pub async fn image_remove(&self, name: &str, options: ImageRemoveOptions) -> Result<Vec<ImageDelete>> {
        let mut query = Query::new().flag("force", options.force).flag("noprune", options.noprune);
        for platform in &options.platforms {
            let text = serde_json::to_string(platform)
                .map_err(|source| Error::Encode { path: "platforms".to_owned(), source })?;
            query = query.text("platforms", &text);
        }
        self.delete(format!("/images/{}", segment(name))).query(query).send().await?.json().await
    }

    /// Each of `platforms` is a JSON document as `image::Platform`.
    pub async fn image_load(
        &self,
        archive: Body,
        quiet: bool,
        platforms: &[String],
    ) -> Result<Messages<JsonMessage>> {
        let query = Query::new().boolean("quiet", quiet);
        let query = platforms.iter().fold(query, |query, platform| query.text("platform", platform));
        let request = self.post("/images/load").query(query).body("application/x-tar", archive);
        Ok(request.send().await?.messages())
    }

    /// What goes on is told in messages; the last one may be a failure.
    pub async fn image_pull(
        &self,
        options: &ImagePullOptions,
        auth: Option<&AuthConfig>,
    ) -> Result<Messages<JsonMessage>> {
        let query = Query::new()
            .text("fromImage", &options.from_image)
            .text("tag", &options.tag)
            .option("platform", options.platform.as_deref());
        let request = self.post("/images/create").query(query);
        Ok(with_auth(request, auth).send().await?.messages())
    }

    /// What goes on is told in messages; the last one may be a failure.
    pub async fn image_push(
        &self,
        options: &ImagePushOptions,
        auth: Option<&AuthConfig>,
    ) -> Result<Messages<JsonMessage>> {
        let query = Query::new()
            .text("tag", &options.tag)
            .option("platform", options.platform.as_deref())
            .option("compression", options.compression.as_deref());
        let request = self.post(format!("/images/{}/push", segment(&options.name))).query(query);
        Ok(with_auth(request, Some(auth.unwrap_or(&AuthConfig::default()))).send().await?.messages())
    }

    /// A `limit` of none is the engine's.
    pub async fn image_search(
        &self,
        term: &str,
        limit: Option<i64>,
        filters: &Filters,
        auth: Option<&AuthConfig>,
    ) -> Result<Vec<SearchResult>> {
        let limit = limit.map(|limit| limit.to_string());
        let query = Query::new().text("term", term).option("limit", limit.as_deref()).filters(filters);
        with_auth(self.get("/images/search").query(query), auth).send().await?.json().await
    }

    /// The body is a tar archive.
    pub async fn image_save(&self, names: &[String], platforms: &[String]) -> Result<Response> {
        let query = names.iter().fold(Query::new(), |query, name| query.text("names", name));
        let query = platforms.iter().fold(query, |query, platform| query.text("platform", platform));
        self.get("/images/get").query(query).send().await
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
