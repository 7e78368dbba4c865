//! The services that a client calls: `Control`, and `LLBBridge` for builds that it drives. Which build a call of the bridge belongs to
//! is said by a header.

mod answers;
mod history;
mod posted;
mod solve;
mod subrequests;

pub use posted::{Files, Posted};

use crate::builder::Builder;
use crate::grpc::{self, Handler};
use crate::jobs::{Job, Jobs};
use crate::session::{Hello, SessionError, Sessions};
use crate::tree::Store;
use crate::wire::control::{
    BuildHistoryRequest, DiskUsageRequest, InfoRequest, ListWorkersRequest, PruneRequest, SolveRequest,
    StatusRequest, UpdateBuildHistoryRequest,
};
use crate::wire::gateway::{self, EvaluateRequest, InputsRequest, InputsResponse, PingRequest};
use crate::wire::session::{BytesMessage, HealthCheckRequest, HealthCheckResponse};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use hyper::HeaderMap;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::body::Body;
use tonic::{Status, Streaming};

/// Whose build a call of the bridge is about.
const BUILD_ID: &str = "buildkit-controlapi-buildid";
/// What a session within a call moves at once.
const TUNNEL_BUFFER: usize = 64 << 10;

/// BuildKit's side of an engine.
pub struct Controller {
    builder: Arc<dyn Builder>,
    sessions: Arc<Sessions>,
    jobs: Arc<Jobs>,
    store: Store,
}

impl Controller {
    /// Keeps clients' directories below `contexts`.
    pub fn new(builder: Arc<dyn Builder>, contexts: Store) -> Arc<Self> {
        Arc::new(Self { builder, sessions: Arc::default(), jobs: Arc::default(), store: contexts })
    }

    /// Serves the calls of a connection until the client closes it.
    pub async fn serve<S>(self: Arc<Self>, stream: S)
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        if let Err(error) = grpc::serve(stream, self).await {
            tracing::debug!(%error, "a builder's connection");
        }
    }

    /// Whether a session with these headers may be opened; then it is to be opened on the connection.
    pub fn welcome(&self, headers: &HeaderMap) -> Result<crate::Reservation, SessionError> {
        self.sessions.reserve(Hello::read(headers)?)
    }
}

