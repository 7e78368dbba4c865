//! Volumes and networks.

use super::query::segment;
use super::{Client, Query, Result};
use crate::filters::Filters;
use crate::network::{NetworkCreateRequest, NetworkCreateResponse, NetworkInspect, NetworkSummary};
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
}
