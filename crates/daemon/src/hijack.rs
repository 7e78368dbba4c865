//! Taking a connection out of HTTP: a client that asks for an upgrade gets its own socket handed to the engine, and from
//! there to the monitor; for everything that has no socket of its own to give (a client that doesn't upgrade, TLS,
//! WebSocket) one end of a socket pair is handed over and the other is pumped here.

mod websocket;

use crate::http::body::with_type;
use crate::http::target::Escaped;
use crate::http::{ApiError, Body, Call, Reply};
use bytes::{Bytes, BytesMut};
use corten_api::stream::{MULTIPLEXED_STREAM, RAW_STREAM};
use corten_engine::Connection;
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Parts, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream, unix};

pub use websocket::attach as websocket_attach;

/// What the pumps move at once.
const PUMP_BUFFER: usize = 64 * 1024;

/// Answers with a stream and hands the connection to `connect` as soon as the answer's head is out.
pub fn stream<F, R>(mut call: Call, tty: bool, connect: F) -> Reply
where
    F: FnOnce(Connection) -> R + Send + 'static,
    R: Future<Output = Result<(), corten_engine::Error>> + Send + 'static,
{
    // The framed content type is told since API 1.42, though the frames are as old as the API.
    let content_type = if tty || !call.at_least(1, 42) { RAW_STREAM } else { MULTIPLEXED_STREAM };
    match call.take_upgrade() {
        Some(upgrade) => {
            tokio::spawn(hand_over(upgrade, connect));
            Ok(upgraded_response(content_type))
        }
        None => pumped(call.body, content_type, connect),
    }
}

/// Whether the client asks to go on in this protocol.
pub fn is_asked_for(call: &Call, protocol: &str) -> bool {
    call.header("upgrade").eq_ignore_ascii_case(protocol)
}

/// Changes to another protocol, which `connect` speaks.
pub fn switch<F, R>(mut call: Call, protocol: &'static str, connect: F) -> Reply
where
    F: FnOnce(Connection) -> R + Send + 'static,
    R: Future<Output = Result<(), corten_engine::Error>> + Send + 'static,
{
    let upgrade = call.take_upgrade().ok_or_else(|| ApiError::bad_request("no upgrade was asked for"))?;
    tokio::spawn(hand_over(upgrade, connect));
    Ok(switching(protocol))
}

/// The literal head that Docker's clients know: `101 UPGRADED`.
fn upgraded_response(content_type: &'static str) -> Response<Body> {
    let mut response = switching("tcp");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The answer that hands the connection over to another protocol.
pub fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.extensions_mut().insert(ReasonPhrase::from_static(b"UPGRADED"));
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

async fn hand_over<F, R>(upgrade: OnUpgrade, connect: F)
where
    F: FnOnce(Connection) -> R,
    R: Future<Output = Result<(), corten_engine::Error>>,
{
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "the client went before its connection was upgraded"),
    };
    let connection = match plain_socket(upgraded) {
        Ok(connection) => connection,
        Err(upgraded) => match socket_pair() {
            Ok((ours, connection)) => {
                tokio::spawn(pump(TokioIo::new(upgraded), ours));
                Ok(connection)
            }
            Err(error) => Err(error),
        },
    };
    match connection {
        Ok(connection) => report(connect(connection).await),
        Err(error) => tracing::warn!(%error, "a connection cannot be taken out of HTTP"),
    }
}

fn report(result: Result<(), corten_engine::Error>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection taken out of HTTP");
    }
}

/// The client's own socket with what hyper had read of it already; the connection as it was when it is none.
fn plain_socket(upgraded: Upgraded) -> Result<io::Result<Connection>, Upgraded> {
    let upgraded = match upgraded.downcast::<TokioIo<Escaped<UnixStream>>>() {
        Ok(Parts { io, read_buf, .. }) => {
            let (stream, rest) = io.into_inner().into_parts();
            return Ok(stream
                .into_std()
                .map(|stream| Connection { fd: stream.into(), head: [&read_buf[..], &rest].concat() }));
        }
        Err(upgraded) => upgraded,
    };
    upgraded.downcast::<TokioIo<Escaped<TcpStream>>>().map(|Parts { io, read_buf, .. }| {
        let (stream, rest) = io.into_inner().into_parts();
        stream
            .into_std()
            .map(|stream| Connection { fd: stream.into(), head: [&read_buf[..], &rest].concat() })
    })
}

/// One end for us, one for the engine.
fn socket_pair() -> io::Result<(UnixStream, Connection)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours, Connection { fd: theirs.into_std()?.into(), head: Vec::new() }))
}

/// Moves bytes both ways; the end of one direction is passed on while the other goes on.
async fn pump(mut client: TokioIo<Upgraded>, mut ours: UnixStream) {
    if let Err(error) =
        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut ours, PUMP_BUFFER, PUMP_BUFFER).await
    {
        tracing::debug!(%error, "a hijacked connection broke off");
    }
}

/// A client that didn't ask for an upgrade: 200, the request's body is stdin, the response's body is the output.
fn pumped<F, R>(body: Incoming, content_type: &'static str, connect: F) -> Reply
where
    F: FnOnce(Connection) -> R + Send + 'static,
    R: Future<Output = Result<(), corten_engine::Error>> + Send + 'static,
{
    let (ours, connection) = socket_pair().map_err(|e| ApiError::internal(format!("socket pair: {e}")))?;
    let (output, input) = ours.into_split();
    tokio::spawn(feed(body, input));
    tokio::spawn(async move { report(connect(connection).await) });
    Ok(with_type(StatusCode::OK, content_type, Body::stream(Output { output, buffer: BytesMut::new() })))
}

/// Writes a request's body into the pair and passes its end on.
async fn feed(mut body: Incoming, mut input: unix::OwnedWriteHalf) {
    while !body.is_end_stream() {
        let Some(Ok(frame)) = body.frame().await else { break };
        if let Ok(mut data) = frame.into_data()
            && input.write_all_buf(&mut data).await.is_err()
        {
            return;
        }
    }
    // A half that is gone needs no end.
    let _ = input.shutdown().await;
}

/// The reading half of a pair as a response's body.
struct Output {
    output: unix::OwnedReadHalf,
    buffer: BytesMut,
}

impl Stream for Output {
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        let Self { output, buffer } = self.get_mut();
        buffer.resize(PUMP_BUFFER, 0);
        let mut space = ReadBuf::new(buffer);
        if let Err(error) = ready!(Pin::new(output).poll_read(cx, &mut space)) {
            return Poll::Ready(Some(Err(error)));
        }
        let count = space.filled().len();
        Poll::Ready((count > 0).then(|| Ok(buffer.split_to(count).freeze())))
    }
}
