//! The serving end: what Corten's own client offers.

use super::{ABORT, INFO, READ, STORE, WRITE};
use crate::grpc::{Handler, bidirectional, serve, server_streaming, unary, unimplemented};
use crate::wire::content::{
    AbortRequest, Info, InfoRequest, InfoResponse, Nothing, ReadRequest, ReadResponse, WriteAction,
    WriteRequest, WriteResponse,
};
use corten_build::{Content, ContentWriter};
use corten_image::Digest;
use futures_util::stream::try_unfold;
use futures_util::{Stream, StreamExt};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;
use tonic::{Request, Status, Streaming};

/// Serves stores of blobs by their names, until the other end closes the connection.
///
/// # Errors
/// When the connection breaks.
pub async fn serve_content<S>(stream: S, stores: HashMap<String, Arc<dyn Content>>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    serve(TokioIo::new(stream), Arc::new(Stores(stores))).await.map_err(io::Error::other)
}

struct Stores(HashMap<String, Arc<dyn Content>>);

impl Handler for Stores {
    async fn answer(self: Arc<Self>, request: hyper::Request<Incoming>) -> hyper::Response<Body> {
        let stores = &self;
        match request.uri().path() {
            INFO => unary(request, |call| stores.info(call)).await,
            READ => server_streaming(request, |call| stores.read(call)).await,
            WRITE => bidirectional(request, |call| stores.write(call)).await,
            // Whoever broke off a blob has broken off its call, and with that it has gone.
            ABORT => unary(request, async |_: Request<AbortRequest>| Ok(Nothing {})).await,
            path => unimplemented(path),
        }
    }
}

impl Stores {
    fn chosen<Q>(&self, call: &Request<Q>) -> Result<Arc<dyn Content>, Status> {
        let name = call.metadata().get(STORE).map(|name| String::from_utf8_lossy(name.as_bytes()));
        let name = name.ok_or_else(|| Status::invalid_argument(format!("the call lacks {STORE}")))?;
        let store = self.0.get(name.as_ref());
        store.cloned().ok_or_else(|| Status::not_found(format!("unknown store {name}")))
    }

    async fn info(&self, call: Request<InfoRequest>) -> Result<InfoResponse, Status> {
        let store = self.chosen(&call)?;
        let digest = digest(&call.get_ref().digest)?;
        let size = store.size(&digest).await.map_err(|error| status(&error))?;
        let size = size.ok_or_else(|| Status::not_found(format!("{digest} is not there")))?;
        let size = i64::try_from(size).map_err(|_| Status::internal("a blob without end"))?;
        Ok(InfoResponse { info: Some(Info { digest: digest.to_string(), size }) })
    }

    async fn read(
        &self,
        call: Request<ReadRequest>,
    ) -> Result<impl Stream<Item = Result<ReadResponse, Status>> + Send + use<>, Status> {
        let store = self.chosen(&call)?;
        let ReadRequest { digest: wanted, offset, size } = call.into_inner();
        if size != 0 {
            return Err(Status::unimplemented("blobs are read to their end"));
        }
        let offset = u64::try_from(offset).map_err(|_| Status::out_of_range("before the beginning"))?;
        let pieces = store.read(&digest(&wanted)?, offset).await.map_err(|error| status(&error))?;
        Ok(pieces.map(|piece| match piece {
            Ok(data) => Ok(ReadResponse { offset: 0, data }),
            Err(error) => Err(status(&error)),
        }))
    }

    async fn write(
        &self,
        call: Request<Streaming<WriteRequest>>,
    ) -> Result<impl Stream<Item = Result<WriteResponse, Status>> + Send + use<>, Status> {
        let store = self.chosen(&call)?;
        let writer = store.write().await.map_err(|error| status(&error))?;
        let writing = Writing { requests: call.into_inner(), writer: Some(writer), written: 0 };
        Ok(try_unfold(writing, Writing::next))
    }
}

/// A blob that is coming.
struct Writing {
    requests: Streaming<WriteRequest>,
    /// None when it is whole.
    writer: Option<Box<dyn ContentWriter>>,
    written: i64,
}

impl Writing {
    /// One request, and its answer; none after the last.
    async fn next(mut self) -> Result<Option<(WriteResponse, Writing)>, Status> {
        let Some(mut writer) = self.writer.take() else { return Ok(None) };
        let Some(request) = self.requests.message().await? else { return Ok(None) };
        let mut answer = WriteResponse { action: request.action, ..WriteResponse::default() };
        let action = WriteAction::try_from(request.action);
        if action != Ok(WriteAction::Stat) && request.offset != self.written {
            return Err(Status::out_of_range(format!("the blob has {} bytes so far", self.written)));
        }
        match action.map_err(|_| Status::unimplemented("an unknown action"))? {
            WriteAction::Stat => self.writer = Some(writer),
            WriteAction::Write => {
                self.written += i64::try_from(request.data.len()).unwrap_or_default();
                writer.send(request.data).await.map_err(|error| status(&error))?;
                self.writer = Some(writer);
            }
            WriteAction::Commit => {
                writer.finish(&digest(&request.expected)?).await.map_err(|error| status(&error))?;
                answer.digest = request.expected;
            }
        }
        answer.offset = self.written;
        Ok(Some((answer, self)))
    }
}

fn digest(text: &str) -> Result<Digest, Status> {
    text.parse().map_err(|_| Status::invalid_argument(format!("{text:?} is no digest")))
}

fn status(error: &io::Error) -> Status {
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(error.to_string()),
        io::ErrorKind::AlreadyExists => Status::already_exists(error.to_string()),
        _ => Status::unknown(error.to_string()),
    }
}
