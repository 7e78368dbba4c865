//! The serving side: one connection, its calls as tasks of hyper's that end with it.

use super::{CONNECTION_WINDOW_BYTES, HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, STREAMS_MAX, WINDOW_BYTES};
use futures_util::Stream;
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message;
use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::server::{Grpc, ServerStreamingService, StreamingService, UnaryService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

/// A client that is gone without a word is found out after these.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(30);

/// What answers the calls of a connection.
pub trait Handler: Send + Sync + 'static {
    fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
    ) -> impl Future<Output = hyper::Response<Body>> + Send;
}

/// Serves a connection until the client closes it; calls that are under way then are dropped.
pub async fn serve<S, H>(stream: S, handler: Arc<H>) -> hyper::Result<()>
where
    S: Read + Write + Unpin + Send + 'static,
    H: Handler,
{
    let answer = service_fn(move |request| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(handler.answer(request).await) }
    });
    http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .serve_connection(stream, answer)
        .await
}

/// A call with one message in and one out.
pub async fn unary<Q, A, F>(
    request: hyper::Request<Incoming>,
    answer: impl FnMut(Request<Q>) -> F,
) -> hyper::Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Result<A, Status>> + Send,
{
    grpc::<Q, A>().unary(Adapted(answer, PhantomData::<(Q, A)>), request).await
}

/// A call with one message in and a stream out.
pub async fn server_streaming<Q, A, F, S>(
    request: hyper::Request<Incoming>,
    answer: impl FnMut(Request<Q>) -> F,
) -> hyper::Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
{
    grpc::<Q, A>().server_streaming(Adapted(answer, PhantomData::<(Q, A, S)>), request).await
}

/// A call with streams in both directions.
pub async fn bidirectional<Q, A, F, S>(
    request: hyper::Request<Incoming>,
    answer: impl FnMut(Request<Streaming<Q>>) -> F + Send,
) -> hyper::Response<Body>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
    F: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
{
    grpc::<Q, A>().streaming(Adapted(answer, PhantomData::<(Q, A, S)>), request).await
}

/// The refusal of a method that isn't spoken.
pub fn unimplemented(path: &str) -> hyper::Response<Body> {
    Status::unimplemented(format!("unknown method {path}")).into_http()
}

fn grpc<Q, A>() -> Grpc<ProstCodec<A, Q>>
where
    Q: Message + Default + Send + 'static,
    A: Message + Send + 'static,
{
    Grpc::new(ProstCodec::default())
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// A closure as one of tonic's services; the second field says which.
struct Adapted<F, K>(F, PhantomData<K>);

impl<Q, A, C, F> UnaryService<Q> for Adapted<C, (Q, A)>
where
    C: FnMut(Request<Q>) -> F,
    F: Future<Output = Result<A, Status>> + Send,
{
    type Response = A;
    type Future = Wrapped<F>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        Wrapped(Box::pin((self.0)(request)))
    }
}

impl<Q, A, S, C, F> ServerStreamingService<Q> for Adapted<C, (Q, A, S)>
where
    C: FnMut(Request<Q>) -> F,
    F: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
{
    type Response = A;
    type ResponseStream = S;
    type Future = Wrapped<F>;

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        Wrapped(Box::pin((self.0)(request)))
    }
}

impl<Q, A, S, C, F> StreamingService<Q> for Adapted<C, (Q, A, S)>
where
    C: FnMut(Request<Streaming<Q>>) -> F,
    F: Future<Output = Result<S, Status>> + Send,
    S: Stream<Item = Result<A, Status>> + Send + 'static,
{
    type Response = A;
    type ResponseStream = S;
    type Future = Wrapped<F>;

    fn call(&mut self, request: Request<Streaming<Q>>) -> Self::Future {
        Wrapped(Box::pin((self.0)(request)))
    }
}

/// A handler's future, whose value becomes a response without headers of its own.
struct Wrapped<F>(Pin<Box<F>>);

impl<F, T> Future for Wrapped<F>
where
    F: Future<Output = Result<T, Status>>,
{
    type Output = Result<Response<T>, Status>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(context).map(|answer| answer.map(Response::new))
    }
}
