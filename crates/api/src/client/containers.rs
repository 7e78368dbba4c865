//! Containers and their execs.

use super::query::segment;
use super::{Client, Hijacked, Messages, Query, Response, Result};
use crate::Filters;
use crate::container::*;
use crate::exec::{ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecStartRequest};
use crate::stats::{BatchStatsOptions, ContainerStats};
use crate::time::Timestamp;

/// `seconds.nanoseconds`, as queries spell a time.
pub(super) fn unix(time: Timestamp) -> String {
    format!("{}.{:09}", time.unix(), time.subsec_nanos())
}

impl Client {
    pub async fn container_create(
        &self,
        name: Option<&str>,
        platform: Option<&str>,
        request: &ContainerCreateRequest,
    ) -> Result<ContainerCreateResponse> {
        let query = Query::new().option("name", name).option("platform", platform);
        self.post("/containers/create").query(query).json(request)?.send().await?.json().await
    }

    pub async fn container_list(&self, options: &ContainerListOptions) -> Result<Vec<ContainerSummary>> {
        let query = Query::new()
            .flag("all", options.all)
            .option("limit", options.limit)
            .flag("size", options.size)
            .flag("brief", options.brief)
            .filters(&options.filters);
        self.get("/containers/json").query(query).send().await?.json().await
    }

    pub async fn container_inspect(&self, id: &str, size: bool) -> Result<ContainerInspect> {
        self.container_inspect_response(id, size).await?.json().await
    }

    /// Inspect with the body as it comes, for a caller that prints it as it is.
    pub async fn container_inspect_response(&self, id: &str, size: bool) -> Result<Response> {
        self.get(path(id, "json")).query(Query::new().flag("size", size)).send().await
    }

    /// False when it ran already.
    pub async fn container_start(&self, id: &str, detach_keys: &str) -> Result<bool> {
        self.act(id, "start", Query::new().text("detachKeys", detach_keys)).await
    }

    /// False when it didn't run.
    pub async fn container_stop(&self, id: &str, options: &StopOptions) -> Result<bool> {
        self.act(id, "stop", stop_query(options)).await
    }

    pub async fn container_restart(&self, id: &str, options: &StopOptions) -> Result<()> {
        self.act(id, "restart", stop_query(options)).await.map(drop)
    }

    /// An empty signal is SIGKILL.
    pub async fn container_kill(&self, id: &str, signal: &str) -> Result<()> {
        self.act(id, "kill", Query::new().text("signal", signal)).await.map(drop)
    }

    pub async fn container_pause(&self, id: &str) -> Result<()> {
        self.act(id, "pause", Query::new()).await.map(drop)
    }

    pub async fn container_unpause(&self, id: &str) -> Result<()> {
        self.act(id, "unpause", Query::new()).await.map(drop)
    }

    pub async fn container_rename(&self, id: &str, new_name: &str) -> Result<()> {
        self.act(id, "rename", Query::new().text("name", new_name)).await.map(drop)
    }

    pub async fn container_resize(&self, id: &str, height: u16, width: u16) -> Result<()> {
        self.act(id, "resize", size_query(height, width)).await.map(drop)
    }

    /// Returns when the server has begun to wait; the answer's body comes with the end: `.json::<WaitResponse>()`.
    pub async fn container_wait(&self, id: &str, condition: WaitCondition) -> Result<Response> {
        self.post(path(id, "wait")).query(Query::new().text("condition", condition.as_str())).send().await
    }

    pub async fn container_remove(&self, id: &str, options: RemoveOptions) -> Result<()> {
        let query =
            Query::new().flag("force", options.force).flag("v", options.volumes).flag("link", options.link);
        self.delete(format!("/containers/{}", segment(id))).query(query).send().await?.finish().await
    }

    pub async fn container_top(&self, id: &str, ps_args: &str) -> Result<TopResponse> {
        self.get(path(id, "top")).query(Query::new().text("ps_args", ps_args)).send().await?.json().await
    }

    /// Changes limits and the restart policy; what `changes` leaves at zero stays.
    pub async fn container_update(&self, id: &str, changes: &HostConfig) -> Result<ContainerUpdateResponse> {
        self.post(path(id, "update")).json(changes)?.send().await?.json().await
    }

    pub async fn containers_prune(&self, filters: &Filters) -> Result<ContainersPruneReport> {
        self.post("/containers/prune").query(Query::new().filters(filters)).send().await?.json().await
    }

    /// A list per second, of all containers at once; Corten's own.
    pub async fn stats(&self, options: &BatchStatsOptions) -> Result<Messages<Vec<ContainerStats>>> {
        let mut query = Query::new().flag("all", options.all).flag("stream", options.stream);
        for name in &options.containers {
            query = query.text("container", name);
        }
        Ok(self.get("/corten/stats").query(query).send().await?.messages())
    }

    /// The body is framed when the container has no terminal: see `Response::is_multiplexed`.
    pub async fn container_logs(&self, id: &str, options: &LogsOptions) -> Result<Response> {
        let query = Query::new()
            .flag("follow", options.follow)
            .flag("stdout", options.stdout)
            .flag("stderr", options.stderr)
            .option("since", options.since.map(unix))
            .option("until", options.until.map(unix))
            .flag("timestamps", options.timestamps)
            .option("tail", options.tail)
            .flag("details", options.details);
        self.get(path(id, "logs")).query(query).send().await
    }

    pub async fn container_attach(&self, id: &str, options: &AttachOptions) -> Result<Hijacked> {
        let query = Query::new()
            .flag("stream", options.stream)
            .flag("stdin", options.stdin)
            .flag("stdout", options.stdout)
            .flag("stderr", options.stderr)
            .flag("logs", options.logs)
            .text("detachKeys", &options.detach_keys);
        self.post(path(id, "attach")).query(query).hijack().await
    }

    pub async fn exec_create(
        &self,
        container: &str,
        request: &ExecCreateRequest,
    ) -> Result<ExecCreateResponse> {
        self.post(path(container, "exec")).json(request)?.send().await?.json().await
    }

    /// Starts it and stays attached.
    pub async fn exec_start(&self, exec: &str, request: &ExecStartRequest) -> Result<Hijacked> {
        self.post(format!("/exec/{}/start", segment(exec))).json(request)?.hijack().await
    }

    pub async fn exec_start_detached(&self, exec: &str, request: &ExecStartRequest) -> Result<()> {
        let request = ExecStartRequest { detach: true, ..request.clone() };
        self.post(format!("/exec/{}/start", segment(exec))).json(&request)?.send().await?.finish().await
    }

    pub async fn exec_inspect(&self, exec: &str) -> Result<ExecInspect> {
        self.get(format!("/exec/{}/json", segment(exec))).send().await?.json().await
    }

    pub async fn exec_resize(&self, exec: &str, height: u16, width: u16) -> Result<()> {
        let request = self.post(format!("/exec/{}/resize", segment(exec)));
        request.query(size_query(height, width)).send().await?.finish().await
    }

    async fn act(&self, id: &str, verb: &str, query: Query) -> Result<bool> {
        let response = self.post(path(id, verb)).query(query).send().await?;
        let changed = response.status() != hyper::StatusCode::NOT_MODIFIED;
        response.finish().await?;
        Ok(changed)
    }
}

fn path(id: &str, verb: &str) -> String {
    format!("/containers/{}/{verb}", segment(id))
}

fn stop_query(options: &StopOptions) -> Query {
    Query::new().option("signal", options.signal.as_deref()).option("t", options.timeout_s)
}

fn size_query(height: u16, width: u16) -> Query {
    Query::new().option("h", Some(height)).option("w", Some(width))
}
