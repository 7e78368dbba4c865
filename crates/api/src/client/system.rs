//! The engine itself: ping, version, info, events.

use super::{Client, Messages, Query, Result};
use crate::Filters;
use crate::auth::{AuthConfig, AuthReply};
use crate::disk::{BuildCachePruneReport, BuildPruneOptions, DataRootUsage, DiskUsage};
use crate::event::{EventMessage, EventsOptions};
use crate::system::{SystemInfo, SystemVersion};
use hyper::header::{HeaderName, SERVER};

/// What a ping tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ping {
    pub api_version: String,
    pub os_type: String,
    pub builder_version: String,
    /// "Corten/0.1.0 (linux)", say.
    pub server: String,
}

impl Client {
    pub async fn ping(&self) -> Result<Ping> {
        let response = self.get("/_ping").send().await?;
        let header = |name: HeaderName| response.header(name).unwrap_or_default().to_owned();
        let ping = Ping {
            api_version: header(HeaderName::from_static("api-version")),
            os_type: header(HeaderName::from_static("ostype")),
            builder_version: header(HeaderName::from_static("builder-version")),
            server: header(SERVER),
        };
        response.finish().await?;
        Ok(ping)
    }

    /// Whether a registry accepts these credentials.
    pub async fn auth(&self, wanted: &AuthConfig) -> Result<AuthReply> {
        self.post("/auth").json(wanted)?.send().await?.json().await
    }

    pub async fn version(&self) -> Result<SystemVersion> {
        self.get("/version").send().await?.json().await
    }

    pub async fn info(&self) -> Result<SystemInfo> {
        self.get("/info").send().await?.json().await
    }

    /// With the objects themselves.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        self.get("/system/df").query(Query::new().flag("verbose", true)).send().await?.json().await
    }

    pub async fn build_prune(
        &self,
        filters: &Filters,
        options: BuildPruneOptions,
    ) -> Result<BuildCachePruneReport> {
        let bytes = |bytes: i64| Some(bytes).filter(|&bytes| bytes != 0);
        let query = Query::new()
            .flag("all", options.all)
            .option("reserved-space", bytes(options.reserved_space))
            .option("max-used-space", bytes(options.max_used_space))
            .option("min-free-space", bytes(options.min_free_space))
            // Under its former name for older engines.
            .option("keep-storage", bytes(options.reserved_space))
            .filters(filters);
        self.post("/build/prune").query(query).send().await?.json().await
    }

    /// Every byte of the engine's data root; Corten's own.
    pub async fn data_root_usage(&self) -> Result<DataRootUsage> {
        self.get("/corten/system/df").send().await?.json().await
    }

    pub async fn events(&self, options: &EventsOptions) -> Result<Messages<EventMessage>> {
        let query = Query::new()
            .option("since", options.since.map(super::containers::unix))
            .option("until", options.until.map(super::containers::unix))
            .filters(&options.filters);
        Ok(self.get("/events").query(query).send().await?.messages())
    }
}
