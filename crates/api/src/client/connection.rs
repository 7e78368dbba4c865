//! Connections: opening them, keeping one idle, giving one away.

use super::ssh::SshStream;
use super::{Body, Error, Host, Result};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::header::{HeaderMap, SERVER};
use hyper::upgrade::Parts;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// As much of an answer's body is read at once when it comes fast.
const READ_BUFFER_MAX: usize = 1 << 20;

/// The way to one host.
#[derive(Debug)]
pub(super) struct Connections {
    host: Host,
    tls: Option<Arc<ClientConfig>>,
    /// The connection that was used last; it may still be busy with its answer. Locked for a moment only, never across an await.
    idle: Mutex<Option<SendRequest<Body>>>,
    /// What the server called itself in its last answer begins with `Corten/`.
    is_corten: AtomicBool,
}

impl Connections {
    pub(super) fn new(host: Host, tls: Option<Arc<ClientConfig>>) -> Self {
        Self { host, tls, idle: Mutex::default(), is_corten: AtomicBool::new(false) }
    }

    /// The same way, with nothing open on it.
    pub(super) fn another(&self) -> Self {
        Self::new(self.host.clone(), self.tls.clone())
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
        let is_corten =
            response.headers().get(SERVER).is_some_and(|name| name.as_bytes().starts_with(b"Corten/"));
        self.is_corten.store(is_corten, Ordering::Relaxed);
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(response)
    }

    pub(super) fn is_corten(&self) -> bool {
        self.is_corten.load(Ordering::Relaxed)
    }

    /// Sends over a connection of its own, which may be upgraded.
    pub(super) async fn send_once(&self, request: hyper::Request<Body>) -> Result<hyper::Response<Incoming>> {
        self.open().await?.send_request(request).await.map_err(|e| self.broken(e))
    }

    pub(super) async fn connect(&self) -> Result<Socket> {
        let failed = |source| Error::Connect { host: self.host.to_string(), source };
        Socket::connect(&self.host, self.tls.as_ref()).await.map_err(failed)
    }

    async fn open(&self) -> Result<SendRequest<Body>> {
        let socket = self.connect().await?;
        let (sender, connection) = Builder::new()
            .max_buf_size(READ_BUFFER_MAX)
            .handshake(TokioIo::new(socket))
            .await
            .map_err(|e| self.broken(e))?;
        // Ends with the connection; its error reaches whoever waits for the answer.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }

    fn broken(&self, source: hyper::Error) -> Error {
        // Only a body of ours that could not be read fails by itself; its reader knows why.
        if source.is_user() {
            let cause =
                std::error::Error::source(&source).map_or_else(|| source.to_string(), ToString::to_string);
            return Error::Upload(cause);
        }
        Error::Transport { host: self.host.to_string(), source }
    }
}

/// A connection of any kind.
#[derive(Debug)]
pub enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Ssh(Box<SshStream>),
}

impl Socket {
    /// Opens it; a TCP port is spoken to by TLS when there is a configuration for that.
    pub async fn connect(host: &Host, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        match host {
            Host::Unix(path) => UnixStream::connect(path).await.map(Self::Unix),
            Host::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                let Some(config) = tls else { return Ok(Self::Tcp(stream)) };
                let name = address.rsplit_once(':').map_or(address.as_str(), |(name, _)| name);
                let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name =
                    ServerName::try_from(name).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
                let connected = TlsConnector::from(config.clone()).connect(name, stream).await?;
                Ok(Self::Tls(Box::new(connected)))
            }
            Host::Ssh(target) => SshStream::open(target).map(Box::new).map(Self::Ssh),
        }
    }

    /// A descriptor, out of the reactor and still non-blocking: the socket itself, or one end of a pair that a task connects
    /// with it.
    pub fn into_fd(self) -> io::Result<OwnedFd> {
        match self {
            Self::Unix(stream) => Ok(stream.into_std()?.into()),
            Self::Tcp(stream) => Ok(stream.into_std()?.into()),
            Self::Tls(stream) => joined(stream),
            Self::Ssh(stream) => joined(stream),
        }
    }
}

fn joined(mut stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> io::Result<OwnedFd> {
    let (mut ours, theirs) = UnixStream::pair()?;
    tokio::spawn(async move {
        // The end of one direction is passed on while the other goes on; what breaks ends both, which the reader sees.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut ours).await;
    });
    Ok(theirs.into_std()?.into())
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Ssh(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Ssh(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Ssh(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Ssh(stream) => Pin::new(stream).poll_shutdown(cx),
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
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Ssh(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
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
    pub(super) headers: HeaderMap,
}

impl Hijacked {
    pub(super) async fn take(response: hyper::Response<Incoming>) -> Result<Self> {
        let multiplexed = response
            .headers()
            .get(hyper::header::CONTENT_TYPE)
            .is_some_and(|kind| kind == crate::stream::MULTIPLEXED_STREAM);
        let headers = response.headers().clone();
        let failed = |e: hyper::Error| Error::Hijack(e.to_string());
        let upgraded = hyper::upgrade::on(response).await.map_err(failed)?;
        let Parts { io, read_buf, .. } = upgraded
            .downcast::<TokioIo<Socket>>()
            .map_err(|_| Error::Hijack("it is not a plain socket".into()))?;
        Ok(Self { socket: io.into_inner(), head: read_buf, multiplexed, headers })
    }
}
