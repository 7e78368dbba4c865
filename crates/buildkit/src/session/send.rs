//! What a build made, sent to the client: one file as a stream of bytes (`type=tar`, `oci`, `docker`), written on its side
//! wherever it wanted it.

use super::Session;
use crate::wire::session::BytesMessage;
use bytes::Bytes;
use futures_util::stream::poll_fn;
use std::collections::BTreeMap;
use std::task::Poll;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tonic::metadata::{Ascii, MetadataKey, MetadataValue};
use tonic::{Request, Status};

const DIFF_COPY: &str = "/moby.filesync.v1.FileSend/DiffCopy";
/// Messages that wait for the client.
const MESSAGES_WAITING_MAX: usize = 4;
/// A client takes messages of 4 MiB at most.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A file that the client writes. Dropped before its end it stays open for the client until the session is over, so that the client
/// doesn't take a part for the whole.
pub struct FileSender {
    outgoing: mpsc::Sender<Option<Bytes>>,
    /// The call: its end is the client's word that the file is there.
    call: JoinHandle<Result<(), Status>>,
}

impl Session {
    /// Opens the file of the output with that number; `about` is what a client may name it by.
    pub async fn send_file(
        &self,
        output: usize,
        about: &BTreeMap<String, String>,
    ) -> Result<FileSender, Status> {
        if !self.serves(DIFF_COPY) {
            return Err(Status::failed_precondition("method FileSend.DiffCopy not supported by the client"));
        }
        let (outgoing, mut queue) = mpsc::channel(MESSAGES_WAITING_MAX);
        let mut call = Request::new(poll_fn(move |context| match queue.poll_recv(context) {
            Poll::Ready(Some(Some(data))) => Poll::Ready(Some(BytesMessage { data })),
            Poll::Ready(Some(None)) => Poll::Ready(None),
            // The sender is gone without having said that this is the end.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }));
        let headers = call.metadata_mut();
        headers.insert("buildkit-attachable-exporter-id", MetadataValue::from(output));
        for (name, value) in about {
            let name = MetadataKey::<Ascii>::from_bytes(format!("exporter-md-{name}").as_bytes());
            if let (Ok(name), Ok(value)) = (name, MetadataValue::try_from(value.as_str())) {
                headers.insert(name, value);
            }
        }
        let channel = self.channel.clone();
        // A task, as the client answers only when it has everything.
        let call = tokio::spawn(async move {
            let mut answers = channel.streaming::<_, BytesMessage, _>(DIFF_COPY, call).await?;
            while answers.message().await?.is_some() {}
            Ok(())
        });
        Ok(FileSender { outgoing, call })
    }
}

impl FileSender {
    /// Sends the next bytes; waits for a client that is slow.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), Status> {
        while !bytes.is_empty() {
            let data = bytes.split_to(bytes.len().min(MESSAGE_BYTES_MAX));
            tokio::select! {
                sent = self.outgoing.send(Some(data)) => {
                    sent.map_err(|_| Status::aborted("the client closed its file"))?;
                }
                ended = &mut self.call => return Err(ended_early(ended)),
            }
        }
        Ok(())
    }

    /// Ends the file, and waits until the client has it.
    pub async fn finish(mut self) -> Result<(), Status> {
        tokio::select! {
            // Its failure is told by the call.
            _ = self.outgoing.send(None) => {}
            ended = &mut self.call => return Err(ended_early(ended)),
        }
        (&mut self.call).await.unwrap_or_else(|error| Err(Status::internal(error.to_string())))
    }
}

impl Drop for FileSender {
    fn drop(&mut self) {
        self.call.abort();
    }
}

/// Why the client takes no more.
fn ended_early(ended: Result<Result<(), Status>, JoinError>) -> Status {
    match ended {
        Ok(Err(status)) => status,
        _ => Status::aborted("the client closed its file"),
    }
}
