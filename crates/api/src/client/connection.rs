//! Connections: opening them, keeping one idle, giving one away.

use super::{Body, Error, Host, Result};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::upgrade::Parts;
use hyper_util::rt::TokioIo;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The way to one host.
#[derive(Debug)]
pub(super) struct Connections {
    host: Host,
    /// The connection that was used last; it may still be busy with its answer. Locked for a moment only, never across an await.
    idle: Mutex<Option<SendRequest<Body>>>,
}

impl Connections {
    pub(super) fn new(host: Host) -> Self {
        Self { host, idle: Mutex::default() }
    }

    pub(super) fn host(&self) -> &Host {
        &self.host
    }

    /// Sends over the idle connection when there is one, else over a new one, which is kept.
    pub(super) async fn send(&self, request: hyper::Request<Body>) -> Result<hyper::Response<Incoming>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut sender = match idle {
            Some(sender) if sender.is_ready() => sender,
            _ => self.open().await?,
        };
        let response = sender.send_request(request).await.map_err(|e| self.broken(e))?;
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(response)
    }

    /// Sends over a connection of its own, which may be upgraded.
    pub(super) async fn send_once(&self, request: hyper::Request<Body>) -> Result<hyper::Response<Incoming>> {
        self.open().await?.send_request(request).await.map_err(|e| self.broken(e))
    }

    async fn open(&self) -> Result<SendRequest<Body>> {
        let failed = |source| Error::Connect { host: self.host.to_string(), source };
        let socket = Socket::connect(&self.host).await.map_err(failed)?;
        let (sender, connection) =
            Builder::new().handshake(TokioIo::new(socket)).await.map_err(|e| self.broken(e))?;
        // Ends with the connection; its error reaches whoever waits for the answer.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    fn broken(&self, source: hyper::Error) -> Error {
        Error::Transport { host: self.host.to_string(), source }
    }
}

/// A connected socket of either kind.
#[derive(Debug)]
pub enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    pub async fn connect(host: &Host) -> io::Result<Self> {
        match host {
            Host::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            Host::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// The descriptor, out of the reactor and still non-blocking.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Unix(stream) => stream.into_std()?.into(),
            Self::Tcp(stream) => stream.into_std()?.into(),
        })
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}

/// A connection that the server gave up to a stream (attach, exec).
#[derive(Debug)]
pub struct Hijacked {
    pub socket: Socket,
    /// What of the stream came along with the answer: read this first.
    pub head: Bytes,
    /// Whether the stream is framed (`stream::Demultiplexer`) or raw (a terminal); by Content-Type, so false before API 1.42.
    pub multiplexed: bool,
}

impl Hijacked {
    pub(super) async fn take(response: hyper::Response<Incoming>) -> Result<Self> {
        let multiplexed = response
            .headers()
            .get(hyper::header::CONTENT_TYPE)
            .is_some_and(|kind| kind == crate::stream::MULTIPLEXED_STREAM);
        let failed = |e: hyper::Error| Error::Hijack(e.to_string());
        let upgraded = hyper::upgrade::on(response).await.map_err(failed)?;
        let Parts { io, read_buf, .. } = upgraded
            .downcast::<TokioIo<Socket>>()
            .map_err(|_| Error::Hijack("it is not a plain socket".into()))?;
        Ok(Self { socket: io.into_inner(), head: read_buf, multiplexed })
    }
}
