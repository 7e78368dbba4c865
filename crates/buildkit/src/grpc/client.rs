//! The calling side: a connection on which the client serves.

use super::{CONNECTION_WINDOW_BYTES, HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, WINDOW_BYTES};
use futures_util::Stream;
use hyper::Uri;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::uri::PathAndQuery;
use hyper::rt::{Read, Write};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::client::Grpc;

use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// Makes calls over one connection; all copies share it.
#[derive(Clone)]
pub struct Channel {
    sender: SendRequest<Body>,
    gone: watch::Receiver<bool>,
    /// Ends the connection when the last copy is gone, or on demand.
    closing: watch::Sender<bool>,
}

/// The connection is over.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the client closed its session")]
pub struct Disconnected;

impl Channel {
    /// Takes a connection over; a task of its own drives it until either side ends it.
    pub async fn open<S>(stream: S) -> hyper::Result<Self>
    where
        S: Read + Write + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(HEADER_BYTES_MAX)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(stream)
            .await?;
        let (ended, gone) = watch::channel(false);
        let (closing, mut closed) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                served = connection => if let Err(error) = served {
                    tracing::debug!(%error, "a session's connection");
                },
                _ = closed.wait_for(|closed| *closed) => {}
            }
            ended.send_replace(true);
        });
        Ok(Self { sender, gone, closing })
    }

    /// Ends the connection, and with it whatever is under way on it.
    pub fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Resolves when the connection has ended.
    pub async fn closed(&self) {
        // An error means that the task which drove it is gone: the same thing.
        let _ = self.gone.clone().wait_for(|gone| *gone).await;
    }

    /// Calls a method with one message each way.
    pub async fn unary<Q, A>(&self, path: &'static str, request: Request<Q>) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|_| gone())?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        Ok(grpc.unary(request, PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    /// Calls a method with streams both ways.
    pub async fn streaming<Q, A, S>(
        &self,
        path: &'static str,
        request: Request<S>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
        S: Stream<Item = Q> + Send + 'static,
    {
        let mut grpc = self.grpc();
        grpc.ready().await.map_err(|_| gone())?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        Ok(grpc.streaming(request, PathAndQuery::from_static(path), codec).await?.into_inner())
    }

    fn grpc(&self) -> Grpc<Self> {
        Grpc::with_origin(self.clone(), Uri::from_static("http://localhost"))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

fn gone() -> Status {
    Status::unavailable(Disconnected.to_string())
}

type Answer = Pin<Box<dyn Future<Output = hyper::Result<hyper::Response<Incoming>>> + Send>>;

impl tower_service::Service<hyper::Request<Body>> for Channel {
    type Response = hyper::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Answer;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.sender.send_request(request))
    }
}