impl Handler for Controller {
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
        let this = &self;
        let build =
            request.headers().get(BUILD_ID).and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let job = || this.bridged(&build);
        let path = request.uri().path().to_owned();
        let Some((service, method)) = path.rsplit_once('/') else { return grpc::unimplemented(&path) };
        match (service, method) {
            ("/moby.buildkit.v1.Control", "Info") => {
                grpc::unary(request, |_: tonic::Request<InfoRequest>| async { Ok(this.info()) }).await
            }
            ("/moby.buildkit.v1.Control", "ListWorkers") => {
                let answer = |_: tonic::Request<ListWorkersRequest>| async { Ok(this.workers()) };
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.Control", "Solve") => {
                let answer = |call: tonic::Request<SolveRequest>| this.solve(call.into_inner());
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.Control", "Status") => {
                let answer = |call: tonic::Request<StatusRequest>| async move {
                    let reference = &call.get_ref().r#ref;
                    let board = match this.jobs.known_now(reference) {
                        Some(job) => Some(job.board.clone()),
                        None => this.told_by(reference).await,
                    };
                    let board = match board {
                        Some(board) => board,
                        None => this.jobs.find(reference).await?.board.clone(),
                    };
                    Ok(board.watch().map(Ok))
                };
                grpc::server_streaming(request, answer).await
            }
            ("/moby.buildkit.v1.Control", "Session") => {
                let headers = request.headers().clone();
                let answer = |call: tonic::Request<Streaming<BytesMessage>>| {
                    let opened = this.welcome(&headers);
                    async move {
                        let opened = opened.map_err(|error| Status::invalid_argument(error.to_string()))?;
                        Ok(tunnel(opened, call.into_inner()))
                    }
                };
                grpc::bidirectional(request, answer).await
            }
            ("/moby.buildkit.v1.Control", "DiskUsage") => {
                let answer = |call: tonic::Request<DiskUsageRequest>| this.disk_usage(call.into_inner());
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.Control", "Prune") => {
                let answer = |call: tonic::Request<PruneRequest>| async move {
                    let removed = this.prune(call.into_inner()).await?;
                    Ok(futures_util::stream::iter(removed.into_iter().map(Ok)))
                };
                grpc::server_streaming(request, answer).await
            }
            ("/moby.buildkit.v1.Control", "ListenBuildHistory") => {
                let answer =
                    |call: tonic::Request<BuildHistoryRequest>| this.listen_history(call.into_inner());
                grpc::server_streaming(request, answer).await
            }
            ("/moby.buildkit.v1.Control", "UpdateBuildHistory") => {
                let answer =
                    |call: tonic::Request<UpdateBuildHistoryRequest>| this.update_history(call.into_inner());
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.frontend.LLBBridge", "Ping") => {
                let answer = |_: tonic::Request<PingRequest>| async {
                    job().await?;
                    Ok(this.pong())
                };
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.frontend.LLBBridge", "Solve") => {
                let answer = |call: tonic::Request<gateway::SolveRequest>| async {
                    this.bridge_solve(&build, &*job().await?, call.into_inner()).await
                };
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.frontend.LLBBridge", "Evaluate") => {
                let answer = |call: tonic::Request<EvaluateRequest>| async {
                    // A wish that is known is built with the outcome.
                    job().await?.bridge.find(&call.into_inner().r#ref).map(|_| gateway::EvaluateResponse {})
                };
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.frontend.LLBBridge", "Inputs") => {
                let answer = |_: tonic::Request<InputsRequest>| async {
                    job().await?;
                    // Those of a build that its client drives are refused when it begins.
                    Ok(InputsResponse::default())
                };
                grpc::unary(request, answer).await
            }
            ("/moby.buildkit.v1.frontend.LLBBridge", "Return") => {
                let answer = |call: tonic::Request<gateway::ReturnRequest>| async {
                    job().await?.bridge.finish(call.into_inner())?;
                    Ok(gateway::ReturnResponse {})
                };
                grpc::unary(request, answer).await
            }
            ("/grpc.health.v1.Health", "Check") => {
                let answer =
                    |_: tonic::Request<HealthCheckRequest>| async { Ok(HealthCheckResponse { status: 1 }) };
                grpc::unary(request, answer).await
            }
            _ => grpc::unimplemented(&path),
        }
    }
}

impl Controller {
    /// The build that a call of the bridge is about.
    async fn bridged(&self, build: &str) -> Result<Arc<Job>, Status> {
        if build.is_empty() {
            return Err(Status::invalid_argument("no buildid found in context"));
        }
        let job = self.jobs.find(build).await?;
        match job.bridge.is_closed() {
            true => Err(Status::not_found(format!("no such job {build}"))),
            false => Ok(job),
        }
    }
}

/// A session within a call: its bytes in messages.
fn tunnel(
    opened: crate::Reservation,
    mut messages: Streaming<BytesMessage>,
) -> impl Stream<Item = Result<BytesMessage, Status>> + Send {
    let (ours, theirs) = tokio::io::duplex(TUNNEL_BUFFER);
    let (output, mut input) = tokio::io::split(ours);
    tokio::spawn(async move {
        let session = tokio::spawn(opened.run(TokioIo::new(theirs)));
        while let Ok(Some(message)) = messages.message().await {
            if input.write_all(&message.data).await.is_err() {
                break;
            }
        }
        // The call is over, and so is the session.
        session.abort();
    });
    futures_util::stream::unfold((output, BytesMut::new()), |(mut output, mut buffer)| async move {
        buffer.reserve(TUNNEL_BUFFER);
        match output.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => None,
            Ok(_) => {
                let data: Bytes = buffer.split().freeze();
                Some((Ok(BytesMessage { data }), (output, buffer)))
            }
        }
    })
}
