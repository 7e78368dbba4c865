//! Volumes and networks.

use super::query::segment;
use super::{Body, Client, Query, Response, Result};
use crate::filters::Filters;
use crate::network::{
    NetworkConnectRequest, NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest,
    NetworkInspect, NetworkSummary, NetworksPruneReport,
};
use crate::volume::{Volume, VolumeCreateRequest, VolumeList, VolumesPruneReport};

impl Client {
    pub async fn volume_create(&self, request: &VolumeCreateRequest) -> Result<Volume> {
        self.post("/volumes/create").json(request)?.send().await?.json().await
    }

    pub async fn volume_list(&self, filters: &Filters) -> Result<VolumeList> {
        self.get("/volumes").query(Query::new().filters(filters)).send().await?.json().await
    }

    pub async fn volume_inspect(&self, name: &str) -> Result<Volume> {
        self.get(format!("/volumes/{}", segment(name))).send().await?.json().await
    }

    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let request = self.delete(format!("/volumes/{}", segment(name)));
        request.query(Query::new().flag("force", force)).send().await?.finish().await
    }

    pub async fn volume_prune(&self, filters: &Filters) -> Result<VolumesPruneReport> {
        self.post("/volumes/prune").query(Query::new().filters(filters)).send().await?.json().await
    }

    /// Corten's own: another volume with the same files.
    pub async fn volume_clone(&self, source: &str, target: &str, live: bool) -> Result<Volume> {
        let request = self.post(format!("/corten/volumes/{}/clone", segment(source)));
        request.query(Query::new().text("to", target).flag("live", live)).send().await?.json().await
    }

    /// Corten's own: the files as a tar archive.
    pub async fn volume_export(&self, name: &str) -> Result<Response> {
        self.get(format!("/corten/volumes/{}/export", segment(name))).send().await
    }

    /// Corten's own: a new volume of a tar archive.
    pub async fn volume_import(&self, request: &VolumeCreateRequest, archive: Body) -> Result<Volume> {
        let pairs = |query: Query, name: &str, pairs: &crate::Map<String>| {
            pairs.iter().fold(query, |query, (key, value)| query.text(name, &format!("{key}={value}")))
        };
        let query = pairs(pairs(Query::new(), "label", &request.labels), "opt", &request.driver_opts);
        let path = format!("/corten/volumes/{}/import", segment(&request.name));
        self.post(path).query(query).body("application/x-tar", archive).send().await?.json().await
    }

    /// Corten's own: another name.
    pub async fn volume_rename(&self, name: &str, new: &str) -> Result<Volume> {
        let request = self.post(format!("/corten/volumes/{}/rename", segment(name)));
        request.query(Query::new().text("to", new)).send().await?.json().await
    }

    pub async fn network_list(&self, filters: &Filters) -> Result<Vec<NetworkSummary>> {
        self.get("/networks").query(Query::new().filters(filters)).send().await?.json().await
    }

    pub async fn network_inspect(&self, name: &str) -> Result<NetworkInspect> {
        self.get(format!("/networks/{}", segment(name))).send().await?.json().await
    }

    pub async fn network_create(&self, request: &NetworkCreateRequest) -> Result<NetworkCreateResponse> {
        self.post("/networks/create").json(request)?.send().await?.json().await
    }

    pub async fn network_remove(&self, name: &str) -> Result<()> {
        self.delete(format!("/networks/{}", segment(name))).send().await?.finish().await
    }

    pub async fn network_connect(&self, network: &str, request: &NetworkConnectRequest) -> Result<()> {
        self.post(format!("/networks/{}/connect", segment(network)))
            .json(request)?
            .send()
            .await?
            .finish()
            .await
    }

    pub async fn network_disconnect(&self, network: &str, request: &NetworkDisconnectRequest) -> Result<()> {
        let path = format!("/networks/{}/disconnect", segment(network));
        self.post(path).json(request)?.send().await?.finish().await
    }

    pub async fn network_prune(&self, filters: &Filters) -> Result<NetworksPruneReport> {
        self.post("/networks/prune").query(Query::new().filters(filters)).send().await?.json().await
    }
}
