//! Questions about the builder: what it is, what it can do, what it keeps.

use super::Controller;
use crate::builder::{Prune, Usage};
use crate::failure::status;
use crate::filters::Filters;
use crate::wire::control::{
    BuildkitVersion, DiskUsageRequest, DiskUsageResponse, InfoResponse, ListWorkersResponse, PruneRequest,
    UsageRecord, WorkerRecord,
};
use crate::wire::gateway::{ApiCap, PongResponse};
use crate::wire::ops::Platform;
use std::time::Duration;
use tonic::Status;

/// What of the bridge is spoken.
const FRONTEND_CAPS: [&str; 8] = [
    "solve.base",
    "return",
    "returnmap",
    "proto.refarray",
    "frontend.inputs",
    "reference.output",
    "gateway.solve.metadata",
    "gateway.evaluate",
];
/// What builds can do, in the terms of LLB: clients look here for what they may ask for.
const LLB_CAPS: [&str; 24] = [
    "source.image",
    "source.image.resolvemode",
    "source.local",
    "source.local.unique",
    "source.local.sessionid",
    "source.local.includepatterns",
    "source.local.followpaths",
    "source.local.excludepatterns",
    "source.local.sharedkeyhint",
    "exec.meta.base",
    "exec.meta.network",
    "exec.mount.bind",
    "exec.mount.cache",
    "exec.mount.cache.sharing",
    "exec.mount.tmpfs",
    "exec.mount.secret",
    "exec.mount.ssh",
    "exec.meta.ulimit",
    "exec.meta.cgroup.parent",
    "file.base",
    "platform",
    "meta.ignorecache",
    "exporter.image.attestations",
    "exporter.multiple",
];

impl Controller {
    pub(super) fn info(&self) -> InfoResponse {
        InfoResponse { buildkit_version: Some(self.version()) }
    }

    pub(super) fn workers(&self) -> ListWorkersResponse {
        ListWorkersResponse { record: vec![self.worker()] }
    }

    pub(super) fn pong(&self) -> PongResponse {
        let caps = |ids: &[&str]| ids.iter().map(|&id| ApiCap { id: id.to_owned(), enabled: true }).collect();
        PongResponse {
            frontend_api_caps: caps(&FRONTEND_CAPS),
            llb_caps: caps(&LLB_CAPS),
            workers: vec![self.worker()],
        }
    }

    pub(super) async fn disk_usage(&self, request: DiskUsageRequest) -> Result<DiskUsageResponse, Status> {
        let unused_for = nanoseconds(request.age_limit);
        let filters =
            Filters::parse(&request.filter).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let all = self.builder.usage().await.map_err(|error| status(&error, None))?;
        let old = |usage: &Usage| {
            usage.last_used.is_none_or(|used| used.elapsed().is_ok_and(|age| age >= unused_for))
        };
        Ok(DiskUsageResponse {
            record: all.into_iter().filter(|usage| old(usage) && filters.take(usage)).map(record).collect(),
        })
    }

    pub(super) async fn prune(&self, request: PruneRequest) -> Result<Vec<UsageRecord>, Status> {
        let bytes = |value: i64| u64::try_from(value).unwrap_or_default();
        let filters =
            Filters::parse(&request.filter).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let wanted = Prune {
            all: request.all,
            unused_for: nanoseconds(request.keep_duration),
            reserved_bytes: bytes(request.reserved_space),
            used_bytes_max: bytes(request.max_used_space),
            free_bytes_min: bytes(request.min_free_space),
            filters,
        };
        let removed = self.builder.prune(wanted).await.map_err(|error| status(&error, None))?;
        Ok(removed.into_iter().map(record).collect())
    }

    fn worker(&self) -> WorkerRecord {
        let worker = self.builder.worker();
        let platform = |platform: &corten_image::Platform| Platform {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone().unwrap_or_default(),
            os_version: platform.os_version.clone().unwrap_or_default(),
            os_features: Vec::new(),
        };
        WorkerRecord {
            id: worker.id,
            labels: worker.labels,
            platforms: worker.platforms.iter().map(platform).collect(),
            gc_policy: Vec::new(),
            buildkit_version: Some(self.version()),
        }
    }

    fn version(&self) -> BuildkitVersion {
        BuildkitVersion {
            package: "corten".into(),
            version: self.builder.worker().version,
            revision: String::new(),
        }
    }
}

fn nanoseconds(count: i64) -> Duration {
    Duration::from_nanos(u64::try_from(count).unwrap_or_default())
}

fn record(usage: Usage) -> UsageRecord {
    let count = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    UsageRecord {
        id: usage.id,
        mutable: usage.is_mutable,
        in_use: usage.is_in_use,
        size: count(usage.bytes),
        created_at: usage.created.map(Into::into),
        last_used_at: usage.last_used.map(Into::into),
        usage_count: count(usage.use_count),
        description: usage.description,
        record_type: usage.kind,
        shared: usage.is_shared,
        parents: usage.parents,
    }
}
