//! The asking end.

use super::{ABORT, INFO, PIECE_BYTES, READ, STORE, WRITE};
use crate::grpc::Channel;
use crate::wire::content::{
    AbortRequest, InfoRequest, InfoResponse, Nothing, ReadRequest, ReadResponse, WriteAction, WriteRequest,
    WriteResponse,
};
use async_trait::async_trait;
use bytes::Bytes;
use corten_build::{Content, ContentPieces, ContentWriter};
use corten_image::Digest;
use futures_util::StreamExt;
use futures_util::stream::{poll_fn, unfold};
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Code, Request, Status, Streaming};

/// A connection on which a client serves stores of blobs and nothing else.
pub struct ContentConnection(Channel);

impl ContentConnection {
    pub async fn open<S>(stream: S) -> io::Result<ContentConnection>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        Ok(ContentConnection(Channel::open(TokioIo::new(stream)).await.map_err(io::Error::other)?))
    }

    pub fn store(&self, name: &str) -> io::Result<RemoteContent> {
        RemoteContent::new(self.0.clone(), name)
    }
}

/// A store at the other end.
#[derive(Clone)]
pub struct RemoteContent {
    channel: Channel,
    name: MetadataValue<Ascii>,
}

impl RemoteContent {
    pub fn new(channel: Channel, name: &str) -> io::Result<RemoteContent> {
        let header = MetadataValue::try_from(name);
        let unspeakable = |_| {
            let text = format!("{name:?} has characters that a header can't have");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        };
        Ok(RemoteContent { channel, name: header.map_err(unspeakable)? })
    }

    fn request<Q>(&self, message: Q) -> Request<Q> {
        let mut request = Request::new(message);
        request.metadata_mut().insert(STORE, self.name.clone());
        request
    }
}

#[async_trait]
impl Content for RemoteContent {
    async fn size(&self, digest: &Digest) -> io::Result<Option<u64>> {
        let request = self.request(InfoRequest { digest: digest.to_string() });
        match self.channel.unary::<_, InfoResponse>(INFO, request).await {
            Ok(answer) => {
                let size = answer.info.map_or(-1, |info| info.size);
                u64::try_from(size).map(Some).map_err(|_| io::Error::other("the client tells no size"))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed(&status)),
        }
    }

    async fn read(&self, digest: &Digest, offset: u64) -> io::Result<ContentPieces> {
        let offset = i64::try_from(offset).map_err(io::Error::other)?;
        let question = ReadRequest { digest: digest.to_string(), offset, size: 0 };
        let request = self.request(futures_util::stream::iter([question]));
        let answers = self.channel.streaming::<_, ReadResponse, _>(READ, request).await;
        let pieces = unfold(answers.map_err(|status| failed(&status))?, |mut answers| async move {
            let answer = answers.message().await.transpose()?;
            Some((answer.map(|answer| answer.data).map_err(|status| failed(&status)), answers))
        });
        Ok(pieces.boxed())
    }

    async fn write(&self) -> io::Result<Box<dyn ContentWriter>> {
        let mut number = [0; 16];
        SystemRandom::new().fill(&mut number).map_err(|_| io::Error::other("no random number"))?;
        let reference = format!("corten-{:032x}", u128::from_ne_bytes(number));
        let (outgoing, mut queue) = mpsc::channel::<WriteRequest>(1);
        let first = WriteRequest { r#ref: reference.clone(), ..WriteRequest::default() };
        outgoing.send(first).await.map_err(io::Error::other)?;
        let request = self.request(poll_fn(move |context| queue.poll_recv(context)));
        let answers = self.channel.streaming(WRITE, request).await.map_err(|status| failed(&status))?;
        let (store, runtime) = (self.clone(), Handle::current());
        let mut writer =
            RemoteWriter { store, runtime, reference: Some(reference), outgoing, answers, written: 0 };
        writer.answer().await.map_err(|status| failed(&status))?;
        Ok(Box::new(writer))
    }
}

/// A blob on its way: what is sent is answered before more is.
struct RemoteWriter {
    store: RemoteContent,
    runtime: Handle,
    /// None when there is nothing more to take back.
    reference: Option<String>,
    outgoing: mpsc::Sender<WriteRequest>,
    answers: Streaming<WriteResponse>,
    written: i64,
}

impl RemoteWriter {
    async fn answer(&mut self) -> Result<WriteResponse, Status> {
        let answer = self.answers.message().await?;
        answer.ok_or_else(|| Status::aborted("the client takes no more of the blob"))
    }

    async fn ask(&mut self, request: WriteRequest) -> Result<WriteResponse, Status> {
        // A client that takes no more says why.
        let _ = self.outgoing.send(request).await;
        self.answer().await
    }
}

#[async_trait]
impl ContentWriter for RemoteWriter {
    async fn send(&mut self, mut bytes: Bytes) -> io::Result<()> {
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(PIECE_BYTES));
            let after = self.written + i64::try_from(data.len()).map_err(io::Error::other)?;
            let action = WriteAction::Write.into();
            let request = WriteRequest { action, offset: self.written, data, ..WriteRequest::default() };
            let answer = self.ask(request).await.map_err(|status| failed(&status))?;
            if answer.offset != after {
                return Err(io::Error::other("the client took a part only"));
            }
            self.written = after;
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>, digest: &Digest) -> io::Result<()> {
        let request = WriteRequest {
            action: WriteAction::Commit.into(),
            total: self.written,
            expected: digest.to_string(),
            offset: self.written,
            ..WriteRequest::default()
        };
        match self.ask(request).await {
            Ok(_) => {}
            // Somebody else was faster, or it is there and has suffered.
            Err(status) if status.code() == Code::AlreadyExists => {
                if self.store.size(digest).await? != u64::try_from(self.written).ok() {
                    let text = format!("the client's {digest} is not whole: remove it there");
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
                }
            }
            Err(status) => return Err(failed(&status)),
        }
        self.reference = None;
        Ok(())
    }
}

impl Drop for RemoteWriter {
    /// Has the client forget what it has of it; one that is gone knows its own way.
    fn drop(&mut self) {
        let Some(reference) = self.reference.take() else { return };
        let store = self.store.clone();
        self.runtime.spawn(async move {
            let request = store.request(AbortRequest { r#ref: reference });
            let _ = store.channel.unary::<_, Nothing>(ABORT, request).await;
        });
    }
}

fn failed(status: &Status) -> io::Error {
    let kind = match status.code() {
        Code::NotFound => io::ErrorKind::NotFound,
        Code::Unavailable => io::ErrorKind::NotConnected,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, status.message().to_owned())
}
