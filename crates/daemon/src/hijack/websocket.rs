//! Attach by WebSocket: messages in are stdin, output goes out in messages, without the frames of the raw protocol.

use super::{PUMP_BUFFER, report, socket_pair};
use crate::http::{ApiError, Body, Call, Reply};
use bytes::Bytes;
use corten_api::stream::{Demultiplexer, UnknownStream};
use corten_engine::Connection;
use futures_util::{SinkExt, StreamExt};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Answers the handshake and pumps between the WebSocket and a pair whose other end goes to `connect`.
pub fn attach<F, R>(mut call: Call, tty: bool, connect: F) -> Reply
where
    F: FnOnce(Connection) -> R + Send + 'static,
    R: Future<Output = Result<(), corten_engine::Error>> + Send + 'static,
{
    let key = call.header("sec-websocket-key").to_owned();
    let (true, Some(upgrade)) = (!key.is_empty(), call.take_upgrade()) else {
        return Err(ApiError::bad_request(
            "not a WebSocket handshake: Upgrade or Sec-WebSocket-Key is missing",
        ));
    };
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|e| ApiError::internal(format!("WebSocket handshake: {e}")))?;
    let (ours, connection) = socket_pair().map_err(|e| ApiError::internal(format!("socket pair: {e}")))?;
    let binary = call.at_least(1, 28);
    tokio::spawn(serve(upgrade, ours, tty, binary));
    tokio::spawn(async move { report(connect(connection).await) });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert("sec-websocket-accept", accept);
    Ok(response)
}

async fn serve(upgrade: OnUpgrade, ours: UnixStream, tty: bool, binary: bool) {
    let upgraded = match upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "the client went before the WebSocket was up"),
    };
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    pump(socket, ours, tty, binary).await;
}

/// One task for both directions, as pings are answered by writing. Closing the WebSocket ends both: its protocol has no
/// half-close. The end of the output closes it from our side.
async fn pump(mut socket: Socket, ours: UnixStream, tty: bool, binary: bool) {
    let (mut output, input) = ours.into_split();
    // Written by a task of its own: while the container does not read, its output must still flow.
    let (typed, typing) = mpsc::channel(1);
    tokio::spawn(feed(input, typing));
    let mut frames = Demultiplexer::new();
    let mut buffer = vec![0; PUMP_BUFFER];
    loop {
        tokio::select! {
            (room, message) = async { (typed.reserve().await, socket.next().await) } => match message {
                Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) => {
                    // A container that reads no more still writes.
                    if let Ok(room) = room {
                        room.send(message.into_data());
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
            },
            count = output.read(&mut buffer) => {
                let Ok(count @ 1..) = count else { break };
                let read = &buffer[..count];
                let payload = if tty { Ok(read.to_vec()) } else { unframe(&mut frames, read) };
                let Ok(payload) = payload else { break };
                if !payload.is_empty() && socket.send(message(payload, binary)).await.is_err() {
                    return;
                }
            }
        }
    }
    // The client may be gone already. When it closed first, the flush sends our half of the handshake.
    let _ = socket.close(None).await;
    let _ = socket.flush().await;
}

/// Gives the container what was typed, at the pace at which it reads.
async fn feed(mut input: OwnedWriteHalf, mut typing: mpsc::Receiver<Bytes>) {
    while let Some(data) = typing.recv().await {
        if input.write_all(&data).await.is_err() {
            return;
        }
    }
}

fn message(payload: Vec<u8>, binary: bool) -> Message {
    if binary {
        return Message::Binary(payload.into());
    }
    Message::Text(String::from_utf8_lossy(&payload).into_owned().into())
}

fn unframe(frames: &mut Demultiplexer, bytes: &[u8]) -> Result<Vec<u8>, UnknownStream> {
    let mut payload = Vec::with_capacity(bytes.len());
    frames.feed::<UnknownStream>(bytes, |_, piece| {
        payload.extend_from_slice(piece);
        Ok(())
    })?;
    Ok(payload)
}
